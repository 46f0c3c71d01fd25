#include "MergeKernels.h"

#include <string.h>

/* See MergeKernels.h: what is fused is written so; were the compiler to fuse more, results would differ by machine. */
#pragma STDC FP_CONTRACT OFF
/* Vectors pass between inlined functions only, so there is no calling convention that could differ. */
#pragma clang diagnostic ignored "-Wpsabi"

/* The number behind a name counts elements where it is not 16; doubles4 fills one register of AVX. */
typedef float floats __attribute__((vector_size(64), aligned(4)));
typedef double doubles __attribute__((vector_size(128), aligned(8)));
typedef uint32_t patterns __attribute__((vector_size(64), aligned(4)));
typedef uint16_t patterns16 __attribute__((vector_size(32), aligned(2)));
typedef int16_t masks16 __attribute__((vector_size(32), aligned(2)));
typedef _Float16 halves __attribute__((vector_size(32), aligned(2)));
typedef float floats8 __attribute__((vector_size(32), aligned(4)));
typedef double doubles8 __attribute__((vector_size(64), aligned(8)));
typedef double doubles4 __attribute__((vector_size(32), aligned(8)));
typedef uint32_t patterns8 __attribute__((vector_size(32), aligned(4)));
typedef int32_t masks8 __attribute__((vector_size(32), aligned(4)));

/* Elements of which the squares are summed in the precision of the delta before they go on in float64. */
enum { RUN = 512 };

/* Rows and columns that are merged at a time. */
enum { STRIP = 16 };
#define CHUNK(T) (LORA_CHUNK * sizeof(float) / sizeof(T))

#define MAGNITUDE(P) ((P)-1 >> 1)

#define NAME(f) f##_plain
#define TARGET
#include "merge_body.h"
#undef NAME
#undef TARGET

#if defined(__x86_64__)

#define NAME(f) f##_avx2
#define TARGET __attribute__((target("avx2,fma,f16c")))
#include "merge_body.h"
#undef NAME
#undef TARGET

#define CHOOSE(f)                                                                                       \
  (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")    \
       ? f##_avx2                                                                                       \
       : f##_plain)

#else

#define CHOOSE(f) f##_plain

#endif

void lora_add_product_f32(const float *up, size_t rows, const float *panels, size_t rank, size_t first,
                          size_t columns, float alpha, float *target) {
  CHOOSE(product_f32)(up, rows, panels, rank, first, columns, alpha, target);
}

void lora_add_product_f64(const double *up, size_t rows, const double *panels, size_t rank, size_t first,
                          size_t columns, double alpha, double *target) {
  CHOOSE(product_f64)(up, rows, panels, rank, first, columns, alpha, target);
}

void lora_add_bf16(const uint16_t *source, const float *delta, uint16_t *target, size_t count,
                   lora_addition *sums) {
  CHOOSE(add_bf16)(source, delta, target, count, sums);
}

void lora_add_f16(const uint16_t *source, const float *delta, uint16_t *target, size_t count,
                  lora_addition *sums) {
  CHOOSE(add_f16)(source, delta, target, count, sums);
}

void lora_add_f32(const uint32_t *source, const double *delta, uint32_t *target, size_t count,
                  lora_addition *sums) {
  CHOOSE(add_f32)(source, delta, target, count, sums);
}

void lora_merge_bf16(const uint16_t *source, const lora_factors_f32 *factors, size_t first, size_t rows,
                     uint16_t *target, lora_addition *sums) {
  CHOOSE(merge_bf16)(source, factors, first, rows, target, sums);
}

void lora_merge_f16(const uint16_t *source, const lora_factors_f32 *factors, size_t first, size_t rows,
                    uint16_t *target, lora_addition *sums) {
  CHOOSE(merge_f16)(source, factors, first, rows, target, sums);
}

void lora_merge_f32(const uint32_t *source, const lora_factors_f64 *factors, size_t first, size_t rows,
                    uint32_t *target, lora_addition *sums) {
  CHOOSE(merge_f32)(source, factors, first, rows, target, sums);
}
