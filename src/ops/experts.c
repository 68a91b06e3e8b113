/* Experts of a mixture: each computes its own tokens only.
 *
 * Rows are prepared once where the weights' precision wants that. An expert's tokens are found in a column of the routing and taken by row pointers, some hundred at a time. Two loops of threads follow:
 * the hidden rows act(x gate) * (x up), piece of columns by piece so that the second product is still in the cache when it is multiplied,
 * and hidden rows times down, added to the output with the routing's weight. Experts come one after another, so a token's sum has the order of
 * the experts however many threads there are. */
#include <string.h>
#include "../kernels/elementwise.h"
#include "../memory.h"
#include "../text.h"
#include "experts.h"
#include "ops.h"

enum { X = EXPERTS_X, ROUTING = EXPERTS_ROUTING, WEIGHTS = EXPERTS_WEIGHTS };
enum { GATE = EXPERTS_GATE, UP = EXPERTS_UP, DOWN = EXPERTS_DOWN, PARTS = EXPERTS_PARTS };
enum { TOKENS = 512, TILE_ROWS = 96, PIECE = 64, BLOCK_FLOATS = 128 * 1024, LINE_FLOATS = 16 };

static int last(const lam_shape *s) { return s->dims[s->rank - 1]; }

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const experts_params *p = node->params;
    const lam_shape *x = &in[X], *routing = &in[ROUTING], *gate = &in[WEIGHTS + GATE], *down = &in[WEIGHTS + DOWN];
    if (x->rank < 1 || routing->rank != x->rank || !dim_agrees(last(routing), p->count))
        return text_format(why, LAM_TEXT, "%d experts need a routing [..., %d] with the axes of %v, got %v", p->count, p->count, x, routing), LAM_EVALUE;
    for (int i = 0; i < x->rank - 1; i++)
        if (!dim_agrees(x->dims[i], routing->dims[i])) return text_format(why, LAM_TEXT, "routing %v for inputs %v", routing, x), LAM_EVALUE;
    if (gate->rank != 2 || down->rank != 2 || down->dims[1] != gate->dims[0])
        return text_format(why, LAM_TEXT, "gate %v and down %v should be [inter, in] and [out, inter]", gate, down), LAM_EVALUE;
    if (!dim_agrees(last(x), gate->dims[1]))
        return text_format(why, LAM_TEXT, "gate %v needs inputs of width %d, got %v", gate, gate->dims[1], x), LAM_EVALUE;
    for (int e = 0; e < p->count; e++) {
        const lam_shape *w = &in[WEIGHTS + PARTS * e];
        if (!shape_same(&w[GATE], gate) || !shape_same(&w[UP], gate) || !shape_same(&w[DOWN], down))
            return text_format(why, LAM_TEXT, "expert %d has gate %v, up %v and down %v, expected %v, %v and %v as in expert 0", e, &w[GATE], &w[UP],
                               &w[DOWN], gate, gate, down), LAM_EVALUE;
    }
    *out = *x;
    out->dims[x->rank - 1] = down->dims[0];
    return LAM_OK;
}

/* ---- weights ---- */

experts_places experts_places_of(const lam_node *node, const lam_shape *gate, const lam_shape *down) {
    const experts_params *p = node->params;
    size_t in = (size_t)gate->dims[1], inter = (size_t)gate->dims[0];
    experts_places s = { .hidden = { p->hidden, 1, in, inter }, .down = { p->down, 1, inter, (size_t)down->dims[0] } };
    s.hidden_floats = product_packed_floats(&s.hidden);
    s.down_floats = product_packed_floats(&s.down);
    s.expert = 2 * s.hidden_floats + s.down_floats;
    if (node->slots) s.table = ((size_t)p->count + LINE_FLOATS - 1) / LINE_FLOATS * LINE_FLOATS;
    return s;
}

experts_places experts_places_in(const lam_graph *g, const lam_node *node) {
    return experts_places_of(node, graph_shape(g, node->in[WEIGHTS + GATE]), graph_shape(g, node->in[WEIGHTS + DOWN]));
}

