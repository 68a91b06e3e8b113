/* Native sparse attention against its definition, each query and head by itself, in double. */
#include "check.h"
#include "kernels/block_selection.h"
#include "kernels/key_range.h"
#include "kernels/sparse_attention.h"
#include "lamella.h"

typedef struct naive {
    const sparse_head *h;
    const sparse_sizes *s;
    double *scores, *weights;   /* [memory + blocks], [keys + selection + window] */
} naive;

static double product(const float *a, const float *b, size_t d) {
    double sum = 0;
    for (size_t i = 0; i < d; i++) sum += (double)a[i] * b[i];
    return sum / sqrt((double)d);
}

static size_t position_of(const sparse_sizes *s, size_t i) { return s->keys - s->queries + i; }
static int visible(const sparse_sizes *s, size_t i, size_t block) { return !s->causal || (block + 1) * s->stride - 1 < position_of(s, i); }

static double compressed_score(const naive *n, size_t i, size_t head, size_t column) {
    const sparse_sizes *s = n->s;
    const float *q = n->h->q + i * n->h->q_stride + head * s->d;
    if (column < s->memory) return product(q, n->h->mem_k + column * s->d, s->d);
    if (!visible(s, i, column - s->memory)) return -3.4e37;
    return product(q, n->h->ck + (column - s->memory) * n->h->c_stride, s->d);
}

/* y += gate softmax(scores) v over `count` scores; v[j] NULL: zeros */
static void branch(double *y, double gate, const double *scores, const float **v, size_t count, size_t d) {
    double max = -INFINITY, sum = 0;
    for (size_t j = 0; j < count; j++) max = fmax(max, scores[j]);
    for (size_t j = 0; j < count; j++) sum += exp(scores[j] - max);
    for (size_t x = 0; x < d; x++) {
        for (size_t j = 0; j < count; j++) y[x] += v[j] ? gate * exp(scores[j] - max) / sum * v[j][x] : 0;
    }
}

/* Marks the chosen blocks in kept [blocks]: 1 chosen, 2 listed but too small a share. Returns how many are listed. */
static size_t select_blocks(const naive *n, size_t i, size_t head, int *kept) {
    const sparse_sizes *s = n->s;
    size_t together = s->selection / s->stride, columns = s->blocks / together, group = s->shared ? s->group : 1, from = s->shared ? 0 : head;
    double *importance = calloc(columns + 1, sizeof *importance), max = -1000, sum = 0;
    for (size_t c = 0; c < columns; c++) {
        for (size_t b = 0; b < together; b++) {
            for (size_t g = 0; g < group; g++) importance[c] += compressed_score(n, i, from + g, s->memory + c * together + b) / (double)(group * together);
        }
        if (together > 1 && c == position_of(s, i) / s->selection) importance[c] = -3.4e38;
        max = fmax(max, importance[c]);
    }
    for (size_t c = 0; c < columns; c++) sum += exp(importance[c] - max);
    sum += exp(-1000 - max);
    size_t listed = s->selected < columns ? s->selected : columns;
    for (size_t k = 0; k < listed; k++) {
        size_t best = columns;
        for (size_t c = 0; c < columns; c++) {
            if (!kept[c] && (best == columns || importance[c] > importance[best])) best = c;
        }
        kept[best] = exp(importance[best] - max) / sum > 1e-10 ? 1 : 2;
    }
    free(importance);
    return listed;
}

