/* a op b with broadcasting. */
#include "../kernels/elementwise.h"
#include "../text.h"
#include "ops.h"

typedef struct arithmetic_params { lam_binary op; lam_layout layout; } arithmetic_params;

static int dim_from_end(const lam_shape *s, int from_end) { return from_end < s->rank ? s->dims[s->rank - 1 - from_end] : 1; }

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    (void)node;
    out->rank = in[0].rank > in[1].rank ? in[0].rank : in[1].rank;
    for (int i = 0; i < out->rank; i++) {
        int a = dim_from_end(&in[0], i), b = dim_from_end(&in[1], i);
        if (!dim_agrees(a, b) && a != 1 && b != 1)
            return text_format(why, LAM_TEXT, "%v and %v do not broadcast", &in[0], &in[1]), LAM_EVALUE;
        /* An unknown size beside a known one that is not 1 must turn out to be that, or 1. */
        out->dims[out->rank - 1 - i] = a == 1 ? b : b == 1 ? a : a == LAM_ANY ? b : a;
    }
    return LAM_OK;
}

/* The loops in the order of memory, neighbours merged where both operands step evenly through them. */
typedef struct loops {
    int rank;
    size_t size[LAM_MAX_RANK], a[LAM_MAX_RANK], b[LAM_MAX_RANK];   /* counts, and elements to step (0: broadcast) */
} loops;

static void operand_steps(const lam_shape *operand, lam_layout layout, int rank, size_t *steps) {
    lam_shape full = { .rank = rank };
    for (int i = 0; i < rank; i++) full.dims[rank - 1 - i] = dim_from_end(operand, i);
    full = layout_sizes(&full, layout);
    size_t step = 1;
    for (int i = rank - 1; i >= 0; i--) {
        steps[i] = full.dims[i] == 1 ? 0 : step;
        step *= (size_t)full.dims[i];
    }
}

static loops loops_of(const lam_run *r) {
    const arithmetic_params *p = r->node->params;
    lam_shape y = layout_sizes(&r->out.shape, p->layout);
    size_t a[LAM_MAX_RANK] = { 0 }, b[LAM_MAX_RANK] = { 0 };
    operand_steps(&r->in[0].shape, p->layout, y.rank, a);
    operand_steps(&r->in[1].shape, p->layout, y.rank, b);
    loops l = { .rank = 0 };
    for (int i = 0; i < y.rank; i++) {
        size_t size = (size_t)y.dims[i];
        if (size == 1) continue;
        int last = l.rank - 1;
        if (l.rank && l.a[last] == a[i] * size && l.b[last] == b[i] * size) {
            l.size[last] *= size;
            l.a[last] = a[i];
            l.b[last] = b[i];
        } else {
            l.size[l.rank] = size;
            l.a[l.rank] = a[i];
            l.b[l.rank++] = b[i];
        }
    }
    for (; l.rank < 2; l.rank++) {   /* the kernel wants rows and columns */
        for (int i = l.rank; i > 0; i--) {
            l.size[i] = l.size[i - 1];
            l.a[i] = l.a[i - 1];
            l.b[i] = l.b[i - 1];
        }
        l.size[0] = 1;
        l.a[0] = l.b[0] = 0;
    }
    return l;
}

enum { CHUNK = 16 * 1024 };

typedef struct job { const lam_run *run; loops l; size_t rows, columns, row_block; int row_blocks, column_blocks; } job;

/* Rows of one plane: index counts planes of the outer loops, then blocks of rows, then chunks of columns. */
static void apply(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    const loops *l = &j->l;
    const arithmetic_params *p = j->run->node->params;
    size_t column = (size_t)(index % j->column_blocks) * CHUNK;
    size_t rest = (size_t)(index / j->column_blocks), row = rest % (size_t)j->row_blocks * j->row_block;
    size_t plane = rest / (size_t)j->row_blocks, a = 0, b = 0, outer = plane;
    for (int i = l->rank - 3; i >= 0; i--) {
        a += outer % l->size[i] * l->a[i];
        b += outer % l->size[i] * l->b[i];
        outer /= l->size[i];
    }
    int m = l->rank - 2, n = l->rank - 1;
    size_t rows = j->rows - row < j->row_block ? j->rows - row : j->row_block;
    size_t columns = j->columns - column < CHUNK ? j->columns - column : CHUNK;
    elementwise_operand x = { j->run->in[0].data + a + row * l->a[m] + column * l->a[n], l->a[m], l->a[n] };
    elementwise_operand y = { j->run->in[1].data + b + row * l->b[m] + column * l->b[n], l->b[m], l->b[n] };
    size_t at = (plane * j->rows + row) * j->columns + column;
    elementwise_f32(j->run->out.data + at, j->columns, (elementwise_op)p->op, &x, &y, j->run->add.data ? j->run->add.data + at : NULL, rows, columns,
                    j->run->node->activation);
}

static void run(const lam_run *r) {
    job j = { .run = r, .l = loops_of(r) };
    j.rows = j.l.size[j.l.rank - 2];
    j.columns = j.l.size[j.l.rank - 1];
    j.row_block = j.columns < CHUNK ? CHUNK / j.columns : 1;
    j.row_blocks = (int)((j.rows + j.row_block - 1) / j.row_block);
    j.column_blocks = (int)((j.columns + CHUNK - 1) / CHUNK);
    int planes = (int)(shape_elements(&r->out.shape) / (j.rows * j.columns));
    pool_for(r->pool, planes * j.row_blocks * j.column_blocks, apply, &j);
}

static const lam_op op_arithmetic = {
    .name = "arithmetic", .flags = OP_IN_PLACE | OP_TAKES_ACTIVATION | OP_TAKES_ADD, .shape = shape, .run = run,
};

int arithmetic_is(const lam_node *node, lam_binary op) {
    return node->op == &op_arithmetic && ((const arithmetic_params *)node->params)->op == op;
}

lam_value lam_arithmetic(lam_graph *g, lam_value a, lam_value b, lam_binary op) {
    lam_value in[] = { a, b };
    int image = graph_layout(g, a) == LAYOUT_CHANNELS_LAST || graph_layout(g, b) == LAYOUT_CHANNELS_LAST;
    /* A fifth dimension has no place in an image, so both go back to the plain order. */
    if (graph_shape(g, a)->rank > 4 || graph_shape(g, b)->rank > 4) {
        image = 0;
        in[0] = graph_in_layout(g, a, LAYOUT_PLAIN);
        in[1] = graph_in_layout(g, b, LAYOUT_PLAIN);
    }
    if (image) {
        in[0] = graph_in_layout(g, view_to_rank(g, a, 4), LAYOUT_CHANNELS_LAST);
        in[1] = graph_in_layout(g, view_to_rank(g, b, 4), LAYOUT_CHANNELS_LAST);
    }
    arithmetic_params p = { op, image ? LAYOUT_CHANNELS_LAST : LAYOUT_PLAIN };
    return graph_add(g, &op_arithmetic, 2, in, &p, sizeof p, p.layout);
}
