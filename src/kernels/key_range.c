#include "key_range.h"
#include <string.h>
#include "half.h"

/* Keys that a call takes together: their eight sums, with one row of two vectors each, with two rows of one, and what is multiplied fit V8's
 * registers; so do four addresses. */
enum { TOGETHER = 4 };

/* A row's numbers from i on as they lie in memory: halves as 2^-112 of themselves. */
SIMD_INLINE v128_t load(int halves, const void *row, size_t i, v128_t bits) {
    return halves ? half_load((const uint16_t *)row + i, bits) : simd_load((const float *)row + i);
}

SIMD_INLINE v128_t load_part(int halves, const void *row, size_t i, size_t n, v128_t bits) {
    if (!halves) return simd_load_part((const float *)row + i, n);
    uint16_t some[4] = {0};
    memcpy(some, (const uint16_t *)row + i, n * sizeof *some);
    return half_load(some, bits);
}

/* The sums of four vectors as one. */
SIMD_INLINE v128_t four_sums(const v128_t *a) {
    v128_t low = wasm_f32x4_add(wasm_i32x4_shuffle(a[0], a[1], 0, 4, 1, 5), wasm_i32x4_shuffle(a[0], a[1], 2, 6, 3, 7));
    v128_t high = wasm_f32x4_add(wasm_i32x4_shuffle(a[2], a[3], 0, 4, 1, 5), wasm_i32x4_shuffle(a[2], a[3], 2, 6, 3, 7));
    return wasm_f32x4_add(wasm_i32x4_shuffle(low, high, 0, 1, 4, 5), wasm_i32x4_shuffle(low, high, 2, 3, 6, 7));
}

/* What a call works on: some keys' rows, what their halves are times 2^-112, and numbers to a row. */
typedef struct part {
    const void *rows[TOGETHER];
    float factor[TOGETHER];
    size_t d;
} part;

/* Rows of four addresses that go on together: an index would be added to each of them for each vector. */
typedef struct cursors { const char *at[TOGETHER]; } cursors;

SIMD_INLINE void move(cursors *c, size_t bytes) {
    for (size_t j = 0; j < TOGETHER; j++) c->at[j] += bytes;
}

/* `halves` and `rows`, 1 or 2, are constants where this is inlined. Scores of one row have two sums for a key. */
SIMD_INLINE void score_tile(int halves, size_t rows, float *scores, size_t score_stride, const float *q, size_t q_stride, const part *p) {
    const size_t vectors = 2 / rows, size = halves ? 2 : 4;
    const v128_t bits = wasm_v128_load(half_constants.bits), root = simd_load(half_constants.root);
    cursors keys;
    v128_t sums[2][TOGETHER];
    for (size_t j = 0; j < TOGETHER; j++) {
        keys.at[j] = p->rows[j];
        sums[0][j] = sums[1][j] = simd_zero();
    }
    size_t d = p->d;
    for (; d >= 4 * vectors; d -= 4 * vectors, q += 4 * vectors) {
        v128_t query[2];
        for (size_t r = 0; r < 2; r++) {
            query[r] = simd_load(rows == 2 ? q + r * q_stride : q + 4 * r);
            if (halves) query[r] = wasm_f32x4_mul(query[r], root);
        }
        for (size_t j = 0; j < TOGETHER; j++) {
            for (size_t x = 0; x < vectors; x++) {
                v128_t key = load(halves, keys.at[j], 4 * x, bits);
                for (size_t r = 0; r < rows; r++) sums[r + x][j] = simd_madd(query[r + x], key, sums[r + x][j]);
            }
        }
        move(&keys, 4 * vectors * size);
    }
    for (size_t n; d; d -= n, q += n) {
        n = d < 4 ? d : 4;
        for (size_t j = 0; j < TOGETHER; j++) {
            v128_t key = n < 4 ? load_part(halves, keys.at[j], 0, n, bits) : load(halves, keys.at[j], 0, bits);
            for (size_t r = 0; r < rows; r++) {
                v128_t query = n < 4 ? simd_load_part(q + r * q_stride, n) : simd_load(q + r * q_stride);
                sums[r][j] = simd_madd(halves ? wasm_f32x4_mul(query, root) : query, key, sums[r][j]);
            }
        }
        move(&keys, n * size);
    }
    for (size_t j = 0; vectors == 2 && j < TOGETHER; j++) sums[0][j] = wasm_f32x4_add(sums[0][j], sums[1][j]);
    for (size_t r = 0; r < rows; r++) {
        v128_t four = four_sums(sums[r]);
        if (halves) four = wasm_f32x4_mul(four, wasm_f32x4_mul(simd_load(p->factor), wasm_f32x4_splat(0x1p-56f)));
        simd_store(scores + r * score_stride, four);
    }
}

