#pragma once
#include <stddef.h>

/* Products of a wide block of rows with a few directions, for which general matrix products pack and copy too
   much. x86-64 with AVX2 and FMA only, checked at run time; elsewhere lora_has_low_rank_kernels() is 0 and the
   others must not be called. All matrices are row-major and contiguous; `count`, the number of directions, is a
   multiple of 8. */

int lora_has_low_rank_kernels(void);

/* images = block directions: block is rows x columns, directions columns x count, images rows x count. */
void lora_images_f32(const float *block, size_t rows, size_t columns, const float *directions,
                     size_t count, float *images);

/* gram += block' images: gram is columns x count. */
void lora_add_gram_f32(const float *block, size_t rows, size_t columns, const float *images,
                       size_t count, float *gram);

/* The sum of the squares in float64. */
double lora_squares_f32(const float *values, size_t count);
