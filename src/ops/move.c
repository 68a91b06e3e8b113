/* Ops that copy numbers to another place: permute, narrow, cat. */
#include <string.h>
#include "../kernels/transpose.h"
#include "../text.h"
#include "ops.h"

/* Strides, in elements, of the memory of a tensor with these sizes. */
static void strides_of(const lam_shape *sizes, size_t *strides) {
    size_t step = 1;
    for (int i = sizes->rank - 1; i >= 0; i--) {
        strides[i] = step;
        step *= (size_t)sizes->dims[i];
    }
}

typedef struct copy_job { const float *x; float *y; size_t sizes[LAM_MAX_RANK], strides[LAM_MAX_RANK], slice; int rank; } copy_job;

/* One index of the first axis. */
static void copy_slice(void *argument, int index, int thread) {
    (void)thread;
    const copy_job *j = argument;
    permute_f32(j->y + (size_t)index * j->slice, j->x + (size_t)index * j->strides[0], (size_t)j->rank - 1, j->sizes + 1,
                j->strides + 1);
}

/* y, dense with these sizes, from x with these strides. */
static void copy_strided(lam_pool *pool, float *y, const float *x, const lam_shape *sizes, const size_t *strides) {
    if (sizes->rank < 1) {
        *y = *x;
        return;
    }
    copy_job j = { .x = x, .y = y, .rank = sizes->rank, .slice = shape_tail(sizes, 1) };
    for (int i = 0; i < sizes->rank; i++) {
        j.sizes[i] = (size_t)sizes->dims[i];
        j.strides[i] = strides[i];
    }
    if (sizes->rank > 1 && j.sizes[0] > 1) pool_for(pool, sizes->dims[0], copy_slice, &j);
    else permute_f32(y, x, (size_t)j.rank, j.sizes, j.strides);
}

/* ---- permute ---- */

typedef struct permute_params { int order[LAM_MAX_RANK]; } permute_params;

static lam_status permute_shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const permute_params *p = node->params;
    int seen = 0;
    out->rank = in[0].rank;
    for (int i = 0; i < in[0].rank; i++) {
        int axis = shape_axis(&in[0], p->order[i]);
        if (axis < 0 || (seen >> axis & 1))
            return text_format(why, LAM_TEXT, "the order is no permutation of the axes of %v", &in[0]), LAM_EVALUE;
        seen |= 1 << axis;
        out->dims[i] = in[0].dims[axis];
    }
    return LAM_OK;
}

static void permute_run(const lam_run *r) {
    const permute_params *p = r->node->params;
    size_t strides[LAM_MAX_RANK], turned[LAM_MAX_RANK] = { 0 };
    strides_of(&r->in[0].shape, strides);
    for (int i = 0; i < r->out.shape.rank; i++) turned[i] = strides[shape_axis(&r->in[0].shape, p->order[i])];
    copy_strided(r->pool, r->out.data, r->in[0].data, &r->out.shape, turned);
}

static const lam_op op_permute = { .name = "permute", .flags = OP_ANY_TYPE, .shape = permute_shape, .run = permute_run };

/* 0, 2, 1, 3 of rank 4 */
int permute_swaps_heads(const lam_node *node) {
    const permute_params *p = node->params;
    static const int order[] = { 0, 2, 1, 3 };
    for (int i = 0; i < 4; i++)
        if (node->op != &op_permute || p->order[i] != order[i]) return 0;
    return 1;
}

lam_value permuted_heads(const lam_graph *g, lam_value x) {
    if (x < 0 || g->values[x].node < 0 || graph_shape(g, x)->rank != 4 || !permute_swaps_heads(&g->nodes[g->values[x].node])) return LAM_NONE;
    return g->nodes[g->values[x].node].in[0];
}

lam_value lam_permute(lam_graph *g, lam_value x, const int *order) {
    x = graph_in_layout(g, x, LAYOUT_PLAIN);
    permute_params p = { { 0 } };
    for (int i = 0; i < graph_shape(g, x)->rank; i++) p.order[i] = order[i];
    return graph_add(g, &op_permute, 1, &x, &p, sizeof p, LAYOUT_PLAIN);
}

/* ---- narrow ---- */

typedef struct narrow_params { int axis, start, length; lam_layout layout; } narrow_params;

