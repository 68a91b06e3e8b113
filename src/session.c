#include "session.h"
#include <stdint.h>
#include <string.h>
#include "clock.h"
#include "memory.h"
#include "ops/ops.h"
#include "text.h"

void lam_session_free(lam_session *s) {
    if (!s) return;
    for (int i = 0; s->states && i < s->layer_count; i++) memory_free(s->states[i]);
    void *const all[] = {
        s->layers, s->needed, s->input_shapes, s->tensors, s->arguments, s->root, s->scratch, s->milliseconds, s->states,
        s->state_floats, s->blocks, s->sizes, s->last, s->owner, s->order, s->arena, s,
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) memory_free(all[i]);
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
    int most = 1, values = g->value_count, layers = g->layer_count, both = values + layers;
    for (int i = 0; i < layers; i++)
        if (g->nodes[g->layers[i]].in_count > most) most = g->nodes[g->layers[i]].in_count;
    *s = (lam_session){ .g = g, .pool = pool };
    int whole = (s->layers = zeros(layers, sizeof *s->layers)) && (s->needed = zeros(values, sizeof *s->needed)) &&
        (s->input_shapes = zeros(g->input_count, sizeof *s->input_shapes)) && (s->tensors = zeros(values, sizeof *s->tensors)) &&
        (s->arguments = zeros(most, sizeof *s->arguments)) && (s->root = zeros(values, sizeof *s->root)) &&
        (s->scratch = zeros(layers * 3, sizeof *s->scratch)) && (s->milliseconds = zeros(layers, sizeof *s->milliseconds)) &&
        (s->states = zeros(layers, sizeof *s->states)) && (s->state_floats = zeros(layers, sizeof *s->state_floats)) &&
        (s->blocks = zeros(both, sizeof *s->blocks)) && (s->sizes = zeros(values, sizeof *s->sizes)) &&
        (s->last = zeros(values, sizeof *s->last)) && (s->owner = zeros(values, sizeof *s->owner)) &&
        (s->order = zeros(both, sizeof *s->order));
    if (!whole) {
        lam_session_free(s);
        return NULL;
    }
    for (int i = 0; i < g->input_count; i++) s->input_shapes[i].rank = -1;
    lam_session_select(s, 0, g->output_count);
    return s;
}

lam_status session_fail(lam_session *s, lam_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    text_format_list(s->error, LAM_TEXT, format, arguments);
    va_end(arguments);
    return status;
}

const char *lam_session_error(const lam_session *s) { return s->error; }

/* Forgets the plan and what caches hold. */
static void forget(lam_session *s) {
    for (int i = 0; i < s->layer_count; i++) {
        memory_free(s->states[i]);
        s->states[i] = NULL;
    }
    s->ready = s->planned = s->position = s->filled = 0;
}

/* Bits of the inputs that may be rows of a cache in fewer bits. */
static unsigned kept_inputs(const lam_session *s, const lam_node *n) {
    int no = !n->op->reads_kept || ((n->op->flags & OP_VIEW) && s->needed[n->out] & NEEDED_F32);
    return no ? 0 : n->op->reads_kept(s->g, n);
}

lam_status lam_session_select(lam_session *s, int first, int count) {
    const lam_graph *g = s->g;
    if (first < 0 || count < 1 || count > g->output_count - first)
        return session_fail(s, LAM_EVALUE, "outputs %d to %d of %d", first, first + count, g->output_count);
    forget(s);
    s->first_output = first;
    s->output_count = count;
    memset(s->needed, 0, (size_t)g->value_count);
    for (int i = 0; i < count; i++) s->needed[g->outputs[first + i]] = NEEDED | NEEDED_F32;
    s->layer_count = 0;
    for (int i = g->layer_count - 1; i >= 0; i--) {
        const lam_node *n = &g->nodes[g->layers[i]];
        if (!s->needed[n->out]) continue;
        s->layers[s->layer_count++] = g->layers[i];
        const lam_value extra[] = { n->add, n->norm.mean, n->norm.var, n->norm.weight, n->norm.bias };
        unsigned kept = kept_inputs(s, n);
        for (int j = 0; j < n->in_count + 5; j++) {
            lam_value x = j < n->in_count ? n->in[j] : extra[j - n->in_count];
            if (x >= 0) s->needed[x] |= j < 32 && kept >> j & 1 ? NEEDED : NEEDED | NEEDED_F32;
        }
    }
    for (int i = 0, j = s->layer_count - 1; i < j; i++, j--) {
        int layer = s->layers[i];
        s->layers[i] = s->layers[j];
        s->layers[j] = layer;
    }
    return LAM_OK;
}

