/* The body of merge.c, included once for each instruction set: NAME(f) is the name of a function, TARGET its attribute. */

#define TILE(T, S, V, LANES, R)                                                                        \
  TARGET static inline __attribute__((always_inline)) void NAME(tile_##S##_##R)(                        \
      const T *up, const T *panel, size_t rank, T alpha, T *target, size_t stride) {                    \
    V sums[R][LORA_PANEL / LANES];                                                                      \
    for (int r = 0; r < R; r++)                                                                         \
      for (int c = 0; c < LORA_PANEL / LANES; c++) sums[r][c] = (V){0};                                 \
    for (size_t k = 0; k < rank; k++)                                                                   \
      for (int r = 0; r < R; r++) {                                                                     \
        V factor;                                                                                       \
        for (int lane = 0; lane < LANES; lane++) factor[lane] = up[r * rank + k];                       \
        for (int c = 0; c < LORA_PANEL / LANES; c++)                                                    \
          sums[r][c] = __builtin_elementwise_fma(                                                       \
              factor, *(const V *)(panel + k * LORA_PANEL + c * LANES), sums[r][c]);                    \
      }                                                                                                 \
    for (int r = 0; r < R; r++)                                                                         \
      for (int c = 0; c < LORA_PANEL / LANES; c++)                                                      \
        *(V *)(target + r * stride + c * LANES) += alpha * sums[r][c];                                  \
  }

