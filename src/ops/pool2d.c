/* Average, maximum and adaptive average pooling. */
#include "../kernels/pool2d.h"
#include "../text.h"
#include "ops.h"

typedef struct pool_params {
    int max, adaptive;
    int kernel[2], stride[2], padding[2], dilation[2];
    int ceil_mode, count_include_pad, divisor;
    int size[2];              /* of an adaptive output, LAM_KEEP for the input's */
} pool_params;

/* As PyTorch: with ceil_mode a last window must start inside the image or its left padding. 0 where no window fits. */
static int out_size(const pool_params *p, int axis, int in) {
    if (p->adaptive) return p->size[axis] == LAM_KEEP ? in : p->size[axis];
    if (in == LAM_ANY) return LAM_ANY;
    int64_t stride = p->stride[axis], padded = (int64_t)in + 2 * (int64_t)p->padding[axis];
    int64_t room = padded - (int64_t)p->dilation[axis] * (p->kernel[axis] - 1) - 1;
    if (room < 0 || padded > INT_MAX) return 0;
    int64_t out = (room + (p->ceil_mode ? stride - 1 : 0)) / stride + 1;
    if (p->ceil_mode && (out - 1) * stride >= (int64_t)in + p->padding[axis]) out--;
    return (int)out;
}

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const pool_params *p = node->params;
    if (in[0].rank != 4) return text_format(why, LAM_TEXT, "expected an image [n, c, h, w], got %v", &in[0]), LAM_EVALUE;
    *out = in[0];
    for (int i = 0; i < 2; i++) {
        out->dims[2 + i] = out_size(p, i, in[0].dims[2 + i]);
        if (out->dims[2 + i] == 0)
            return text_format(why, LAM_TEXT, "the window does not fit into %v", &in[0]), LAM_EVALUE;
        if (p->adaptive && in[0].dims[2 + i] == 0)
            return text_format(why, LAM_TEXT, "the image %v is empty", &in[0]), LAM_EVALUE;
    }
    return LAM_OK;
}

typedef struct job { const lam_run *run; pool2d pool; size_t columns; int column_blocks; } job;

static void pool_row(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    const pool2d *s = &j->pool;
    const pool_params *p = j->run->node->params;
    size_t image = (size_t)index / s->out_h, row = (size_t)index % s->out_h;
    float *y = j->run->out.data + image * s->out_h * s->out_w * s->c;
    const float *x = j->run->in[0].data + image * s->h * s->w * s->c;
    if (p->max) max_pool2d_f32(y, x, s, row, 1);
    else if (p->adaptive) adaptive_avg_pool2d_f32(y, x, s, row, 1);
    else avg_pool2d_f32(y, x, s, row, 1);
}

/* The mean of a whole image: threads share channels, since there is one output row. */
static void average_image(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    const pool2d *s = &j->pool;
    size_t image = (size_t)(index / j->column_blocks), column = (size_t)(index % j->column_blocks) * j->columns;
    size_t columns = s->c - column < j->columns ? s->c - column : j->columns;
    mean_rows_f32(j->run->out.data + image * s->c + column, j->run->in[0].data + image * s->h * s->w * s->c + column, s->c,
                  s->h * s->w, columns);
}

static void run(const lam_run *r) {
    const pool_params *p = r->node->params;
    const int *x = r->in[0].shape.dims, *y = r->out.shape.dims;
    job j = { .run = r, .pool = {
        .c = (size_t)x[1], .h = (size_t)x[2], .w = (size_t)x[3], .out_h = (size_t)y[2], .out_w = (size_t)y[3],
        .kernel_h = (size_t)p->kernel[0], .kernel_w = (size_t)p->kernel[1],
        .stride_h = (size_t)p->stride[0], .stride_w = (size_t)p->stride[1],
        .pad_h = (size_t)p->padding[0], .pad_w = (size_t)p->padding[1],
        .dilation_h = (size_t)p->dilation[0], .dilation_w = (size_t)p->dilation[1],
        .count_include_pad = p->count_include_pad, .divisor_override = (size_t)p->divisor,
    } };
    if (p->adaptive && y[2] == 1 && y[3] == 1) {
        j.columns = lam_pool_threads(r->pool) > 1 && j.pool.c > 64 ? (j.pool.c / 4 + 15) / 16 * 16 : j.pool.c;
        j.column_blocks = (int)((j.pool.c + j.columns - 1) / j.columns);
        pool_for(r->pool, x[0] * j.column_blocks, average_image, &j);
        return;
    }
    pool_for(r->pool, x[0] * y[2], pool_row, &j);
}

static double flops(const lam_run *r) {
    const pool_params *p = r->node->params;
    if (p->adaptive) return (double)shape_elements(&r->in[0].shape);
    return (double)shape_elements(&r->out.shape) * p->kernel[0] * p->kernel[1];
}

static const lam_op op_avg_pool2d = { .name = "avg_pool2d", .shape = shape, .run = run, .flops = flops };
static const lam_op op_max_pool2d = { .name = "max_pool2d", .shape = shape, .run = run, .flops = flops };
static const lam_op op_adaptive_avg_pool2d = { .name = "adaptive_avg_pool2d", .shape = shape, .run = run, .flops = flops };

static lam_value add(lam_graph *g, const lam_op *op, lam_value x, const pool_params *p) {
    for (int i = 0; i < 2 && !p->adaptive; i++) {
        if (p->kernel[i] < 1 || p->stride[i] < 1 || p->dilation[i] < 1 || p->divisor < 0)
            return graph_fail(g, LAM_EVALUE, "%s: kernel %d, stride %d and dilation %d should be at least 1", op->name, p->kernel[i],
                              p->stride[i], p->dilation[i]);
        if (p->padding[i] < 0 || p->padding[i] > p->kernel[i] / 2)
            return graph_fail(g, LAM_EVALUE, "%s: padding %d should be at most half the kernel, %d", op->name, p->padding[i],
                              p->kernel[i]);
    }
    x = graph_in_layout(g, x, LAYOUT_CHANNELS_LAST);
    return graph_add(g, op, 1, &x, p, sizeof *p, LAYOUT_CHANNELS_LAST);
}

lam_value lam_avg_pool2d(lam_graph *g, lam_value x, const int *kernel, const int *stride, const int *padding, int ceil_mode,
                         int count_include_pad, int divisor) {
    return add(g, &op_avg_pool2d, x, &(pool_params){
        .kernel = { kernel[0], kernel[1] }, .stride = { stride[0], stride[1] }, .padding = { padding[0], padding[1] },
        .dilation = { 1, 1 }, .ceil_mode = ceil_mode, .count_include_pad = count_include_pad, .divisor = divisor });
}

lam_value lam_max_pool2d(lam_graph *g, lam_value x, const int *kernel, const int *stride, const int *padding, const int *dilation,
                         int ceil_mode) {
    return add(g, &op_max_pool2d, x, &(pool_params){
        .max = 1, .kernel = { kernel[0], kernel[1] }, .stride = { stride[0], stride[1] }, .padding = { padding[0], padding[1] },
        .dilation = { dilation[0], dilation[1] }, .ceil_mode = ceil_mode });
}

lam_value lam_adaptive_avg_pool2d(lam_graph *g, lam_value x, const int *size) {
    for (int i = 0; i < 2; i++)
        if (size[i] < 1 && size[i] != LAM_KEEP) return graph_fail(g, LAM_EVALUE, "adaptive_avg_pool2d: output size %d", size[i]);
    return add(g, &op_adaptive_avg_pool2d, x, &(pool_params){ .adaptive = 1, .size = { size[0], size[1] } });
}
