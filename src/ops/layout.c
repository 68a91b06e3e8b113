/* Between PyTorch's [n, c, h, w] and the channels-last order that image layers work in. */
#include "../kernels/transpose.h"
#include "ops.h"

lam_shape layout_sizes(const lam_shape *shape, lam_layout layout) {
    if (layout == LAYOUT_PLAIN || shape->rank != 4) return *shape;
    const int *d = shape->dims;
    return (lam_shape){ .rank = 4, .dims = { d[0], d[2], d[3], d[1] } };
}

int layout_axis(int axis, lam_layout layout) {
    static const int place[4] = { 0, 3, 1, 2 };
    return layout == LAYOUT_CHANNELS_LAST ? place[axis] : axis;
}

typedef struct layout_params { lam_layout to; } layout_params;

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    (void)node;
    (void)why;
    *out = in[0];
    return LAM_OK;
}

typedef struct job { const lam_run *run; size_t rows, columns, block; int blocks; } job;

/* One image is a matrix [rows, columns] to transpose; blocks of its rows go to threads. */
static void transpose_block(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    size_t image = (size_t)(index / j->blocks), row = (size_t)(index % j->blocks) * j->block;
    size_t rows = j->rows - row < j->block ? j->rows - row : j->block;
    size_t size = j->rows * j->columns;
    transpose_f32(j->run->out.data + image * size + row, j->rows, j->run->in[0].data + image * size + row * j->columns,
                  j->columns, rows, j->columns);
}

static void run(const lam_run *r) {
    const layout_params *p = r->node->params;
    const int *d = r->out.shape.dims;
    size_t c = (size_t)d[1], hw = (size_t)d[2] * (size_t)d[3];
    int last = p->to == LAYOUT_CHANNELS_LAST;
    job j = { .run = r, .rows = last ? c : hw, .columns = last ? hw : c };
    j.block = lam_pool_threads(r->pool) > 1 && j.rows > 64 ? (j.rows + 3) / 4 : j.rows;
    j.blocks = (int)((j.rows + j.block - 1) / j.block);
    pool_for(r->pool, d[0] * j.blocks, transpose_block, &j);
}

static const lam_op op_layout = { .name = "layout", .shape = shape, .run = run };

/* One channel, or one pixel, lies alike in both. */
static const lam_op op_same = { .name = "layout", .flags = OP_VIEW, .shape = shape };

static int is_same(const lam_shape *s) { return s->dims[1] == 1 || (s->dims[2] == 1 && s->dims[3] == 1); }

lam_value graph_in_layout(lam_graph *g, lam_value x, lam_layout layout) {
    if (x < 0 || x >= g->value_count) return x;
    lam_value_info *v = &g->values[x];
    if (v->layout == layout || v->shape.rank != 4) return x;
    if (v->twin != LAM_NONE) return v->twin;
    lam_value twin = graph_add(g, is_same(&v->shape) ? &op_same : &op_layout, 1, &x, &(layout_params){ layout }, sizeof(layout_params), layout);
    if (twin != LAM_BAD) {
        g->values[x].twin = twin;
        g->values[twin].twin = x;
    }
    return twin;
}
