/* Multi-head latent attention, DeepSeek-V2's: keys and values are projections of one latent vector per token, which is all that is kept.
 *
 * Per head the same numbers come out in two ways. Absorbed: the query is carried into the latent space, q W_UK, attends over the latents
 * themselves, and only its result is projected by W_UV. Expanded: keys and values of all tokens are made first. The first costs more per
 * pair of query and key, the second per key: run takes what needs less time by the count of them. All heads share the latents, so that with few queries, as in a step of a
 * decoder, the absorbed queries of a token's heads are queries of one attention, which reads the latents once. */
#include <string.h>
#include "../kernels/attention.h"
#include "../kernels/gemm.h"
#include "../text.h"
#include "ops.h"
#include "product.h"

enum { Q, KV, WEIGHT };
/* Queries that are carried into the latent space together. */
enum { QUERIES = 2 * ATTENTION_ROWS };
/* Keys that scratch grows by, so that a session does not plan anew for every token, and of a cache in fewer bits those that become f32 together. */
enum { KEY_STEP = 256, PART_KEYS = 16 * GEMM_MR };

typedef struct mla_params { int heads, nope, rope, v; float scale; } mla_params;

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const mla_params *p = node->params;
    const lam_shape *q = &in[Q], *kv = &in[KV], *w = &in[WEIGHT];
    int width = p->heads * (p->nope + p->rope), rows = p->heads * (p->nope + p->v);
    if (q->rank != 3 || kv->rank != 3 || w->rank != 2)
        return text_format(why, LAM_TEXT, "expected q [b, t, %d], kv [b, s, c + %d] and a weight [%d, c], got %v, %v and %v", width, p->rope, rows, q, kv, w), LAM_EVALUE;
    if (!dim_agrees(q->dims[2], width))
        return text_format(why, LAM_TEXT, "q %v should be %d wide: %d heads of %d + %d", q, width, p->heads, p->nope, p->rope), LAM_EVALUE;
    if (w->dims[0] != rows)
        return text_format(why, LAM_TEXT, "the weight %v should have %d rows: %d heads of %d + %d", w, rows, p->heads, p->nope, p->v), LAM_EVALUE;
    if (!dim_agrees(kv->dims[2], w->dims[1] + p->rope))
        return text_format(why, LAM_TEXT, "kv %v should be %d wide: the weight %v takes %d, and %d are turned", kv, w->dims[1] + p->rope, w, w->dims[1], p->rope), LAM_EVALUE;
    int fewer = q->dims[1] >= 0 && kv->dims[1] >= 0 && kv->dims[1] < q->dims[1];
    if (!dim_agrees(q->dims[0], kv->dims[0]) || fewer) return text_format(why, LAM_TEXT, "q %v over kv %v", q, kv), LAM_EVALUE;
    *out = *q;
    out->dims[2] = p->heads * p->v;
    return LAM_OK;
}

/* ---- weights: of each head W_UK twice, for either way, and W_UV; in halves where fewer bits than f32's are wanted ---- */

typedef struct head_weights { float *absorb, *key, *value; } head_weights;   /* packed [nope, c], [c, nope], [c, v] */

static gemm_format format_of(const lam_node *node) { return node->precision == LAM_PRECISION_F32 ? GEMM_F32 : GEMM_F16; }

static head_weights weights_of(const lam_node *node, size_t c, size_t head) {
    const mla_params *p = node->params;
    const gemm_format format = format_of(node);
    const size_t nope = (size_t)p->nope, absorb = gemm_packed_floats_in(format, nope, c), key = gemm_packed_floats_in(format, c, nope);
    head_weights w = { .absorb = node->packed + head * (absorb + key + gemm_packed_floats_in(format, c, (size_t)p->v)) };
    w.key = w.absorb + absorb;
    w.value = w.key + key;
    return w;
}

static size_t packed(const lam_graph *g, lam_node *node) {
    const mla_params *p = node->params;
    const size_t c = (size_t)graph_shape(g, node->in[WEIGHT])->dims[1], nope = (size_t)p->nope;
    if (product_precision(g, node->in[WEIGHT], SIZE_MAX, SIZE_MAX) != LAM_PRECISION_F32) node->precision = LAM_PRECISION_F16;
    const gemm_format format = format_of(node);
    return (size_t)p->heads * (gemm_packed_floats_in(format, nope, c) + gemm_packed_floats_in(format, c, nope) + gemm_packed_floats_in(format, c, (size_t)p->v));
}

