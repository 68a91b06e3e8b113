#include "attention.h"
#include <math.h>
#include <string.h>
#include "gemm.h"
#include "key_range.h"
#include "simd_math.h"

/* The room for scores is that of more keys where there are few queries. Of BESIDE_KEYS rows all heads take their part before the next ones. */
enum { FEW_KEYS = ATTENTION_ROWS * ATTENTION_KEYS / (ATTENTION_FEW - 1), BESIDE_KEYS = 8 };
/* What becomes f32 at a time to be packed. */
enum { PART_KEYS = 32, PART_COLUMNS = ATTENTION_ROWS * ATTENTION_KEYS / PART_KEYS };
/* A maximum that grows by less (in powers of two) is left alone: weights may well be more than 1, and what was summed need not be scaled. */
static const float MAX_SLACK = 8;

typedef struct span { size_t first, end; } span;

typedef struct tiles {
    const attention_head *head;
    size_t first, count;    /* the queries */
    float factor;           /* scores are powers of two: scale log2(e) */
    int packed;
    size_t keys;            /* to a tile */
    float *k, *v;           /* of a tile, packed for gemm */
    float *scores;          /* [ATTENTION_ROWS, ATTENTION_KEYS], or [ATTENTION_FEW - 1, FEW_KEYS] */
    float *max, *sum;       /* [ATTENTION_QUERIES] */
} tiles;

size_t attention_scratch_floats(size_t d, size_t dv) {
    return gemm_packed_floats(d, ATTENTION_KEYS) + gemm_packed_floats(ATTENTION_KEYS, dv) + ATTENTION_ROWS * ATTENTION_KEYS + 2 * ATTENTION_QUERIES;
}

static tiles lay_out(const attention_head *head, float *scratch) {
    tiles t = {.head = head, .factor = head->scale * simd_math.log2e};
    t.k = scratch;
    t.v = t.k + gemm_packed_floats(head->d, ATTENTION_KEYS);
    t.scores = t.v + gemm_packed_floats(ATTENTION_KEYS, head->dv);
    t.max = t.scores + ATTENTION_ROWS * ATTENTION_KEYS;
    t.sum = t.max + ATTENTION_QUERIES;
    return t;
}

static void scale_row(float *y, float factor, size_t n) {
    v128_t f = wasm_f32x4_splat(factor);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) simd_store(y + i, wasm_f32x4_mul(simd_load(y + i), f));
    for (; i < n; i++) y[i] *= factor;
}

static size_t clamp(ptrdiff_t key, size_t keys) { return key < 0 ? 0 : (size_t)key < keys ? (size_t)key : keys; }

/* The keys that queries [first, first + count) see between them. */
static span seen_keys(const attention_head *head, size_t first, size_t count) {
    if (!head->banded) return (span){0, head->keys};
    span s = {clamp((ptrdiff_t)first + head->low, head->keys), clamp((ptrdiff_t)(first + count) + head->high, head->keys)};
    return s.first < s.end ? s : (span){0, 0};
}

/* Those of a span that are in [at, at + keys), counted from at. */
static span within(span s, size_t at, size_t keys) {
    span part = {s.first <= at ? 0 : s.first - at < keys ? s.first - at : keys, s.end <= at ? 0 : s.end - at < keys ? s.end - at : keys};
    return part.first < part.end ? part : (span){0, 0};
}

/* Some rows and columns as f32: where they lie, or read into `room`. */
static const float *as_f32(const kept_rows *from, float *room, size_t *stride, size_t row, size_t rows, size_t column, size_t columns) {
    if (from->precision == LAM_PRECISION_F32) {
        *stride = from->width;
        return kept_f32(from, row) + column;
    }
    *stride = columns;
    kept_read(room, columns, from, row, rows, column, columns);
    return room;
}

/* The head's keys or values; what is to become f32 first in parts, in the room for scores. */
static void pack_rows(const tiles *t, const kept_rows *from, size_t at, size_t keys, size_t width) {
    const int whole = from->precision == LAM_PRECISION_F32;
    const size_t most_rows = whole ? ATTENTION_KEYS : PART_KEYS, most_columns = whole ? width : PART_COLUMNS;
    for (size_t key = 0, rows; key < keys; key += rows) {
        rows = keys - key < most_rows ? keys - key : most_rows;
        for (size_t j = 0, columns; j < width; j += columns) {
            size_t stride;
            columns = width - j < most_columns ? width - j : most_columns;
            const float *part = as_f32(from, t->scores, &stride, at + key, rows, j, columns);
            if (from == &t->head->k) gemm_pack_f32(t->k, width, j, columns, key, rows, part, 1, stride);
            else gemm_pack_f32(t->v, ATTENTION_KEYS, key, rows, j, columns, part, stride, 1);
        }
    }
}

