#include "CTensorKernels.h"

/* Plain loops, which compilers vectorise; on x86-64 also once for AVX2, chosen at run time. */
#define BODY(T, WIDEN)                                                                                  \
  for (size_t i = 0; i < count; i++) out[i] = WIDEN(minuend[i]) - WIDEN(subtrahend[i]);

static inline float bf16(uint16_t pattern) {
  union {
    uint32_t bits;
    float value;
  } wide = {(uint32_t)pattern << 16};
  return wide.value;
}

#if defined(__x86_64__)
#include <immintrin.h>

#define KERNEL(name, T, WIDEN)                                                                          \
  __attribute__((target("avx2"))) static void name##_avx2(const T *minuend, const T *subtrahend,        \
                                                          float *out, size_t count) {                   \
    BODY(T, WIDEN)                                                                                      \
  }                                                                                                     \
  static void name##_plain(const T *minuend, const T *subtrahend, float *out, size_t count) {           \
    BODY(T, WIDEN)                                                                                      \
  }                                                                                                     \
  void name(const T *minuend, const T *subtrahend, float *out, size_t count) {                          \
    (__builtin_cpu_supports("avx2") ? name##_avx2 : name##_plain)(minuend, subtrahend, out, count);     \
  }

__attribute__((target("avx,f16c"))) static size_t halves(const uint16_t *minuend,
                                                         const uint16_t *subtrahend, float *out,
                                                         size_t count) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    __m256 a = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(minuend + i)));
    __m256 b = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(subtrahend + i)));
    _mm256_storeu_ps(out + i, _mm256_sub_ps(a, b));
  }
  return i;
}

size_t lora_difference_f16(const uint16_t *minuend, const uint16_t *subtrahend, float *out,
                           size_t count) {
  return __builtin_cpu_supports("f16c") ? halves(minuend, subtrahend, out, count) : 0;
}

#else

#define KERNEL(name, T, WIDEN)                                                                          \
  void name(const T *minuend, const T *subtrahend, float *out, size_t count) { BODY(T, WIDEN) }

#if defined(__aarch64__)
size_t lora_difference_f16(const uint16_t *minuends, const uint16_t *subtrahends, float *out,
                           size_t count) {
  const __fp16 *minuend = (const __fp16 *)minuends, *subtrahend = (const __fp16 *)subtrahends;
  BODY(__fp16, (float))
  return count;
}
#else
size_t lora_difference_f16(const uint16_t *minuend, const uint16_t *subtrahend, float *out,
                           size_t count) {
  return 0;
}
#endif
#endif

KERNEL(lora_difference_bf16, uint16_t, bf16)
KERNEL(lora_difference_f32, float, (float))
