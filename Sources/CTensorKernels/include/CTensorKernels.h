#pragma once
#include <stddef.h>
#include <stdint.h>

#include "LowRankKernels.h"
#include "MergeKernels.h"

/* Kernels that Swift cannot reach: on x86-64 the half-precision conversion instructions need a target
   attribute and a check at run time. Each returns how many elements it converted (0: not available here);
   the caller converts the rest. */

/* float16 patterns to float32, exact. */
size_t lora_widen_f16(const uint16_t *source, float *target, size_t count);

/* float32 to the nearest float16 pattern, ties to even. */
size_t lora_narrow_f16(const float *source, uint16_t *target, size_t count);

/* out = minuend - subtrahend, widened from bfloat16 patterns, or of float32; everywhere. */
void lora_difference_bf16(const uint16_t *minuend, const uint16_t *subtrahend, float *out, size_t count);
void lora_difference_f32(const float *minuend, const float *subtrahend, float *out, size_t count);

/* The same from float16 patterns; returns how many it did, as above. */
size_t lora_difference_f16(const uint16_t *minuend, const uint16_t *subtrahend, float *out, size_t count);

/* SHA-256 of whole blocks of 64 bytes, added to a state of eight words: with the processor's instructions where it has
   them, and without. */
void lora_sha256(uint32_t *state, const uint8_t *data, size_t blocks);
void lora_sha256_plain(uint32_t *state, const uint8_t *data, size_t blocks);