static void pack(const tiles *t, size_t at, size_t keys) {
    const attention_head *head = t->head;
    gemm_pack_bias(t->k, head->d, keys, NULL);
    gemm_pack_bias(t->v, ATTENTION_KEYS, head->dv, NULL);
    pack_rows(t, &head->k, at, keys, head->d);
    pack_rows(t, &head->v, at, keys, head->dv);
}

/* Keys or values for few queries: f32 and halves where they lie, others as f32 in `room`. */
static key_range rows_range(const kept_rows *from, float *room, size_t row, size_t rows, size_t width) {
    key_range range = {.count = rows};
    if (from->precision == LAM_PRECISION_F16) {
        range.k_stride = kept_row_bytes(LAM_PRECISION_F16, from->width) / sizeof(float);
        range.k = kept_halves(from, row, &range.k_factor);
    } else range.k = as_f32(from, room, &range.k_stride, row, rows, 0, width);
    range.v = range.k;
    range.v_stride = range.k_stride;
    range.v_factor = range.k_factor;
    return range;
}

/* scores = q k^T for `rows` queries from the row `first` on and the keys of the tile in `seen`. */
static void score(const tiles *t, size_t first, size_t rows, size_t at, span seen) {
    const attention_head *head = t->head;
    const float *q = head->q + first * head->q_stride;
    if (!t->packed) {
        const key_range range = rows_range(&head->k, t->k, at + seen.first, seen.end - seen.first, head->d);
        range_scores_f32(t->scores + seen.first, t->keys, q, head->q_stride, rows, head->d, &range);
        return;
    }
    size_t skip = seen.first / GEMM_NR * GEMM_NR;
    gemm_f32_matrix(t->scores + skip, ATTENTION_KEYS, q, head->q_stride, t->k + gemm_packed_floats(head->d, skip), rows, seen.end - skip, head->d, NULL);
}

/* y += scores v */
static void accumulate(const tiles *t, size_t first, size_t rows, size_t at, span seen) {
    const attention_head *head = t->head;
    float *y = head->y + first * head->y_stride;
    if (!t->packed) {
        const key_range range = rows_range(&head->v, t->v, at + seen.first, seen.end - seen.first, head->dv);
        range_values_f32(y, head->y_stride, t->scores + seen.first, t->keys, rows, head->dv, &range);
        return;
    }
    gemm_f32_add_rows(y, head->y_stride, t->scores + seen.first, ATTENTION_KEYS, t->v, ATTENTION_KEYS, seen.first, rows, head->dv, seen.end - seen.first);
}

static float lanes_max(v128_t v) {
    float lanes[4];
    simd_store(lanes, v);
    return fmaxf(fmaxf(lanes[0], lanes[1]), fmaxf(lanes[2], lanes[3]));
}

/* The largest of n scores; a NaN need not be found, it reaches the sum. */
static float largest(const float *scores, size_t n) {
    v128_t max[2] = {wasm_f32x4_splat(-INFINITY), wasm_f32x4_splat(-INFINITY)};
    size_t j = 0;
    for (; j + 8 <= n; j += 8) {
        max[0] = simd_max(simd_load(scores + j), max[0]);
        max[1] = simd_max(simd_load(scores + j + 4), max[1]);
    }
    float most = lanes_max(simd_max(max[0], max[1]));
    for (; j < n; j++) most = fmaxf(most, scores[j]);
    return most;
}

/* scores = factor scores + log2(e) mask; one_mask: one number for all of them. */
static void mask_scores(float *scores, const float *mask, int one_mask, float factor, size_t n) {
    v128_t f = wasm_f32x4_splat(factor), log2e = simd_splat(&simd_math.log2e);
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        v128_t s = wasm_f32x4_mul(simd_load(scores + j), f);
        if (mask) s = simd_madd(one_mask ? simd_splat(mask) : simd_load(mask + j), log2e, s);
        simd_store(scores + j, s);
    }
    for (; j < n; j++) scores[j] = scores[j] * factor + (mask ? mask[one_mask ? 0 : j] * simd_math.log2e : 0);
}

