#include "sparse_attention.h"
#include <float.h>
#include <math.h>
#include <string.h>
#include "../simd.h"
#include "block_selection.h"
#include "gemm.h"
#include "key_range.h"
#include "softmax.h"

/* Rows of scores that are worked on together, keys to a packed tile, and how few queries are not worth packing keys for. */
enum { ROWS = 48, TILE = 128, FEW_QUERIES = 4 };

typedef struct work {
    const sparse_head *head;
    const sparse_sizes *sizes;
    float *scores;                   /* [rows, score_stride]: memory, then compressed blocks */
    float *q;                        /* [rows, d]: queries times 1 / sqrt(d) */
    float *y;                        /* [rows, d]: the compressed branch before the division by sums */
    float *sums;                     /* [rows] */
    float *q_rotated, *branch;       /* [group, d], of one query */
    float *branch_sums;              /* [group] */
    float *weights;                  /* [group, weight_stride], of one query and one branch */
    float *importance, *best;        /* [blocks], [selected] */
    int32_t *chosen;                 /* [selected] */
    size_t score_stride, weight_stride;
} work;

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static size_t columns_of(const sparse_sizes *s) { return s->blocks * s->stride / s->selection; }

size_t sparse_queries(const sparse_sizes *s) { return s->group < ROWS ? ROWS / s->group : 1; }

/* The most scores that a branch has for one query; one of them is for all keys of zeros. */
static size_t most_weights(const sparse_sizes *s) {
    size_t fine = (smaller(s->selected, columns_of(s)) + 1) * s->selection, sliding = smaller(s->window, s->keys) * 2 + 1;
    return smaller(fine > sliding ? fine : sliding, s->keys) + 1;
}

/* Not a little more for each token of a session: the engine plans its memory anew when an op asks for more. */
static size_t in_steps(size_t floats) { return (floats + 255) / 256 * 256; }

/* Takes `floats` of the scratch, in whole vectors; NULL where it is only counted. */
static float *take(float *scratch, size_t *used, size_t floats) {
    size_t at = *used;
    *used += (floats + 3) / 4 * 4;
    return scratch ? scratch + at : NULL;
}

/* Returns the floats that all parts take. */
static size_t lay_out(work *w, float *scratch) {
    const sparse_sizes *s = w->sizes;
    size_t rows = smaller(sparse_queries(s), s->queries) * s->group, selected = smaller(s->selected, columns_of(s)), used = 0;
    w->score_stride = in_steps(s->memory + s->blocks);
    w->weight_stride = in_steps(most_weights(s));
    w->scores = take(scratch, &used, rows * w->score_stride);
    w->q = take(scratch, &used, rows * s->d);
    w->y = take(scratch, &used, rows * s->d);
    w->sums = take(scratch, &used, rows);
    w->q_rotated = take(scratch, &used, s->group * s->d);
    w->branch = take(scratch, &used, s->group * s->d);
    w->branch_sums = take(scratch, &used, s->group);
    w->weights = take(scratch, &used, s->group * w->weight_stride);
    w->importance = take(scratch, &used, in_steps(s->blocks));
    w->best = take(scratch, &used, selected);
    w->chosen = (int32_t *)take(scratch, &used, selected);
    return used;
}

size_t sparse_scratch_floats(const sparse_sizes *sizes) { return lay_out(&(work){.sizes = sizes}, NULL); }

/* ---- the compressed branch ---- */

/* Compressed blocks that a query sees: those that end before it. */
static size_t blocks_seen(const sparse_sizes *s, size_t query) {
    return s->causal ? smaller(s->blocks, (s->keys - s->queries + query) / s->stride) : s->blocks;
}

static key_range memory_range(const sparse_head *h, const sparse_sizes *s, size_t first, size_t count) {
    return (key_range){.k = h->mem_k + first * s->d, .v = h->mem_v + first * s->d, .k_stride = s->d, .v_stride = s->d, .count = count};
}

