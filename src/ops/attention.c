/* Scaled dot product attention over any leading dimensions. Operands and result [b, heads, t, d] may lie in memory as [b, t, heads, d]: a
 * permutation before or after is taken over, which would copy a whole cache for each token of a decoder. */
#include <math.h>
#include "../kernels/attention.h"
#include "../text.h"
#include "ops.h"

enum { Q, K, V, MASK, Y = MASK };

typedef struct attention_params {
    float scale;
    int left, right, from_end;   /* the band; negative: unlimited */
    unsigned by_token;           /* bits of Q, K, V and Y: which lie as [b, t, heads, d] */
} attention_params;

/* [b, heads, t, d], and back. */
static lam_shape by_head(const lam_node *node, int which, lam_shape s) {
    if (!(((const attention_params *)node->params)->by_token >> which & 1)) return s;
    int heads = s.dims[2];
    s.dims[2] = s.dims[1];
    s.dims[1] = heads;
    return s;
}

static int dim(const lam_shape *s, int from_end) { return from_end <= s->rank ? s->dims[s->rank - from_end] : 1; }

/* Leading dimensions agree; the last of them may be a multiple (grouped heads). */
static int leads_agree(const lam_shape *q, const lam_shape *k) {
    if (q->rank != k->rank) return 0;
    for (int i = 0; i < q->rank - 2; i++) {
        int a = q->dims[i], b = k->dims[i], heads = i == q->rank - 3;
        if (!dim_agrees(a, b) && !(heads && b > 0 && a % b == 0)) return 0;
    }
    return 1;
}

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const lam_shape each[] = { by_head(node, Q, in[Q]), by_head(node, K, in[K]), by_head(node, V, in[V]) };
    const lam_shape *q = &each[Q], *k = &each[K], *v = &each[V], *mask = &in[MASK];
    if (q->rank < 2 || !leads_agree(q, k) || !leads_agree(q, v) || !dim_agrees(dim(k, 3), dim(v, 3)) || !dim_agrees(dim(q, 1), dim(k, 1)) ||
        !dim_agrees(dim(k, 2), dim(v, 2)))
        return text_format(why, LAM_TEXT, "q %v, k %v, v %v", q, k, v), LAM_EVALUE;
    for (int i = 1; mask->rank >= 0 && i <= (mask->rank > q->rank ? mask->rank : q->rank); i++) {
        int wanted = i == 1 ? dim(k, 2) : dim(q, i);
        if (!dim_agrees(dim(mask, i), wanted) && dim(mask, i) != 1)
            return text_format(why, LAM_TEXT, "mask %v does not broadcast to the scores of q %v and k %v", mask, q, k), LAM_EVALUE;
    }
    *out = *q;
    out->dims[out->rank - 1] = dim(v, 1);
    *out = by_head(node, Y, *out);
    return LAM_OK;
}

typedef struct job {
    const lam_run *run;
    lam_shape q, k;          /* by heads */
    attention_head head;
    size_t block, blocks;    /* queries of a task, and tasks of a head; of few queries: heads of a task, and tasks of an image */
} job;

static void scratch(const lam_run *r, size_t *per_thread, size_t *shared) {
    (void)shared;
    *per_thread = attention_scratch_floats((size_t)dim(&r->in[Q].shape, 1), (size_t)dim(&r->in[V].shape, 1));
}

/* Offset of the mask that belongs to head `index` counted over the leading dimensions. */
static size_t mask_offset(const lam_shape *q, const lam_shape *mask, size_t index) {
    size_t at = 0, step = (size_t)dim(mask, 2) * (size_t)dim(mask, 1);
    for (int i = 3; i <= mask->rank; i++) {
        size_t size = (size_t)dim(q, i);
        if (dim(mask, i) != 1) at += index % size * step;
        step *= (size_t)dim(mask, i);
        index /= size;
    }
    return at;
}

/* Where the rows of one head begin, of `heads` for each image; rows are width long. */
static size_t rows_at(const lam_run *r, int which, size_t index, size_t heads, size_t rows, size_t width) {
    if (!(((const attention_params *)r->node->params)->by_token >> which & 1)) return index * rows * width;
    return (index / heads * rows * heads + index % heads) * width;
}

