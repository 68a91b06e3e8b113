/* Product of matrices, leading dimensions broadcast. The right one is packed while it loads if it is a weight, else at every run. */
#include "../kernels/gemm.h"
#include "../text.h"
#include "ops.h"

typedef struct matmul_params { int transpose_b; } matmul_params;

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const matmul_params *p = node->params;
    const lam_shape *a = &in[0], *b = &in[1];
    if (a->rank < 2 || b->rank < 2) return text_format(why, LAM_TEXT, "%v by %v: expected rank 2 or more", a, b), LAM_EVALUE;
    int k = b->dims[b->rank - (p->transpose_b ? 1 : 2)];
    if (!dim_agrees(a->dims[a->rank - 1], k)) return text_format(why, LAM_TEXT, "%v by %v", a, b), LAM_EVALUE;
    out->rank = a->rank > b->rank ? a->rank : b->rank;
    for (int i = 0; i < out->rank - 2; i++) {
        int at_a = a->rank - out->rank + i, at_b = b->rank - out->rank + i;
        int da = at_a < 0 ? 1 : a->dims[at_a], db = at_b < 0 ? 1 : b->dims[at_b];
        if (!dim_agrees(da, db) && da != 1 && db != 1)
            return text_format(why, LAM_TEXT, "%v by %v: leading dimensions do not broadcast", a, b), LAM_EVALUE;
        out->dims[i] = da == 1 ? db : db == 1 ? da : da == LAM_ANY ? db : da;
    }
    out->dims[out->rank - 2] = a->dims[a->rank - 2];
    out->dims[out->rank - 1] = b->dims[b->rank - (p->transpose_b ? 2 : 1)];
    return LAM_OK;
}

typedef struct job { const lam_run *run; size_t m, n, k, batch_b, floats; tile_grid grid; int transpose_b; } job;

static job job_of(const lam_run *r) {
    const matmul_params *p = r->node->params;
    const lam_shape *b = &r->in[1].shape, *y = &r->out.shape;
    job j = { .run = r, .m = (size_t)y->dims[y->rank - 2], .n = (size_t)y->dims[y->rank - 1],
              .k = (size_t)r->in[0].shape.dims[r->in[0].shape.rank - 1], .transpose_b = p->transpose_b };
    j.batch_b = 1;
    for (int i = 0; i < b->rank - 2; i++) j.batch_b *= (size_t)b->dims[i];
    j.floats = gemm_packed_floats(j.k, j.n);
    return j;
}

static void scratch(const lam_run *r, size_t *per_thread, size_t *shared) {
    (void)per_thread;
    job j = job_of(r);
    if (!r->node->packed) *shared = scratch_times(j.batch_b, j.floats);
}

static void pack_one(float *packed, const float *b, size_t k, size_t n, int transpose_b) {
    gemm_pack_bias(packed, k, n, NULL);
    gemm_pack_f32(packed, k, 0, k, 0, n, b, transpose_b ? 1 : n, transpose_b ? k : 1);
}

static void pack_matrix(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    pack_one(j->run->shared + (size_t)index * j->floats, j->run->in[1].data + (size_t)index * j->k * j->n, j->k, j->n, j->transpose_b);
}

/* Of a weight [..., k, n] of rank 3 or more: its size, and its packed form, whose matrices lie one behind the other. */
typedef struct weight_size { size_t k, n, per_row; } weight_size;

static weight_size weight_size_of(const lam_graph *g, const lam_node *node) {
    const lam_shape *b = graph_shape(g, node->in[1]);
    int transpose_b = ((const matmul_params *)node->params)->transpose_b;
    weight_size w = { (size_t)b->dims[b->rank - (transpose_b ? 1 : 2)], (size_t)b->dims[b->rank - (transpose_b ? 2 : 1)], 1 };
    for (int i = 1; i < b->rank - 2; i++) w.per_row *= (size_t)b->dims[i];
    return w;
}

static size_t packed(const lam_graph *g, lam_node *node) {
    weight_size w = weight_size_of(g, node);
    return (size_t)graph_shape(g, node->in[1])->dims[0] * w.per_row * gemm_packed_floats(w.k, w.n);
}