static key_range block_range(const sparse_head *h, size_t first, size_t count) {
    return (key_range){.k = h->ck + first * h->c_stride, .v = h->cv + first * h->c_stride, .k_stride = h->c_stride, .v_stride = h->c_stride, .count = count};
}

/* Columns of the scores from `first` on as keys, at most `count`: of the memory or of the blocks, whichever begins there. */
static key_range columns_range(const sparse_head *h, const sparse_sizes *s, size_t first, size_t count) {
    return first >= s->memory ? block_range(h, first - s->memory, count) : memory_range(h, s, first, smaller(count, s->memory - first));
}

/* A tile is its keys, packed as columns, and then its values, packed as rows. */
static size_t tile_floats(const sparse_sizes *s) { return gemm_packed_floats(s->d, TILE) + gemm_packed_floats(TILE, s->d); }
static size_t tile_columns(const sparse_sizes *s, size_t tile) { return smaller(TILE, s->memory + s->blocks - tile * TILE); }

size_t sparse_tiles(const sparse_sizes *s) { return s->queries < FEW_QUERIES ? 0 : (s->memory + s->blocks + TILE - 1) / TILE; }

size_t sparse_packed_floats(const sparse_sizes *s) { return sparse_tiles(s) * tile_floats(s); }

void sparse_pack_f32(float *packed, const sparse_head *head, const sparse_sizes *s, size_t tile) {
    float *keys = packed + tile * tile_floats(s), *values = keys + gemm_packed_floats(s->d, TILE);
    size_t columns = tile_columns(s, tile);
    gemm_pack_bias(keys, s->d, columns, NULL);
    gemm_pack_bias(values, columns, s->d, NULL);
    for (size_t j = 0; j < columns;) {
        key_range part = columns_range(head, s, tile * TILE + j, columns - j);
        gemm_pack_f32(keys, s->d, 0, s->d, j, part.count, part.k, 1, part.k_stride);
        gemm_pack_f32(values, columns, j, part.count, 0, s->d, part.v, part.v_stride, 1);
        j += part.count;
    }
}

static void scale_queries(float *scaled, const float *q, size_t group, size_t d) {
    const float scale = 1.0f / __builtin_sqrtf((float)d);
    for (size_t i = 0; i < group * d; i++) scaled[i] = q[i] * scale;
}

/* scores = q k^T over the tiles of `columns` columns; what a row does not see is computed too, and not looked at. */
static void score_tiles(const work *w, size_t rows, size_t columns) {
    const sparse_sizes *s = w->sizes;
    for (size_t t = 0; t * TILE < columns; t++) {
        const float *keys = w->head->packed + t * tile_floats(s);
        gemm_f32_matrix(w->scores + t * TILE, w->score_stride, w->q, s->d, keys, rows, tile_columns(s, t), s->d, NULL);
    }
}

/* y = weights v; weights of columns that a row does not see are 0. */
static void value_tiles(const work *w, size_t rows, size_t columns) {
    const sparse_sizes *s = w->sizes;
    const gemm_epilogue onto_y = {w->y, s->d, LAM_IDENTITY};
    for (size_t t = 0; t * TILE < columns; t++) {
        const float *values = w->head->packed + t * tile_floats(s) + gemm_packed_floats(s->d, TILE);
        gemm_f32_matrix(w->y, s->d, w->scores + t * TILE, w->score_stride, values, rows, s->d, tile_columns(s, t), t ? &onto_y : NULL);
    }
}

/* The same two products for one query, without packing. */
static void score_ranges(const work *w, size_t row, size_t seen) {
    const sparse_sizes *s = w->sizes;
    key_range memory = memory_range(w->head, s, 0, s->memory), blocks = block_range(w->head, 0, seen);
    float *scores = w->scores + row * w->score_stride;
    range_scores_f32(scores, w->score_stride, w->q + row * s->d, s->d, s->group, s->d, &memory);
    range_scores_f32(scores + s->memory, w->score_stride, w->q + row * s->d, s->d, s->group, s->d, &blocks);
}

