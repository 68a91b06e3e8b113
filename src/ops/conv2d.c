/* 2-d convolution. Four ways, the first and the third on the same packed weights:
 *   direct    rows of pointers into the image feed the matrix product; any kernel, stride, dilation and groups
 *   patches   of images of few channels that come as planes: the inputs of some output pixels are copied into rows of the product
 *   winograd  3x3 with stride 1, where winograd_choose says it pays for an image of this size
 *   depthwise one input and one output channel per group */
#include <string.h>
#include "../kernels/depthwise.h"
#include "../kernels/patches.h"
#include "../kernels/winograd.h"
#include "../text.h"
#include "ops.h"
#include "product.h"

enum { X, WEIGHT, BIAS };
enum { TOP, LEFT, BOTTOM, RIGHT };

typedef struct conv_params {
    int stride[2], padding[4], dilation[2], groups;
    int depthwise, patches;  /* the way chosen */
    lam_precision precision; /* of all but depthwise */
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

/* One group: k input channels, n output channels, taps of the kernel; how many floats it packs to. A patch is one tap of many values. */
typedef struct group { product w; size_t floats; } group;

static group group_of(const conv_params *p, const lam_shape *w) {
    size_t taps = (size_t)w->dims[2] * (size_t)w->dims[3], k = (size_t)w->dims[1], n = (size_t)(w->dims[0] / p->groups);
    group g = { .w = { p->precision, p->patches ? 1 : taps, p->patches ? k * taps : k, n } };
    g.floats = product_packed_floats(&g.w);
    return g;
}

/* Up to how many pixels products of whole numbers are faster than winograd's, which makes f32 of the weights. */
enum { FEW_PIXELS = 13 * 13 };

/* winograd's tile for images of this size, 0 where another way is faster. However many there are: an image's numbers do not depend on its batch. */
static int tile_of(const conv_params *p, const lam_shape *w, size_t out_h, size_t out_w) {
    const int plain = w->dims[2] == 3 && w->dims[3] == 3 && p->stride[0] == 1 && p->stride[1] == 1 && p->dilation[0] == 1 && p->dilation[1] == 1;
    if (!plain || p->depthwise || p->patches || (p->precision == LAM_Q8 && out_h * out_w <= FEW_PIXELS)) return 0;
    return winograd_choose(out_h, out_w, (size_t)w->dims[1], (size_t)(w->dims[0] / p->groups));
}

static void choose(const lam_graph *g, const lam_node *node, conv_params *p) {
    const lam_shape *w = graph_shape(g, node->in[WEIGHT]);
    p->depthwise = p->groups > 1 && w->dims[1] == 1 && w->dims[0] == p->groups;
    if (p->depthwise) return;
    group s = group_of(p, w);
    p->precision = product_precision(g, node->in[WEIGHT], s.w.k, s.w.n);
    if (p->precision == LAM_Q4) p->precision = LAM_Q8;   /* filters have few weights and suffer more from coarse ones than layers of many */
}

static size_t packed(const lam_graph *g, lam_node *node) {
    conv_params *p = node->params;
    const lam_shape *w = graph_shape(g, node->in[WEIGHT]);
    choose(g, node, p);
    if (p->depthwise) return depthwise_packed_floats((size_t)w->dims[0], (size_t)w->dims[2] * (size_t)w->dims[3]);
    node->precision = p->precision;
    return group_of(p, w).floats * (size_t)p->groups;
}

static void pack(const lam_graph *g, lam_node *node, int in, const float *data, int first, int rows) {
    (void)in;
    const conv_params *p = node->params;
    const lam_shape *w = graph_shape(g, node->in[WEIGHT]);
    group s = group_of(p, w);
    if (p->depthwise) {
        weights_expand(g);
        depthwise_pack_f32(node->packed, (size_t)w->dims[0], s.w.taps, (size_t)first, (size_t)rows, data);
        return;
    }
    for (size_t row = (size_t)first, end = row + (size_t)rows, columns; row < end; row += columns) {   /* by panels, which stay in the cache */
        size_t index = row / s.w.n, n0 = row % s.w.n;
        float *packed = node->packed + index * s.floats;
        columns = GEMM_NR - n0 % GEMM_NR;
        if (columns > s.w.n - n0) columns = s.w.n - n0;
        if (columns > end - row) columns = end - row;
        product_pack(g, &s.w, packed, n0, columns, data + (row - (size_t)first) * s.w.k * s.w.taps, 1, s.w.taps, s.w.k * s.w.taps);
        if (node->fold) product_scale(&s.w, packed, n0, columns, node->fold + row);
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
        if (scale) depthwise_scale_channels(node->packed, n, s.w.taps, scale, shift);
        return LAM_OK;
    }
    for (size_t i = 0; i < n && scale && bias; i++) shift[i] += bias[i] * scale[i];
    for (size_t i = 0; i < (size_t)p->groups; i++) {
        float *packed = node->packed + i * s.floats;
        const float *own = scale ? shift : bias;
        if (own) own += i * s.w.n;
        product_bias(&s.w, packed, own);
        if (scale && !node->folded) product_scale(&s.w, packed, 0, s.w.n, scale + i * s.w.n);
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
    conv_window window;          /* of patches and depthwise */
    size_t h, w, c, out_h, out_w, n, batch, kernel_w;
    int tile;                    /* winograd's, 0 for the others */
    size_t units, together;      /* of winograd, and how many of them one task takes */
} job;

static job job_of(const lam_run *r) {
    const conv_params *p = r->node->params;
    const int *x = r->in[X].shape.dims, *w = r->in[WEIGHT].shape.dims, *y = r->out.shape.dims;
    return (job){
        .run = r, .p = p, .s = group_of(p, &r->in[WEIGHT].shape), .kernel_w = (size_t)w[3], .batch = (size_t)x[0],
        .c = (size_t)x[1], .h = (size_t)x[2], .w = (size_t)x[3], .n = (size_t)y[1], .out_h = (size_t)y[2], .out_w = (size_t)y[3],
        .tile = tile_of(p, &r->in[WEIGHT].shape, (size_t)y[2], (size_t)y[3]),
    };
}

static conv_window window_of(const job *j) {
    const conv_params *p = j->p;
    return (conv_window){
        .c = j->c, .h = j->h, .w = j->w, .out_h = j->out_h, .out_w = j->out_w, .kernel_h = (size_t)j->run->in[WEIGHT].shape.dims[2],
        .kernel_w = j->kernel_w, .stride_h = (size_t)p->stride[0], .stride_w = (size_t)p->stride[1], .pad_h = (size_t)p->padding[TOP],
        .pad_w = (size_t)p->padding[LEFT], .dilation_h = (size_t)p->dilation[0], .dilation_w = (size_t)p->dilation[1],
    };
}

static winograd_conv winograd_of(const job *j) {
    return (winograd_conv){
        .tile = j->tile, .bits = j->p->precision == LAM_Q8 ? 8 : j->p->precision == LAM_PRECISION_F16 ? 16 : 32, .batch = j->batch,
        .h = j->h, .w = j->w, .c = j->s.w.k, .out_h = j->out_h, .out_w = j->out_w, .n = j->s.w.n,
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
    size_t rows = BLOCK_FLOATS / (s->w.k && s->w.taps ? s->w.k * s->w.taps : 1);
    return rows > BLOCK_ROWS ? BLOCK_ROWS : rows < GEMM_MR ? GEMM_MR : rows;
}

static int is_pointwise(const conv_params *p, const group *s) {
    return s->w.taps == 1 && !p->patches && p->stride[0] == 1 && p->stride[1] == 1 && !p->padding[TOP] && !p->padding[LEFT] &&
           !p->padding[BOTTOM] && !p->padding[RIGHT];
}

/* Floats from a pixel of one group's input to the next, and all pixels' where they are prepared first. */
static size_t pixel_stride(const job *j) {
    size_t prepared = product_row_floats(&j->s.w);
    return prepared ? prepared : j->c;
}

static size_t prepared_floats(const job *j) {
    return scratch_times(scratch_times(j->batch * j->h, j->w * (size_t)j->p->groups), product_row_floats(&j->s.w));
}

/* What a tap outside the image reads: zeros. */
static size_t outside_floats(const job *j) {
    size_t prepared = product_row_floats(&j->s.w);
    return is_pointwise(j->p, &j->s) ? 0 : prepared ? prepared : j->s.w.k;
}

static void scratch(const lam_run *r, size_t *per_thread, size_t *shared) {
    job j = job_of(r);
    if (j.p->depthwise) return;
    if (j.tile) {
        j.winograd = winograd_of(&j);
        *per_thread = winograd_scratch_floats(&j.winograd);
        return;
    }
    if (j.p->patches) {
        j.window = window_of(&j);
        *per_thread = scratch_times(most_rows(&j.s), patches_row_floats(&j.window) + product_row_floats(&j.s.w));
        return;
    }
    if (!is_pointwise(j.p, &j.s)) *per_thread = (most_rows(&j.s) + GEMM_MR) * j.s.w.taps * sizeof(float *) / sizeof(float);
    size_t prepared = prepared_floats(&j);
    *shared = prepared > SIZE_MAX / sizeof(float) / 2 ? prepared : prepared + outside_floats(&j);
}

/* The inputs of output pixel `pixel` (counted through the batch) at every tap. */
static void point_row(const job *j, const float *x, size_t pixel, size_t row, const float **rows) {
    const conv_params *p = j->p;
    size_t image = pixel / (j->out_h * j->out_w), at = pixel % (j->out_h * j->out_w);
    long top = (long)(at / j->out_w) * p->stride[0] - p->padding[TOP];
    long left = (long)(at % j->out_w) * p->stride[1] - p->padding[LEFT];
    const float **place = rows + row / GEMM_MR * j->s.w.taps * GEMM_MR + row % GEMM_MR;
    for (size_t tap = 0; tap < j->s.w.taps; tap++, place += GEMM_MR) {
        long y = top + (long)(tap / j->kernel_w) * p->dilation[0], z = left + (long)(tap % j->kernel_w) * p->dilation[1];
        int inside = y >= 0 && y < (long)j->h && z >= 0 && z < (long)j->w;
        *place = inside ? x + ((image * j->h + (size_t)y) * j->w + (size_t)z) * pixel_stride(j) : j->run->shared;
    }
}

/* Where the prepared pixels of one group's input lie. */
static float *prepared_at(const job *j, size_t in_group) {
    return j->run->shared + outside_floats(j) + in_group * j->batch * j->h * j->w * product_row_floats(&j->s.w);
}

/* The patches of some pixels by some columns. */
static void multiply_patches(const job *j, const tile *t, const float *weights, const gemm_epilogue *epilogue, float *rows) {
    const product *w = &j->s.w;
    size_t stride = patches_row_floats(&j->window);
    float *prepared = rows + t->rows * stride;
    patches_f32(rows, j->run->in[X].data, &j->window, t->row, t->rows);
    product_prepare(w, NULL, prepared, rows, t->rows, stride);
    if (product_row_floats(w)) rows = prepared, stride = product_row_floats(w);
    product_multiply_matrix(w, j->run->out.data + t->row * j->n + t->column, j->n, rows, stride, weights, t->rows, t->columns, epilogue);
}

static void direct(void *argument, int index, int thread) {
    const job *j = argument;
    const lam_run *r = j->run;
    int tiles = tile_count(&j->grid);
    size_t in_group = (size_t)(index / tiles);
    tile t = tile_at(&j->grid, index % tiles);
    size_t at = t.row * j->n + in_group * j->s.w.n + t.column;
    const float *weights = r->node->packed + in_group * j->s.floats + product_column(&j->s.w, t.column);
    gemm_epilogue epilogue = epilogue_at(r, at, j->n);
    if (j->p->patches) {
        multiply_patches(j, &t, weights, &epilogue, r->scratch + (size_t)thread * r->scratch_floats);
        return;
    }
    const float *x = product_row_floats(&j->s.w) ? prepared_at(j, in_group) : r->in[X].data + in_group * j->s.w.k;
    if (is_pointwise(j->p, &j->s)) {
        product_multiply_matrix(&j->s.w, r->out.data + at, j->n, x + t.row * pixel_stride(j), pixel_stride(j), weights, t.rows, t.columns, &epilogue);
        return;
    }
    const float **rows = (const float **)(void *)(r->scratch + (size_t)thread * r->scratch_floats);
    size_t whole = (t.rows + GEMM_MR - 1) / GEMM_MR * GEMM_MR;
    for (size_t i = 0; i < whole; i++) point_row(j, x, t.row + (i < t.rows ? i : t.rows - 1), i, rows);
    product_multiply(&j->s.w, r->out.data + at, j->n, rows, weights, t.rows, t.columns, &epilogue);
}

/* Columns for which patches are copied once: of fewer, copying would be seen. */
enum { PATCH_COLUMNS = 256 };

static void run_patches(const lam_run *r, job *j) {
    const product *w = &j->s.w;
    j->window = window_of(j);
    j->grid = tile_grid_of(j->batch * j->out_h * j->out_w, w->n, w->k, most_rows(&j->s), lam_pool_threads(r->pool));
    if (j->grid.columns < PATCH_COLUMNS) {
        j->grid.columns = PATCH_COLUMNS;
        j->grid.column_blocks = (int)((w->n + PATCH_COLUMNS - 1) / PATCH_COLUMNS);
    }
    pool_for(r->pool, tile_count(&j->grid), direct, j);
}

static void run_direct(const lam_run *r, job *j) {
    const group *s = &j->s;
    if (r->shared) memset(r->shared, 0, outside_floats(j) * sizeof(float));
    for (size_t i = 0; i < (size_t)j->p->groups && product_row_floats(&s->w); i++)
        product_prepare(&s->w, r->pool, prepared_at(j, i), r->in[X].data + i * s->w.k, j->batch * j->h * j->w, j->c);
    j->grid = tile_grid_of(j->batch * j->out_h * j->out_w, s->w.n, s->w.k * s->w.taps, most_rows(s), lam_pool_threads(r->pool));
    pool_for(r->pool, tile_count(&j->grid) * j->p->groups, direct, j);
}

static void winograd(void *argument, int index, int thread) {
    const job *j = argument;
    const lam_run *r = j->run;
    size_t tasks = (j->units + j->together - 1) / j->together, in_group = (size_t)index / tasks, at = in_group * j->s.w.n;
    size_t first = (size_t)index % tasks * j->together, units = j->units - first < j->together ? j->units - first : j->together;
    gemm_epilogue epilogue = epilogue_at(r, at, j->n);
    winograd_f32(r->out.data + at, r->in[X].data + in_group * j->s.w.k, r->node->packed + in_group * j->s.floats, &j->winograd,
                 first, units, &epilogue, r->scratch + (size_t)thread * r->scratch_floats);
}

static void run_winograd(const lam_run *r, job *j) {
    j->winograd = winograd_of(j);
    j->units = winograd_units(&j->winograd);
    if (!j->units) return;
    int threads = lam_pool_threads(r->pool);
    for (int i = 0; i < threads; i++) winograd_forget(r->scratch + (size_t)i * r->scratch_floats);
    int tasks = task_count(shape_elements(&r->out.shape) / (size_t)j->p->groups * 9 / 4 * j->s.w.k, threads);
    j->together = (j->units + (size_t)tasks - 1) / (size_t)tasks;
    pool_for(r->pool, (int)((j->units + j->together - 1) / j->together) * j->p->groups, winograd, j);
}

static void depthwise_row(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    const lam_run *r = j->run;
    size_t image = (size_t)index / j->out_h, out = image * j->out_h * j->out_w * j->n;
    gemm_epilogue epilogue = epilogue_at(r, out, j->n);
    depthwise_f32(r->out.data + out, r->in[X].data + image * j->h * j->w * j->c, r->node->packed, &j->window,
                  (size_t)index % j->out_h, 1, &epilogue);
}

static void run_depthwise(const lam_run *r, job *j) {
    j->window = window_of(j);
    pool_for(r->pool, (int)(j->batch * j->out_h), depthwise_row, j);
}

static void run(const lam_run *r) {
    job j = job_of(r);
    if (j.p->depthwise) run_depthwise(r, &j);
    else if (j.tile) run_winograd(r, &j);
    else if (j.p->patches) run_patches(r, &j);
    else run_direct(r, &j);
}

static double flops(const lam_run *r) {
    group s = group_of(r->node->params, &r->in[WEIGHT].shape);
    return 2.0 * (double)shape_elements(&r->out.shape) * (double)(s.w.k * s.w.taps);
}

static const lam_op op_conv2d = {
    .name = "conv2d", .flags = OP_TAKES_ACTIVATION | OP_TAKES_ADD | OP_TAKES_BATCH_NORM | OP_PACKS_CODES, .packs = 1u << WEIGHT,
    .shape = shape, .packed = packed, .pack = pack, .finish = finish, .scratch = scratch, .run = run, .flops = flops,
};

/* With more channels row pointers are as fast, and winograd's way pays where there is one. A value that lies channels last would have to be turned
 * into planes first. */
enum { FEW_CHANNELS = 4 };

static int wants_patches(const lam_graph *g, lam_value x, lam_value w, int groups) {
    const int *dims = graph_shape(g, w)->dims;
    return groups == 1 && graph_shape(g, w)->rank == 4 && dims[1] > 0 && dims[1] <= FEW_CHANNELS && dims[2] > 0 && dims[3] > 0 &&
           (dims[2] > 1 || dims[3] > 1) && graph_shape(g, x)->rank == 4 && graph_layout(g, x) == LAYOUT_PLAIN;
}

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
    p.patches = wants_patches(g, x, w, groups);
    const lam_value in[] = { p.patches ? x : graph_in_layout(g, x, LAYOUT_CHANNELS_LAST), w, bias };
    return graph_add(g, &op_conv2d, 3, in, &p, sizeof p, LAYOUT_CHANNELS_LAST);
}