/* What all experts' weights of a kind can be kept in: the first of the precisions that are asked for. */
static lam_precision common_precision(const lam_graph *g, const lam_node *node, int from, int to, const product *w) {
    lam_precision precision = LAM_PRECISIONS;
    for (int i = WEIGHTS; i < node->in_count; i++) {
        int part = (i - WEIGHTS) % PARTS;
        if (part < from || part > to) continue;
        lam_precision wanted = product_precision(g, node->in[i], w->k, w->n);
        if (wanted < precision) precision = wanted;
    }
    return precision;
}

static size_t packed(const lam_graph *g, lam_node *node) {
    experts_params *p = node->params;
    experts_places s = experts_places_in(g, node);
    p->hidden = common_precision(g, node, GATE, UP, &s.hidden);
    p->down = common_precision(g, node, DOWN, DOWN, &s.down);
    node->precision = p->hidden > p->down ? p->hidden : p->down;
    s = experts_places_in(g, node);
    size_t floats = scratch_times((size_t)(node->slots ? node->slots : p->count), s.expert);
    return floats < SIZE_MAX / sizeof(float) - s.table ? floats + s.table : floats;
}

/* Experts that live outside pass through the first slot, one weight after another. */
static void pack(const lam_graph *g, lam_node *node, int in, const float *data, int first, int rows) {
    experts_places s = experts_places_in(g, node);
    int part = (in - WEIGHTS) % PARTS;
    const product *w = experts_product(&s, part);
    float *to = experts_part(node, &s, node->slots ? 0 : (size_t)((in - WEIGHTS) / PARTS), part);
    if (node->slots && !g->weights[g->values[node->in[in]].weight].loaded) memset(to, 0, product_packed_floats(w) * sizeof(float));
    product_pack(g, w, to, (size_t)first, (size_t)rows, data, 0, 1, w->k);
}

static void arrived(const lam_graph *g, lam_node *node, int in) {
    experts_places s = experts_places_in(g, node);
    int part = (in - WEIGHTS) % PARTS;
    product_bias(experts_product(&s, part), experts_part(node, &s, node->slots ? 0 : (size_t)((in - WEIGHTS) / PARTS), part), NULL);
}

/* ---- run ---- */

typedef struct job {
    const lam_run *run;
    experts_places s;
    size_t rows;                /* of x */
    size_t expert, slot, count; /* at work, where it is, and how many tokens of it */
    int token[TOKENS];
    float *hidden, *prepared_hidden, *prepared;   /* [count, inter]; the same and x [rows] prepared, where they are */
    tile_grid grid;
} job;

static size_t most_tokens(size_t rows) { return rows < TOKENS ? rows : TOKENS; }

static job job_of(const lam_run *r) {
    job j = { .run = r, .s = experts_places_of(r->node, &r->in[WEIGHTS + GATE].shape, &r->in[WEIGHTS + DOWN].shape), .hidden = r->shared };
    j.rows = shape_elements(&r->out.shape) / j.s.down.n;
    j.prepared_hidden = j.hidden + most_tokens(j.rows) * j.s.hidden.n;
    j.prepared = j.prepared_hidden + most_tokens(j.rows) * product_row_floats(&j.s.down);
    return j;
}

static void scratch(const lam_run *r, size_t *per_thread, size_t *shared) {
    experts_places s = experts_places_of(r->node, &r->in[WEIGHTS + GATE].shape, &r->in[WEIGHTS + DOWN].shape);
    size_t rows = shape_tail(&r->in[ROUTING].shape, 0) / (size_t)last(&r->in[ROUTING].shape);
    size_t hidden = scratch_times(most_tokens(rows), s.hidden.n + product_row_floats(&s.down)), x = scratch_times(rows, product_row_floats(&s.hidden));
    *per_thread = TILE_ROWS * PIECE;
    *shared = hidden > x ? hidden : x;
    if (hidden < SIZE_MAX / sizeof(float) / 2 && x < SIZE_MAX / sizeof(float) / 2) *shared = hidden + x;
}

