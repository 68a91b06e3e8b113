/* 2-d convolution. Three ways, settled when the graph is compiled:
 *   direct    rows of pointers into the image feed the matrix product; any kernel, stride, dilation and groups
 *   winograd  3x3 with stride 1, where winograd_choose says it pays
 *   depthwise one input and one output channel per group */
#include <string.h>
#include "../kernels/depthwise.h"
#include "../kernels/gemm.h"
#include "../kernels/winograd.h"
#include "../text.h"
#include "ops.h"

enum { X, WEIGHT, BIAS };
enum { TOP, LEFT, BOTTOM, RIGHT };

typedef struct conv_params {
    int stride[2], padding[4], dilation[2], groups;
    int depthwise, tile;     /* the way chosen: tile is winograd's, 0 for direct */
} conv_params;

/* ---- shape ---- */

/* Nothing gives nothing, where there is no padding to convolve either: PyTorch refuses, but a cache may have completed no window. */
static int is_nothing(int size, int before, int after) { return size == 0 && !before && !after; }

static int out_size(int in, int kernel, int before, int after, int dilation, int stride) {
    if (is_nothing(in, before, after)) return 0;
    int64_t room = (int64_t)in + before + after - (int64_t)dilation * (kernel - 1) - 1;
    return in == LAM_ANY ? LAM_ANY : (int)(room / stride + 1);
}

static lam_status check_image(const conv_params *p, const lam_shape *x, const lam_shape *w, char *why) {
    if (x->rank != 4) return text_format(why, LAM_TEXT, "expected an image [n, c, h, w], got %v", x), LAM_EVALUE;
    for (int i = 0; i < 2; i++) {
        int size = x->dims[2 + i];
        if (size == LAM_ANY || is_nothing(size, p->padding[i], p->padding[2 + i])) continue;
        int64_t reach = (int64_t)p->dilation[i] * (w->dims[2 + i] - 1) + 1, padded = (int64_t)size + p->padding[i] + p->padding[2 + i];
        if (padded > INT_MAX) return text_format(why, LAM_TEXT, "the padded input %v is larger than %d", x, INT_MAX), LAM_EVALUE;
        if (padded < reach)
            return text_format(why, LAM_TEXT, "the kernel reaches over %d but the padded input %v has only %d", dim_limit(reach), x,
                               (int)padded), LAM_EVALUE;
    }
    return LAM_OK;
}

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const conv_params *p = node->params;
    const lam_shape *x = &in[X], *w = &in[WEIGHT], *b = &in[BIAS];
    if (w->rank != 4 || w->dims[2] < 1 || w->dims[3] < 1)
        return text_format(why, LAM_TEXT, "weight %v should be [out, c / groups, kh, kw]", w), LAM_EVALUE;
    if (p->groups < 1 || w->dims[0] % p->groups)
        return text_format(why, LAM_TEXT, "%d groups do not divide %d output channels", p->groups, w->dims[0]), LAM_EVALUE;
    lam_status status = check_image(p, x, w, why);
    if (status != LAM_OK) return status;
    int channels = dim_times(w->dims[1], p->groups);
    if (!dim_agrees(x->dims[1], channels))
        return text_format(why, LAM_TEXT, "weight %v with %d groups needs %d input channels, got %v", w, p->groups, channels, x), LAM_EVALUE;
    if (b->rank >= 0 && (b->rank != 1 || b->dims[0] != w->dims[0]))
        return text_format(why, LAM_TEXT, "weight %v needs a bias of %d, got %v", w, w->dims[0], b), LAM_EVALUE;
    *out = (lam_shape){ .rank = 4, .dims = { x->dims[0], w->dims[0] } };
    for (int i = 0; i < 2; i++)
        out->dims[2 + i] = out_size(x->dims[2 + i], w->dims[2 + i], p->padding[i], p->padding[2 + i], p->dilation[i], p->stride[i]);
    return LAM_OK;
}

