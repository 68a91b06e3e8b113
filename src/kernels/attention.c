#include "attention.h"
#include <math.h>
#include <string.h>
#include "gemm.h"
#include "simd_math.h"

/* Below this many queries packing a tile of keys costs more than it saves. */
enum { FEW_QUERIES = 4 };

typedef struct tiles {
    float *k, *v;           /* packed for gemm */
    float *scores;          /* [ATTENTION_QUERIES, ATTENTION_KEYS] */
    float *max, *sum;       /* [ATTENTION_QUERIES] */
} tiles;

size_t attention_scratch_floats(size_t d, size_t dv) {
    return gemm_packed_floats(d, ATTENTION_KEYS) + gemm_packed_floats(ATTENTION_KEYS, dv) + ATTENTION_QUERIES * (ATTENTION_KEYS + 2);
}

static tiles lay_out(const attention_head *head, float *scratch) {
    tiles t;
    t.k = scratch;
    t.v = t.k + gemm_packed_floats(head->d, ATTENTION_KEYS);
    t.scores = t.v + gemm_packed_floats(ATTENTION_KEYS, head->dv);
    t.max = t.scores + ATTENTION_QUERIES * ATTENTION_KEYS;
    t.sum = t.max + ATTENTION_QUERIES;
    return t;
}

static float dot(const float *a, const float *b, size_t n) {
    v128_t sum0 = simd_zero(), sum1 = simd_zero();
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        sum0 = simd_madd(simd_load(a + i), simd_load(b + i), sum0);
        sum1 = simd_madd(simd_load(a + i + 4), simd_load(b + i + 4), sum1);
    }
    float rest = 0;
    for (; i < n; i++) rest += a[i] * b[i];
    return rest + simd_sum(wasm_f32x4_add(sum0, sum1));
}

/* y += p x */
static void add_scaled(float *y, float p, const float *x, size_t n) {
    v128_t factor = wasm_f32x4_splat(p);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) simd_store(y + i, simd_madd(factor, simd_load(x + i), simd_load(y + i)));
    for (; i < n; i++) y[i] += p * x[i];
}

static void scale_row(float *y, float factor, size_t n) {
    v128_t f = wasm_f32x4_splat(factor);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) simd_store(y + i, wasm_f32x4_mul(simd_load(y + i), f));
    for (; i < n; i++) y[i] *= factor;
}

/* scores = q k^T for keys [at, at + keys) */
static void score(const attention_head *head, const tiles *t, size_t first, size_t count, size_t at, size_t keys) {
    const float *q = head->q + first * head->q_stride, *k = head->k + at * head->k_stride;
    if (count < FEW_QUERIES) {
        for (size_t i = 0; i < count; i++) {
            for (size_t j = 0; j < keys; j++) {
                t->scores[i * ATTENTION_KEYS + j] = dot(q + i * head->q_stride, k + j * head->k_stride, head->d);
            }
        }
        return;
    }
    gemm_pack_bias(t->k, head->d, keys, NULL);
    gemm_pack_f32(t->k, head->d, 0, head->d, 0, keys, k, 1, head->k_stride);
    gemm_f32_matrix(t->scores, ATTENTION_KEYS, q, head->q_stride, t->k, count, keys, head->d, NULL);
}

/* y += scores v */
static void accumulate(const attention_head *head, const tiles *t, size_t first, size_t count, size_t at, size_t keys) {
    float *y = head->y + first * head->y_stride;
    const float *v = head->v + at * head->v_stride;
    if (count < FEW_QUERIES) {
        for (size_t i = 0; i < count; i++) {
            for (size_t j = 0; j < keys; j++) {
                add_scaled(y + i * head->y_stride, t->scores[i * ATTENTION_KEYS + j], v + j * head->v_stride, head->dv);
            }
        }
        return;
    }
    const gemm_epilogue onto_y = {y, head->y_stride, LAM_IDENTITY};
    gemm_pack_bias(t->v, keys, head->dv, NULL);
    gemm_pack_f32(t->v, keys, 0, keys, 0, head->dv, v, head->v_stride, 1);
    gemm_f32_matrix(y, head->y_stride, t->scores, ATTENTION_KEYS, t->v, count, head->dv, keys, &onto_y);
}

/* scores = scale * scores + mask of n keys; one_mask: one number for all of them. Returns the largest; a NaN need not be found, it reaches the sum. */
static float scale_and_mask(float *scores, const float *mask, int one_mask, float scale, size_t n) {
    v128_t factor = wasm_f32x4_splat(scale), max = wasm_f32x4_splat(-INFINITY);
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        v128_t s = wasm_f32x4_mul(simd_load(scores + j), factor);
        if (mask) s = wasm_f32x4_add(s, one_mask ? simd_splat(mask) : simd_load(mask + j));
        simd_store(scores + j, s);
        max = simd_max(s, max);
    }
    float lanes[4], largest;
    simd_store(lanes, max);
    largest = fmaxf(fmaxf(lanes[0], lanes[1]), fmaxf(lanes[2], lanes[3]));
    for (; j < n; j++) {
        scores[j] = scores[j] * scale + (mask ? mask[one_mask ? 0 : j] : 0);
        largest = fmaxf(largest, scores[j]);
    }
    return largest;
}

