/* Rotary position embedding in two layers, so that one table of cosines and sines serves all that is turned by it. */
#include <math.h>
#include "../kernels/rotary.h"
#include "../text.h"
#include "ops.h"

/* ---- the table ---- */

typedef struct table_params { int axis, max_positions; float scale, factor; } table_params;

enum { X, FREQS };

static lam_status table_shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const table_params *p = node->params;
    int axis = shape_axis(&in[X], p->axis);
    if (axis < 0) return text_format(why, LAM_TEXT, "axis %d of an input %v", p->axis, &in[X]), LAM_EVALUE;
    if (in[FREQS].rank != 1 || in[FREQS].dims[0] == 0)
        return text_format(why, LAM_TEXT, "frequencies %v should be [half of the rotated width]", &in[FREQS]), LAM_EVALUE;
    *out = (lam_shape){ .rank = 3, .dims = { in[X].dims[axis], 2, in[FREQS].dims[0] } };
    return LAM_OK;
}

typedef struct table_job { const lam_run *run; const float *freqs; size_t half, block; int position; } table_job;

static void table_scratch(const lam_run *r, size_t *per_thread, size_t *shared) {
    (void)per_thread;
    *shared = (size_t)r->out.shape.dims[2];
}

static void fill_rows(void *argument, int index, int thread) {
    (void)thread;
    const table_job *j = argument;
    const table_params *p = j->run->node->params;
    size_t tokens = (size_t)j->run->out.shape.dims[0], first = (size_t)index * j->block;
    size_t end = first + j->block < tokens ? first + j->block : tokens;
    for (size_t i = first; i < end; i++)
        rotary_table_f32(j->run->out.data + i * 2 * j->half, j->freqs, j->half, (float)((size_t)j->position + i), p->scale);
}

/* Dynamic NTK: over `length` tokens in place of max_positions the base grows by r^(d / (d - 2)), r = factor length / max - (factor - 1),
 * where d = 2 half. Frequency j is base^(-2 j / d), so it is multiplied by r^(-2 j / (d - 2)) = r^(-j / (half - 1)). */
static const float *stretched(const lam_run *r, size_t half, double length) {
    const table_params *p = r->node->params;
    const float *freqs = r->in[FREQS].data;
    if (!p->max_positions || length <= p->max_positions || half < 2) return freqs;
    double ratio = (double)p->factor * length / p->max_positions - ((double)p->factor - 1);
    for (size_t j = 0; j < half; j++) r->shared[j] = (float)(freqs[j] * pow(ratio, -(double)j / (double)(half - 1)));
    return r->shared;
}

static void table_run(const lam_run *r) {
    size_t tokens = (size_t)r->out.shape.dims[0];
    table_job j = { .run = r, .half = (size_t)r->out.shape.dims[2], .position = r->position };
    j.freqs = stretched(r, j.half, (double)j.position + (double)tokens);
    j.block = j.half < 256 ? 256 / j.half : 1;
    pool_for(r->pool, (int)((tokens + j.block - 1) / j.block), fill_rows, &j);
}

static double table_flops(const lam_run *r) { return 16.0 * (double)shape_elements(&r->out.shape); }

static const lam_op op_rotary_table = {
    .name = "rotary_table", .shape = table_shape, .scratch = table_scratch, .run = table_run, .flops = table_flops,
};

lam_value lam_rotary_table(lam_graph *g, lam_value x, int axis, lam_value freqs, float scale, float factor, int max_positions) {
    if (max_positions < 0 || (max_positions && !(factor >= 1)))
        return graph_fail(g, LAM_EVALUE, "rotary_table: dynamic scaling needs a factor of at least 1 and a length, got %d positions", max_positions);
    const lam_value in[] = { x, freqs };
    return graph_add(g, &op_rotary_table, 2, in, &(table_params){ axis, max_positions, scale, factor }, sizeof(table_params), LAYOUT_PLAIN);
}

