/* Native sparse attention: compressed, selected and neighbouring keys, with gates. */
#include <string.h>
#include "../kernels/sparse_attention.h"
#include "../text.h"
#include "ops.h"

enum { Q, Q_ROTATED, K, V, CK, CV, MEMORY, GATES, INPUTS };

typedef struct sparse_params { lam_sparse_options o; } sparse_params;

/* [b, t, width] */
static int is(const lam_shape *s, const lam_shape *q, int t, int width) {
    return s->rank == 3 && dim_agrees(s->dims[0], q->dims[0]) && dim_agrees(s->dims[1], t) && s->dims[2] == width;
}

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const lam_sparse_options *o = &((const sparse_params *)node->params)->o;
    const lam_shape *q = &in[Q], *k = &in[K], *ck = &in[CK], *memory = &in[MEMORY];
    int width = q->rank == 3 ? q->dims[2] : LAM_ANY;
    if (width == LAM_ANY || width % o->heads) return text_format(why, LAM_TEXT, "q: expected [b, t, %d heads], got %v", o->heads, q), LAM_EVALUE;
    int d = width / o->heads, kv = d * o->kv_heads;
    if (!is(&in[Q_ROTATED], q, q->dims[1], width))
        return text_format(why, LAM_TEXT, "q %v and rotated q %v", q, &in[Q_ROTATED]), LAM_EVALUE;
    if (!is(k, q, LAM_ANY, kv) || !is(&in[V], q, k->dims[1], kv))
        return text_format(why, LAM_TEXT, "k %v and v %v: expected [b, t, %d heads of %d] like q %v", k, &in[V], o->kv_heads, d, q), LAM_EVALUE;
    if (k->dims[1] != LAM_ANY && q->dims[1] != LAM_ANY && (o->causal ? k->dims[1] < q->dims[1] : k->dims[1] != q->dims[1]))
        return text_format(why, LAM_TEXT, "%d queries and %d keys%s", q->dims[1], k->dims[1], o->causal ? "" : ": only causal attention goes on from call to call"), LAM_EVALUE;
    int blocks = k->dims[1] == LAM_ANY ? LAM_ANY : k->dims[1] / o->stride;
    if (!is(ck, q, blocks, kv) || !is(&in[CV], q, blocks, kv))
        return text_format(why, LAM_TEXT, "compressed k %v and v %v: expected [b, floor(t / %d), %d], t of k %v", ck, &in[CV], o->stride, kv, k), LAM_EVALUE;
    if (memory->rank != 4 || memory->dims[0] != 2 || memory->dims[1] != o->kv_heads || memory->dims[2] < 1 || memory->dims[3] != d)
        return text_format(why, LAM_TEXT, "memory: expected [2, %d, n, %d], got %v", o->kv_heads, d, memory), LAM_EVALUE;
    if (!is(&in[GATES], q, q->dims[1], 3 * o->heads))
        return text_format(why, LAM_TEXT, "gates: expected [b, t, %d] like q %v, got %v", 3 * o->heads, q, &in[GATES]), LAM_EVALUE;
    *out = *q;
    return LAM_OK;
}

static sparse_sizes sizes_of(const lam_run *r) {
    const lam_sparse_options *o = &((const sparse_params *)r->node->params)->o;
    return (sparse_sizes){
        .queries = (size_t)r->in[Q].shape.dims[1], .keys = (size_t)r->in[K].shape.dims[1], .blocks = (size_t)r->in[CK].shape.dims[1],
        .memory = (size_t)r->in[MEMORY].shape.dims[2], .group = (size_t)(o->heads / o->kv_heads), .d = (size_t)r->in[MEMORY].shape.dims[3],
        .window = (size_t)o->window, .stride = (size_t)o->stride, .selection = (size_t)o->selection, .selected = (size_t)o->selected,
        .causal = o->causal, .shared = o->shared,
    };
}

static int kv_heads_of(const lam_run *r) { return ((const sparse_params *)r->node->params)->o.kv_heads; }

/* Floats that each key head has for itself in the memory that threads share: packed compressed keys, and where many queries come back to a
 * block again and again, keys and values of the head in rows of their own, which are read faster than parts of rows. */
static int gathers(const sparse_sizes *s) { return s->queries >= 64 && 8 * s->queries >= s->keys; }
static size_t head_floats(const sparse_sizes *s) { return sparse_packed_floats(s) + (gathers(s) ? 2 * s->keys * s->d : 0); }

static void scratch(const lam_run *r, size_t *per_thread, size_t *shared) {
    sparse_sizes sizes = sizes_of(r);
    *shared = scratch_times((size_t)(r->out.shape.dims[0] * kv_heads_of(r)), head_floats(&sizes));
    size_t scores = scratch_times(sparse_queries(&sizes) * sizes.group, sizes.memory + sizes.blocks);
    size_t weights = scratch_times(sizes.group, 2 * sizes.keys + 2 * sizes.selection);
    *per_thread = scores < SIZE_MAX / 16 && weights < SIZE_MAX / 16 ? sparse_scratch_floats(&sizes) : SIZE_MAX / sizeof(float);
}

typedef struct job { const lam_run *run; sparse_sizes sizes; size_t heads, blocks, tiles; } job;