/* Rows of a head are first those of W_UK [nope, c], then those of W_UV [v, c]. */
static void pack(const lam_graph *g, lam_node *node, int in, const float *data, int first, int rows) {
    (void)in;
    const mla_params *p = node->params;
    const gemm_format format = format_of(node);
    size_t c = (size_t)graph_shape(g, node->in[WEIGHT])->dims[1], nope = (size_t)p->nope, v = (size_t)p->v;
    for (size_t r = (size_t)first; r < (size_t)(first + rows); r++, data += c) {
        head_weights w = weights_of(node, c, r / (nope + v));
        size_t i = r % (nope + v);
        if (i >= nope) {
            gemm_pack(format, w.value, c, 0, c, i - nope, 1, data, 1, c);
            continue;
        }
        gemm_pack(format, w.absorb, nope, i, 1, 0, c, data, c, 1);
        gemm_pack(format, w.key, c, 0, c, i, 1, data, 1, c);
    }
}

static lam_status finish(const lam_graph *g, lam_node *node) {
    const mla_params *p = node->params;
    size_t c = (size_t)graph_shape(g, node->in[WEIGHT])->dims[1], nope = (size_t)p->nope;
    for (size_t head = 0; head < (size_t)p->heads; head++) {
        head_weights w = weights_of(node, c, head);
        gemm_bias(format_of(node), w.absorb, nope, c, NULL);
        gemm_bias(format_of(node), w.key, c, nope, NULL);
        gemm_bias(format_of(node), w.value, c, (size_t)p->v, NULL);
    }
    return LAM_OK;
}

/* ---- run ---- */

/* Time of a multiplication of the absorbed form in those of the expanded one, where the two take as long (src/kernels/README.md). */
static const double ABSORBED_COST = 1.1;

typedef struct sizes { size_t t, s, c, nope, rope, v, heads; int absorbed; } sizes;

static sizes sizes_of(const lam_run *r) {
    const mla_params *p = r->node->params;
    sizes n = { (size_t)r->in[Q].shape.dims[1], (size_t)r->in[KV].shape.dims[1], (size_t)r->in[WEIGHT].shape.dims[1],
                (size_t)p->nope, (size_t)p->rope, (size_t)p->v, (size_t)p->heads, 0 };
    double t = (double)n.t, s = (double)n.s, c = (double)n.c, projected = (double)(n.nope + n.v);
    n.absorbed = ABSORBED_COST * (t * c * projected + t * s * (2 * c + (double)n.rope)) <= s * c * projected + t * s * (projected + (double)n.rope);
    return n;
}

static int is_step(const sizes *n) { return n->absorbed && n->t < ATTENTION_FEW; }

static void scratch(const lam_run *r, size_t *per_thread, size_t *shared) {
    sizes n = sizes_of(r);
    size_t keys = (n.s + KEY_STEP - 1) / KEY_STEP * KEY_STEP;
    if (is_step(&n)) {
        *per_thread = attention_scratch_floats(n.c + n.rope, n.c);
        *shared = scratch_times((size_t)r->in[Q].shape.dims[0] * n.t, n.heads * (2 * n.c + n.rope));
        return;
    }
    *per_thread = n.absorbed ? QUERIES * (2 * n.c + n.rope) + attention_scratch_floats(n.c + n.rope, n.c)
                             : scratch_times(keys, n.nope + n.rope + n.v) + attention_scratch_floats(n.nope + n.rope, n.v) +
                                   (r->in[KV].precision == LAM_PRECISION_F32 ? 0 : PART_KEYS * (n.c + n.rope));
}

typedef struct job { const lam_run *run; sizes n; int blocks; } job;

/* The latents of one sequence; a cache has but one. */
static kept_rows latents(const job *j, size_t batch) {
    const lam_tensor *kv = &j->run->in[KV];
    return (kept_rows){ kv->data + batch * j->n.s * (j->n.c + j->n.rope), kv->precision, j->n.c + j->n.rope, 0 };
}

/* What both ways agree on: which queries, which rows of the output. */
static attention_head head_of(const job *j, size_t batch, size_t head) {
    const mla_params *p = j->run->node->params;
    const sizes *n = &j->n;
    return (attention_head){
        .y = j->run->out.data + (batch * n->t * n->heads + head) * n->v, .y_stride = n->heads * n->v,
        .q = j->run->in[Q].data + (batch * n->t * n->heads + head) * (n->nope + n->rope), .q_stride = n->heads * (n->nope + n->rope),
        .queries = n->t, .keys = n->s, .scale = p->scale, .banded = 1,
        .low = -(ptrdiff_t)n->t, .high = (ptrdiff_t)(n->s - n->t),
    };
}

