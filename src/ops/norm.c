/* Layer norm, root mean square norm and length over the last axes. */
#include "../kernels/norm.h"
#include "../text.h"
#include "ops.h"

enum { X, WEIGHT, BIAS };

typedef enum norm_kind { NORM_LAYER, NORM_RMS, NORM_LENGTH } norm_kind;
typedef struct norm_params { norm_kind kind; int axes; float eps; } norm_params;

static int fits(const lam_shape *x, const lam_shape *w, int axes) {
    if (w->rank < 0) return 1;
    if (w->rank != axes) return 0;
    for (int i = 0; i < axes; i++)
        if (!dim_agrees(w->dims[i], x->dims[x->rank - axes + i])) return 0;
    return 1;
}

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const norm_params *p = node->params;
    if (p->axes < 1 || p->axes > in[X].rank)
        return text_format(why, LAM_TEXT, "%d axes of an input %v", p->axes, &in[X]), LAM_EVALUE;
    for (int i = WEIGHT; i < node->in_count; i++)
        if (!fits(&in[X], &in[i], p->axes))
            return text_format(why, LAM_TEXT, "normalises over %v, got %v", &in[i], &in[X]), LAM_EVALUE;
    *out = in[X];
    return LAM_OK;
}

typedef struct job { const lam_run *run; size_t rows, block, d; } job;

static void normalise(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    const norm_params *p = j->run->node->params;
    size_t row = (size_t)index * j->block, rows = j->rows - row < j->block ? j->rows - row : j->block;
    const lam_tensor *in = j->run->in;
    float *y = j->run->out.data + row * j->d;
    const float *x = in[X].data + row * j->d;
    if (p->kind == NORM_LAYER) layer_norm_f32(y, x, rows, j->d, in[WEIGHT].data, in[BIAS].data, p->eps);
    else if (p->kind == NORM_LENGTH) normalize_f32(y, x, rows, j->d, p->eps);
    else rms_norm_f32(y, x, rows, j->d, in[WEIGHT].data, p->eps);
}

static void run(const lam_run *r) {
    const norm_params *p = r->node->params;
    size_t d = shape_tail(&r->out.shape, r->out.shape.rank - p->axes);
    job j = { .run = r, .rows = shape_elements(&r->out.shape) / d, .d = d, .block = d < 4096 ? 4096 / d : 1 };
    pool_for(r->pool, (int)((j.rows + j.block - 1) / j.block), normalise, &j);
}

static double flops(const lam_run *r) {
    const norm_params *p = r->node->params;
    return (p->kind == NORM_LAYER ? 7.0 : p->kind == NORM_RMS ? 4.0 : 3.0) * (double)shape_elements(&r->out.shape);
}

static const lam_op op_layer_norm = { .name = "layer_norm", .flags = OP_IN_PLACE, .shape = shape, .run = run, .flops = flops };
static const lam_op op_rms_norm = { .name = "rms_norm", .flags = OP_IN_PLACE, .shape = shape, .run = run, .flops = flops };
static const lam_op op_normalize = { .name = "normalize", .flags = OP_IN_PLACE, .shape = shape, .run = run, .flops = flops };

lam_value lam_layer_norm(lam_graph *g, lam_value x, lam_value weight, lam_value bias, int axes, float eps) {
    const lam_value in[] = { graph_in_layout(g, x, LAYOUT_PLAIN), weight, bias };
    return graph_add(g, &op_layer_norm, 3, in, &(norm_params){ NORM_LAYER, axes, eps }, sizeof(norm_params), LAYOUT_PLAIN);
}

lam_value lam_rms_norm(lam_graph *g, lam_value x, lam_value weight, int axes, float eps) {
    const lam_value in[] = { graph_in_layout(g, x, LAYOUT_PLAIN), weight };
    return graph_add(g, &op_rms_norm, 2, in, &(norm_params){ NORM_RMS, axes, eps }, sizeof(norm_params), LAYOUT_PLAIN);
}

lam_value lam_normalize(lam_graph *g, lam_value x, float eps) {
    const lam_value in[] = { graph_in_layout(g, x, LAYOUT_PLAIN) };
    return graph_add(g, &op_normalize, 1, in, &(norm_params){ NORM_LENGTH, 1, eps }, sizeof(norm_params), LAYOUT_PLAIN);
}
