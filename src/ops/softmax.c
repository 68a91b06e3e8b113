/* Softmax along any axis. */
#include "../kernels/softmax.h"
#include "../kernels/transpose.h"
#include "../text.h"
#include "ops.h"

typedef struct softmax_params { int axis; } softmax_params;

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const softmax_params *p = node->params;
    if (shape_axis(&in[0], p->axis) < 0)
        return text_format(why, LAM_TEXT, "axis %d of an input %v", p->axis, &in[0]), LAM_EVALUE;
    *out = in[0];
    return LAM_OK;
}

/* The input as [outer, d, inner]; each outer slice is one task, split by rows when d is the last axis. */
typedef struct job { const lam_run *run; size_t outer, d, inner, block; } job;

static job job_of(const lam_run *r) {
    const softmax_params *p = r->node->params;
    const lam_shape *s = &r->in[0].shape;
    int axis = shape_axis(s, p->axis);
    job j = { .run = r, .d = (size_t)s->dims[axis], .inner = shape_tail(s, axis + 1) };
    size_t slice = j.d * j.inner;
    j.outer = slice ? shape_elements(s) / slice : 0;
    j.block = j.inner == 1 && j.d < 4096 ? 4096 / (j.d ? j.d : 1) : 1;
    return j;
}

static void scratch(const lam_run *r, size_t *per_thread, size_t *shared) {
    (void)shared;
    job j = job_of(r);
    *per_thread = j.inner == 1 ? 0 : j.d * j.inner;
}

static void apply(void *argument, int index, int thread) {
    const job *j = argument;
    size_t slice = j->d * j->inner, first = (size_t)index * j->block;
    size_t rows = j->outer - first < j->block ? j->outer - first : j->block;
    const float *x = j->run->in[0].data + first * slice;
    float *y = j->run->out.data + first * slice;
    if (j->inner == 1) {
        softmax_f32(y, x, rows, j->d);
        return;
    }
    float *turned = j->run->scratch + (size_t)thread * j->run->scratch_floats;
    transpose_f32(turned, j->d, x, j->inner, j->d, j->inner);
    softmax_f32(turned, turned, j->inner, j->d);
    transpose_f32(y, j->inner, turned, j->d, j->inner, j->d);
}

static void run(const lam_run *r) {
    job j = job_of(r);
    pool_for(r->pool, (int)((j.outer + j.block - 1) / j.block), apply, &j);
}

static double flops(const lam_run *r) { return 4.0 * (double)shape_elements(&r->out.shape); }

static const lam_op op_softmax = {
    .name = "softmax", .flags = OP_IN_PLACE, .shape = shape, .scratch = scratch, .run = run, .flops = flops,
};

lam_value lam_softmax(lam_graph *g, lam_value x, int axis) {
    x = graph_in_layout(g, x, LAYOUT_PLAIN);
    return graph_add(g, &op_softmax, 1, &x, &(softmax_params){ axis }, sizeof(softmax_params), LAYOUT_PLAIN);
}
