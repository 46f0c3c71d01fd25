#pragma once
#include <stddef.h>
#include <stdint.h>

/* The two halves of a merge: the product of low-rank factors added to a block, and a block added to stored elements
   and rounded. Which products and sums are fused is fixed and every sum has one order, so that the same input gives
   the same bits on every machine and whatever blocks it comes in: a record of differences can rely on them. */

enum {
  LORA_PANEL = 16,  /* columns of one packed panel */
  LORA_CHUNK = 256, /* columns whose deltas are computed at a time */
};

/* target += alpha * (up panels) for `rows` rows and the columns `first` to `first + columns` of the product.
   `up` is rows x rank; `panels` holds the other factor in panels of LORA_PANEL columns, each rank x LORA_PANEL, the last
   padded; `target` is rows x columns, contiguous. */
void lora_add_product_f32(const float *up, size_t rows, const float *panels, size_t rank, size_t first,
                          size_t columns, float alpha, float *target);
void lora_add_product_f64(const double *up, size_t rows, const double *panels, size_t rank, size_t first,
                          size_t columns, double alpha, double *target);

/* What an addition did. */
typedef struct {
  double squared_weight; /* of the elements before */
  double squared_delta;  /* of what was added */
  double kept;           /* the inner product of the delta and the change after rounding */
  size_t changed;        /* elements of which the bits differ */
  size_t non_finite;     /* elements that were NaN or infinite before; they are kept as they are */
  size_t overflowed;     /* finite elements that are infinite after rounding */
} lora_addition;

/* target = source + delta, rounded once to nearest even; the result adds to `sums`. */
void lora_add_bf16(const uint16_t *source, const float *delta, uint16_t *target, size_t count,
                   lora_addition *sums);
void lora_add_f16(const uint16_t *source, const float *delta, uint16_t *target, size_t count,
                  lora_addition *sums);
void lora_add_f32(const uint32_t *source, const double *delta, uint32_t *target, size_t count,
                  lora_addition *sums);

/* Low-rank factors. */
typedef struct {
  const float *up;     /* rows x rank */
  const float *panels; /* as above */
  size_t rank, columns;
  double alpha;
} lora_factors_f32;

typedef struct {
  const double *up, *panels;
  size_t rank, columns;
  double alpha;
} lora_factors_f64;

/* target = source + alpha * (up panels) for the rows from `first` on, whole rows: both halves at once, with the same bits,
   and the same sums in another order. */
void lora_merge_bf16(const uint16_t *source, const lora_factors_f32 *factors, size_t first, size_t rows,
                     uint16_t *target, lora_addition *sums);
void lora_merge_f16(const uint16_t *source, const lora_factors_f32 *factors, size_t first, size_t rows,
                    uint16_t *target, lora_addition *sums);
void lora_merge_f32(const uint32_t *source, const lora_factors_f64 *factors, size_t first, size_t rows,
                    uint32_t *target, lora_addition *sums);
