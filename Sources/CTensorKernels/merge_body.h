/* The body of merge.c, included once for each instruction set: NAME(f) is the name of a function, TARGET its attribute. */

/* target = 0 + alpha * (up panel) where `fresh`, else target += the same: both have the same bits. */
#define TILE(T, S, V, LANES, R)                                                                             \
  TARGET static inline __attribute__((always_inline)) void NAME(tile_##S##_##R)(                            \
      const T *up, const T *panel, size_t rank, T alpha, T *target, size_t stride, int fresh) {             \
    V sums[R][LORA_PANEL / LANES];                                                                          \
    for (int r = 0; r < R; r++)                                                                             \
      for (int c = 0; c < LORA_PANEL / LANES; c++) sums[r][c] = (V){0};                                     \
    for (size_t k = 0; k < rank; k++)                                                                       \
      for (int r = 0; r < R; r++) {                                                                         \
        V factor;                                                                                           \
        for (int lane = 0; lane < LANES; lane++) factor[lane] = up[r * rank + k];                           \
        for (int c = 0; c < LORA_PANEL / LANES; c++)                                                        \
          sums[r][c] = __builtin_elementwise_fma(                                                           \
              factor, *(const V *)(panel + k * LORA_PANEL + c * LANES), sums[r][c]);                        \
      }                                                                                                     \
    for (int r = 0; r < R; r++)                                                                             \
      for (int c = 0; c < LORA_PANEL / LANES; c++) {                                                        \
        V *own = (V *)(target + r * stride + c * LANES);                                                    \
        *own = (fresh ? (V){0} : *own) + alpha * sums[r][c];                                                \
      }                                                                                                     \
  }

