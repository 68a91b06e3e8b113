/* Mean along one axis. */
#include "../kernels/pool2d.h"
#include "../text.h"
#include "ops.h"

typedef struct mean_params { int axis, keep; } mean_params;

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const mean_params *p = node->params;
    int axis = shape_axis(&in[0], p->axis);
    if (axis < 0) return text_format(why, LAM_TEXT, "axis %d of %v", p->axis, &in[0]), LAM_EVALUE;
    if (!in[0].dims[axis]) return text_format(why, LAM_TEXT, "axis %d of %v is empty", axis, &in[0]), LAM_EVALUE;
    out->rank = 0;
    for (int i = 0; i < in[0].rank; i++)
        if (i != axis || p->keep) out->dims[out->rank++] = i == axis ? 1 : in[0].dims[i];
    return LAM_OK;
}

typedef struct job { const lam_run *run; size_t d, inner; } job;

static void average(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    size_t outer = (size_t)index;
    mean_rows_f32(j->run->out.data + outer * j->inner, j->run->in[0].data + outer * j->d * j->inner, j->inner, j->d, j->inner);
}

static void run(const lam_run *r) {
    const mean_params *p = r->node->params;
    const lam_shape *s = &r->in[0].shape;
    int axis = shape_axis(s, p->axis);
    job j = { r, (size_t)s->dims[axis], shape_tail(s, axis + 1) };
    pool_for(r->pool, (int)(shape_elements(s) / (j.d * j.inner)), average, &j);
}

static double flops(const lam_run *r) { return (double)shape_elements(&r->in[0].shape); }

static const lam_op op_mean = { .name = "mean", .shape = shape, .run = run, .flops = flops };

lam_value lam_mean(lam_graph *g, lam_value x, int axis, int keep_axis) {
    x = graph_in_layout(g, x, LAYOUT_PLAIN);
    return graph_add(g, &op_mean, 1, &x, &(mean_params){ axis, keep_axis }, sizeof(mean_params), LAYOUT_PLAIN);
}