/* Rows of a tile stay in the second cache level beside a panel of weights. */
static tile_grid grid_of(const job *j, const product *w) {
    size_t most = BLOCK_FLOATS / (w->k ? w->k : 1);
    most = most > TILE_ROWS ? TILE_ROWS : most < 4 * GEMM_MR ? 4 * GEMM_MR : most;
    return tile_grid_of(j->count, w->n, w->k, most, lam_pool_threads(j->run->pool));
}

static void compute_hidden(void *argument, int index, int thread) {
    const job *j = argument;
    const lam_run *r = j->run;
    const experts_params *p = r->node->params;
    const product *w = &j->s.hidden;
    const size_t prepared = product_row_floats(w), stride = prepared ? prepared : w->k;
    tile t = tile_at(&j->grid, index);
    const float *rows[TILE_ROWS], *gate = experts_part(r->node, &j->s, j->slot, GATE), *up = experts_part(r->node, &j->s, j->slot, UP);
    float *piece = r->scratch + (size_t)thread * r->scratch_floats;
    for (size_t i = 0; i < t.rows; i++) rows[i] = (prepared ? j->prepared : r->in[X].data) + (size_t)j->token[t.row + i] * stride;
    gemm_epilogue activated = { .activation = p->activation };
    for (size_t column = t.column, end = t.column + t.columns; column < end; column += PIECE) {
        size_t n = end - column < PIECE ? end - column : PIECE, at = product_column(w, column);
        float *hidden = j->hidden + t.row * w->n + column;
        product_multiply(w, hidden, w->n, rows, gate + at, t.rows, n, &activated);
        product_multiply(w, piece, PIECE, rows, up + at, t.rows, n, NULL);
        elementwise_operand a = { hidden, w->n, 1 }, b = { piece, PIECE, 1 };
        elementwise_f32(hidden, w->n, ELEMENTWISE_MUL, &a, &b, NULL, t.rows, n, LAM_IDENTITY);
    }
}

static void add_down(void *argument, int index, int thread) {
    const job *j = argument;
    const lam_run *r = j->run;
    const product *w = &j->s.down;
    const size_t experts = (size_t)last(&r->in[ROUTING].shape), prepared = product_row_floats(w), stride = prepared ? prepared : w->k;
    tile t = tile_at(&j->grid, index);
    const float *rows[TILE_ROWS], *down = experts_part(r->node, &j->s, j->slot, DOWN);
    float *piece = r->scratch + (size_t)thread * r->scratch_floats;
    for (size_t i = 0; i < t.rows; i++) rows[i] = (prepared ? j->prepared_hidden : j->hidden) + (t.row + i) * stride;
    for (size_t column = t.column, end = t.column + t.columns; column < end; column += PIECE) {
        size_t n = end - column < PIECE ? end - column : PIECE;
        product_multiply(w, piece, PIECE, rows, down + product_column(w, column), t.rows, n, NULL);
        for (size_t i = 0; i < t.rows; i++) {
            size_t token = (size_t)j->token[t.row + i];
            float *y = r->out.data + token * w->n + column;
            elementwise_operand a = { piece + i * PIECE, PIECE, 1 }, b = { r->in[ROUTING].data + token * experts + j->expert, 0, 0 };
            elementwise_f32(y, w->n, ELEMENTWISE_MUL, &a, &b, y, 1, n, LAM_IDENTITY);
        }
    }
}

/* The expert's next tokens from `row` on; returns where to look for more. */
static size_t find_tokens(job *j, size_t row) {
    const float *routing = j->run->in[ROUTING].data + j->expert;
    const size_t experts = (size_t)last(&j->run->in[ROUTING].shape);
    for (j->count = 0; row < j->rows && j->count < TOKENS; row++)
        if (routing[row * experts] != 0) j->token[j->count++] = (int)row;
    return row;
}

int experts_wants(const lam_tensor *routing, size_t expert) {
    const size_t count = (size_t)last(&routing->shape), all = shape_elements(&routing->shape);
    for (size_t i = expert; i < all; i += count)
        if (routing->data[i] != 0) return 1;
    return 0;
}