static void pack(const lam_graph *g, lam_node *node, int in, const float *data, int first, int rows) {
    (void)in;
    weight_size w = weight_size_of(g, node);
    for (size_t i = 0, at = (size_t)first * w.per_row; i < (size_t)rows * w.per_row; i++)
        pack_one(node->packed + (at + i) * gemm_packed_floats(w.k, w.n), data + i * w.k * w.n, w.k, w.n,
                 ((const matmul_params *)node->params)->transpose_b);
}

/* Which matrix of the operand belongs to matrix `index` of the output. */
static size_t broadcast_index(const lam_shape *y, const lam_shape *operand, size_t index) {
    size_t at = 0, step = 1;
    for (int i = y->rank - 3, o = operand->rank - 3; o >= 0; i--, o--) {
        size_t here = index % (size_t)y->dims[i];
        if (operand->dims[o] != 1) at += here * step;
        step *= (size_t)operand->dims[o];
        index /= (size_t)y->dims[i];
    }
    return at;
}

static void multiply(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    const lam_run *r = j->run;
    int tiles = tile_count(&j->grid);
    size_t matrix = (size_t)(index / tiles);
    tile t = tile_at(&j->grid, index % tiles);
    const float *a = r->in[0].data + broadcast_index(&r->out.shape, &r->in[0].shape, matrix) * j->m * j->k;
    const float *b = (r->node->packed ? r->node->packed : r->shared) + broadcast_index(&r->out.shape, &r->in[1].shape, matrix) * j->floats;
    gemm_epilogue epilogue = { .activation = r->node->activation };
    gemm_f32_matrix(r->out.data + (matrix * j->m + t.row) * j->n + t.column, j->n, a + t.row * j->k, j->k,
                    b + t.column * (j->k + 1), t.rows, t.columns, j->k, &epilogue);
}

static void run(const lam_run *r) {
    job j = job_of(r);
    if (!r->node->packed) pool_for(r->pool, (int)j.batch_b, pack_matrix, &j);
    j.grid = tile_grid_of(j.m, j.n, j.k, j.m + GEMM_MR, lam_pool_threads(r->pool));
    pool_for(r->pool, (int)(shape_elements(&r->out.shape) / (j.m * j.n)) * tile_count(&j.grid), multiply, &j);
}

static double flops(const lam_run *r) { return 2.0 * (double)shape_elements(&r->out.shape) * (double)job_of(r).k; }

static const lam_op op_matmul = {
    .name = "matmul", .flags = OP_TAKES_ACTIVATION, .shape = shape, .scratch = scratch, .run = run, .flops = flops,
};

static const lam_op op_matmul_weight = {
    .name = "matmul", .flags = OP_TAKES_ACTIVATION, .packs = 2, .shape = shape, .packed = packed, .pack = pack, .scratch = scratch, .run = run,
    .flops = flops,
};

lam_value lam_matmul(lam_graph *g, lam_value a, lam_value b, int transpose_b) {
    int rank = graph_shape(g, b)->rank, is_weight = b >= 0 && graph_is_weight(g, b);
    if (is_weight && rank == 2 && graph_shape(g, a)->rank >= 2)
        return transpose_b ? lam_linear(g, a, b, LAM_NONE, 0, graph_shape(g, b)->dims[0]) : linear_matrix(g, a, b);
    if (is_weight && rank > 2) {
        const lam_value given[] = { graph_in_layout(g, a, LAYOUT_PLAIN), b };
        return graph_add(g, &op_matmul_weight, 2, given, &(matmul_params){ transpose_b }, sizeof(matmul_params), LAYOUT_PLAIN);
    }
    const lam_value in[] = { graph_in_layout(g, a, LAYOUT_PLAIN), graph_in_layout(g, b, LAYOUT_PLAIN) };
    return graph_add(g, &op_matmul, 2, in, &(matmul_params){ transpose_b }, sizeof(matmul_params), LAYOUT_PLAIN);
}
