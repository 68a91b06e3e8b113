/* Batch norm at inference: one multiplication and one addition per channel. Mostly folded into the layer before it. */
#include "../kernels/norm.h"
#include "../memory.h"
#include "../text.h"
#include "ops.h"

enum { X, MEAN, VAR, WEIGHT, BIAS };

typedef struct batch_norm_params { float eps; } batch_norm_params;

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    (void)node;
    const lam_shape *x = &in[X];
    if (x->rank < 2) return text_format(why, LAM_TEXT, "expected [n, c, ...], got %v", x), LAM_EVALUE;
    for (int i = MEAN; i <= BIAS; i++)
        if (in[i].rank >= 0 && (in[i].rank != 1 || !dim_agrees(in[i].dims[0], x->dims[1])))
            return text_format(why, LAM_TEXT, "expected %d channels, got %v", in[i].dims[0], x), LAM_EVALUE;
    *out = *x;
    return LAM_OK;
}

lam_norm batch_norm_of(const lam_node *node) {
    const batch_norm_params *p = node->params;
    return (lam_norm){ node->in[MEAN], node->in[VAR], node->in[WEIGHT], node->in[BIAS], p->eps };
}

static void fill(const lam_graph *g, const lam_norm *norm, float *scale, int n) {
    batch_norm_scale_shift(scale, scale + n, (size_t)n, graph_plain(g, norm->mean), graph_plain(g, norm->var),
                           graph_plain(g, norm->weight), graph_plain(g, norm->bias), norm->eps);
}

float *norm_scale_shift(const lam_graph *g, const lam_norm *norm) {
    int n = graph_shape(g, norm->mean)->dims[0];
    float *scale = memory_alloc((size_t)n * 2 * sizeof *scale);
    if (scale) fill(g, norm, scale, n);
    return scale;
}

static int channels(const lam_graph *g, const lam_node *node) { return graph_shape(g, node->in[MEAN])->dims[0]; }

static size_t packed(const lam_graph *g, lam_node *node) { return 2 * (size_t)channels(g, node); }

static lam_status finish(const lam_graph *g, lam_node *node) {
    lam_norm norm = batch_norm_of(node);
    fill(g, &norm, node->packed, channels(g, node));
    return LAM_OK;
}

typedef struct job { const lam_run *run; size_t rows, c, inner; } job;

/* One image or row block; `inner` numbers share a channel where the channel is not the last axis in memory. */
static void normalise(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    const float *scale = j->run->node->packed, *shift = scale + j->c;
    size_t size = j->rows * j->c * j->inner;
    const float *x = j->run->in[X].data + (size_t)index * size;
    float *y = j->run->out.data + (size_t)index * size;
    if (j->inner == 1) {
        scale_shift_f32(y, x, j->rows, j->c, scale, shift);
        return;
    }
    for (size_t c = 0; c < j->c; c++)
        for (size_t i = 0; i < j->inner; i++) y[c * j->inner + i] = x[c * j->inner + i] * scale[c] + shift[c];
}

static void run(const lam_run *r) {
    const lam_shape *s = &r->out.shape;
    size_t spatial = shape_tail(s, 2);
    job j = { .run = r, .c = (size_t)s->dims[1], .rows = s->rank == 4 ? spatial : 1, .inner = s->rank == 4 ? 1 : spatial };
    pool_for(r->pool, s->dims[0], normalise, &j);
}

static double flops(const lam_run *r) { return 2.0 * (double)shape_elements(&r->out.shape); }

const lam_op op_batch_norm = {
    .name = "batch_norm", .flags = OP_IN_PLACE, .shape = shape, .packed = packed, .finish = finish, .run = run, .flops = flops,
};

lam_value lam_batch_norm(lam_graph *g, lam_value x, lam_value mean, lam_value var, lam_value weight, lam_value bias, float eps) {
    const lam_value in[] = { graph_in_layout(g, x, LAYOUT_CHANNELS_LAST), mean, var, weight, bias };
    for (int i = MEAN; i <= BIAS; i++)
        if (!graph_is_weight(g, in[i]) || (i <= VAR && in[i] == LAM_NONE))
            return graph_fail(g, LAM_EVALUE, "batch_norm: its mean and variance, and what it multiplies and adds, must be weights, not computed values");
    if (graph_shape(g, x)->rank > 4) return graph_fail(g, LAM_EVALUE, "batch_norm: rank %d, expected 2 to 4", graph_shape(g, x)->rank);
    return graph_add(g, &op_batch_norm, 5, in, &(batch_norm_params){ eps }, sizeof(batch_norm_params), graph_layout(g, in[X]));
}