/* ---- weights ---- */

/* Sizes of one group: k input channels, n output channels, taps of the kernel. */
typedef struct group { size_t k, n, taps, floats; } group;

static group group_of(const conv_params *p, const lam_shape *w) {
    group g = { .k = (size_t)w->dims[1], .n = (size_t)(w->dims[0] / p->groups), .taps = (size_t)w->dims[2] * (size_t)w->dims[3] };
    g.floats = p->tile ? winograd_packed_floats(p->tile, g.k, g.n) : gemm_packed_floats(g.k * g.taps, g.n);
    return g;
}

/* What to expect where the image size is not known when weights are packed. */
enum { USUAL_SIZE = 28 };

static void choose(const lam_graph *g, const lam_node *node, conv_params *p) {
    const lam_shape *w = graph_shape(g, node->in[WEIGHT]), *y = graph_shape(g, node->out);
    p->depthwise = p->groups > 1 && w->dims[1] == 1 && w->dims[0] == p->groups;
    int plain = w->dims[2] == 3 && w->dims[3] == 3 && p->stride[0] == 1 && p->stride[1] == 1 && p->dilation[0] == 1 &&
                p->dilation[1] == 1;
    if (p->depthwise || !plain) return;
    int h = y->dims[2] == LAM_ANY ? USUAL_SIZE : y->dims[2], width = y->dims[3] == LAM_ANY ? USUAL_SIZE : y->dims[3];
    p->tile = winograd_choose(1, (size_t)h, (size_t)width, (size_t)w->dims[1], (size_t)(w->dims[0] / p->groups));
}

static size_t packed(const lam_graph *g, lam_node *node) {
    conv_params *p = node->params;
    const lam_shape *w = graph_shape(g, node->in[WEIGHT]);
    choose(g, node, p);
    if (p->depthwise) return depthwise_packed_floats((size_t)w->dims[0], (size_t)w->dims[2] * (size_t)w->dims[3]);
    return group_of(p, w).floats * (size_t)p->groups;
}

/* Output channels [n0, n0 + columns) of one group. */
static void pack_group(const conv_params *p, const group *s, float *packed, const float *w, size_t n0, size_t columns) {
    if (p->tile) {
        winograd_pack_f32(packed, p->tile, s->k, s->n, n0, columns, w);
        return;
    }
    for (size_t tap = 0; tap < s->taps; tap++)
        gemm_pack_f32(packed, s->k * s->taps, tap * s->k, s->k, n0, columns, w + tap, s->taps, s->k * s->taps);
}

static void scale_group(const conv_params *p, const group *s, float *packed, size_t n0, size_t columns, const float *scale) {
    if (p->tile) winograd_scale_columns(packed, p->tile, s->k, s->n, n0, columns, scale);
    else gemm_scale_columns(packed, s->k * s->taps, n0, columns, scale);
}

static void pack(const lam_graph *g, lam_node *node, int in, const float *data, int first, int rows) {
    (void)in;
    const conv_params *p = node->params;
    const lam_shape *w = graph_shape(g, node->in[WEIGHT]);
    group s = group_of(p, w);
    if (p->depthwise) {
        depthwise_pack_f32(node->packed, (size_t)w->dims[0], s.taps, (size_t)first, (size_t)rows, data);
        return;
    }
    for (size_t row = (size_t)first, end = row + (size_t)rows, columns; row < end; row += columns) {   /* by panels, which stay in the cache */
        size_t index = row / s.n, n0 = row % s.n;
        float *packed = node->packed + index * s.floats;
        columns = GEMM_NR - n0 % GEMM_NR;
        if (columns > s.n - n0) columns = s.n - n0;
        if (columns > end - row) columns = end - row;
        pack_group(p, &s, packed, data + (row - (size_t)first) * s.k * s.taps, n0, columns);
        if (node->fold) scale_group(p, &s, packed, n0, columns, node->fold + row);
    }
}