typedef struct span { size_t first, end; } span;

static size_t clamp(ptrdiff_t key, size_t keys) { return key < 0 ? 0 : (size_t)key < keys ? (size_t)key : keys; }

/* The keys that queries [first, first + count) see between them. */
static span seen_keys(const attention_head *head, size_t first, size_t count) {
    if (!head->banded) return (span){0, head->keys};
    span s = {clamp((ptrdiff_t)first + head->low, head->keys), clamp((ptrdiff_t)(first + count) + head->high, head->keys)};
    return s.first < s.end ? s : (span){0, 0};
}

/* Of one row: hidden keys become -inf. Returns the largest score, -inf if there is none. */
static float finish_scores(const attention_head *head, float *scores, size_t query, size_t at, size_t keys) {
    span seen = seen_keys(head, query, 1);
    size_t first = seen.first <= at ? 0 : seen.first - at < keys ? seen.first - at : keys;
    size_t end = seen.end <= at ? 0 : seen.end - at < keys ? seen.end - at : keys;
    if (end < first) end = first;
    for (size_t j = 0; j < first; j++) scores[j] = -INFINITY;
    for (size_t j = end; j < keys; j++) scores[j] = -INFINITY;
    const float *mask = head->mask ? head->mask + query * head->mask_stride + (head->one_mask ? 0 : at + first) : NULL;
    return scale_and_mask(scores + first, mask, head->one_mask, head->scale, end - first);
}

/* scores = exp(scores - max); returns their sum. */
static float exponentials(float *scores, float max, size_t keys) {
    v128_t m = wasm_f32x4_splat(max), sum = simd_zero();
    size_t j = 0;
    for (; j + 4 <= keys; j += 4) {
        v128_t e = simd_exp(wasm_f32x4_sub(simd_load(scores + j), m));
        simd_store(scores + j, e);
        sum = wasm_f32x4_add(sum, e);
    }
    float rest = 0;
    if (j < keys) {
        simd_store_part(scores + j, simd_exp(wasm_f32x4_sub(simd_load_part(scores + j, keys - j), m)), keys - j);
        for (; j < keys; j++) rest += scores[j];
    }
    return rest + simd_sum(sum);
}

/* Turns one row of scores into weights; what y and the sum hold so far is scaled to the new maximum. */
static void weigh(const attention_head *head, const tiles *t, size_t i, size_t query, size_t at, size_t keys) {
    float *scores = t->scores + i * ATTENTION_KEYS;
    float max = finish_scores(head, scores, query, at, keys);
    if (max <= t->max[i]) max = t->max[i];
    else if (t->max[i] != -INFINITY) {
        float shrink = expf(t->max[i] - max);
        t->sum[i] *= shrink;
        scale_row(head->y + query * head->y_stride, shrink, head->dv);
    }
    t->max[i] = max;
    t->sum[i] += exponentials(scores, max == -INFINITY ? 0 : max, keys);
}

/* At most ATTENTION_QUERIES queries. */
static void query_tile(const attention_head *head, const tiles *t, size_t first, size_t count) {
    for (size_t i = 0; i < count; i++) {
        memset(head->y + (first + i) * head->y_stride, 0, head->dv * sizeof(float));
        t->max[i] = -INFINITY;
        t->sum[i] = 0;
    }
    span seen = seen_keys(head, first, count);
    for (size_t at = seen.first; at < seen.end; at += ATTENTION_KEYS) {
        size_t here = seen.end - at < ATTENTION_KEYS ? seen.end - at : ATTENTION_KEYS;
        score(head, t, first, count, at, here);
        for (size_t i = 0; i < count; i++) weigh(head, t, i, first + i, at, here);
        accumulate(head, t, first, count, at, here);
    }
    for (size_t i = 0; i < count; i++) {
        if (t->sum[i] != 0) scale_row(head->y + (first + i) * head->y_stride, 1 / t->sum[i], head->dv);
    }
}

void attention_f32(const attention_head *head, size_t first, size_t count, float *scratch) {
    tiles t = lay_out(head, scratch);
    for (size_t i = 0; i < count; i += ATTENTION_QUERIES) {
        query_tile(head, &t, first + i, count - i < ATTENTION_QUERIES ? count - i : ATTENTION_QUERIES);
    }
}