lam_status lam_session_context(lam_session *s, int tokens, lam_precision precision) {
    if (tokens < 0) return session_fail(s, LAM_EVALUE, "a context of %d tokens", tokens);
    if (precision < LAM_PRECISION_F32 || precision > LAM_Q8) return session_fail(s, LAM_EVALUE, "caches of precision %d", (int)precision);
    int caches = 0, counting = 0;
    for (int i = 0; i < s->layer_count; i++) {
        const lam_node *n = session_node(s, i);
        if (!(n->op->flags & OP_CACHE)) continue;
        caches++;
        counting += cache_stride(n) == 1;
    }
    if (!caches) return session_fail(s, LAM_EVALUE, "the graph keeps nothing between runs: no layer of it is a cache");
    if (!counting) return session_fail(s, LAM_EVALUE, "nothing counts the tokens of a run: no cache of the graph has stride 1");
    forget(s);
    s->context = tokens;
    s->kept = precision;
    return LAM_OK;
}

lam_status lam_session_seek(lam_session *s, int position) {
    if (position < 0 || position > s->filled)
        return session_fail(s, LAM_EVALUE, "position %d is outside the %d tokens seen so far", position, s->filled);
    s->stale |= position != s->position;
    s->position = position;
    return LAM_OK;
}

int lam_session_position(const lam_session *s) { return s->position; }

void lam_session_donate(lam_session *s, int on) {
    s->donated = on;
    s->ready = s->planned = 0;
}

lam_status lam_session_resize(lam_session *s, int input, int rank, const int *dims) {
    if (input < 0 || input >= s->g->input_count) return session_fail(s, LAM_EVALUE, "there is no input %d", input);
    const lam_shape *defined = graph_shape(s->g, s->g->inputs[input]);
    lam_shape shape = { .rank = rank < LAM_MAX_RANK ? rank : LAM_MAX_RANK };
    int agrees = rank == defined->rank;
    for (int i = 0; i < shape.rank; i++) {
        shape.dims[i] = dims[i];
        agrees = agrees && dims[i] >= 0 && dim_agrees(dims[i], defined->dims[i]);
    }
    if (!agrees) return session_fail(s, LAM_EVALUE, "input %d: expected %v, got %v", input, defined, &shape);
    s->input_shapes[input] = shape;
    s->ready = 0;
    return LAM_OK;
}

/* ---- shapes ---- */

lam_run session_bind(const lam_session *s, int layer) {
    static const lam_tensor none = { .data = NULL, .shape = { .rank = -1 } };
    const lam_node *n = session_node(s, layer);
    for (int i = 0; i < n->in_count; i++) s->arguments[i] = n->in[i] >= 0 ? s->tensors[n->in[i]] : none;
    const size_t *scratch = &s->scratch[layer * 3];
    size_t own = scratch[1] * (size_t)lam_pool_threads(s->pool);
    float *memory = s->arena ? s->arena + scratch[0] : NULL;
    return (lam_run){
        .node = n, .in = s->arguments, .out = s->tensors[n->out], .add = n->add >= 0 ? s->tensors[n->add] : none,
        .pool = s->pool, .scratch = own ? memory : NULL, .scratch_floats = scratch[1],
        .shared = memory && scratch[2] ? memory + own : NULL, .position = s->position,
    };
}

/* More bytes than an address can count: sizes computed from such a shape would wrap round. */
static int too_large(const lam_shape *shape) {
    double bytes = sizeof(float);
    for (int i = 0; i < shape->rank; i++) bytes *= shape->dims[i];
    return bytes >= (double)SIZE_MAX;
}