/* As score_tile. */
SIMD_INLINE void value_tile(int halves, size_t rows, float *y, size_t y_stride, const float *weights, size_t weight_stride, const part *p) {
    const size_t vectors = 2 / rows, size = halves ? 2 : 4;
    const v128_t bits = wasm_v128_load(half_constants.bits);
    cursors values;
    v128_t weight[2][TOGETHER];
    for (size_t j = 0; j < TOGETHER; j++) {
        values.at[j] = p->rows[j];
        for (size_t r = 0; r < rows; r++) {
            weight[r][j] = simd_splat(weights + r * weight_stride + j);
            if (halves) weight[r][j] = wasm_f32x4_mul(weight[r][j], simd_splat(p->factor + j));
        }
    }
    size_t d = p->d;
    for (; d >= 4 * vectors; d -= 4 * vectors, y += 4 * vectors) {
        v128_t sum[2];
        for (size_t r = 0; r < 2; r++) sum[r] = simd_load(rows == 2 ? y + r * y_stride : y + 4 * r);
        for (size_t j = 0; j < TOGETHER; j++) {
            for (size_t x = 0; x < vectors; x++) {
                v128_t value = load(halves, values.at[j], 4 * x, bits);
                for (size_t r = 0; r < rows; r++) sum[r + x] = simd_madd(weight[r][j], value, sum[r + x]);
            }
        }
        for (size_t r = 0; r < 2; r++) simd_store(rows == 2 ? y + r * y_stride : y + 4 * r, sum[r]);
        move(&values, 4 * vectors * size);
    }
    for (size_t n; d; d -= n, y += n) {
        n = d < 4 ? d : 4;
        for (size_t r = 0; r < rows; r++) {
            v128_t sum = n < 4 ? simd_load_part(y + r * y_stride, n) : simd_load(y + r * y_stride);
            for (size_t j = 0; j < TOGETHER; j++)
                sum = simd_madd(weight[r][j], n < 4 ? load_part(halves, values.at[j], 0, n, bits) : load(halves, values.at[j], 0, bits), sum);
            if (n < 4) simd_store_part(y + r * y_stride, sum, n);
            else simd_store(y + r * y_stride, sum);
        }
        move(&values, n * size);
    }
}

typedef void tile(float *to, size_t to_stride, const float *from, size_t from_stride, const part *p);
#define TILE(name, kind, halves, rows) \
    static SIMD_NOINLINE void name(float *to, size_t to_stride, const float *from, size_t from_stride, const part *p) { \
        kind(halves, rows, to, to_stride, from, from_stride, p); \
    }
TILE(score_1, score_tile, 0, 1) TILE(score_2, score_tile, 0, 2) TILE(score_halves_1, score_tile, 1, 1) TILE(score_halves_2, score_tile, 1, 2)
TILE(value_1, value_tile, 0, 1) TILE(value_2, value_tile, 0, 2) TILE(value_halves_1, value_tile, 1, 1) TILE(value_halves_2, value_tile, 1, 2)
static tile *const scores_of[2][2] = {{score_1, score_2}, {score_halves_1, score_halves_2}}, *const values_of[2][2] = {{value_1, value_2}, {value_halves_1, value_halves_2}};

/* Keys side by side are not read in memory's order, which is what the machine foresees: of a long range, that comes from memory, each
 * cache line of the next keys is touched in order first. */
static void touch(const float *rows, size_t stride, size_t left, size_t d) {
    enum { LINE = 16 };
    for (size_t j = 0; j < TOGETHER && j < left; j++) {
        for (size_t i = 0; i < d; i += LINE) (void)*(const volatile float *)(rows + j * stride + i);
    }
}

/* The next keys; where fewer are left the last stands in for those that are missing. */
SIMD_INLINE void next_rows(part *p, const float *rows, const float *factor, size_t stride, size_t left) {
    for (size_t j = 0; j < TOGETHER; j++) {
        size_t at = (j < left ? j : left - 1) * stride;
        p->rows[j] = (const char *)rows + at * sizeof(float);
        if (factor) p->factor[j] = factor[at];
    }
}

enum { LONG = 256 };

void range_scores_f32(float *scores, size_t score_stride, const float *q, size_t q_stride, size_t rows, size_t d, const key_range *range) {
    tile *const *tiles = scores_of[range->k_factor != NULL];
    part p = {.d = d};
    for (size_t j = 0; j < range->count; j += TOGETHER) {
        size_t at = j * range->k_stride, left = range->count - j;
        const float *k = (const float *)range->k + at;
        if (range->count >= LONG) touch(k, range->k_stride, left, d);
        next_rows(&p, k, range->k_factor ? range->k_factor + at : NULL, range->k_stride, left);
        for (size_t r = 0, n; r < rows; r += n) {
            float some[2 * TOGETHER], *to = scores + r * score_stride + j;
            n = rows - r < 2 ? 1 : 2;
            tiles[n - 1](left < TOGETHER ? some : to, left < TOGETHER ? TOGETHER : score_stride, q + r * q_stride, q_stride, &p);
            for (size_t i = 0; left < TOGETHER && i < n; i++) memcpy(to + i * score_stride, some + i * TOGETHER, left * sizeof *to);
        }
    }
}

void range_values_f32(float *y, size_t y_stride, const float *weights, size_t weight_stride, size_t rows, size_t d, const key_range *range) {
    tile *const *tiles = values_of[range->v_factor != NULL];
    part p = {.d = d};
    for (size_t j = 0; j < range->count; j += TOGETHER) {
        size_t at = j * range->v_stride, left = range->count - j;
        const float *v = (const float *)range->v + at;
        if (range->count >= LONG) touch(v, range->v_stride, left, d);
        next_rows(&p, v, range->v_factor ? range->v_factor + at : NULL, range->v_stride, left);
        for (size_t r = 0, n; r < rows; r += n) {
            float some[2 * TOGETHER] = {0};
            const float *from = weights + r * weight_stride + j;
            n = rows - r < 2 ? 1 : 2;
            for (size_t i = 0; left < TOGETHER && i < n; i++) memcpy(some + i * TOGETHER, from + i * weight_stride, left * sizeof *some);
            tiles[n - 1](y + r * y_stride, y_stride, left < TOGETHER ? some : from, left < TOGETHER ? TOGETHER : weight_stride, &p);
        }
    }
}