#define PRODUCT(T, S, V, LANES, R)                                                                     \
  TILE(T, S, V, LANES, R)                                                                              \
  TILE(T, S, V, LANES, 1)                                                                              \
  TARGET static void NAME(product_##S)(const T *up, size_t rows, const T *panels, size_t rank,          \
                                       size_t first, size_t columns, T alpha, T *target) {              \
    size_t column = 0;                                                                                  \
    while (column < columns) {                                                                          \
      size_t inside = (first + column) % LORA_PANEL;                                                    \
      const T *panel = panels + (first + column) / LORA_PANEL * rank * LORA_PANEL;                      \
      size_t width = LORA_PANEL - inside;                                                               \
      if (width > columns - column) width = columns - column;                                           \
      size_t row = 0;                                                                                   \
      if (width == LORA_PANEL) {                                                                        \
        for (; row + R <= rows; row += R)                                                               \
          NAME(tile_##S##_##R)(up + row * rank, panel, rank, alpha, target + row * columns + column,    \
                               columns);                                                                \
        for (; row < rows; row++)                                                                       \
          NAME(tile_##S##_1)(up + row * rank, panel, rank, alpha, target + row * columns + column,      \
                             columns);                                                                  \
      } else {                                                                                          \
        for (; row < rows; row++) {                                                                     \
          T edge[LORA_PANEL] = {0};                                                                     \
          T *own = target + row * columns + column;                                                     \
          for (size_t i = 0; i < width; i++) edge[inside + i] = own[i];                                 \
          NAME(tile_##S##_1)(up + row * rank, panel, rank, alpha, edge, LORA_PANEL);                    \
          for (size_t i = 0; i < width; i++) own[i] = edge[inside + i];                                 \
        }                                                                                               \
      }                                                                                                 \
      column += width;                                                                                  \
    }                                                                                                   \
  }

PRODUCT(float, f32, floats8, 8, 4)
PRODUCT(double, f64, doubles4, 4, 2)

/* LANES stored elements and their values at a time; the last of a run come padded with zeros, which add to no sum. */
#define ADD(S, P, LANES, PATTERNS, MASKS, D, DELTAS, SUMS, EXPONENT)                                    \
  TARGET static void NAME(add_##S)(const P *source, const D *delta, P *target, size_t count,            \
                                   lora_addition *sums) {                                               \
    SUMS weight = {0}, squares = {0}, kept = {0};                                                       \
    for (size_t start = 0; start < count; start += RUN) {                                               \
      size_t end = count - start < RUN ? count : start + RUN;                                           \
      DELTAS w2 = {0}, d2 = {0}, dk = {0};                                                              \
      MASKS same = {0}, special = {0}, infinite = {0};                                                  \
      size_t steps = 0;                                                                                 \
      for (size_t i = start; i < end; i += LANES, steps++) {                                            \
        PATTERNS old = {0};                                                                             \
        DELTAS d = {0};                                                                                 \
        size_t size = end - i < LANES ? end - i : LANES;                                                \
        if (size == LANES) {                                                                            \
          memcpy(&old, source + i, sizeof(old));                                                        \
          memcpy(&d, delta + i, sizeof(d));                                                             \
        } else {                                                                                        \
          memcpy(&old, source + i, size * sizeof(P));                                                   \
          memcpy(&d, delta + i, size * sizeof(D));                                                      \
        }                                                                                               \
        DELTAS w = NAME(widen_##S)(old);                                                                \
        MASKS strange = (old & EXPONENT) == EXPONENT;                                                   \
        PATTERNS new = NAME(narrow_##S)(w + d);                                                         \
        new = (old & (PATTERNS)strange) | (new & ~(PATTERNS)strange);                                   \
        w2 = __builtin_elementwise_fma(w, w, w2);                                                       \
        d2 = __builtin_elementwise_fma(d, d, d2);                                                       \
        dk = __builtin_elementwise_fma(d, NAME(widen_##S)(new) - w, dk);                                \
        same -= new == old;                                                                             \
        special -= strange;                                                                             \
        infinite -= (new & EXPONENT) == EXPONENT;                                                       \
        if (size == LANES)                                                                              \
          memcpy(target + i, &new, sizeof(new));                                                        \
        else                                                                                            \
          memcpy(target + i, &new, size * sizeof(P));                                                   \
      }                                                                                                 \
      weight += __builtin_convertvector(w2, SUMS);                                                      \
      squares += __builtin_convertvector(d2, SUMS);                                                     \
      kept += __builtin_convertvector(dk, SUMS);                                                        \
      for (int lane = 0; lane < LANES; lane++) {                                                        \
        sums->changed += steps - (size_t)same[lane];                                                    \
        sums->non_finite += (size_t)special[lane];                                                      \
        sums->overflowed += (size_t)(infinite[lane] - special[lane]);                                   \
      }                                                                                                 \
    }                                                                                                   \
    for (int lane = 0; lane < LANES; lane++) {                                                          \
      sums->squared_weight += weight[lane];                                                             \
      sums->squared_delta += squares[lane];                                                             \
      sums->kept += kept[lane];                                                                         \
    }                                                                                                   \
  }

#define INLINE TARGET static inline __attribute__((always_inline))

INLINE floats NAME(widen_bf16)(patterns16 bits) {
  return (floats)(__builtin_convertvector(bits, patterns) << 16);
}
INLINE patterns16 NAME(narrow_bf16)(floats values) {
  patterns bits = (patterns)values;
  return __builtin_convertvector((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, patterns16);
}
INLINE floats NAME(widen_f16)(patterns16 bits) { return __builtin_convertvector((halves)bits, floats); }
INLINE patterns16 NAME(narrow_f16)(floats values) {
  return (patterns16)__builtin_convertvector(values, halves);
}
INLINE doubles8 NAME(widen_f32)(patterns8 bits) {
  return __builtin_convertvector((floats8)bits, doubles8);
}
INLINE patterns8 NAME(narrow_f32)(doubles8 values) {
  return (patterns8)__builtin_convertvector(values, floats8);
}

ADD(bf16, uint16_t, 16, patterns16, masks16, float, floats, doubles, 0x7F80)
ADD(f16, uint16_t, 16, patterns16, masks16, float, floats, doubles, 0x7C00)
ADD(f32, uint32_t, 8, patterns8, masks8, double, doubles8, doubles8, 0x7F800000)

#undef INLINE
#undef TILE
#undef PRODUCT
#undef ADD