/* Where an expert is outside it ends, with *r->paused the expert's number + 1, and goes on there when it is called again. */
static void run(const lam_run *r) {
    const experts_params *p = r->node->params;
    job j = job_of(r);
    if (!*r->paused) {
        memset(r->out.data, 0, shape_elements(&r->out.shape) * sizeof(float));
        product_prepare(&j.s.hidden, r->pool, j.prepared, r->in[X].data, j.rows, j.s.hidden.k);
    }
    for (j.expert = *r->paused ? (size_t)*r->paused - 1 : 0; j.expert < (size_t)p->count; j.expert++) {
        int slot = experts_slot(r->node, j.expert);
        j.slot = (size_t)slot;
        for (size_t row = 0; row < j.rows;) {
            row = find_tokens(&j, row);
            if (!j.count) continue;
            if (slot < 0) {
                *r->paused = (int)j.expert + 1;
                return;
            }
            j.grid = grid_of(&j, &j.s.hidden);
            pool_for(r->pool, tile_count(&j.grid), compute_hidden, &j);
            product_prepare(&j.s.down, r->pool, j.prepared_hidden, j.hidden, j.count, j.s.down.k);
            j.grid = grid_of(&j, &j.s.down);
            pool_for(r->pool, tile_count(&j.grid), add_down, &j);
        }
    }
    *r->paused = 0;
}

/* Of the experts that the routing chooses, where it is a route's; else as if all were. */
static double flops(const lam_run *r) {
    const experts_params *p = r->node->params;
    const int *gate = r->in[WEIGHTS + GATE].shape.dims, out = r->in[WEIGHTS + DOWN].shape.dims[0];
    return (double)shape_elements(&r->out.shape) / out * p->chosen * gate[0] * (4.0 * gate[1] + 2.0 * out);
}

const lam_op op_experts = {
    .name = "experts", .flags = OP_PACKS_CODES, .packs = ~0u << WEIGHTS, .shape = shape, .packed = packed, .pack = pack, .arrived = arrived,
    .scratch = scratch, .run = run, .flops = flops,
};

/* The node's inputs: x, routing, then the weights; NULL when out of memory or one of them is not a weight, with the reason in the graph. */
static lam_value *inputs_of(lam_graph *g, lam_value x, lam_value routing, int parts, const lam_value *weights) {
    for (int i = 0; i < parts; i++) {
        if (weights[i] != LAM_BAD && weights[i] != LAM_NONE && graph_is_weight(g, weights[i])) continue;
        graph_fail(g, LAM_EVALUE, "experts: gate, up and down of expert %d must be weights, not computed values", i / PARTS);
        return NULL;
    }
    lam_value *in = memory_alloc((size_t)(WEIGHTS + parts) * sizeof *in);
    if (!in) {
        graph_fail(g, LAM_ENOMEM, "out of memory while recording the graph");
        return NULL;
    }
    in[X] = graph_in_layout(g, x, LAYOUT_PLAIN);
    in[ROUTING] = graph_in_layout(g, routing, LAYOUT_PLAIN);
    memcpy(in + WEIGHTS, weights, (size_t)parts * sizeof *in);
    return in;
}

lam_value lam_experts(lam_graph *g, lam_value x, lam_value routing, lam_activation activation, int count, const lam_value *weights) {
    enum { MOST = 1 << 16 };
    if (count < 1 || count > MOST) return graph_fail(g, LAM_EVALUE, "experts: %d experts, expected 1 to %d", count, MOST);
    if ((unsigned)activation >= LAM_ACTIVATIONS) return graph_fail(g, LAM_EVALUE, "experts: there is no activation %d", (int)activation);
    lam_value *in = inputs_of(g, x, routing, PARTS * count, weights);
    if (!in) return LAM_BAD;
    int top_k = route_top_k(g, routing);
    const experts_params p = { .count = count, .chosen = top_k ? top_k : count, .activation = activation };
    lam_value y = graph_add(g, &op_experts, WEIGHTS + PARTS * count, in, &p, sizeof p, LAYOUT_PLAIN);
    memory_free(in);
    return y;
}
