#include "session.h"
#include <stdint.h>
#include <string.h>
#include "clock.h"
#include "memory.h"
#include "plan.h"
#include "text.h"

static size_t whole_lines(size_t floats) { return (floats + PLAN_ALIGNMENT - 1) / PLAN_ALIGNMENT * PLAN_ALIGNMENT; }

void lam_session_free(lam_session *s) {
    if (!s) return;
    memory_free(s->input_shapes);
    memory_free(s->tensors);
    memory_free(s->arguments);
    memory_free(s->root);
    memory_free(s->scratch);
    memory_free(s->arena);
    memory_free(s->milliseconds);
    memory_free(s);
}

/* Zeroed memory; never NULL for a count of 0. */
static void *zeros(int count, size_t size) {
    size_t bytes = (size_t)(count ? count : 1) * size;
    void *p = memory_alloc(bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

lam_session *lam_session_new(lam_graph *g, lam_pool *pool) {
    lam_session *s = memory_alloc(sizeof *s);
    if (!s) return NULL;
    int most = 1;
    for (int i = 0; i < g->layer_count; i++)
        if (g->nodes[g->layers[i]].in_count > most) most = g->nodes[g->layers[i]].in_count;
    *s = (lam_session){ .g = g, .pool = pool };
    s->input_shapes = zeros(g->input_count, sizeof *s->input_shapes);
    s->tensors = zeros(g->value_count, sizeof *s->tensors);
    s->arguments = zeros(most, sizeof *s->arguments);
    s->root = zeros(g->value_count, sizeof *s->root);
    s->scratch = zeros(g->layer_count * 3, sizeof *s->scratch);
    s->milliseconds = zeros(g->layer_count, sizeof *s->milliseconds);
    if (!s->input_shapes || !s->tensors || !s->arguments || !s->root || !s->scratch || !s->milliseconds) {
        lam_session_free(s);
        return NULL;
    }
    for (int i = 0; i < g->input_count; i++) s->input_shapes[i].rank = -1;
    return s;
}

static lam_status fail(lam_session *s, lam_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    text_format_list(s->error, LAM_TEXT, format, arguments);
    va_end(arguments);
    return status;
}

const char *lam_session_error(const lam_session *s) { return s->error; }

lam_status lam_session_resize(lam_session *s, int input, int rank, const int *dims) {
    if (input < 0 || input >= s->g->input_count) return fail(s, LAM_EVALUE, "there is no input %d", input);
    const lam_shape *defined = graph_shape(s->g, s->g->inputs[input]);
    lam_shape shape = { .rank = rank < LAM_MAX_RANK ? rank : LAM_MAX_RANK };
    int agrees = rank == defined->rank;
    for (int i = 0; i < shape.rank; i++) {
        shape.dims[i] = dims[i];
        agrees = agrees && dims[i] >= 0 && dim_agrees(dims[i], defined->dims[i]);
    }
    if (!agrees) return fail(s, LAM_EVALUE, "input %d: expected %v, got %v", input, defined, &shape);
    s->input_shapes[input] = shape;
    s->ready = 0;
    return LAM_OK;
}

/* ---- shapes ---- */

lam_run session_bind(const lam_session *s, int layer) {
    static const lam_tensor none = { .data = NULL, .shape = { .rank = -1 } };
    const lam_node *n = &s->g->nodes[s->g->layers[layer]];
    for (int i = 0; i < n->in_count; i++) s->arguments[i] = n->in[i] >= 0 ? s->tensors[n->in[i]] : none;
    const size_t *scratch = &s->scratch[layer * 3];
    size_t own = scratch[1] * (size_t)lam_pool_threads(s->pool);
    float *memory = s->arena ? s->arena + scratch[0] : NULL;
    return (lam_run){
        .node = n, .in = s->arguments, .out = s->tensors[n->out], .add = n->add >= 0 ? s->tensors[n->add] : none,
        .pool = s->pool, .scratch = own ? memory : NULL, .scratch_floats = scratch[1],
        .shared = memory && scratch[2] ? memory + own : NULL,
    };
}

/* More bytes than an address can count: sizes computed from such a shape would wrap round. */
static int too_large(const lam_shape *shape) {
    double bytes = sizeof(float);
    for (int i = 0; i < shape->rank; i++) bytes *= shape->dims[i];
    return bytes >= (double)SIZE_MAX;
}

static lam_status infer_layer(lam_session *s, int layer) {
    const lam_node *n = &s->g->nodes[s->g->layers[layer]];
    lam_shape in[32], *shapes = in;
    char why[LAM_TEXT] = "";
    if (n->in_count > 32 && !(shapes = memory_alloc((size_t)n->in_count * sizeof *shapes)))
        return fail(s, LAM_ENOMEM, "out of memory while inferring shapes");
    for (int i = 0; i < n->in_count; i++)
        shapes[i] = n->in[i] >= 0 ? s->tensors[n->in[i]].shape : (lam_shape){ .rank = -1 };
    lam_shape *out = &s->tensors[n->out].shape;
    *out = (lam_shape){ .rank = 0 };
    lam_status status = n->op->shape(n, shapes, out, why);
    if (shapes != in) memory_free(shapes);
    if (status == LAM_OK && n->add >= 0 && !shape_same(out, &s->tensors[n->add].shape)) {
        status = LAM_EVALUE;
        text_format(why, LAM_TEXT, "its output %v is added to %v", out, &s->tensors[n->add].shape);
    }
    if (status != LAM_OK) return fail(s, status, "%s%s%s: %s", n->path, *n->path ? ": " : "", n->op->name, why);
    if (!too_large(out)) return LAM_OK;
    return fail(s, LAM_ENOMEM, "out of memory: %s%s%s of %v", n->path, *n->path ? ": " : "", n->op->name, out);
}

static lam_status infer_shapes(lam_session *s) {
    const lam_graph *g = s->g;
    for (int i = 0; i < g->input_count; i++) {
        if (s->input_shapes[i].rank < 0) return fail(s, LAM_ESTATE, "input %d has no size yet", i);
        if (too_large(&s->input_shapes[i])) return fail(s, LAM_ENOMEM, "out of memory: input %d of %v", i, &s->input_shapes[i]);
        s->tensors[g->inputs[i]].shape = s->input_shapes[i];
    }
    for (int i = 0; i < g->weight_count; i++) {
        const lam_weight_info *w = &g->weights[i];
        if (w->loaded < w->rows)
            return fail(s, LAM_ESTATE, "weight \"%s\" is not loaded: %d of %d rows", w->name, w->loaded, w->rows);
        s->tensors[w->value] = (lam_tensor){ .data = w->plain, .shape = g->values[w->value].shape };
    }
    for (int i = 0; i < g->layer_count; i++) {
        lam_status status = infer_layer(s, i);
        if (status != LAM_OK) return status;
    }
    return LAM_OK;
}

/* ---- memory ---- */

static int is_weight(const lam_session *s, lam_value x) { return s->g->values[s->root[x]].weight >= 0; }

/* last[v]: the last layer that reads the memory of v. Outputs and inputs keep theirs: the caller reads and writes them between
 * runs, and an output that is a view of an input must still be there. */
static void find_last_uses(lam_session *s, int *last) {
    const lam_graph *g = s->g;
    for (int v = 0; v < g->value_count; v++) {
        s->root[v] = v;
        last[v] = -1;
    }
    for (int i = 0; i < g->layer_count; i++) {
        const lam_node *n = &g->nodes[g->layers[i]];
        if (n->op->flags & OP_VIEW) s->root[n->out] = s->root[n->in[0]];
        for (int j = 0; j < n->in_count; j++)
            if (n->in[j] >= 0) last[s->root[n->in[j]]] = i;
        if (n->add >= 0) last[s->root[n->add]] = i;
        if (last[s->root[n->out]] < i) last[s->root[n->out]] = i;
    }
    for (int i = 0; i < g->input_count; i++) last[g->inputs[i]] = g->layer_count;
    for (int i = 0; i < g->output_count; i++) last[s->root[g->outputs[i]]] = g->layer_count;
}

/* How often the layer reads the memory of x. */
static int reads(const lam_session *s, const lam_node *n, lam_value x) {
    int count = n->add >= 0 && s->root[n->add] == s->root[x];
    for (int j = 0; j < n->in_count; j++) count += n->in[j] >= 0 && s->root[n->in[j]] == s->root[x];
    return count;
}

/* Writes the layer's output over `over` when that is as large and read here once and for the last time. Reading it twice would
 * not do: a convolution plus its own input still needs the neighbours of what it overwrites. */
static int share(lam_session *s, int layer, lam_value over, lam_value out, int *last) {
    if (over < 0 || is_weight(s, over) || last[s->root[over]] != layer || s->root[out] != out) return 0;
    if (reads(s, &s->g->nodes[s->g->layers[layer]], over) != 1) return 0;
    if (shape_elements(&s->tensors[over].shape) != shape_elements(&s->tensors[out].shape)) return 0;
    if (s->g->values[over].layout != s->g->values[out].layout) return 0;
    int root = s->root[over];
    for (int v = 0; v < s->g->value_count; v++)
        if (s->root[v] == out) s->root[v] = root;
    last[root] = last[out];
    return 1;
}

static void share_in_place(lam_session *s, int *last) {
    for (int i = 0; i < s->g->layer_count; i++) {
        const lam_node *n = &s->g->nodes[s->g->layers[i]];
        if (n->add >= 0 && share(s, i, n->add, n->out, last)) continue;
        if (!(n->op->flags & OP_IN_PLACE)) continue;
        if (!share(s, i, n->in[0], n->out, last) && n->in_count > 1) share(s, i, n->in[1], n->out, last);
    }
}

/* One block per value with memory of its own, then one per layer with scratch. */
static int list_blocks(lam_session *s, const int *last, plan_block *blocks, int *owner) {
    const lam_graph *g = s->g;
    int count = 0;
    for (int v = 0; v < g->value_count; v++) {
        owner[v] = -1;
        if (s->root[v] != v || g->values[v].weight >= 0 || last[v] < 0) continue;
        int node = g->values[v].node, first = -1;
        if (g->values[v].input < 0)
            for (first = 0; first < g->layer_count && g->layers[first] != node; first++) {}
        owner[v] = count;
        blocks[count++] = (plan_block){ .floats = shape_elements(&s->tensors[v].shape), .first = first, .last = last[v] };
    }
    for (int i = 0; i < g->layer_count; i++) {
        size_t *scratch = &s->scratch[i * 3], per_thread = 0, shared = 0;
        lam_run run = session_bind(s, i);
        if (run.node->op->scratch) run.node->op->scratch(&run, &per_thread, &shared);
        scratch[1] = whole_lines(per_thread);
        scratch[2] = whole_lines(shared);
        double floats = (double)scratch[1] * lam_pool_threads(s->pool) + (double)scratch[2];
        size_t most = SIZE_MAX / sizeof(float);
        blocks[count++] = (plan_block){ .floats = floats < (double)most ? (size_t)floats : most, .first = i, .last = i };
    }
    return count;
}

static lam_status grow_arena(lam_session *s, size_t floats) {
    if (floats <= s->arena_floats && s->arena) return LAM_OK;
    memory_free(s->arena);
    s->arena = floats < SIZE_MAX / sizeof(float) ? memory_alloc((floats ? floats : 1) * sizeof(float)) : NULL;
    s->arena_floats = s->arena ? floats : 0;
    if (s->arena) return LAM_OK;
    return fail(s, LAM_ENOMEM, "out of memory: activations of these input sizes need %d kB", (int)(floats / 256));
}

static lam_status plan_memory(lam_session *s, int *last, plan_block *blocks, int *owner, int *order) {
    const lam_graph *g = s->g;
    find_last_uses(s, last);
    share_in_place(s, last);
    int count = list_blocks(s, last, blocks, owner);
    lam_status status = grow_arena(s, plan_arena(blocks, count, order));
    if (status != LAM_OK) return status;
    for (int v = 0; v < g->value_count; v++) {
        int root = s->root[v];
        if (g->values[root].weight >= 0) s->tensors[v].data = s->tensors[root].data;
        else s->tensors[v].data = owner[root] < 0 ? NULL : s->arena + blocks[owner[root]].offset;
    }
    for (int i = 0; i < g->layer_count; i++) s->scratch[i * 3] = blocks[count - g->layer_count + i].offset;
    return LAM_OK;
}

lam_status lam_session_prepare(lam_session *s) {
    const lam_graph *g = s->g;
    s->ready = 0;
    s->error[0] = 0;
    if (!g->compiled) return fail(s, LAM_ESTATE, "the graph is not compiled");
    lam_status status = infer_shapes(s);
    if (status != LAM_OK) return status;
    int most = g->value_count + g->layer_count;
    int *last = zeros(g->value_count, sizeof *last), *owner = zeros(g->value_count, sizeof *owner);
    int *order = zeros(most, sizeof *order);
    plan_block *blocks = zeros(most, sizeof *blocks);
    if (last && owner && order && blocks) status = plan_memory(s, last, blocks, owner, order);
    else status = fail(s, LAM_ENOMEM, "out of memory while planning");
    memory_free(last);
    memory_free(owner);
    memory_free(order);
    memory_free(blocks);
    s->ready = status == LAM_OK;
    s->step = 0;
    return status;
}

/* ---- run ---- */

void *lam_session_input(lam_session *s, int input) { return s->ready ? s->tensors[s->g->inputs[input]].data : NULL; }
float *lam_session_output(lam_session *s, int output) { return s->ready ? s->tensors[s->g->outputs[output]].data : NULL; }
int lam_session_output_rank(const lam_session *s, int output) { return s->tensors[s->g->outputs[output]].shape.rank; }
int lam_session_output_dim(const lam_session *s, int output, int axis) {
    return s->tensors[s->g->outputs[output]].shape.dims[axis];
}
size_t lam_session_bytes(const lam_session *s) { return s->arena_floats * sizeof(float); }

int lam_session_step(lam_session *s, double milliseconds) {
    if (!s->ready) return 1;
    const int count = s->g->layer_count;
    double start = clock_milliseconds(), now = start;
    pool_enter(s->pool);
    while (s->step < count) {
        int layer = s->step++;
        lam_run run = session_bind(s, layer);
        if (run.node->op->run && shape_elements(&run.out.shape)) run.node->op->run(&run);
        double before = now;
        now = clock_milliseconds();
        if (s->profiling) s->milliseconds[layer] = now - before;
        if (now - start >= milliseconds) break;
    }
    pool_leave(s->pool);
    if (s->step < count) return 0;
    s->step = 0;
    return 1;
}

void lam_session_run(lam_session *s) {
    s->step = 0;
    while (!lam_session_step(s, 1e9)) {}
}