static lam_status narrow_shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const narrow_params *p = node->params;
    int axis = shape_axis(&in[0], p->axis);
    *out = in[0];
    if (axis < 0) return text_format(why, LAM_TEXT, "axis %d of %v", p->axis, &in[0]), LAM_EVALUE;
    int size = in[0].dims[axis];
    if (size == LAM_ANY) {
        out->dims[axis] = p->length < 0 ? LAM_ANY : p->length;
        return LAM_OK;
    }
    int start = p->start < 0 ? size + p->start : p->start, length = p->length < 0 ? size - start : p->length;
    if (start < 0 || length < 0 || length > size - start)
        return text_format(why, LAM_TEXT, "start %d, length %d on axis %d of %v", p->start, p->length, axis, &in[0]), LAM_EVALUE;
    out->dims[axis] = length;
    return LAM_OK;
}

static void narrow_run(const lam_run *r) {
    const narrow_params *p = r->node->params;
    lam_shape from = layout_sizes(&r->in[0].shape, p->layout), sizes = layout_sizes(&r->out.shape, p->layout);
    int logical = shape_axis(&r->in[0].shape, p->axis), axis = layout_axis(logical, p->layout);
    int start = p->start < 0 ? from.dims[axis] + p->start : p->start;
    size_t strides[LAM_MAX_RANK];
    strides_of(&from, strides);
    copy_strided(r->pool, r->out.data, r->in[0].data + (size_t)start * strides[axis], &sizes, strides);
}

static const lam_op op_narrow = { .name = "narrow", .flags = OP_ANY_TYPE, .shape = narrow_shape, .run = narrow_run };

lam_value lam_narrow(lam_graph *g, lam_value x, int axis, int start, int length) {
    narrow_params p = { axis, start, length, graph_layout(g, x) };
    return graph_add(g, &op_narrow, 1, &x, &p, sizeof p, p.layout);
}

/* ---- cat ---- */

typedef struct cat_params { int axis; lam_layout layout; } cat_params;

static lam_status cat_shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const cat_params *p = node->params;
    *out = in[0];
    int axis = shape_axis(&in[0], p->axis);
    if (axis < 0) return text_format(why, LAM_TEXT, "axis %d of %v", p->axis, &in[0]), LAM_EVALUE;
    for (int i = 1; i < node->in_count; i++) {
        int agrees = in[i].rank == in[0].rank;
        for (int d = 0; agrees && d < in[0].rank; d++) {
            agrees = d == axis || dim_agrees(in[i].dims[d], out->dims[d]);
            if (d != axis && out->dims[d] == LAM_ANY) out->dims[d] = in[i].dims[d];
        }
        if (!agrees) return text_format(why, LAM_TEXT, "%v beside %v on axis %d", &in[i], &in[0], axis), LAM_EVALUE;
        out->dims[axis] = out->dims[axis] == LAM_ANY || in[i].dims[axis] == LAM_ANY ? LAM_ANY : out->dims[axis] + in[i].dims[axis];
    }
    return LAM_OK;
}

static void cat_run(const lam_run *r) {
    const cat_params *p = r->node->params;
    int axis = layout_axis(shape_axis(&r->out.shape, p->axis), p->layout);
    lam_shape sizes = layout_sizes(&r->out.shape, p->layout);
    size_t row = shape_tail(&sizes, axis), outer = row ? shape_elements(&sizes) / row : 0, at = 0;
    for (int i = 0; i < r->node->in_count; i++) {
        lam_shape part = layout_sizes(&r->in[i].shape, p->layout);
        size_t piece = shape_tail(&part, axis);
        for (size_t o = 0; o < outer; o++)
            memcpy(r->out.data + o * row + at, r->in[i].data + o * piece, piece * sizeof(float));
        at += piece;
    }
}

static const lam_op op_cat = { .name = "cat", .flags = OP_ANY_TYPE, .shape = cat_shape, .run = cat_run };

enum { CAT_MOST = 256 };

lam_value lam_cat(lam_graph *g, int count, const lam_value *values, int axis) {
    if (count < 1 || count > CAT_MOST) return graph_fail(g, LAM_EVALUE, "cat: %d tensors, expected 1 to %d", count, CAT_MOST);
    lam_layout layout = LAYOUT_CHANNELS_LAST;
    for (int i = 0; i < count; i++)
        if (graph_layout(g, values[i]) == LAYOUT_PLAIN) layout = LAYOUT_PLAIN;
    lam_value in[CAT_MOST];
    for (int i = 0; i < count; i++) in[i] = graph_in_layout(g, values[i], layout);
    cat_params p = { axis, layout };
    return graph_add(g, &op_cat, count, in, &p, sizeof p, layout);
}