/* Key head `at`, counted over the batch; its keys and values where they are gathered, or where they come from. */
static sparse_head head_of(const job *j, size_t at, int gathered) {
    const lam_run *r = j->run;
    const sparse_sizes *s = &j->sizes;
    const lam_tensor *in = r->in;
    size_t batch = at / j->heads, kv = at % j->heads, width = j->heads * s->d, q = batch * s->queries * width * s->group + kv * s->group * s->d;
    size_t k = batch * s->keys * width + kv * s->d, ck = batch * s->blocks * width + kv * s->d, memory = s->memory * s->d;
    sparse_head head = {
        .y = r->out.data + q, .q = in[Q].data + q, .q_rotated = in[Q_ROTATED].data + q,
        .gates = in[GATES].data + 3 * (batch * s->queries * j->heads + kv) * s->group, .k = in[K].data + k, .v = in[V].data + k,
        .ck = in[CK].data + ck, .cv = in[CV].data + ck, .mem_k = in[MEMORY].data + kv * memory, .mem_v = in[MEMORY].data + (j->heads + kv) * memory,
        .packed = r->shared ? r->shared + at * head_floats(s) : NULL,
        .q_stride = width * s->group, .gate_stride = 3 * j->heads * s->group, .k_stride = width, .c_stride = width,
    };
    if (gathered && gathers(s)) {
        head.k = head.packed + sparse_packed_floats(s);
        head.v = head.k + s->keys * s->d;
        head.k_stride = s->d;
    }
    return head;
}

/* One tile of compressed keys and values of one key head. */
static void pack(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    size_t at = (size_t)index / j->tiles;
    const sparse_head head = head_of(j, at, 0);
    sparse_pack_f32(j->run->shared + at * head_floats(&j->sizes), &head, &j->sizes, (size_t)index % j->tiles);
}

/* Keys and values of one key head. */
static void gather(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    size_t keys = j->sizes.keys, d = j->sizes.d;
    const sparse_head from = head_of(j, (size_t)index, 0);
    float *k = j->run->shared + (size_t)index * head_floats(&j->sizes) + sparse_packed_floats(&j->sizes), *v = k + keys * d;
    for (size_t i = 0; i < keys; i++) {
        memcpy(k + i * d, from.k + i * from.k_stride, d * sizeof *k);
        memcpy(v + i * d, from.v + i * from.k_stride, d * sizeof *v);
    }
}

/* Of one key head the next block of queries. */
static void attend(void *argument, int index, int thread) {
    const job *j = argument;
    const sparse_sizes *s = &j->sizes;
    size_t each = sparse_queries(s), first = (size_t)index % j->blocks * each, count = s->queries - first < each ? s->queries - first : each;
    const sparse_head head = head_of(j, (size_t)index / j->blocks, 1);
    sparse_attention_f32(&head, s, first, count, j->run->scratch + (size_t)thread * j->run->scratch_floats);
}

static void run(const lam_run *r) {
    job j = { .run = r, .sizes = sizes_of(r), .heads = (size_t)kv_heads_of(r) };
    j.blocks = (j.sizes.queries + sparse_queries(&j.sizes) - 1) / sparse_queries(&j.sizes);
    j.tiles = sparse_tiles(&j.sizes);
    int heads = r->out.shape.dims[0] * (int)j.heads;
    if (j.tiles) pool_for(r->pool, heads * (int)j.tiles, pack, &j);
    if (gathers(&j.sizes)) pool_for(r->pool, heads, gather, &j);
    pool_for(r->pool, heads * (int)j.blocks, attend, &j);
}

/* Of the three branches, with as many blocks selected as there can be. */
static double flops(const lam_run *r) {
    sparse_sizes s = sizes_of(r);
    double before = (double)(s.keys - s.queries), middle = before + 0.5 * (double)s.queries;
    double seen = s.causal ? middle / (double)s.stride : (double)s.blocks;
    double fine = (double)(s.selected * s.selection), window = (double)(s.causal ? s.window : 2 * s.window) + 1;
    if (fine > middle) fine = middle;
    if (window > middle) window = middle;
    double keys = seen + (double)s.memory + fine + window + (s.causal ? 0.5 * (double)s.selection : 0);
    return 4.0 * keys * (double)shape_elements(&r->out.shape);
}

static const lam_op op_sparse_attention = { .name = "sparse_attention", .shape = shape, .scratch = scratch, .run = run, .flops = flops };

lam_value lam_sparse_attention(lam_graph *g, const lam_value *values, const lam_sparse_options *options) {
    const lam_sparse_options *o = options;
    if (o->kv_heads < 1 || o->heads < o->kv_heads || o->heads % o->kv_heads)
        return graph_fail(g, LAM_EVALUE, "sparse_attention: %d heads are not a multiple of %d key heads", o->heads, o->kv_heads);
    if (o->window < 1 || o->selected < 0)
        return graph_fail(g, LAM_EVALUE, "sparse_attention: a window of %d and %d selected blocks", o->window, o->selected);
    if (o->stride < 1 || o->selection < 1 || o->selection % o->stride)
        return graph_fail(g, LAM_EVALUE, "sparse_attention: selection blocks of %d are not a multiple of the stride %d", o->selection, o->stride);
    return graph_add(g, &op_sparse_attention, INPUTS, values, &(sparse_params){ *o }, sizeof(sparse_params), LAYOUT_PLAIN);
}