/* The run's tokens are the rows that a cache of every token takes. */
static lam_status count_tokens(lam_session *s, const lam_node *n, const lam_shape *in, char *why) {
    if (in->dims[0] != 1) return text_format(why, LAM_TEXT, "a session is one sequence: expected batch 1, got %v", in), LAM_EVALUE;
    int stride = cache_stride(n);
    if (stride == 1) s->tokens = in->dims[1];
    if (in->dims[1] <= s->context / stride - s->position / stride) return LAM_OK;
    return text_format(why, LAM_TEXT, "the context of %d tokens is full: %d of them are taken and %d more%s came", s->context, s->position,
                       in->dims[1], stride == 1 ? "" : " rows"), LAM_EVALUE;
}

/* Every cache gets the rows that the run's tokens complete. */
static lam_status check_caches(lam_session *s) {
    for (int i = 0; i < s->layer_count; i++) {
        const lam_node *n = session_node(s, i);
        if (!session_keeps(s, n)) continue;
        int stride = cache_stride(n), rows = (s->position + s->tokens) / stride - s->position / stride;
        const lam_shape *in = &s->tensors[n->in[0]].shape;
        if (in->dims[1] != rows)
            return session_fail(s, LAM_EVALUE, "%s%scache: %d tokens after %d make %d rows of stride %d, got %v", n->path, *n->path ? ": " : "",
                                s->tokens, s->position, rows, stride, in);
    }
    return LAM_OK;
}

static lam_status infer_layer(lam_session *s, int layer) {
    const lam_node *n = session_node(s, layer);
    lam_shape in[32], *shapes = in;
    char why[LAM_TEXT] = "";
    if (n->in_count > 32 && !(shapes = memory_alloc((size_t)n->in_count * sizeof *shapes)))
        return session_fail(s, LAM_ENOMEM, "out of memory while inferring shapes");
    for (int i = 0; i < n->in_count; i++)
        shapes[i] = n->in[i] >= 0 ? s->tensors[n->in[i]].shape : (lam_shape){ .rank = -1 };
    lam_shape *out = &s->tensors[n->out].shape;
    *out = (lam_shape){ .rank = 0 };
    s->tensors[n->out].precision = session_keeps(s, n) && !(s->needed[n->out] & NEEDED_F32) ? s->kept
        : n->op->flags & OP_VIEW ? s->tensors[n->in[0]].precision : LAM_PRECISION_F32;
    lam_status status = n->op->shape(n, shapes, out, why);
    if (status == LAM_OK && session_keeps(s, n)) status = count_tokens(s, n, shapes, why);
    if (status == LAM_OK && (n->op->flags & OP_CACHE) && !s->context) *out = shapes[0];
    else if (status == LAM_OK && n->op->at) n->op->at(n, shapes, s->position, out);
    if (shapes != in) memory_free(shapes);
    if (status == LAM_OK && n->add >= 0 && !shape_same(out, &s->tensors[n->add].shape)) {
        status = LAM_EVALUE;
        text_format(why, LAM_TEXT, "its output %v is added to %v", out, &s->tensors[n->add].shape);
    }
    if (status != LAM_OK) return session_fail(s, status, "%s%s%s: %s", n->path, *n->path ? ": " : "", n->op->name, why);
    if (!too_large(out)) return LAM_OK;
    return session_fail(s, LAM_ENOMEM, "out of memory: %s%s%s of %v", n->path, *n->path ? ": " : "", n->op->name, out);
}

static lam_status infer_shapes(lam_session *s) {
    const lam_graph *g = s->g;
    for (int i = 0; i < g->input_count; i++) {
        if (!s->needed[g->inputs[i]]) continue;
        if (s->input_shapes[i].rank < 0) return session_fail(s, LAM_ESTATE, "input %d has no size yet", i);
        if (too_large(&s->input_shapes[i])) return session_fail(s, LAM_ENOMEM, "out of memory: input %d of %v", i, &s->input_shapes[i]);
        s->tensors[g->inputs[i]].shape = s->input_shapes[i];
    }
    for (int i = 0; i < g->weight_count; i++) {
        const lam_weight_info *w = &g->weights[i];
        if (!s->needed[w->value]) continue;
        if (w->loaded < w->rows)
            return session_fail(s, LAM_ESTATE, "weight \"%s\" is not loaded: %d of %d rows", w->name, w->loaded, w->rows);
        s->tensors[w->value] = (lam_tensor){ .data = w->plain, .shape = g->values[w->value].shape };
    }
    s->tokens = 0;
    for (int i = 0; i < s->layer_count; i++) {
        lam_status status = infer_layer(s, i);
        if (status != LAM_OK) return status;
    }
    return check_caches(s);
}