static void fine(const naive *n, size_t i, size_t head, double gate, double *y) {
    const sparse_sizes *s = n->s;
    size_t count = 0, own = position_of(s, i) / s->selection, chosen = 0;
    const float **v = calloc(s->keys + s->selection, sizeof *v), *q = n->h->q_rotated + i * n->h->q_stride + head * s->d;
    int *kept = calloc(s->blocks + 1, sizeof *kept);
    size_t listed = select_blocks(n, i, head, kept);
    for (size_t c = 0; c <= s->blocks; c++) chosen += kept[c] == 1;
    for (size_t j = 0; j < (s->keys + s->selection - 1) / s->selection * s->selection; j++) {
        size_t block = j / s->selection;
        int seen = block < s->blocks && kept[block] == 1, uniform = 0;
        if (s->causal) seen = seen || (block == own && j <= position_of(s, i));
        else if (!listed) seen = block == own;
        else if (!chosen) seen = uniform = block < s->blocks && kept[block] == 2;
        if (!seen) continue;
        n->weights[count] = uniform || j >= s->keys ? 0 : product(q, n->h->k + j * n->h->k_stride, s->d);
        v[count++] = j < s->keys ? n->h->v + j * n->h->k_stride : NULL;
    }
    branch(y, gate, n->weights, v, count, s->d);
    free(v);
    free(kept);
}

static void naive_sparse(const naive *n, float *out) {
    const sparse_sizes *s = n->s;
    const float **v = calloc(s->memory + s->blocks + s->keys + s->window, sizeof *v);
    double *y = calloc(s->d, sizeof *y);
    for (size_t i = 0; i < s->queries * s->group; i++) {
        size_t query = i / s->group, head = i % s->group, position = position_of(s, query), count = 0;
        const float *gates = n->h->gates + query * n->h->gate_stride + 3 * head, *q = n->h->q_rotated + query * n->h->q_stride + head * s->d;
        memset(y, 0, s->d * sizeof *y);
        for (size_t c = 0; c < s->memory + s->blocks; c++) {
            n->scores[c] = compressed_score(n, query, head, c);
            v[c] = c < s->memory ? n->h->mem_v + c * s->d : n->h->cv + (c - s->memory) * n->h->c_stride;
        }
        branch(y, gates[0], n->scores, v, s->memory + s->blocks, s->d);
        fine(n, query, head, gates[1], y);
        size_t padded = s->causal ? s->keys : (s->keys + s->window - 1) / s->window * s->window;
        for (size_t j = 0; j < padded; j++) {
            if (j + s->window < position || (s->causal ? j > position : j > position + s->window)) continue;
            n->weights[count] = j < s->keys ? product(q, n->h->k + j * n->h->k_stride, s->d) : 0;
            v[count++] = j < s->keys ? n->h->v + j * n->h->k_stride : NULL;
        }
        branch(y, gates[2], n->weights, v, count, s->d);
        for (size_t x = 0; x < s->d; x++) out[query * n->h->q_stride + head * s->d + x] = (float)y[x];
    }
    free(v);
    free(y);
}

static float *scaled(size_t n, float by) {
    float *x = check_floats(n);
    for (size_t i = 0; i < n; i++) x[i] *= by;
    return x;
}