#define PRODUCT(T, S, V, LANES, R)                                                                          \
  TILE(T, S, V, LANES, R)                                                                                   \
  TILE(T, S, V, LANES, 1)                                                                                   \
  TARGET static void NAME(product_##S)(const T *up, size_t rows, const T *panels, size_t rank,              \
                                       size_t first, size_t columns, T alpha, T *target) {                  \
    size_t column = 0;                                                                                      \
    while (column < columns) {                                                                              \
      size_t inside = (first + column) % LORA_PANEL;                                                        \
      const T *panel = panels + (first + column) / LORA_PANEL * rank * LORA_PANEL;                          \
      size_t width = LORA_PANEL - inside;                                                                   \
      if (width > columns - column) width = columns - column;                                               \
      size_t row = 0;                                                                                       \
      if (width == LORA_PANEL) {                                                                            \
        for (; row + R <= rows; row += R)                                                                   \
          NAME(tile_##S##_##R)(up + row * rank, panel, rank, alpha, target + row * columns + column,        \
                               columns, 0);                                                                 \
        for (; row < rows; row++)                                                                           \
          NAME(tile_##S##_1)(up + row * rank, panel, rank, alpha, target + row * columns + column,          \
                             columns, 0);                                                                   \
      } else {                                                                                              \
        for (; row < rows; row++) {                                                                         \
          T edge[LORA_PANEL] = {0};                                                                         \
          T *own = target + row * columns + column;                                                         \
          for (size_t i = 0; i < width; i++) edge[inside + i] = own[i];                                     \
          NAME(tile_##S##_1)(up + row * rank, panel, rank, alpha, edge, LORA_PANEL, 0);                     \
          for (size_t i = 0; i < width; i++) own[i] = edge[inside + i];                                     \
        }                                                                                                   \
      }                                                                                                     \
      column += width;                                                                                      \
    }                                                                                                       \
  }
/* A strip of the product with rows of CHUNK(T) elements in `target`, which is overwritten. */
#define STRIP_PRODUCT(T, S, R)                                                                              \
  TARGET static inline void NAME(strip_##S)(const T *up, size_t rows, const T *panels, size_t rank,         \
                                            size_t columns, T alpha, T *target) {                           \
    for (size_t column = 0; column < columns; column += LORA_PANEL) {                                       \
      const T *panel = panels + column * rank;                                                              \
      size_t row = 0;                                                                                       \
      for (; row + R <= rows; row += R)                                                                     \
        NAME(tile_##S##_##R)(up + row * rank, panel, rank, alpha, target + row * CHUNK(T) + column,         \
                             CHUNK(T), 1);                                                                  \
      for (; row < rows; row++)                                                                             \
        NAME(tile_##S##_1)(up + row * rank, panel, rank, alpha, target + row * CHUNK(T) + column,           \
                           CHUNK(T), 1);                                                                    \
    }                                                                                                       \
  }

PRODUCT(float, f32, floats8, 8, 4)
PRODUCT(double, f64, doubles4, 4, 2)
STRIP_PRODUCT(float, f32, 4)
STRIP_PRODUCT(double, f64, 2)

#define INLINE TARGET static inline __attribute__((always_inline))

INLINE floats NAME(widen_bf16)(patterns16 bits) {
  return (floats)(__builtin_convertvector(bits, patterns) << 16);
}
INLINE floats NAME(widen_f16)(patterns16 bits) { return __builtin_convertvector((halves)bits, floats); }
INLINE doubles8 NAME(widen_f32)(patterns8 bits) {
  return __builtin_convertvector((floats8)bits, doubles8);
}

/* The nearest pattern, and the value that it stands for unless that is no number. */
INLINE patterns16 NAME(narrow_bf16)(floats values, floats *rounded) {
  patterns bits = (patterns)values;
  bits += 0x7FFF + ((bits >> 16) & 1);
  *rounded = (floats)(bits & 0xFFFF0000);
  return __builtin_convertvector(bits >> 16, patterns16);
}
INLINE patterns16 NAME(narrow_f16)(floats values, floats *rounded) {
  patterns16 bits = (patterns16)__builtin_convertvector(values, halves);
  *rounded = NAME(widen_f16)(bits);
  return bits;
}
INLINE patterns8 NAME(narrow_f32)(doubles8 values, doubles8 *rounded) {
  patterns8 bits = (patterns8)__builtin_convertvector(values, floats8);
  *rounded = NAME(widen_f32)(bits);
  return bits;
}

/* Stored elements plus their deltas, LANES at a time; the last of a run come padded with zeros, which add to no sum. */
#define ADD(S, P, LANES, PATTERNS, MASKS, D, DELTAS, SUMS, EXPONENT)                                        \
  typedef struct {                                                                                          \
    DELTAS weight, delta, kept;                                                                             \
    MASKS same, most;                                                                                       \
    size_t steps;                                                                                           \
  } NAME(tally_##S);                                                                                        \
  typedef struct {                                                                                          \
    SUMS weight, delta, kept;                                                                               \
  } NAME(totals_##S);                                                                                       \
  INLINE PATTERNS NAME(step_##S)(PATTERNS old, DELTAS d, NAME(tally_##S) * t) {                             \
    DELTAS w = NAME(widen_##S)(old), rounded;                                                               \
    PATTERNS new = NAME(narrow_##S)(w + d, &rounded);                                                       \
    MASKS magnitude = (MASKS)(new & MAGNITUDE(P));                                                          \
    t->weight = __builtin_elementwise_fma(w, w, t->weight);                                                 \
    t->delta = __builtin_elementwise_fma(d, d, t->delta);                                                   \
    t->kept = __builtin_elementwise_fma(d, rounded - w, t->kept);                                           \
    t->same -= new == old;                                                                                  \
    t->most = __builtin_elementwise_max(magnitude, t->most);                                                \
    t->steps++;                                                                                             \
    return new;                                                                                             \
  }                                                                                                         \
  INLINE void NAME(run_##S)(const P *source, const D *delta, P *target, size_t count,                       \
                            NAME(tally_##S) * tally) {                                                      \
    NAME(tally_##S) t = *tally;                                                                             \
    size_t i = 0;                                                                                           \
    for (; i + LANES <= count; i += LANES)                                                                  \
      *(PATTERNS *)(target + i) =                                                                           \
          NAME(step_##S)(*(const PATTERNS *)(source + i), *(const DELTAS *)(delta + i), &t);                \
    if (i < count) {                                                                                        \
      PATTERNS old = {0};                                                                                   \
      DELTAS d = {0};                                                                                       \
      memcpy(&old, source + i, (count - i) * sizeof(P));                                                    \
      memcpy(&d, delta + i, (count - i) * sizeof(D));                                                       \
      old = NAME(step_##S)(old, d, &t);                                                                     \
      memcpy(target + i, &old, (count - i) * sizeof(P));                                                    \
    }                                                                                                       \
    *tally = t;                                                                                             \
  }                                                                                                         \
  INLINE void NAME(count_##S)(const NAME(tally_##S) * tally, NAME(totals_##S) * totals,                     \
                              lora_addition *sums) {                                                        \
    totals->weight += __builtin_convertvector(tally->weight, SUMS);                                         \
    totals->delta += __builtin_convertvector(tally->delta, SUMS);                                           \
    totals->kept += __builtin_convertvector(tally->kept, SUMS);                                             \
    for (int lane = 0; lane < LANES; lane++)                                                                \
      sums->changed += tally->steps - (size_t)tally->same[lane];                                            \
  }                                                                                                         \
  INLINE void NAME(total_##S)(const NAME(totals_##S) * totals, lora_addition *sums) {                       \
    for (int lane = 0; lane < LANES; lane++) {                                                              \
      sums->squared_weight += totals->weight[lane];                                                         \
      sums->squared_delta += totals->delta[lane];                                                           \
      sums->kept += totals->kept[lane];                                                                     \
    }                                                                                                       \
  }                                                                                                         \
  /* Counts what became infinite, and puts back what was no number. */                                      \
  TARGET static __attribute__((noinline)) void NAME(settle_##S)(const P *source, P *target,                 \
                                                                size_t count, lora_addition *sums) {        \
    for (size_t i = 0; i < count; i++) {                                                                    \
      if ((source[i] & EXPONENT) == EXPONENT) {                                                             \
        sums->non_finite++;                                                                                 \
        sums->changed -= target[i] != source[i];                                                            \
        target[i] = source[i];                                                                              \
      } else if ((target[i] & EXPONENT) == EXPONENT) {                                                      \
        sums->overflowed++;                                                                                 \
      }                                                                                                     \
    }                                                                                                       \
  }                                                                                                         \
  TARGET static void NAME(add_##S)(const P *source, const D *delta, P *target, size_t count,                \
                                   lora_addition *sums) {                                                   \
    NAME(totals_##S) totals = {0};                                                                          \
    for (size_t start = 0; start < count; start += RUN) {                                                   \
      size_t size = count - start < RUN ? count - start : RUN;                                              \
      NAME(tally_##S) tally = {0};                                                                          \
      NAME(run_##S)(source + start, delta + start, target + start, size, &tally);                           \
      NAME(count_##S)(&tally, &totals, sums);                                                               \
      if (__builtin_reduce_max(tally.most) >= EXPONENT)                                                     \
        NAME(settle_##S)(source + start, target + start, size, sums);                                       \
    }                                                                                                       \
    NAME(total_##S)(&totals, sums);                                                                         \
  }

ADD(bf16, uint16_t, 16, patterns16, masks16, float, floats, doubles, 0x7F80)
ADD(f16, uint16_t, 16, patterns16, masks16, float, floats, doubles, 0x7C00)
ADD(f32, uint32_t, 8, patterns8, masks8, double, doubles8, doubles8, 0x7F800000)

/* Product and addition for a strip of rows and a chunk of columns at a time, of which deltas and panels stay in the first-level
   cache. */
#define MERGE(S, F, P, D, MASKS, EXPONENT)                                                                  \
  TARGET static void NAME(merge_##S)(const P *source, const lora_factors_##F *factors, size_t first,        \
                                     size_t rows, P *target, lora_addition *sums) {                         \
    D delta[STRIP * CHUNK(D)] __attribute__((aligned(64)));                                                 \
    NAME(totals_##S) totals = {0};                                                                          \
    size_t rank = factors->rank, columns = factors->columns;                                                \
    for (size_t column = 0; column < columns; column += CHUNK(D)) {                                         \
      size_t width = columns - column < CHUNK(D) ? columns - column : CHUNK(D);                             \
      const D *panels = factors->panels + column * rank;                                                    \
      for (size_t row = 0; row < rows; row += STRIP) {                                                      \
        size_t height = rows - row < STRIP ? rows - row : STRIP;                                            \
        const D *up = factors->up + (first + row) * rank;                                                   \
        NAME(strip_##F)(up, height, panels, rank, width, (D)factors->alpha, delta);                         \
        NAME(tally_##S) tally = {0};                                                                        \
        for (size_t r = 0; r < height; r++) {                                                               \
          size_t start = (row + r) * columns + column;                                                      \
          const D *own = delta + r * CHUNK(D);                                                              \
          NAME(run_##S)(source + start, own, target + start, width, &tally);                                \
        }                                                                                                   \
        if (__builtin_reduce_max(tally.most) >= EXPONENT)                                                   \
          for (size_t r = 0; r < height; r++)                                                               \
            NAME(settle_##S)(source + (row + r) * columns + column,                                         \
                             target + (row + r) * columns + column, width, sums);                           \
        NAME(count_##S)(&tally, &totals, sums);                                                             \
      }                                                                                                     \
    }                                                                                                       \
    NAME(total_##S)(&totals, sums);                                                                         \
  }

MERGE(bf16, f32, uint16_t, float, masks16, 0x7F80)
MERGE(f16, f32, uint16_t, float, masks16, 0x7C00)
MERGE(f32, f64, uint32_t, double, masks8, 0x7F800000)

#undef INLINE
#undef TILE
#undef PRODUCT
#undef STRIP_PRODUCT
#undef ADD
#undef MERGE