static lam_status finish(const lam_graph *g, lam_node *node) {
    const conv_params *p = node->params;
    const lam_shape *w = graph_shape(g, node->in[WEIGHT]);
    const float *bias = graph_plain(g, node->in[BIAS]);
    group s = group_of(p, w);
    size_t n = (size_t)w->dims[0];
    float *scale = node->fold, *shift = scale ? scale + n : NULL;
    if (p->depthwise) {
        depthwise_pack_bias(node->packed, n, bias);
        if (scale) depthwise_scale_channels(node->packed, n, s.taps, scale, shift);
        return LAM_OK;
    }
    for (size_t i = 0; i < n && scale && bias; i++) shift[i] += bias[i] * scale[i];
    for (size_t i = 0; i < (size_t)p->groups; i++) {
        float *packed = node->packed + i * s.floats;
        const float *own = scale ? shift : bias;
        if (own) own += i * s.n;
        if (p->tile) winograd_pack_bias(packed, p->tile, s.k, s.n, own);
        else gemm_pack_bias(packed, s.k * s.taps, s.n, own);
        if (scale && !node->folded) scale_group(p, &s, packed, 0, s.n, scale + i * s.n);
    }
    return LAM_OK;
}

/* ---- run ---- */

typedef struct job {
    const lam_run *run;
    const conv_params *p;
    group s;
    tile_grid grid;
    winograd_conv winograd;
    depthwise_conv depthwise;
    size_t h, w, c, out_h, out_w, n, batch, kernel_w;
    size_t units, together;      /* of winograd, and how many of them one task takes */
} job;

static job job_of(const lam_run *r) {
    const conv_params *p = r->node->params;
    const int *x = r->in[X].shape.dims, *w = r->in[WEIGHT].shape.dims, *y = r->out.shape.dims;
    return (job){
        .run = r, .p = p, .s = group_of(p, &r->in[WEIGHT].shape), .kernel_w = (size_t)w[3], .batch = (size_t)x[0],
        .c = (size_t)x[1], .h = (size_t)x[2], .w = (size_t)x[3], .n = (size_t)y[1], .out_h = (size_t)y[2], .out_w = (size_t)y[3],
    };
}

static winograd_conv winograd_of(const job *j) {
    return (winograd_conv){
        .tile = j->p->tile, .batch = j->batch, .h = j->h, .w = j->w, .c = j->s.k, .out_h = j->out_h, .out_w = j->out_w, .n = j->s.n,
        .pad_h = (size_t)j->p->padding[TOP], .pad_w = (size_t)j->p->padding[LEFT], .x_stride = j->c, .y_stride = j->n,
    };
}

static gemm_epilogue epilogue_at(const lam_run *r, size_t at, size_t stride) {
    return (gemm_epilogue){ .add = r->add.data ? r->add.data + at : NULL, .add_stride = stride,
                            .activation = r->node->activation };
}

/* Pixels are rows of the product; at most this many, so that a block's inputs stay in the second-level cache. */
enum { BLOCK_FLOATS = 64 * 1024, BLOCK_ROWS = 32 * GEMM_MR };

static size_t most_rows(const group *s) {
    size_t rows = BLOCK_FLOATS / (s->k && s->taps ? s->k * s->taps : 1);
    return rows > BLOCK_ROWS ? BLOCK_ROWS : rows < GEMM_MR ? GEMM_MR : rows;
}

static int is_pointwise(const conv_params *p, const group *s) {
    return s->taps == 1 && p->stride[0] == 1 && p->stride[1] == 1 && !p->padding[TOP] && !p->padding[LEFT] &&
           !p->padding[BOTTOM] && !p->padding[RIGHT];
}