static void one(const sparse_sizes *s, float size) {
    sparse_head h = {.q_stride = s->group * s->d + check_size(0, 5), .gate_stride = 3 * s->group + check_size(0, 2), .k_stride = s->d + check_size(0, 5), .c_stride = s->d + check_size(0, 5)};
    float *q = scaled(s->queries * h.q_stride, size), *rotated = scaled(s->queries * h.q_stride, 2), *gates = check_floats(s->queries * h.gate_stride);
    float *k = scaled(s->keys * h.k_stride, 2), *v = check_floats(s->keys * h.k_stride), *ck = scaled(s->blocks * h.c_stride, size), *cv = check_floats(s->blocks * h.c_stride);
    float *mem_k = check_floats(s->memory * s->d), *mem_v = check_floats(s->memory * s->d), *y = check_floats(s->queries * h.q_stride);
    float *expected = check_floats(s->queries * h.q_stride), *scratch = check_floats(sparse_scratch_floats(s)), *packed = check_floats(sparse_packed_floats(s));
    memcpy(expected, y, s->queries * h.q_stride * sizeof *y);
    h.y = y, h.q = q, h.q_rotated = rotated, h.gates = gates, h.k = k, h.v = v, h.ck = ck, h.cv = cv, h.mem_k = mem_k, h.mem_v = mem_v;
    for (size_t t = sparse_tiles(s); t-- > 0;) sparse_pack_f32(packed, &h, s, t);
    h.packed = packed;
    naive n = {&h, s, calloc(s->memory + s->blocks, sizeof(double)), calloc(s->keys + s->selection + s->window, sizeof(double))};
    naive_sparse(&n, expected);
    for (size_t i = 0, count; i < s->queries; i += count) {
        size_t left = s->queries - i, most = sparse_queries(s);
        count = check_size(0, 2) ? most : check_size(1, most);
        if (count > left) count = left;
        sparse_attention_f32(&h, s, i, count, scratch);
    }
    if (!check_close(y, expected, s->queries * h.q_stride, 5e-6, "sparse attention")) {
        printf("    queries %zu keys %zu blocks %zu memory %zu group %zu d %zu window %zu stride %zu selection %zu selected %zu causal %d shared %d size %g\n", s->queries, s->keys,
               s->blocks, s->memory, s->group, s->d, s->window, s->stride, s->selection, s->selected, s->causal, s->shared, size);
    }
    check_free(q); check_free(rotated); check_free(gates); check_free(k); check_free(v); check_free(ck); check_free(cv);
    check_free(mem_k); check_free(mem_v); check_free(y); check_free(expected); check_free(scratch); check_free(packed);
    free(n.scores);
    free(n.weights);
}

static void random_case(size_t most_keys, float size) {
    sparse_sizes s = {.keys = check_size(1, most_keys), .memory = check_size(1, 3), .group = check_size(1, 4), .d = check_size(1, 20), .window = check_size(1, 20),
                      .stride = check_size(1, 6), .selected = check_size(0, 4), .causal = (int)check_size(0, 1), .shared = (int)check_size(0, 1)};
    if (!check_size(0, 9)) s.group = check_size(49, 60);            /* more rows than one block of queries has room for */
    if (!check_size(0, 5)) s.selected = 1000;
    s.selection = s.stride * check_size(1, 6);
    s.blocks = s.keys / s.stride;
    s.queries = s.causal ? check_size(1, s.keys) : s.keys;
    one(&s, size);
}

/* What the shares decide: importances far apart, near the phantom, and below it. */
static void shares(void) {
    int32_t chosen[4];
    float best[4];
    size_t listed;
    CHECK(block_select_f32(chosen, best, (float[]){1, 5, -18.5f, 3}, 4, 4, &listed) == 3 && listed == 4 && chosen[0] == 1 && chosen[3] == 2, "23.5 below the best is too far");
    CHECK(block_select_f32(chosen, best, (float[]){1, 5, -17.5f, 3}, 4, 4, &listed) == 4, "22.5 is not");
    CHECK(block_select_f32(chosen, best, (float[]){-1e38f, -3.4e38f}, 2, 3, &listed) == 0 && listed == 2, "nothing but hidden blocks");
    CHECK(block_select_f32(chosen, best, (float[]){-1022, -1024}, 2, 3, &listed) == 1 && chosen[0] == 0, "measured by the phantom");
    CHECK(block_select_f32(chosen, best, (float[]){-1000, -1022.7f}, 2, 3, &listed) == 1, "which takes part in the sum");   /* e^-22.7 / 2 < 1e-10 < e^-22.7 */
    CHECK(block_select_f32(chosen, best, (float[]){-900, -922.7f}, 2, 3, &listed) == 2, "unless it is far below");
    CHECK(block_select_f32(chosen, best, (float[]){2, 2, 2, 2, 2, 2, 2}, 7, 2, &listed) == 2 && chosen[0] == 0 && chosen[1] == 1, "the first of equal ones");
    CHECK(block_select_f32(chosen, best, (float[]){2, 1, 0, 5, 2, 0}, 6, 2, &listed) == 2 && chosen[0] == 3 && chosen[1] == 0, "also beside a larger one");
    float many[1000];
    for (int i = 0; i < 1000; i++) many[i] = 0;
    many[999] = -16.5f;                                             /* e^-16.5 / 1000 < 1e-10 < e^-16.5 */
    CHECK(block_select_f32(chosen, best, many, 1000, 4, &listed) == 4, "of many equal ones each counts");
    float most[1000];
    int32_t all[1000];
    CHECK(block_select_f32(all, most, many, 1000, 1000, &listed) == 999 && listed == 1000, "the sum takes part");
    many[999] = -15.5f;
    CHECK(block_select_f32(all, most, many, 1000, 1000, &listed) == 1000, "the sum takes part");
}

