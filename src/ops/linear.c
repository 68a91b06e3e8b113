/* y = x W^T + b or y = x W, any leading dimensions. */
#include "../memory.h"
#include "../text.h"
#include "ops.h"
#include "product.h"

enum { X, WEIGHT, BIAS };

typedef struct linear_params {
    int first, rows;   /* the outputs that are wanted, of those the weight has */
    int matrix;        /* the weight is [in, out], not [out, in] */
} linear_params;

static int inputs(const linear_params *p, const lam_shape *w) { return w->dims[p->matrix ? 0 : 1]; }
static int outputs(const linear_params *p, const lam_shape *w) { return w->dims[p->matrix ? 1 : 0]; }

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const linear_params *p = node->params;
    const lam_shape *x = &in[X], *w = &in[WEIGHT], *b = &in[BIAS];
    if (w->rank != 2) return text_format(why, LAM_TEXT, "weight %v should be [out, in]", w), LAM_EVALUE;
    if (x->rank < 1 || !dim_agrees(x->dims[x->rank - 1], inputs(p, w)))
        return text_format(why, LAM_TEXT, "weight %v needs inputs of width %d, got %v", w, inputs(p, w), x), LAM_EVALUE;
    if (b->rank >= 0 && (b->rank != 1 || b->dims[0] != outputs(p, w)))
        return text_format(why, LAM_TEXT, "weight %v needs a bias of %d, got %v", w, outputs(p, w), b), LAM_EVALUE;
    if (p->first < 0 || p->rows < 0 || p->rows > outputs(p, w) - p->first)
        return text_format(why, LAM_TEXT, "rows %d to %d of weight %v", p->first, p->first + p->rows, w), LAM_EVALUE;
    *out = *x;
    out->dims[x->rank - 1] = p->rows;
    return LAM_OK;
}

static product product_of(const lam_node *node, const lam_shape *w) {
    const linear_params *p = node->params;
    return (product){ node->precision, 1, (size_t)inputs(p, w), (size_t)p->rows };
}

static product product_in(const lam_graph *g, const lam_node *node) { return product_of(node, graph_shape(g, node->in[WEIGHT])); }

static size_t packed(const lam_graph *g, lam_node *node) {
    product w = product_in(g, node);
    lam_precision precision = product_precision(g, node->in[WEIGHT], w.k, w.n);
    /* The rows of an [in, out] weight are parts of all columns, whose scales would need all of them. */
    if (!((const linear_params *)node->params)->matrix || precision == LAM_PRECISION_F16) node->precision = w.precision = precision;
    return product_packed_floats(&w);
}

/* Of rows [first, first + rows) of the weight, those that this layer uses. */
static void pack(const lam_graph *g, lam_node *node, int in, const float *data, int first, int rows) {
    (void)in;
    const linear_params *p = node->params;
    product w = product_in(g, node);
    if (p->matrix) {
        weights_expand(g);
        gemm_pack(w.precision == LAM_PRECISION_F16 ? GEMM_F16 : GEMM_F32, node->packed, w.k, (size_t)first, (size_t)rows, 0, w.n, data, w.n, 1);
        return;
    }
    int from = first > p->first ? first : p->first;
    int to = first + rows < p->first + p->rows ? first + rows : p->first + p->rows;
    if (from >= to) return;
    product_pack(g, &w, node->packed, (size_t)(from - p->first), (size_t)(to - from), data + (size_t)(from - first) * w.k, 0, 1, w.k);
}

static lam_status finish(const lam_graph *g, lam_node *node) {
    const linear_params *p = node->params;
    const float *bias = graph_plain(g, node->in[BIAS]);
    product w = product_in(g, node);
    if (bias) bias += p->first;
    float *scale = node->fold, *shift = scale ? scale + w.n : NULL;
    for (size_t i = 0; i < w.n && scale && bias; i++) shift[i] += bias[i] * scale[i];
    product_bias(&w, node->packed, scale ? shift : bias);
    if (scale) product_scale(&w, node->packed, 0, w.n, scale);
    return LAM_OK;
}

typedef struct job {
    const lam_run *run;
    product w;
    const float *rows;   /* x, or x prepared, stride apart */
    size_t m, stride;
    tile_grid grid;
} job;

static job job_of(const lam_run *r) {
    job j = { .run = r, .w = product_of(r->node, &r->in[WEIGHT].shape), .rows = r->in[X].data };
    j.m = shape_elements(&r->out.shape) / (j.w.n ? j.w.n : 1);
    j.stride = j.w.k;
    return j;
}

static void scratch(const lam_run *r, size_t *per_thread, size_t *shared) {
    (void)per_thread;
    job j = job_of(r);
    *shared = scratch_times(j.m, product_row_floats(&j.w));
}

static void multiply(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    const lam_run *r = j->run;
    tile t = tile_at(&j->grid, index);
    size_t n = j->grid.n, at = t.row * n + t.column;
    gemm_epilogue epilogue = { .add = r->add.data ? r->add.data + at : NULL, .add_stride = n, .activation = r->node->activation };
    product_multiply_matrix(&j->w, r->out.data + at, n, j->rows + t.row * j->stride, j->stride,
                            r->node->packed + product_column(&j->w, t.column), t.rows, t.columns, &epilogue);
}

static void run(const lam_run *r) {
    job j = job_of(r);
    if (r->shared) {
        product_prepare(&j.w, r->pool, r->shared, j.rows, j.m, j.stride);
        j.rows = r->shared;
        j.stride = product_row_floats(&j.w);
    }
    j.grid = tile_grid_of(j.m, j.w.n, j.w.k, j.m + GEMM_MR, lam_pool_threads(r->pool));
    pool_for(r->pool, tile_count(&j.grid), multiply, &j);
}

static double flops(const lam_run *r) {
    return 2.0 * (double)shape_elements(&r->out.shape) * inputs(r->node->params, &r->in[WEIGHT].shape);
}

const lam_op op_linear = {
    .name = "linear", .flags = OP_TAKES_ACTIVATION | OP_TAKES_ADD | OP_TAKES_BATCH_NORM | OP_PACKS_CODES, .packs = 1u << WEIGHT,
    .shape = shape, .packed = packed, .pack = pack, .finish = finish, .scratch = scratch, .run = run, .flops = flops,
};

lam_value lam_linear(lam_graph *g, lam_value x, lam_value w, lam_value bias, int first, int rows) {
    const lam_value in[] = { graph_in_layout(g, x, LAYOUT_PLAIN), w, bias };
    if (!graph_is_weight(g, w) || !graph_is_weight(g, bias))
        return graph_fail(g, LAM_EVALUE, "linear: weight and bias must be weights, not computed values; matmul takes those");
    return graph_add(g, &op_linear, 3, in, &(linear_params){ .first = first, .rows = rows }, sizeof(linear_params), LAYOUT_PLAIN);
}

lam_value linear_matrix(lam_graph *g, lam_value x, lam_value matrix) {
    const lam_value in[] = { graph_in_layout(g, x, LAYOUT_PLAIN), matrix, LAM_NONE };
    linear_params p = { .rows = graph_shape(g, matrix)->dims[1], .matrix = 1 };
    return graph_add(g, &op_linear, 3, in, &p, sizeof p, LAYOUT_PLAIN);
}