static size_t row_stride(const lam_run *r, int which, size_t heads, size_t width) {
    return ((const attention_params *)r->node->params)->by_token >> which & 1 ? heads * width : width;
}

/* Keys or values of one head. A cache is of one image, and by token or of one head. */
static kept_rows rows_of(const lam_run *r, int which, size_t index, size_t heads, size_t rows, size_t width) {
    const lam_tensor *x = &r->in[which];
    if (!(((const attention_params *)r->node->params)->by_token >> which & 1)) return (kept_rows){ x->data + index * rows * width, x->precision, width, 0 };
    return (kept_rows){ x->data + index / heads * rows * heads * width, x->precision, heads * width, index % heads * width };
}

/* Head `at`, counted through the batch. */
static attention_head head_at(const job *j, size_t at) {
    const lam_run *r = j->run;
    const lam_tensor *in = r->in;
    attention_head head = j->head;
    size_t heads = (size_t)dim(&j->q, 3), kv_heads = (size_t)dim(&j->k, 3);
    size_t kv = at / heads * kv_heads + at % heads / (heads / kv_heads);
    head.y = r->out.data + rows_at(r, Y, at, heads, head.queries, head.dv);
    head.q = in[Q].data + rows_at(r, Q, at, heads, head.queries, head.d);
    head.k = rows_of(r, K, kv, kv_heads, head.keys, head.d);
    head.v = rows_of(r, V, kv, kv_heads, head.keys, head.dv);
    if (in[MASK].data) head.mask = in[MASK].data + mask_offset(&j->q, &in[MASK].shape, at);
    return head;
}

static void attend(void *argument, int index, int thread) {
    const job *j = argument;
    /* The last queries first: where they see only what is before them they take longest. */
    size_t at = (size_t)index / j->blocks, first = (j->blocks - 1 - (size_t)index % j->blocks) * j->block;
    const attention_head head = head_at(j, at);
    size_t count = head.queries - first < j->block ? head.queries - first : j->block;
    attention_f32(&head, first, count, j->run->scratch + (size_t)thread * j->run->scratch_floats);
}

/* j->block heads of one image. */
static void attend_beside(void *argument, int index, int thread) {
    const job *j = argument;
    const size_t all = (size_t)dim(&j->q, 3), image = (size_t)index / j->blocks, first = (size_t)index % j->blocks * j->block;
    const size_t count = all - first < j->block ? all - first : j->block;
    attention_head heads[ATTENTION_BESIDE];
    for (size_t i = 0; i < count; i++) heads[i] = head_at(j, image * all + first + i);
    attention_beside_f32(heads, count, j->run->scratch + (size_t)thread * j->run->scratch_floats);
}

/* Where the keys lie that query 0 sees: low below and high above it. Nothing is hidden beyond -queries and keys. */
static void set_band(attention_head *head, const attention_params *p) {
    int64_t queries = (int64_t)head->queries, keys = (int64_t)head->keys, at = p->from_end ? keys - queries : 0;
    int64_t low = p->left < 0 ? -queries : at - p->left, high = p->right < 0 ? keys : at + p->right;
    head->banded = p->left >= 0 || p->right >= 0;
    head->low = (ptrdiff_t)(low < -queries ? -queries : low < keys ? low : keys);
    head->high = (ptrdiff_t)(high < -queries ? -queries : high < keys ? high : keys);
}

/* Large blocks, as even as they can be, since each packs its keys; smaller ones if threads would have too few of them. */
static void set_blocks(job *j, size_t heads) {
    size_t queries = j->head.queries, threads = (size_t)lam_pool_threads(j->run->pool), blocks = (queries + ATTENTION_QUERIES - 1) / ATTENTION_QUERIES;
    size_t most = (queries + 2 * ATTENTION_ROWS - 1) / (2 * ATTENTION_ROWS), wanted = threads > 1 ? (4 * threads + heads - 1) / heads : 1;
    if (blocks < wanted) blocks = wanted < most ? wanted : most;
    j->block = ((queries + blocks - 1) / blocks + ATTENTION_ROWS - 1) / ATTENTION_ROWS * ATTENTION_ROWS;
    j->blocks = (queries + j->block - 1) / j->block;
}