static void scratch(const lam_run *r, size_t *per_thread, size_t *shared) {
    job j = job_of(r);
    if (j.p->depthwise || is_pointwise(j.p, &j.s)) return;
    if (j.p->tile) {
        j.winograd = winograd_of(&j);
        *per_thread = winograd_scratch_floats(&j.winograd);
        return;
    }
    *per_thread = (most_rows(&j.s) + GEMM_MR) * j.s.taps * sizeof(float *) / sizeof(float);
    *shared = j.s.k;   /* zeros, where a tap falls outside the image */
}

/* The inputs of output pixel `pixel` (counted through the batch) at every tap. */
static void point_row(const job *j, const float *x, size_t pixel, size_t row, const float **rows) {
    const conv_params *p = j->p;
    size_t image = pixel / (j->out_h * j->out_w), at = pixel % (j->out_h * j->out_w);
    long top = (long)(at / j->out_w) * p->stride[0] - p->padding[TOP];
    long left = (long)(at % j->out_w) * p->stride[1] - p->padding[LEFT];
    const float **place = rows + row / GEMM_MR * j->s.taps * GEMM_MR + row % GEMM_MR;
    for (size_t tap = 0; tap < j->s.taps; tap++, place += GEMM_MR) {
        long y = top + (long)(tap / j->kernel_w) * p->dilation[0], z = left + (long)(tap % j->kernel_w) * p->dilation[1];
        int inside = y >= 0 && y < (long)j->h && z >= 0 && z < (long)j->w;
        *place = inside ? x + ((image * j->h + (size_t)y) * j->w + (size_t)z) * j->c : j->run->shared;
    }
}

static void direct(void *argument, int index, int thread) {
    const job *j = argument;
    const lam_run *r = j->run;
    int tiles = tile_count(&j->grid);
    size_t in_group = (size_t)(index / tiles);
    tile t = tile_at(&j->grid, index % tiles);
    size_t k = j->s.k * j->s.taps, at = t.row * j->n + in_group * j->s.n + t.column;
    const float *x = r->in[X].data + in_group * j->s.k;
    const float *weights = r->node->packed + in_group * j->s.floats + t.column * (k + 1);
    gemm_epilogue epilogue = epilogue_at(r, at, j->n);
    if (is_pointwise(j->p, &j->s)) {
        gemm_f32_matrix(r->out.data + at, j->n, x + t.row * j->c, j->c, weights, t.rows, t.columns, k, &epilogue);
        return;
    }
    const float **rows = (const float **)(void *)(r->scratch + (size_t)thread * r->scratch_floats);
    size_t whole = (t.rows + GEMM_MR - 1) / GEMM_MR * GEMM_MR;
    for (size_t i = 0; i < whole; i++) point_row(j, x, t.row + (i < t.rows ? i : t.rows - 1), i, rows);
    gemm_f32(r->out.data + at, j->n, rows, j->s.taps, weights, t.rows, t.columns, j->s.k, &epilogue);
}

static void run_direct(const lam_run *r, job *j) {
    if (r->shared) memset(r->shared, 0, j->s.k * sizeof(float));
    j->grid = tile_grid_of(j->batch * j->out_h * j->out_w, j->s.n, j->s.k * j->s.taps, most_rows(&j->s), lam_pool_threads(r->pool));
    pool_for(r->pool, tile_count(&j->grid) * j->p->groups, direct, j);
}

static void winograd(void *argument, int index, int thread) {
    const job *j = argument;
    const lam_run *r = j->run;
    size_t tasks = (j->units + j->together - 1) / j->together, in_group = (size_t)index / tasks, at = in_group * j->s.n;
    size_t first = (size_t)index % tasks * j->together, units = j->units - first < j->together ? j->units - first : j->together;
    gemm_epilogue epilogue = epilogue_at(r, at, j->n);
    winograd_f32(r->out.data + at, r->in[X].data + in_group * j->s.k, r->node->packed + in_group * j->s.floats, &j->winograd,
                 first, units, &epilogue, r->scratch + (size_t)thread * r->scratch_floats);
}

