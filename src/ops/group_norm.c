/* Group norm: each image's channels in groups, each group by its own statistics. */
#include "../kernels/group_norm.h"
#include "../text.h"
#include "ops.h"

enum { X, WEIGHT, BIAS };

typedef struct group_params { int groups; float eps; } group_params;

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const group_params *p = node->params;
    const lam_shape *x = &in[X];
    if (x->rank < 2) return text_format(why, LAM_TEXT, "expected [n, c, ...], got %v", x), LAM_EVALUE;
    for (int i = WEIGHT; i <= BIAS; i++)
        if (in[i].rank >= 0 && (in[i].rank != 1 || !dim_agrees(in[i].dims[0], x->dims[1])))
            return text_format(why, LAM_TEXT, "weights %v for the channels of %v", &in[i], x), LAM_EVALUE;
    if (p->groups < 1 || (x->dims[1] != LAM_ANY && x->dims[1] % p->groups))
        return text_format(why, LAM_TEXT, "%d groups do not divide the channels of %v", p->groups, x), LAM_EVALUE;
    *out = *x;
    return LAM_OK;
}

/* A task is some whole groups of one image: one where they lie apart, at least 16 channels where they lie side by side. */
typedef struct job { const lam_run *run; size_t c, spatial, groups, width, together, tasks; int last; } job;

static job job_of(const lam_run *r) {
    const lam_shape *x = &r->out.shape;
    const group_params *p = r->node->params;
    job j = { .run = r, .c = (size_t)x->dims[1], .spatial = shape_tail(x, 2), .groups = (size_t)p->groups, .last = x->rank == 4 || x->rank == 2 };
    j.width = j.c / j.groups;
    j.together = j.last && j.width ? (16 + j.width - 1) / j.width : 1;
    if (j.together > j.groups) j.together = j.groups;
    j.tasks = (j.groups + j.together - 1) / j.together;
    return j;
}

static void scratch(const lam_run *r, size_t *per_thread, size_t *shared) {
    (void)shared;
    job j = job_of(r);
    *per_thread = 2 * j.together * j.width;
}

static void normalise(void *argument, int index, int thread) {
    const job *j = argument;
    const lam_tensor *in = j->run->in;
    const group_params *p = j->run->node->params;
    size_t image = (size_t)index / j->tasks, first = (size_t)index % j->tasks * j->together, channel = first * j->width;
    size_t groups = j->groups - first < j->together ? j->groups - first : j->together;
    size_t at = image * j->c * j->spatial + (j->last ? channel : channel * j->spatial);
    const float *weight = in[WEIGHT].data ? in[WEIGHT].data + channel : NULL, *bias = in[BIAS].data ? in[BIAS].data + channel : NULL;
    if (!j->last) group_norm_planes_f32(j->run->out.data + at, in[X].data + at, j->width, j->spatial, weight, bias, p->eps);
    else group_norm_columns_f32(j->run->out.data + at, in[X].data + at, j->spatial, j->c, groups, j->width, weight, bias, p->eps,
                                j->run->scratch + (size_t)thread * j->run->scratch_floats);
}

static void run(const lam_run *r) {
    job j = job_of(r);
    pool_for(r->pool, (int)((size_t)r->out.shape.dims[0] * j.tasks), normalise, &j);
}

static double flops(const lam_run *r) { return 7.0 * (double)shape_elements(&r->out.shape); }

static const lam_op op_group_norm = {
    .name = "group_norm", .flags = OP_IN_PLACE, .shape = shape, .scratch = scratch, .run = run, .flops = flops,
};

lam_value lam_group_norm(lam_graph *g, lam_value x, lam_value weight, lam_value bias, int groups, float eps) {
    const lam_value in[] = { graph_in_layout(g, x, LAYOUT_CHANNELS_LAST), weight, bias };
    return graph_add(g, &op_group_norm, 3, in, &(group_params){ groups, eps }, sizeof(group_params), graph_layout(g, in[X]));
}
