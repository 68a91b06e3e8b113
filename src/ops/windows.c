/* Overlapping windows of tokens, one head at a time: what the compressions of native sparse attention work on. */
#include <string.h>
#include "../text.h"
#include "ops.h"

typedef struct windows_params { int heads, block, stride; } windows_params;

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const windows_params *p = node->params;
    if (in[0].rank != 3 || in[0].dims[2] == LAM_ANY || in[0].dims[2] % p->heads)
        return text_format(why, LAM_TEXT, "expected [b, t, %d heads], got %v", p->heads, &in[0]), LAM_EVALUE;
    int t = in[0].dims[1];
    *out = (lam_shape){ .rank = 5, .dims = { in[0].dims[0], p->heads, t == LAM_ANY ? LAM_ANY : t / p->stride, p->block, in[0].dims[2] / p->heads } };
    return LAM_OK;
}

/* x is a cache: of its windows those that this run completes. */
static void at(const lam_node *node, const lam_shape *in, int position, lam_shape *out) {
    int stride = ((const windows_params *)node->params)->stride, windows = in[0].dims[1] / stride - position / stride;
    out->dims[2] = windows > 0 ? windows : 0;
}

typedef struct job { const lam_run *run; size_t d, tokens, first, windows; } job;

/* All windows of one head. */
static void cut(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    const windows_params *p = j->run->node->params;
    size_t head = (size_t)index % (size_t)p->heads, block = (size_t)p->block, stride = (size_t)p->stride, row = (size_t)p->heads * j->d;
    const float *x = j->run->in[0].data + (size_t)index / (size_t)p->heads * j->tokens * row + head * j->d;
    float *y = j->run->out.data + (size_t)index * j->windows * block * j->d;
    for (size_t w = j->first; w < j->first + j->windows; w++) {
        size_t end = (w + 1) * stride;                       /* slot s holds token end - block + s */
        for (size_t s = 0; s < block; s++, y += j->d) {
            if (end + s < block) memset(y, 0, j->d * sizeof *y);
            else memcpy(y, x + (end + s - block) * row, j->d * sizeof *y);
        }
    }
}

static void run(const lam_run *r) {
    const windows_params *p = r->node->params;
    job j = { .run = r, .d = (size_t)r->out.shape.dims[4], .tokens = (size_t)r->in[0].shape.dims[1], .windows = (size_t)r->out.shape.dims[2] };
    j.first = j.tokens / (size_t)p->stride - j.windows;
    pool_for(r->pool, r->out.shape.dims[0] * p->heads, cut, &j);
}

static double flops(const lam_run *r) { (void)r; return 0; }

static const lam_op op_windows = { .name = "windows", .shape = shape, .at = at, .run = run, .flops = flops };

lam_value lam_windows(lam_graph *g, lam_value x, int heads, int block, int stride) {
    if (heads < 1 || stride < 1 || block < stride)
        return graph_fail(g, LAM_EVALUE, "windows: %d heads, windows of %d tokens every %d; a window is at least as long as the step", heads, block, stride);
    return graph_add(g, &op_windows, 1, &x, &(windows_params){ heads, block, stride }, sizeof(windows_params), LAYOUT_PLAIN);
}