/* QUERIES queries of one head over the latents. */
static void attend_latents(void *argument, int index, int thread) {
    const job *j = argument;
    const sizes *n = &j->n;
    size_t first = (size_t)(index % j->blocks) * QUERIES, at = (size_t)(index / j->blocks), batch = at / n->heads;
    size_t count = n->t - first < QUERIES ? n->t - first : QUERIES, wide = n->c + n->rope;
    head_weights w = weights_of(j->run->node, n->c, at % n->heads);
    attention_head whole = head_of(j, batch, at % n->heads), head = whole;
    float *q = j->run->scratch + (size_t)thread * j->run->scratch_floats;   /* [count, c + rope] */
    float *y = q + QUERIES * wide;                                          /* [count, c] */
    const float *from = whole.q + first * whole.q_stride;
    gemm_matrix(format_of(j->run->node), q, wide, from, whole.q_stride, w.absorb, count, n->c, n->nope, NULL);
    for (size_t i = 0; i < count; i++) memcpy(q + i * wide + n->c, from + i * whole.q_stride + n->nope, n->rope * sizeof(float));
    head.q = q;
    head.y = y;
    head.q_stride = wide;
    head.y_stride = n->c;
    head.k = head.v = latents(j, batch);
    head.d = wide;
    head.dv = n->c;
    head.queries = count;
    head.low = -(ptrdiff_t)count;
    head.high += (ptrdiff_t)first;
    attention_f32(&head, 0, count, y + QUERIES * n->c);
    gemm_matrix(format_of(j->run->node), whole.y + first * whole.y_stride, whole.y_stride, y, n->c, w.value, count, n->v, n->c, NULL);
}

/* ---- a step: shared memory has the queries [b, t, heads, c + rope] in the latent space, then what they find [b, t, heads, c] ---- */

static float *step_queries(const job *j, size_t row) { return j->run->shared + row * j->n.heads * (j->n.c + j->n.rope); }
static float *step_results(const job *j, size_t row) {
    return step_queries(j, (size_t)j->run->in[Q].shape.dims[0] * j->n.t) + row * j->n.heads * j->n.c;
}

/* One head's queries into the latent space, and at the end its results out of it. */
static void step_in(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    const sizes *n = &j->n;
    size_t batch = (size_t)index / n->heads, head = (size_t)index % n->heads, wide = n->c + n->rope;
    attention_head whole = head_of(j, batch, head);
    float *q = step_queries(j, batch * n->t) + head * wide;
    gemm_matrix(format_of(j->run->node), q, n->heads * wide, whole.q, whole.q_stride, weights_of(j->run->node, n->c, head).absorb, n->t, n->c, n->nope, NULL);
    for (size_t i = 0; i < n->t; i++) memcpy(q + i * n->heads * wide + n->c, whole.q + i * whole.q_stride + n->nope, n->rope * sizeof(float));
}

static void step_out(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    const sizes *n = &j->n;
    size_t batch = (size_t)index / n->heads, head = (size_t)index % n->heads;
    attention_head whole = head_of(j, batch, head);
    gemm_matrix(format_of(j->run->node), whole.y, whole.y_stride, step_results(j, batch * n->t) + head * n->c, n->heads * n->c,
                    weights_of(j->run->node, n->c, head).value, n->t, n->v, n->c, NULL);
}

/* Some heads of one token over the latents that it sees. */
static void step_attend(void *argument, int index, int thread) {
    const job *j = argument;
    const sizes *n = &j->n;
    size_t row = (size_t)(index / j->blocks), wide = n->c + n->rope, each = (n->heads + (size_t)j->blocks - 1) / (size_t)j->blocks;
    size_t first = (size_t)(index % j->blocks) * each, left = first < n->heads ? n->heads - first : 0;
    attention_head head = head_of(j, row / n->t, 0);
    head.q = step_queries(j, row);
    head.y = step_results(j, row);
    head.q_stride = head.d = wide;
    head.y_stride = head.dv = n->c;
    head.k = head.v = latents(j, row / n->t);
    head.queries = n->heads;
    head.keys = n->s - n->t + row % n->t + 1;
    head.banded = 0;
    attention_f32(&head, first, left < each ? left : each, j->run->scratch + (size_t)thread * j->run->scratch_floats);
}