/* ---- the rotation ---- */

typedef struct rotary_params { int axis, first, interleaved; } rotary_params;

enum { TABLE = 1 };

static lam_status rotary_shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const rotary_params *p = node->params;
    const lam_shape *x = &in[X], *table = &in[TABLE];
    int axis = shape_axis(x, p->axis);
    if (axis < 0 || axis == x->rank - 1)
        return text_format(why, LAM_TEXT, "tokens along axis %d of %v, whose last axis is rotated", p->axis, x), LAM_EVALUE;
    if (table->rank != 3 || !dim_agrees(table->dims[1], 2) || table->dims[2] == LAM_ANY)
        return text_format(why, LAM_TEXT, "the table should be [tokens, 2, half of the rotated width], got %v", table), LAM_EVALUE;
    if (!dim_agrees(table->dims[0], x->dims[axis]))
        return text_format(why, LAM_TEXT, "a table of %d tokens for %d tokens of %v", table->dims[0], x->dims[axis], x), LAM_EVALUE;
    int width = x->dims[x->rank - 1], half = table->dims[2];
    if (p->first < 0 || (width != LAM_ANY && (p->first > width || half > (width - p->first) / 2)))
        return text_format(why, LAM_TEXT, "columns from %d on, 2 times %d, of a width of %d", p->first, half, width), LAM_EVALUE;
    *out = *x;
    return LAM_OK;
}

/* x as [outer, tokens, inner, width]; a task is some tokens of one outer slice. */
typedef struct rotary_job { const lam_run *run; size_t tokens, inner, width, block; int blocks; } rotary_job;

static void rotate(void *argument, int index, int thread) {
    (void)thread;
    const rotary_job *j = argument;
    const lam_run *r = j->run;
    const rotary_params *p = r->node->params;
    size_t half = (size_t)r->in[TABLE].shape.dims[2], first = (size_t)(index % j->blocks) * j->block;
    size_t end = first + j->block < j->tokens ? first + j->block : j->tokens, slice = (size_t)(index / j->blocks) * j->tokens;
    for (size_t i = first; i < end; i++) {
        size_t at = (slice + i) * j->inner * j->width;
        rotary_f32(r->out.data + at, r->in[X].data + at, r->in[TABLE].data + i * 2 * half, j->inner, j->width, (size_t)p->first, half,
                   p->interleaved);
    }
}

static void rotary_run(const lam_run *r) {
    const rotary_params *p = r->node->params;
    const lam_shape *x = &r->in[X].shape;
    int axis = shape_axis(x, p->axis);
    rotary_job j = { .run = r, .tokens = (size_t)x->dims[axis], .width = (size_t)x->dims[x->rank - 1] };
    size_t token = shape_tail(x, axis + 1);
    j.inner = token / j.width;
    j.block = token < 4096 ? 4096 / token : 1;
    j.blocks = (int)((j.tokens + j.block - 1) / j.block);
    pool_for(r->pool, (int)(shape_elements(x) / (j.tokens * token)) * j.blocks, rotate, &j);
}

static double rotary_flops(const lam_run *r) {
    const lam_shape *x = &r->in[X].shape;
    return 6.0 * (double)shape_elements(x) / x->dims[x->rank - 1] * r->in[TABLE].shape.dims[2];
}

static const lam_op op_rotary = { .name = "rotary", .flags = OP_IN_PLACE_FIRST, .shape = rotary_shape, .run = rotary_run, .flops = rotary_flops };

lam_value lam_rotary(lam_graph *g, lam_value x, lam_value table, int axis, int first, int interleaved) {
    const lam_value in[] = { graph_in_layout(g, x, LAYOUT_PLAIN), table };
    return graph_add(g, &op_rotary, 2, in, &(rotary_params){ axis, first, interleaved }, sizeof(rotary_params), LAYOUT_PLAIN);
}