static void value_ranges(const work *w, size_t row, size_t seen) {
    const sparse_sizes *s = w->sizes;
    key_range memory = memory_range(w->head, s, 0, s->memory), blocks = block_range(w->head, 0, seen);
    const float *weights = w->scores + row * w->score_stride;
    float *y = w->y + row * s->d;
    memset(y, 0, s->group * s->d * sizeof *y);
    range_values_f32(y, s->d, weights, w->score_stride, s->group, s->d, &memory);
    range_values_f32(y, s->d, weights + s->memory, w->score_stride, s->group, s->d, &blocks);
}

/* Scores become weights, and zeros where the row sees nothing of `columns` columns. */
static void weigh(const work *w, size_t row, size_t seen, size_t columns) {
    for (size_t r = row; r < row + w->sizes->group; r++) {
        float *scores = w->scores + r * w->score_stride;
        w->sums[r] = softmax_weights_f32(scores, scores, w->sizes->memory + seen);
        memset(scores + w->sizes->memory + seen, 0, (columns - w->sizes->memory - seen) * sizeof *scores);
    }
}

/* ---- the other branches: one query at a time ---- */

/* y += factor x */
static void add_scaled(float *y, float factor, const float *x, size_t n) {
    v128_t f = wasm_f32x4_splat(factor);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) simd_store(y + i, simd_madd(f, simd_load(x + i), simd_load(y + i)));
    for (; i < n; i++) y[i] += factor * x[i];
}

/* The keys that one query attends to in one branch. */
typedef struct near_keys {
    const int32_t *chosen;     /* blocks of `selection` keys */
    size_t chosen_count;
    size_t first, count;       /* and keys in a row */
    size_t zeros;              /* and keys and values of zeros */
    int equal;                 /* all with the same weight */
} near_keys;

static key_range range_at(const work *w, const near_keys *keys, size_t i) {
    const sparse_head *h = w->head;
    size_t block = w->sizes->selection, in_a_row = i >= keys->chosen_count;
    size_t first = in_a_row ? keys->first : (size_t)keys->chosen[i] * block;
    return (key_range){.k = h->k + first * h->k_stride, .v = h->v + first * h->k_stride, .k_stride = h->k_stride, .v_stride = h->k_stride, .count = in_a_row ? keys->count : block};
}

/* y += gate times attention, for `heads` rotated queries; the gates of neighbours are 3 floats apart. */
static void attend(const work *w, const near_keys *keys, const float *q, size_t heads, float *y, const float *gate) {
    const size_t d = w->sizes->d, stride = w->weight_stride;
    size_t total = 0, at = 0;
    for (size_t i = 0; i <= keys->chosen_count; i++) {
        key_range range = range_at(w, keys, i);
        range_scores_f32(w->weights + total, stride, q, d, heads, d, &range);
        total += range.count;
    }
    for (size_t h = 0; h < heads; h++) {
        float *weights = w->weights + h * stride;
        if (keys->equal) memset(weights, 0, total * sizeof *weights);
        if (keys->zeros) weights[total] = logf((float)keys->zeros);   /* as one key: exp of it is their sum */
        w->branch_sums[h] = softmax_weights_f32(weights, weights, total + (keys->zeros > 0));
    }
    memset(w->branch, 0, heads * d * sizeof *w->branch);
    for (size_t i = 0; i <= keys->chosen_count; i++) {
        key_range range = range_at(w, keys, i);
        range_values_f32(w->branch, d, w->weights + at, stride, heads, d, &range);
        at += range.count;
    }
    for (size_t h = 0; h < heads; h++) add_scaled(y + h * d, gate[3 * h] / w->branch_sums[h], w->branch + h * d, d);
}

