/* Where the largest number is, and the row at such a place. */
#include <math.h>
#include <string.h>
#include "../text.h"
#include "ops.h"

typedef struct argmax_params { int axis; int whole; } argmax_params;   /* whole: i32, else f32 */

static lam_status argmax_shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const argmax_params *p = node->params;
    int axis = shape_axis(&in[0], p->axis);
    if (axis < 0) return text_format(why, LAM_TEXT, "axis %d of %v", p->axis, &in[0]), LAM_EVALUE;
    if (!in[0].dims[axis]) return text_format(why, LAM_TEXT, "axis %d of %v is empty", axis, &in[0]), LAM_EVALUE;
    out->rank = 0;
    for (int i = 0; i < in[0].rank; i++)
        if (i != axis) out->dims[out->rank++] = in[0].dims[i];
    return LAM_OK;
}

/* Is number b to be preferred to number a, which comes before it. A NaN is larger than everything, as in PyTorch. */
static int larger(const float *a, const float *b, int whole) {
    if (!whole) return *b > *a || (isnan(*b) && !isnan(*a));
    int32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return y > x;
}

static void argmax_run(const lam_run *r) {
    const argmax_params *p = r->node->params;
    const lam_shape *s = &r->in[0].shape;
    int axis = shape_axis(s, p->axis);
    size_t size = (size_t)s->dims[axis], inner = shape_tail(s, axis + 1), outer = shape_elements(s) / (size * inner);
    int32_t *y = (int32_t *)r->out.data;
    for (size_t o = 0; o < outer; o++)
        for (size_t i = 0; i < inner; i++) {
            const float *x = r->in[0].data + o * size * inner + i;   /* [size], inner apart */
            size_t best = 0;
            for (size_t k = 1; k < size; k++)
                if (larger(x + best * inner, x + k * inner, p->whole)) best = k;
            y[o * inner + i] = (int32_t)best;
        }
}

static const lam_op op_argmax = { .name = "argmax", .flags = OP_ANY_TYPE | OP_MAKES_I32, .shape = argmax_shape, .run = argmax_run };

lam_value lam_argmax(lam_graph *g, lam_value x, int axis) {
    x = graph_in_layout(g, x, LAYOUT_PLAIN);
    argmax_params p = { axis, x >= 0 && x < g->value_count && g->values[x].type == LAM_I32 };
    return graph_add(g, &op_argmax, 1, &x, &p, sizeof p, LAYOUT_PLAIN);
}

enum { X, INDEX };

static lam_status select_shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    (void)node;
    const lam_shape *x = &in[X], *index = &in[INDEX];
    int agrees = x->rank >= 2 && index->rank == x->rank - 2;
    for (int i = 0; agrees && i < index->rank; i++) agrees = dim_agrees(x->dims[i], index->dims[i]);
    if (!agrees) return text_format(why, LAM_TEXT, "of %v by %v: expected an index for each axis but the last two", x, index), LAM_EVALUE;
    *out = *index;
    out->dims[out->rank++] = x->dims[x->rank - 1];
    return LAM_OK;
}

static void select_run(const lam_run *r) {
    const lam_shape *s = &r->in[X].shape;
    size_t width = (size_t)s->dims[s->rank - 1], rows = (size_t)s->dims[s->rank - 2], count = shape_elements(&r->in[INDEX].shape);
    const int32_t *index = (const int32_t *)r->in[INDEX].data;
    for (size_t i = 0; i < count; i++) {
        float *y = r->out.data + i * width;   /* [width] */
        if (index[i] < 0 || (size_t)index[i] >= rows) memset(y, 0, width * sizeof(float));
        else memcpy(y, r->in[X].data + (i * rows + (size_t)index[i]) * width, width * sizeof(float));
    }
}

static lam_status select_check(const lam_run *r, char *why) {
    const lam_shape *s = &r->in[X].shape;
    const int32_t *index = (const int32_t *)r->in[INDEX].data;
    int rows = s->dims[s->rank - 2];
    size_t count = shape_elements(&r->in[INDEX].shape);
    for (size_t i = 0; i < count; i++)
        if (index[i] < 0 || index[i] >= rows)
            return text_format(why, LAM_TEXT, "index %d (number %d) is outside the %d rows of %v", index[i], (int)i, rows, s), LAM_EINPUT;
    return LAM_OK;
}

static const lam_op op_select = {
    .name = "select", .integers = 1u << INDEX, .shape = select_shape, .check = select_check, .run = select_run, .flops = flops_none,
};

lam_value lam_select(lam_graph *g, lam_value x, lam_value index) {
    const lam_value in[] = { graph_in_layout(g, x, LAYOUT_PLAIN), graph_in_layout(g, index, LAYOUT_PLAIN) };
    return graph_add(g, &op_select, 2, in, NULL, 0, LAYOUT_PLAIN);
}
