#include "LowRankKernels.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))

/* Twelve sums in registers, three or two registers of directions and one element: all sixteen are used. Were the
   broadcasts left to the compiler, it would hoist them and spill; volatile keeps each at its product. */
#define BROADCAST(e, p) __asm__ volatile("vbroadcastss %1, %0" : "=x"(e) : "m"(*(p)))

enum {
  PANEL = 4096, /* floats of directions that stay in the first-level cache: 16 KiB */
  STRIP = 48,   /* rows whose images stay in the first-level cache while all columns pass */
  LINE = 16,    /* floats in a cache line */
};

/* Sums of R x (8 C) products over `steps` terms; `own` apart in memory are the R elements of one term, `next` the
   terms. `ahead`, unless null, is where the R elements will be next time, fetched into the cache of that LEVEL by then. */
#define TILE(R, C, LEVEL)                                                                               \
  TARGET static inline __attribute__((always_inline)) void tile_##R##_##C(                              \
      const float *d, size_t own, size_t next, size_t steps, const float *ahead, const float *x,        \
      float *sums, size_t count) {                                                                      \
    __m256 sum[R][C];                                                                                   \
    for (int r = 0; r < R; r++)                                                                         \
      for (int c = 0; c < C; c++) sum[r][c] = _mm256_loadu_ps(sums + r * count + 8 * c);                \
    for (size_t k = 0; k < steps;) {                                                                    \
      size_t end = steps - k < LINE ? steps : k + LINE;                                                 \
      for (int r = 0; ahead && r < R; r++)                                                              \
        _mm_prefetch((const char *)(ahead + k + r * own), LEVEL);                                       \
      for (; k < end; k++) {                                                                            \
        __m256 row[C];                                                                                  \
        for (int c = 0; c < C; c++) row[c] = _mm256_loadu_ps(x + k * count + 8 * c);                    \
        for (int r = 0; r < R; r++) {                                                                   \
          __m256 e;                                                                                     \
          BROADCAST(e, d + k * next + r * own);                                                         \
          for (int c = 0; c < C; c++) sum[r][c] = _mm256_fmadd_ps(e, row[c], sum[r][c]);                \
        }                                                                                               \
      }                                                                                                 \
    }                                                                                                   \
    for (int r = 0; r < R; r++)                                                                         \
      for (int c = 0; c < C; c++) _mm256_storeu_ps(sums + r * count + 8 * c, sum[r][c]);                \
  }

#define PRODUCTS(R, C, LEVEL)                                                                           \
  TILE(R, C, LEVEL)                                                                                     \
  TILE(1, C, LEVEL)                                                                                     \
  TARGET static void images_##C(const float *d, size_t rows, size_t columns, const float *q,            \
                                size_t count, float *y) {                                               \
    size_t panel = PANEL / (8 * C) / LINE * LINE;                                                       \
    for (size_t j = 0; j < columns; j += panel) {                                                       \
      size_t steps = columns - j < panel ? columns - j : panel, i = 0;                                  \
      for (; i + R <= rows; i += R) {                                                                   \
        const float *here = d + i * columns + j;                                                        \
        const float *ahead = i + 2 * R <= rows ? here + R * columns : NULL;                             \
        tile_##R##_##C(here, columns, 1, steps, ahead, q + j * count, y + i * count, count);            \
      }                                                                                                 \
      for (; i < rows; i++)                                                                             \
        tile_1_##C(d + i * columns + j, columns, 1, steps, NULL, q + j * count, y + i * count, count);  \
    }                                                                                                   \
  }                                                                                                     \
  TARGET static void gram_##C(const float *d, size_t rows, size_t columns, const float *y,              \
                              size_t count, float *z) {                                                 \
    size_t strips = (rows + STRIP - 1) / STRIP;                                                         \
    size_t strip = strips ? (rows + strips - 1) / strips : 0;                                           \
    for (size_t i = 0; i < rows; i += strip) {                                                          \
      size_t steps = rows - i < strip ? rows - i : strip, j = 0;                                        \
      const float *x = y + i * count;                                                                   \
      for (; j + R <= columns; j += R)                                                                  \
        tile_##R##_##C(d + i * columns + j, 1, columns, steps, NULL, x, z + j * count, count);          \
      for (; j < columns; j++)                                                                          \
        tile_1_##C(d + i * columns + j, 1, columns, steps, NULL, x, z + j * count, count);              \
    }                                                                                                   \
  }

/* Four rows ahead fit the first-level cache beside four at hand; of rows a power of two long, more do not. */
PRODUCTS(8, 1, _MM_HINT_T1)
PRODUCTS(6, 2, _MM_HINT_T1)
PRODUCTS(4, 3, _MM_HINT_T0)

/* Directions taken at a time: 24, unless that leaves 8, which are slow alone. */
static size_t width(size_t left) { return left >= 24 && left != 32 ? 24 : left >= 16 ? 16 : 8; }

int lora_has_low_rank_kernels(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

void lora_images_f32(const float *block, size_t rows, size_t columns, const float *directions,
                     size_t count, float *images) {
  memset(images, 0, rows * count * sizeof(float));
  for (size_t c = 0, w; c < count; c += w) {
    w = width(count - c);
    (w == 24 ? images_3 : w == 16 ? images_2 : images_1)(block, rows, columns, directions + c, count,
                                                         images + c);
  }
}

void lora_add_gram_f32(const float *block, size_t rows, size_t columns, const float *images,
                       size_t count, float *gram) {
  for (size_t c = 0, w; c < count; c += w) {
    w = width(count - c);
    (w == 24 ? gram_3 : w == 16 ? gram_2 : gram_1)(block, rows, columns, images + c, count, gram + c);
  }
}

TARGET double lora_squares_f32(const float *values, size_t count) {
  __m256d sums[4] = {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()};
  size_t i = 0;
  for (; i + 16 <= count; i += 16)
    for (int k = 0; k < 4; k++) {
      __m256d x = _mm256_cvtps_pd(_mm_loadu_ps(values + i + 4 * k));
      sums[k] = _mm256_fmadd_pd(x, x, sums[k]);
    }
  double lanes[4], sum = 0;
  _mm256_storeu_pd(lanes, _mm256_add_pd(_mm256_add_pd(sums[0], sums[1]), _mm256_add_pd(sums[2], sums[3])));
  for (; i < count; i++) sum += (double)values[i] * values[i];
  return sum + ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]));
}

#else

int lora_has_low_rank_kernels(void) { return 0; }
void lora_images_f32(const float *block, size_t rows, size_t columns, const float *directions,
                     size_t count, float *images) {}
void lora_add_gram_f32(const float *block, size_t rows, size_t columns, const float *images,
                       size_t count, float *gram) {}
double lora_squares_f32(const float *values, size_t count) { return 0; }

#endif
