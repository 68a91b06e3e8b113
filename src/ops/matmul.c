/* Product of two computed matrices, leading dimensions broadcast. The right one is packed at every run. */
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
    *shared = scratch_times(j.batch_b, j.floats);
}

static void pack_matrix(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    float *packed = j->run->shared + (size_t)index * j->floats;
    gemm_pack_bias(packed, j->k, j->n, NULL);
    gemm_pack_f32(packed, j->k, 0, j->k, 0, j->n, j->run->in[1].data + (size_t)index * j->k * j->n, j->transpose_b ? 1 : j->n,
                  j->transpose_b ? j->k : 1);
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
    const float *b = r->shared + broadcast_index(&r->out.shape, &r->in[1].shape, matrix) * j->floats;
    gemm_epilogue epilogue = { .activation = r->node->activation };
    gemm_f32_matrix(r->out.data + (matrix * j->m + t.row) * j->n + t.column, j->n, a + t.row * j->k, j->k,
                    b + t.column * (j->k + 1), t.rows, t.columns, j->k, &epilogue);
}

static void run(const lam_run *r) {
    job j = job_of(r);
    pool_for(r->pool, (int)j.batch_b, pack_matrix, &j);
    j.grid = tile_grid_of(j.m, j.n, j.m + GEMM_MR, lam_pool_threads(r->pool));
    pool_for(r->pool, (int)(shape_elements(&r->out.shape) / (j.m * j.n)) * tile_count(&j.grid), multiply, &j);
}

static double flops(const lam_run *r) { return 2.0 * (double)shape_elements(&r->out.shape) * (double)job_of(r).k; }

static const lam_op op_matmul = {
    .name = "matmul", .flags = OP_TAKES_ACTIVATION, .shape = shape, .scratch = scratch, .run = run, .flops = flops,
};

lam_value lam_matmul(lam_graph *g, lam_value a, lam_value b, int transpose_b) {
    const lam_value in[] = { graph_in_layout(g, a, LAYOUT_PLAIN), graph_in_layout(g, b, LAYOUT_PLAIN) };
    return graph_add(g, &op_matmul, 2, in, &(matmul_params){ transpose_b }, sizeof(matmul_params), LAYOUT_PLAIN);
}
