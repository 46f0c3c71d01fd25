#include "CTensorKernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx,f16c"))) static size_t widen(const uint16_t *source, float *target,
                                                        size_t count) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8)
    _mm256_storeu_ps(target + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(source + i))));
  return i;
}

__attribute__((target("avx,f16c"))) static size_t narrow(const float *source, uint16_t *target,
                                                         size_t count) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8)
    _mm_storeu_si128((__m128i *)(target + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(source + i), _MM_FROUND_TO_NEAREST_INT));
  return i;
}

size_t lora_widen_f16(const uint16_t *source, float *target, size_t count) {
  return __builtin_cpu_supports("f16c") ? widen(source, target, count) : 0;
}

size_t lora_narrow_f16(const float *source, uint16_t *target, size_t count) {
  return __builtin_cpu_supports("f16c") ? narrow(source, target, count) : 0;
}

#elif defined(__aarch64__)

size_t lora_widen_f16(const uint16_t *source, float *target, size_t count) {
  const __fp16 *half = (const __fp16 *)source;
  for (size_t i = 0; i < count; i++) target[i] = (float)half[i];
  return count;
}

size_t lora_narrow_f16(const float *source, uint16_t *target, size_t count) {
  __fp16 *half = (__fp16 *)target;
  for (size_t i = 0; i < count; i++) half[i] = (__fp16)source[i];
  return count;
}

#else

size_t lora_widen_f16(const uint16_t *source, float *target, size_t count) { return 0; }
size_t lora_narrow_f16(const float *source, uint16_t *target, size_t count) { return 0; }

#endif