/* Keys k [rows, nope + rope] and values v [rows, v] of one head for `rows` latents. */
static void expand(const sizes *n, gemm_format format, head_weights w, float *k, float *v, const float *kv, size_t rows) {
    size_t wide = n->c + n->rope, d = n->nope + n->rope;
    gemm_matrix(format, k, d, kv, wide, w.key, rows, n->nope, n->c, NULL);
    for (size_t i = 0; i < rows; i++) memcpy(k + i * d + n->nope, kv + i * wide + n->c, n->rope * sizeof(float));
    gemm_matrix(format, v, n->v, kv, wide, w.value, rows, n->v, n->c, NULL);
}

/* One head over keys and values made for it. */
static void attend_expanded(void *argument, int index, int thread) {
    const job *j = argument;
    const sizes *n = &j->n;
    size_t batch = (size_t)index / n->heads, d = n->nope + n->rope;
    head_weights w = weights_of(j->run->node, n->c, (size_t)index % n->heads);
    attention_head head = head_of(j, batch, (size_t)index % n->heads);
    const kept_rows kv = latents(j, batch);
    float *k = j->run->scratch + (size_t)thread * j->run->scratch_floats, *v = k + n->s * d, *rest = v + n->s * n->v;   /* [s, d], [s, v] */
    const int whole = kv.precision == LAM_PRECISION_F32;
    for (size_t i = 0, rows; i < n->s; i += rows) {
        rows = whole || n->s - i < PART_KEYS ? n->s - i : PART_KEYS;
        if (!whole) kept_read(rest, kv.width, &kv, i, rows, 0, kv.width);
        expand(n, format_of(j->run->node), w, k + i * d, v + i * n->v, whole ? kv.data : rest, rows);
    }
    head.d = d;
    head.dv = n->v;
    head.k = (kept_rows){ k, LAM_PRECISION_F32, d, 0 };
    head.v = (kept_rows){ v, LAM_PRECISION_F32, n->v, 0 };
    attention_f32(&head, 0, n->t, rest);
}

static void run(const lam_run *r) {
    job j = { .run = r, .n = sizes_of(r) };
    int heads = r->in[Q].shape.dims[0] * (int)j.n.heads;
    j.blocks = (int)((j.n.t + QUERIES - 1) / QUERIES);
    if (is_step(&j.n)) {
        j.blocks = lam_pool_threads(r->pool);
        pool_for(r->pool, heads, step_in, &j);
        pool_for(r->pool, r->in[Q].shape.dims[0] * (int)j.n.t * j.blocks, step_attend, &j);
        pool_for(r->pool, heads, step_out, &j);
    } else if (j.n.absorbed) pool_for(r->pool, heads * j.blocks, attend_latents, &j);
    else pool_for(r->pool, heads, attend_expanded, &j);
}

/* Of the expanded form, the textbook's: a key and a value per token, then attention over what is seen. */
static double flops(const lam_run *r) {
    sizes n = sizes_of(r);
    double heads = (double)r->in[Q].shape.dims[0] * (double)n.heads, t = (double)n.t, s = (double)n.s;
    return 2 * heads * (s * (double)(n.c * (n.nope + n.v)) + t * s * (double)(n.nope + n.rope + n.v));
}

static unsigned reads_kept(const lam_graph *g, const lam_node *node) {
    (void)g, (void)node;
    return 1u << KV;
}

static const lam_op op_mla = {
    .name = "mla", .reads_kept = reads_kept, .packs = 1u << WEIGHT, .shape = shape, .packed = packed, .pack = pack, .finish = finish, .scratch = scratch, .run = run, .flops = flops,
};

lam_value lam_mla(lam_graph *g, lam_value q, lam_value kv, lam_value weight, int heads, int nope, int rope, int v, float scale) {
    if (heads < 1 || nope < 1 || rope < 0 || v < 1 || (double)heads * ((double)nope + rope + v) > INT32_MAX)
        return graph_fail(g, LAM_EVALUE, "mla: %d heads of %d + %d and %d", heads, nope, rope, v);
    if (!graph_is_weight(g, weight)) return graph_fail(g, LAM_EVALUE, "mla: the weight must be one, not a computed value");
    const lam_value in[] = { q, kv, weight };
    return graph_add(g, &op_mla, 3, in, &(mla_params){ heads, nope, rope, v, scale }, sizeof(mla_params), LAYOUT_PLAIN);
}