static void run_winograd(const lam_run *r, job *j) {
    j->winograd = winograd_of(j);
    j->units = winograd_units(&j->winograd);
    if (!j->units) return;
    int threads = lam_pool_threads(r->pool);
    for (int i = 0; i < threads; i++) winograd_forget(r->scratch + (size_t)i * r->scratch_floats);
    int tasks = task_count(shape_elements(&r->out.shape) / (size_t)j->p->groups * 9 / 4 * j->s.k, threads);
    j->together = (j->units + (size_t)tasks - 1) / (size_t)tasks;
    pool_for(r->pool, (int)((j->units + j->together - 1) / j->together) * j->p->groups, winograd, j);
}

static void depthwise_row(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    const lam_run *r = j->run;
    size_t image = (size_t)index / j->out_h, out = image * j->out_h * j->out_w * j->n;
    gemm_epilogue epilogue = epilogue_at(r, out, j->n);
    depthwise_f32(r->out.data + out, r->in[X].data + image * j->h * j->w * j->c, r->node->packed, &j->depthwise,
                  (size_t)index % j->out_h, 1, &epilogue);
}

static void run_depthwise(const lam_run *r, job *j) {
    const conv_params *p = j->p;
    j->depthwise = (depthwise_conv){
        .h = j->h, .w = j->w, .c = j->c, .out_h = j->out_h, .out_w = j->out_w,
        .kernel_h = j->s.taps / j->kernel_w, .kernel_w = j->kernel_w,
        .stride_h = (size_t)p->stride[0], .stride_w = (size_t)p->stride[1], .pad_h = (size_t)p->padding[TOP],
        .pad_w = (size_t)p->padding[LEFT], .dilation_h = (size_t)p->dilation[0], .dilation_w = (size_t)p->dilation[1],
    };
    pool_for(r->pool, (int)(j->batch * j->out_h), depthwise_row, j);
}

static void run(const lam_run *r) {
    job j = job_of(r);
    if (j.p->depthwise) run_depthwise(r, &j);
    else if (j.p->tile) run_winograd(r, &j);
    else run_direct(r, &j);
}

static double flops(const lam_run *r) {
    group s = group_of(r->node->params, &r->in[WEIGHT].shape);
    return 2.0 * (double)shape_elements(&r->out.shape) * (double)(s.k * s.taps);
}

static const lam_op op_conv2d = {
    .name = "conv2d", .flags = OP_TAKES_ACTIVATION | OP_TAKES_ADD | OP_TAKES_BATCH_NORM, .packs = 1u << WEIGHT,
    .shape = shape, .packed = packed, .pack = pack, .finish = finish, .scratch = scratch, .run = run, .flops = flops,
};

lam_value lam_conv2d(lam_graph *g, lam_value x, lam_value w, lam_value bias, const int *stride, const int *padding,
                     const int *dilation, int groups) {
    conv_params p = { .groups = groups };
    for (int i = 0; i < 2; i++) {
        if (stride[i] < 1 || dilation[i] < 1)
            return graph_fail(g, LAM_EVALUE, "conv2d: stride %d and dilation %d should be at least 1", stride[i], dilation[i]);
        p.stride[i] = stride[i];
        p.dilation[i] = dilation[i];
    }
    for (int i = 0; i < 4; i++) {
        if (padding[i] < 0) return graph_fail(g, LAM_EVALUE, "conv2d: padding %d is negative", padding[i]);
        p.padding[i] = padding[i];
    }
    if (!graph_is_weight(g, w) || !graph_is_weight(g, bias))
        return graph_fail(g, LAM_EVALUE, "conv2d: weight and bias must be weights, not computed values");
    const lam_value in[] = { graph_in_layout(g, x, LAYOUT_CHANNELS_LAST), w, bias };
    return graph_add(g, &op_conv2d, 3, in, &p, sizeof p, LAYOUT_CHANNELS_LAST);
}