static void run(const lam_run *r) {
    const attention_params *p = r->node->params;
    const lam_shape q = by_head(r->node, Q, r->in[Q].shape), k = by_head(r->node, K, r->in[K].shape), *mask = &r->in[MASK].shape;
    size_t d = (size_t)dim(&q, 1), dv = (size_t)dim(&r->in[V].shape, 1), queries = (size_t)dim(&q, 2);
    size_t q_heads = (size_t)dim(&q, 3);
    job j = { .run = r, .q = q, .k = k, .head = {
        .y_stride = row_stride(r, Y, q_heads, dv), .q_stride = row_stride(r, Q, q_heads, d), .queries = queries, .keys = (size_t)dim(&k, 2),
        .d = d, .dv = dv,
        .scale = isnan(p->scale) ? 1.0f / sqrtf((float)d) : p->scale,
        .mask_stride = r->in[MASK].data && dim(mask, 2) != 1 ? (size_t)dim(mask, 1) : 0, .one_mask = r->in[MASK].data && dim(mask, 1) == 1,
    } };
    set_band(&j.head, p);
    size_t heads = shape_elements(&r->out.shape) / (queries * dv);
    if (queries < ATTENTION_FEW) {
        size_t parts = (size_t)lam_pool_threads(r->pool);
        j.block = (q_heads + parts - 1) / parts < ATTENTION_BESIDE ? (q_heads + parts - 1) / parts : ATTENTION_BESIDE;
        j.blocks = (q_heads + j.block - 1) / j.block;
        pool_for(r->pool, (int)(heads / q_heads * j.blocks), attend_beside, &j);
        return;
    }
    set_blocks(&j, heads);
    pool_for(r->pool, (int)(heads * j.blocks), attend, &j);
}

/* A window leaves left + right + 1 keys of each query; what one side alone hides depends on the query and is counted. */
static double flops(const lam_run *r) {
    const attention_params *p = r->node->params;
    const lam_shape k = by_head(r->node, K, r->in[K].shape);
    double keys = dim(&k, 2), window = p->left < 0 || p->right < 0 ? keys : (double)p->left + p->right + 1;
    double scores = (double)shape_elements(&r->in[Q].shape) / dim(&r->in[Q].shape, 1) * (window < keys ? window : keys);
    return 2.0 * scores * (dim(&r->in[Q].shape, 1) + dim(&r->in[V].shape, 1));
}

/* Keys and values by token, or of one head. */
static unsigned reads_kept(const lam_graph *g, const lam_node *node) {
    unsigned by_token = ((const attention_params *)node->params)->by_token, both = 1u << K | 1u << V;
    return graph_shape(g, node->in[K])->rank == 3 ? both : by_token & both;
}

const lam_op op_attention = { .name = "attention", .reads_kept = reads_kept, .shape = shape, .scratch = scratch, .run = run, .flops = flops };

lam_value lam_attention(lam_graph *g, lam_value q, lam_value k, lam_value v, lam_value mask, float scale, const int *window, int from_end) {
    lam_value in[] = { q, k, v, mask };
    attention_params params = { scale, window ? window[0] : -1, window ? window[1] : -1, from_end, 0 };
    for (int i = 0; i < 4; i++) in[i] = graph_in_layout(g, in[i], LAYOUT_PLAIN);
    for (int i = Q; i <= V; i++) {
        lam_value by_token = permuted_heads(g, in[i]);
        if (by_token == LAM_NONE) continue;
        in[i] = by_token;
        params.by_token |= 1u << i;
    }
    return graph_add(g, &op_attention, 4, in, &params, sizeof params, LAYOUT_PLAIN);
}

void attention_by_token(lam_node *node) { ((attention_params *)node->params)->by_token ^= 1u << Y; }