/* scores = 2^(factor scores - max); returns their sum. */
static float exponentials(float *scores, float factor, float max, size_t n) {
    v128_t f = wasm_f32x4_splat(factor), m = wasm_f32x4_splat(-max), sum = simd_zero();
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        v128_t e = simd_exp2_below(simd_madd(simd_load(scores + j), f, m));
        simd_store(scores + j, e);
        sum = wasm_f32x4_add(sum, e);
    }
    float rest = 0;
    if (j < n) {
        simd_store_part(scores + j, simd_exp2_below(simd_madd(simd_load_part(scores + j, n - j), f, m)), n - j);
        for (; j < n; j++) rest += scores[j];
    }
    return rest + simd_sum(sum);
}

/* What y and the sum hold so far is scaled to a maximum that has grown. */
static void raise_max(const tiles *t, size_t i, float max) {
    const attention_head *head = t->head;
    if (t->max[i] != -INFINITY) {
        float shrink = wasm_f32x4_extract_lane(simd_exp2_below(wasm_f32x4_splat(t->max[i] - max)), 0);
        t->sum[i] *= shrink;
        scale_row(head->y + (t->first + i) * head->y_stride, shrink, head->dv);
    }
    t->max[i] = max;
}

/* Turns the scores of query i into weights; those of keys in `seen` that it does not see become 0. */
static void weigh(const tiles *t, float *scores, size_t i, size_t at, size_t keys, span seen) {
    const attention_head *head = t->head;
    size_t query = t->first + i;
    span own = within(seen_keys(head, query, 1), at, keys);
    if (own.first == own.end) own.first = own.end = seen.end;
    for (size_t j = seen.first; j < own.first; j++) scores[j] = 0;
    for (size_t j = own.end; j < seen.end; j++) scores[j] = 0;
    float factor = t->factor;
    scores += own.first;
    if (head->mask || !(factor > 0)) {
        const float *mask = head->mask ? head->mask + query * head->mask_stride + (head->one_mask ? 0 : at + own.first) : NULL;
        mask_scores(scores, mask, head->one_mask, factor, own.end - own.first);
        factor = 1;
    }
    float max = largest(scores, own.end - own.first) * factor;
    if (max > t->max[i] + MAX_SLACK) raise_max(t, i, max);
    t->sum[i] += exponentials(scores, factor, t->max[i] == -INFINITY ? 0 : t->max[i], own.end - own.first);
}

/* One tile of keys for all queries. */
static void key_tile(const tiles *t, size_t at, size_t keys) {
    if (t->packed) pack(t, at, keys);
    for (size_t i = 0; i < t->count; i += ATTENTION_ROWS) {
        size_t rows = t->count - i < ATTENTION_ROWS ? t->count - i : ATTENTION_ROWS, first = t->first + i;
        span seen = within(seen_keys(t->head, first, rows), at, keys);
        if (seen.first == seen.end) continue;
        score(t, first, rows, at, seen);
        for (size_t r = 0; r < rows; r++) weigh(t, t->scores + r * t->keys, i + r, at, keys, seen);
        accumulate(t, first, rows, at, seen);
    }
}

static void begin(tiles *t) {
    for (size_t i = 0; i < t->count; i++) {
        memset(t->head->y + (t->first + i) * t->head->y_stride, 0, t->head->dv * sizeof(float));
        t->max[i] = -INFINITY;
        t->sum[i] = 0;
    }
}

static void end(tiles *t) {
    for (size_t i = 0; i < t->count; i++) {
        if (t->sum[i] != 0) scale_row(t->head->y + (t->first + i) * t->head->y_stride, 1 / t->sum[i], t->head->dv);
    }
}

/* ---- heads beside each other: all of them meet a few keys after another, so that memory is read in order ---- */

/* Heads from i on that share keys and values and have one query each. */
static size_t sharing(const attention_head *heads, size_t i, size_t count) {
    size_t n = 1;
    while (heads->queries == 1 && i + n < count && heads[i].k.column == heads[i + n].k.column && heads[i].k.data == heads[i + n].k.data) n++;
    return n;
}

/* How many keys all heads take before the next ones: there is room for ATTENTION_KEYS rows of one head. */
static size_t keys_beside(const attention_head *heads, size_t count) {
    size_t columns = heads[count - 1].k.column - heads->k.column, most = ATTENTION_KEYS * heads->d / (columns + heads->d);
    return most < BESIDE_KEYS ? BESIDE_KEYS / 2 : BESIDE_KEYS;
}