/* ---- prepare ---- */

lam_status lam_session_prepare(lam_session *s) {
    s->ready = s->stale = 0;
    s->error[0] = 0;
    if (!s->g->compiled) return session_fail(s, LAM_ESTATE, "the graph is not compiled");
    lam_status status = infer_shapes(s);
    if (status == LAM_OK) status = session_place(s);
    else s->planned = 0;
    s->ready = status == LAM_OK;
    s->step = s->asked = s->paused = 0;
    return status;
}

/* Does the layer take whole numbers from an input of the graph, perhaps reshaped. Computed ones are never out of range. */
static int takes_input(const lam_session *s, const lam_node *n) {
    for (int i = 0; i < n->in_count && i < 32; i++)
        if ((n->op->integers >> i & 1) && n->in[i] >= 0 && s->g->values[s->root[n->in[i]]].input >= 0) return 1;
    return 0;
}

lam_status lam_session_check(lam_session *s) {
    if (!s->ready || s->stale) return session_fail(s, LAM_ESTATE, "the session is not prepared");
    for (int i = 0; i < s->layer_count; i++) {
        const lam_node *n = session_node(s, i);
        if (!n->op->check || !takes_input(s, n)) continue;
        char why[LAM_TEXT] = "";
        lam_run run = session_bind(s, i);
        lam_status status = n->op->check(&run, why);
        if (status != LAM_OK) return session_fail(s, status, "%s%s%s: %s", n->path, *n->path ? ": " : "", n->op->name, why);
    }
    return LAM_OK;
}

/* ---- run ---- */

void *lam_session_input(lam_session *s, int input) { return s->ready ? s->tensors[s->g->inputs[input]].data : NULL; }
float *lam_session_output(lam_session *s, int output) { return s->ready ? s->tensors[s->g->outputs[output]].data : NULL; }
int lam_session_output_rank(const lam_session *s, int output) { return s->tensors[s->g->outputs[output]].shape.rank; }
int lam_session_output_dim(const lam_session *s, int output, int axis) {
    return s->tensors[s->g->outputs[output]].shape.dims[axis];
}

size_t lam_session_bytes(const lam_session *s) { return s->arena_floats * sizeof(float); }

size_t lam_session_state_bytes(const lam_session *s, lam_precision precision) {
    size_t floats = 0;
    for (int i = 0; i < s->layer_count; i++)
        if (s->states[i] && s->tensors[session_node(s, i)->out].precision == precision) floats += s->state_floats[i];
    return floats * sizeof(float);
}

/* The tokens of the run that has ended are in the caches. */
static void advance(lam_session *s) {
    s->position += s->tokens;
    s->filled = s->position;
    s->stale = 1;
}

int lam_session_step(lam_session *s, double milliseconds) {
    if (!s->ready || s->stale) return 1;
    const int count = s->layer_count;
    double start = clock_milliseconds(), now = start;
    if (s->context) s->filled = s->position;   /* what came after is overwritten from here on */
    pool_enter(s->pool);
    while (s->step < count) {
        int layer = s->step;
        lam_run run = session_bind(s, layer);
        run.paused = &s->paused;
        if (run.node->slots && !s->asked) {
            s->asked = 1;
            break;
        }
        if (run.node->op->run && shape_elements(&run.out.shape)) run.node->op->run(&run);
        if ((s->asked = s->paused != 0)) break;
        s->step++;
        double before = now;
        now = clock_milliseconds();
        if (s->profiling) s->milliseconds[layer] = now - before;
        if (now - start >= milliseconds) break;
    }
    pool_leave(s->pool);
    if (s->asked) return 2;
    if (s->step < count) return 0;
    s->step = 0;
    if (s->context) advance(s);
    return 1;
}

void lam_session_run(lam_session *s) {
    s->step = s->asked = s->paused = 0;
    while (!lam_session_step(s, 1e9)) {}
}
