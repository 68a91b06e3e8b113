#include "key_range.h"
#include "../simd.h"

/* Keys that a call takes together: with two rows their eight sums, a key and two queries fit V8's registers. */
enum { TOGETHER = 4 };

/* The rows of the next keys; where fewer are left the last stands in for those that are missing. */
SIMD_INLINE void next_rows(const float *rows[TOGETHER], const float *first, size_t stride, size_t left) {
    for (size_t j = 0; j < TOGETHER; j++) rows[j] = first + (j < left ? j : left - 1) * stride;
}

/* The sums of four vectors as one. */
SIMD_INLINE v128_t four_sums(const v128_t *a) {
    v128_t low = wasm_f32x4_add(wasm_i32x4_shuffle(a[0], a[1], 0, 4, 1, 5), wasm_i32x4_shuffle(a[0], a[1], 2, 6, 3, 7));
    v128_t high = wasm_f32x4_add(wasm_i32x4_shuffle(a[2], a[3], 0, 4, 1, 5), wasm_i32x4_shuffle(a[2], a[3], 2, 6, 3, 7));
    return wasm_f32x4_add(wasm_i32x4_shuffle(low, high, 0, 1, 4, 5), wasm_i32x4_shuffle(low, high, 2, 3, 6, 7));
}

/* Keys side by side are not read in memory's order, which is what the machine foresees: of a long range, that comes from memory, each
 * cache line of the next keys is touched in order first. */
SIMD_INLINE void touch(const float *first, size_t stride, size_t count, size_t left, size_t d) {
    enum { LONG = 256, LINE = 16 };
    if (count < LONG) return;
    for (size_t j = 0; j < TOGETHER && j < left; j++) {
        for (size_t i = 0; i < d; i += LINE) (void)*(const volatile float *)(first + j * stride + i);
    }
}

/* `rows` is a constant where this is inlined: 1 or 2. */
SIMD_INLINE void score_tile(size_t rows, float *scores, size_t score_stride, const float *q, size_t q_stride, const float *k, size_t k_stride,
                            size_t n, size_t d) {
    const float *keys[TOGETHER];
    next_rows(keys, k, k_stride, n);
    v128_t sums[2][TOGETHER];
    for (size_t r = 0; r < rows; r++) {
        for (size_t j = 0; j < TOGETHER; j++) sums[r][j] = simd_zero();
    }
    size_t i = 0;
    for (; i + 4 <= d; i += 4) {
        for (size_t j = 0; j < TOGETHER; j++) {
            v128_t key = simd_load(keys[j] + i);
            for (size_t r = 0; r < rows; r++) sums[r][j] = simd_madd(simd_load(q + r * q_stride + i), key, sums[r][j]);
        }
    }
    for (size_t j = 0; i < d && j < TOGETHER; j++) {
        v128_t key = simd_load_part(keys[j] + i, d - i);
        for (size_t r = 0; r < rows; r++) sums[r][j] = simd_madd(simd_load_part(q + r * q_stride + i, d - i), key, sums[r][j]);
    }
    for (size_t r = 0; r < rows; r++) {
        v128_t four = four_sums(sums[r]);
        if (n >= TOGETHER) simd_store(scores + r * score_stride, four);
        else simd_store_part(scores + r * score_stride, four, n);
    }
}

static SIMD_NOINLINE void score_1(float *scores, const float *q, const float *k, size_t k_stride, size_t n, size_t d) {
    score_tile(1, scores, 0, q, 0, k, k_stride, n, d);
}

static SIMD_NOINLINE void score_2(float *scores, size_t score_stride, const float *q, size_t q_stride, const float *k, size_t k_stride, size_t n,
                                  size_t d) {
    score_tile(2, scores, score_stride, q, q_stride, k, k_stride, n, d);
}

void range_scores_f32(float *scores, size_t score_stride, const float *q, size_t q_stride, size_t rows, size_t d, const key_range *range) {
    for (size_t j = 0; j < range->count; j += TOGETHER) {
        const float *k = range->k + j * range->k_stride;
        size_t n = range->count - j, r = 0;
        touch(k, range->k_stride, range->count, n, d);
        for (; r + 2 <= rows; r += 2) score_2(scores + r * score_stride + j, score_stride, q + r * q_stride, q_stride, k, range->k_stride, n, d);
        if (r < rows) score_1(scores + r * score_stride + j, q + r * q_stride, k, range->k_stride, n, d);
    }
}

/* As score_tile; weights of keys that are missing count as 0. */
SIMD_INLINE void value_tile(size_t rows, float *y, size_t y_stride, const float *weights, size_t weight_stride, const float *v, size_t v_stride,
                            size_t n, size_t d) {
    const float *values[TOGETHER];
    next_rows(values, v, v_stride, n);
    v128_t weight[2][TOGETHER];
    for (size_t r = 0; r < rows; r++) {
        for (size_t j = 0; j < TOGETHER; j++) weight[r][j] = j < n ? simd_splat(weights + r * weight_stride + j) : simd_zero();
    }
    size_t i = 0;
    for (; i + 4 <= d; i += 4) {
        v128_t sum[2];
        for (size_t r = 0; r < rows; r++) sum[r] = simd_load(y + r * y_stride + i);
        for (size_t j = 0; j < TOGETHER; j++) {
            v128_t value = simd_load(values[j] + i);
            for (size_t r = 0; r < rows; r++) sum[r] = simd_madd(weight[r][j], value, sum[r]);
        }
        for (size_t r = 0; r < rows; r++) simd_store(y + r * y_stride + i, sum[r]);
    }
    for (size_t r = 0; i < d && r < rows; r++) {
        v128_t sum = simd_load_part(y + r * y_stride + i, d - i);
        for (size_t j = 0; j < TOGETHER; j++) sum = simd_madd(weight[r][j], simd_load_part(values[j] + i, d - i), sum);
        simd_store_part(y + r * y_stride + i, sum, d - i);
    }
}

static SIMD_NOINLINE void value_1(float *y, const float *weights, const float *v, size_t v_stride, size_t n, size_t d) {
    value_tile(1, y, 0, weights, 0, v, v_stride, n, d);
}

static SIMD_NOINLINE void value_2(float *y, size_t y_stride, const float *weights, size_t weight_stride, const float *v, size_t v_stride, size_t n,
                                  size_t d) {
    value_tile(2, y, y_stride, weights, weight_stride, v, v_stride, n, d);
}

void range_values_f32(float *y, size_t y_stride, const float *weights, size_t weight_stride, size_t rows, size_t d, const key_range *range) {
    for (size_t j = 0; j < range->count; j += TOGETHER) {
        const float *v = range->v + j * range->v_stride;
        size_t n = range->count - j, r = 0;
        touch(v, range->v_stride, range->count, n, d);
        for (; r + 2 <= rows; r += 2) value_2(y + r * y_stride, y_stride, weights + r * weight_stride + j, weight_stride, v, range->v_stride, n, d);
        if (r < rows) value_1(y + r * y_stride, weights + r * weight_stride + j, v, range->v_stride, n, d);
    }
}