/* What cannot be recorded, and says which numbers do not go together. */
static void refused(lam_sparse_options o, int width, int blocks, const char *why) {
    lam_graph *g = lam_graph_new();
    lam_value values[8];
    const int sizes[8][3] = {{2, 9, width}, {2, 9, 24}, {2, 9, 12}, {2, 9, 12}, {2, blocks, 12}, {2, blocks, 12}, {0}, {2, 9, 12}};
    for (int i = 0; i < 8; i++)
        values[i] = i == 6 ? lam_weight(g, "memory", 4, (int[]){2, 2, 1, 6}) : lam_input(g, LAM_F32, 3, sizes[i]);
    lam_value y = lam_sparse_attention(g, values, &o);
    CHECK(why ? y == LAM_BAD && strstr(lam_graph_error(g), why) : y >= 0, "%s: expected %s", lam_graph_error(g), why ? why : "none");
    lam_graph_free(g);
}

static void definitions(void) {
    const lam_sparse_options good = {.heads = 4, .kv_heads = 2, .window = 3, .stride = 2, .selection = 4, .selected = 2, .causal = 1, .shared = 1};
    lam_sparse_options o = good;
    refused(good, 24, 4, NULL);
    o.kv_heads = 3, refused(o, 24, 4, "4 heads are not a multiple of 3 key heads"), o = good;
    o.window = 0, refused(o, 24, 4, "a window of 0"), o = good;
    o.selected = -1, refused(o, 24, 4, "-1 selected"), o = good;
    o.selection = 5, refused(o, 24, 4, "blocks of 5 are not a multiple of the stride 2"), o = good;
    o.stride = 0, refused(o, 24, 4, "stride 0"), o = good;
    refused(o, 26, 4, "expected [b, t, 4 heads], got [2, 9, 26]");
    refused(o, 20, 4, "q [2, 9, 20] and rotated q [2, 9, 24]");
    refused(o, 24, 5, "compressed k [2, 5, 12] and v [2, 5, 12]: expected [b, floor(t / 2), 12]");
    lam_graph *g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 3, (int[]){1, LAM_ANY, 12});
    CHECK(lam_windows(g, x, 2, 4, 2) >= 0, "%s", lam_graph_error(g));
    CHECK(lam_windows(g, x, 2, 1, 2) == LAM_BAD && strstr(lam_graph_error(g), "windows of 1 tokens every 2"), "%s", lam_graph_error(g));
    lam_graph_free(g);
    g = lam_graph_new();
    x = lam_input(g, LAM_F32, 3, (int[]){1, LAM_ANY, 12});
    CHECK(lam_windows(g, x, 5, 4, 2) == LAM_BAD && strstr(lam_graph_error(g), "expected [b, t, 5 heads]"), "%s", lam_graph_error(g));
    lam_graph_free(g);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    shares();
    definitions();
    for (int i = 0; i < 700; i++) random_case(40, i % 3 ? 2 : 9);
    for (int i = 0; i < 60; i++) random_case(700, i % 2 ? 2 : 6);
    return check_end("sparse attention");
}