/* What comes of 8 bits becomes f32 for all heads at once; head i's part then begins column - (the first head's column) behind. */
static kept_rows rows_beside(const kept_rows *first, const kept_rows *last, float *room, size_t row, size_t rows, size_t width) {
    kept_rows all = {room, LAM_PRECISION_F32, last->column - first->column + width, 0};
    if (first->precision == LAM_Q8) kept_read(room, all.width, first, row, rows, 0, all.width);
    else if (all.width > width) kept_touch(first, row, rows, all.width);
    return all;
}

static key_range range_beside(const kept_rows *first, const kept_rows *own, const kept_rows *all, size_t row, size_t rows, size_t width) {
    const kept_rows read = {all->data, LAM_PRECISION_F32, all->width, own->column - first->column};
    return first->precision == LAM_Q8 ? rows_range(&read, NULL, 0, rows, width) : rows_range(own, NULL, row, rows, width);
}

static void scores_beside(const tiles *t, const attention_head *heads, size_t count, size_t row, size_t rows, size_t at) {
    const kept_rows all = rows_beside(&heads->k, &heads[count - 1].k, t->k, row, rows, heads->d);
    for (size_t i = 0, n; i < count; i += n) {
        const attention_head *h = &heads[i];
        const key_range range = range_beside(&heads->k, &h->k, &all, row, rows, h->d);
        n = sharing(heads, i, count);
        range_scores_f32(t[i].scores + at, t->keys, h->q, n > 1 ? (size_t)(h[1].q - h->q) : h->q_stride, n > 1 ? n : h->queries, h->d, &range);
    }
}

static void values_beside(const tiles *t, const attention_head *heads, size_t count, size_t row, size_t rows, size_t at) {
    const kept_rows all = rows_beside(&heads->v, &heads[count - 1].v, t->v, row, rows, heads->dv);
    for (size_t i = 0, n; i < count; i += n) {
        const attention_head *h = &heads[i];
        const key_range range = range_beside(&heads->v, &h->v, &all, row, rows, h->dv);
        n = sharing(heads, i, count);
        range_values_f32(h->y, n > 1 ? (size_t)(h[1].y - h->y) : h->y_stride, t[i].scores + at, t->keys, n > 1 ? n : h->queries, h->dv, &range);
    }
}

void attention_beside_f32(const attention_head *heads, size_t count, float *scratch) {
    tiles t[ATTENTION_BESIDE];
    if (!count) return;
    const size_t together = keys_beside(heads, count), queries = heads->queries, rows = count * queries, most = ATTENTION_ROWS * ATTENTION_KEYS / (rows ? rows : 1) / BESIDE_KEYS * BESIDE_KEYS;
    const span seen = seen_keys(heads, 0, queries);
    for (size_t i = 0; i < count; i++) {
        t[i] = lay_out(&heads[i], scratch);
        t[i].scores += i * queries * most;
        t[i].max += i * (ATTENTION_FEW - 1);
        t[i].sum += i * (ATTENTION_FEW - 1);
        t[i].count = queries;
        t[i].keys = most;
        begin(&t[i]);
    }
    for (size_t at = seen.first, keys; at < seen.end; at += keys) {
        keys = seen.end - at < most ? seen.end - at : most;
        for (size_t i = 0; i < keys; i += together) scores_beside(t, heads, count, at + i, keys - i < together ? keys - i : together, i);
        for (size_t i = 0; i < rows; i++) weigh(&t[i / queries], t->scores + i * most, i % queries, at, keys, (span){0, keys});
        for (size_t i = 0; i < keys; i += together) values_beside(t, heads, count, at + i, keys - i < together ? keys - i : together, i);
    }
    for (size_t i = 0; i < count; i++) end(&t[i]);
}

/* ---- one head ---- */

/* All tiles of keys. */
static void over_keys(tiles *t) {
    span seen = seen_keys(t->head, t->first, t->count);
    begin(t);
    for (size_t at = seen.first, next; at < seen.end; at = next) {
        next = at / t->keys * t->keys + t->keys;
        if (next > seen.end) next = seen.end;
        key_tile(t, at, next - at);
    }
    end(t);
}

void attention_f32(const attention_head *head, size_t first, size_t count, float *scratch) {
    tiles t = lay_out(head, scratch);
    for (size_t end = first + count; first < end; first += t.count) {
        t.first = first;
        t.count = end - first < ATTENTION_QUERIES ? end - first : ATTENTION_QUERIES;
        t.packed = t.count >= ATTENTION_FEW;
        int whole = head->k.precision == LAM_PRECISION_F32 && head->v.precision == LAM_PRECISION_F32;
        t.keys = t.packed || !whole ? ATTENTION_KEYS : FEW_KEYS;
        over_keys(&t);
    }
}