/* Blocks chosen by the scores of `heads` rows from `row` on, for the query at `position`. */
static near_keys choose(const work *w, size_t row, size_t heads, size_t position, size_t seen) {
    const sparse_sizes *s = w->sizes;
    const size_t own = position / s->selection, together = s->selection / s->stride;
    near_keys keys = {.chosen = w->chosen};
    size_t listed, columns = block_importance_f32(w->importance, w->scores + row * w->score_stride + s->memory, w->score_stride, heads, seen, together);
    if (!s->causal && together > 1 && own < columns) w->importance[own] = -FLT_MAX;   /* such blocks are left to the sliding window */
    keys.chosen_count = block_select_f32(w->chosen, w->best, w->importance, columns, s->selected, &listed);
    if (s->causal) {
        keys.first = own * s->selection;
        keys.count = position - keys.first + 1;
    } else if (!listed) {
        keys.first = own * s->selection;
        keys.count = smaller(s->selection, s->keys - keys.first);
        keys.zeros = s->selection - keys.count;
    } else if (!keys.chosen_count) {
        keys.chosen_count = listed;
        keys.equal = 1;
    }
    return keys;
}

static near_keys slide(const sparse_sizes *s, size_t position) {
    near_keys keys = {.first = position > s->window ? position - s->window : 0};
    size_t end = position + 1;
    if (!s->causal) {
        size_t padded = (s->keys + s->window - 1) / s->window * s->window;
        end = smaller(position + s->window + 1, padded);
        if (end > s->keys) keys.zeros = end - s->keys;
        end = smaller(end, s->keys);
    }
    keys.count = end - keys.first;
    return keys;
}

/* The fine and the sliding branch of query `query`, whose scores begin at `row`. */
static void near_branches(const work *w, size_t query, size_t row, size_t seen, float *y, const float *gates) {
    const sparse_sizes *s = w->sizes;
    const size_t d = s->d, position = s->keys - s->queries + query, together = s->shared ? s->group : 1;
    scale_queries(w->q_rotated, w->head->q_rotated + query * w->head->q_stride, s->group, d);
    for (size_t h = 0; h < s->group; h += together) {
        near_keys chosen = choose(w, row + h, together, position, seen);
        attend(w, &chosen, w->q_rotated + h * d, together, y + h * d, gates + 3 * h + 1);
    }
    near_keys window = slide(s, position);
    attend(w, &window, w->q_rotated, s->group, y, gates + 2);
}

void sparse_attention_f32(const sparse_head *head, const sparse_sizes *sizes, size_t first, size_t count, float *scratch) {
    work w = {.head = head, .sizes = sizes};
    lay_out(&w, scratch);
    const size_t group = sizes->group, d = sizes->d, rows = count * group, few = !sparse_tiles(sizes);
    const size_t seen_last = sizes->memory + blocks_seen(sizes, first + count - 1);
    const size_t columns = few ? seen_last : smaller((seen_last + TILE - 1) / TILE * TILE, sizes->memory + sizes->blocks);
    for (size_t i = 0; i < count; i++) scale_queries(w.q + i * group * d, head->q + (first + i) * head->q_stride, group, d);
    if (!few) score_tiles(&w, rows, columns);
    for (size_t i = 0; i < count; i++) {
        size_t seen = blocks_seen(sizes, first + i), row = i * group;
        float *y = head->y + (first + i) * head->q_stride;
        memset(y, 0, group * d * sizeof *y);
        if (few) score_ranges(&w, row, seen);
        near_branches(&w, first + i, row, seen, y, head->gates + (first + i) * head->gate_stride);
        weigh(&w, row, seen, columns);
        if (few) value_ranges(&w, row, seen);
    }
    if (!few) value_tiles(&w, rows, columns);
    for (size_t r = 0; r < rows; r++) {
        size_t query = first + r / group, h = r % group;
        add_scaled(head->y + query * head->q_stride + h * d, head->gates[query * head->gate_stride + 3 * h] / w.sums[r], w.y + r * d, d);
    }
}
