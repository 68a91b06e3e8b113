/* Where the tensors of a session lie: which share memory, for how long each is needed, and the offsets that follow. */
#include <string.h>
#include "memory.h"
#include "session.h"

static size_t whole_lines(size_t floats) { return (floats + PLAN_ALIGNMENT - 1) / PLAN_ALIGNMENT * PLAN_ALIGNMENT; }

static int is_weight(const lam_session *s, lam_value x) { return s->g->values[s->root[x]].weight >= 0; }

/* Is x itself a cache's output, in memory of its own. */
static int is_kept(const lam_session *s, lam_value x) {
    int node = s->g->values[x].node;
    return node >= 0 && session_keeps(s, &s->g->nodes[node]);
}

/* last[v]: the last layer that reads the memory of v. Outputs keep theirs, and with them an input that an output is a view of: the caller reads
 * them after the run. Inputs that are not donated keep theirs for the next run. */
static void find_last_uses(lam_session *s) {
    const lam_graph *g = s->g;
    int *last = s->last;
    for (int v = 0; v < g->value_count; v++) {
        s->root[v] = v;
        last[v] = -1;
    }
    for (int i = 0; i < s->layer_count; i++) {
        const lam_node *n = session_node(s, i);
        if (session_views(s, n)) s->root[n->out] = s->root[n->in[0]];
        for (int j = 0; j < n->in_count; j++)
            if (n->in[j] >= 0) last[s->root[n->in[j]]] = i;
        if (n->add >= 0) last[s->root[n->add]] = i;
        if (last[s->root[n->out]] < i) last[s->root[n->out]] = i;
    }
    for (int i = 0; i < g->input_count; i++)
        if (s->needed[g->inputs[i]] && !s->donated) last[g->inputs[i]] = s->layer_count;
    for (int i = 0; i < s->output_count; i++) last[s->root[g->outputs[s->first_output + i]]] = s->layer_count;
}

/* How often the layer reads the memory of x. */
static int reads(const lam_session *s, const lam_node *n, lam_value x) {
    int count = n->add >= 0 && s->root[n->add] == s->root[x];
    for (int j = 0; j < n->in_count; j++) count += n->in[j] >= 0 && s->root[n->in[j]] == s->root[x];
    return count;
}

/* Writes the layer's output over `over` when that is as large and read here once and for the last time. Reading it twice would
 * not do: a convolution plus its own input still needs the neighbours of what it overwrites. */
static int share(lam_session *s, int layer, lam_value over, lam_value out) {
    int *last = s->last;
    if (over < 0 || is_weight(s, over) || is_kept(s, s->root[over]) || last[s->root[over]] != layer || s->root[out] != out) return 0;
    if (reads(s, session_node(s, layer), over) != 1) return 0;
    if (shape_elements(&s->tensors[over].shape) != shape_elements(&s->tensors[out].shape)) return 0;
    if (s->g->values[over].layout != s->g->values[out].layout) return 0;
    int root = s->root[over];
    for (int v = 0; v < s->g->value_count; v++)
        if (s->root[v] == out) s->root[v] = root;
    last[root] = last[out];
    return 1;
}

static void share_in_place(lam_session *s) {
    for (int i = 0; i < s->layer_count; i++) {
        const lam_node *n = session_node(s, i);
        if (n->add >= 0 && share(s, i, n->add, n->out)) continue;
        if (!(n->op->flags & (OP_IN_PLACE | OP_IN_PLACE_FIRST)) || share(s, i, n->in[0], n->out)) continue;
        if ((n->op->flags & OP_IN_PLACE) && n->in_count > 1) share(s, i, n->in[1], n->out);
    }
}

/* Floats of the layer's working memory, noted in s->scratch. */
static size_t measure_scratch(lam_session *s, int layer) {
    size_t *scratch = &s->scratch[layer * 3], per_thread = 0, shared = 0, most = SIZE_MAX / sizeof(float);
    lam_run run = session_bind(s, layer);
    if (run.node->op->scratch) run.node->op->scratch(&run, &per_thread, &shared);
    scratch[1] = whole_lines(per_thread);
    scratch[2] = whole_lines(shared);
    double floats = (double)scratch[1] * lam_pool_threads(s->pool) + (double)scratch[2];
    return floats < (double)most ? (size_t)floats : most;
}

/* One block per value with memory of its own, then one per layer with scratch. */
static void list_blocks(lam_session *s) {
    const lam_graph *g = s->g;
    int count = 0;
    for (int v = 0; v < g->value_count; v++) {
        s->owner[v] = -1;
        if (s->root[v] != v || g->values[v].weight >= 0 || s->last[v] < 0 || is_kept(s, v)) continue;
        s->owner[v] = count;
        s->blocks[count++] = (plan_block){ .floats = shape_elements(&s->tensors[v].shape), .first = -1, .last = s->last[v] };
    }
    for (int i = 0; i < s->layer_count; i++) {
        int block = s->owner[session_node(s, i)->out];
        if (block >= 0) s->blocks[block].first = i;
        s->blocks[count + i] = (plan_block){ .floats = measure_scratch(s, i), .first = i, .last = i };
    }
    s->block_count = count + s->layer_count;
}

static lam_status grow_arena(lam_session *s, size_t floats) {
    if (floats <= s->arena_floats && s->arena) return LAM_OK;
    memory_free(s->arena);
    s->arena = floats < SIZE_MAX / sizeof(float) ? memory_alloc((floats ? floats : 1) * sizeof(float)) : NULL;
    s->arena_floats = s->arena ? floats : 0;
    if (s->arena) return LAM_OK;
    return session_fail(s, LAM_ENOMEM, "out of memory: activations of these input sizes need %d kB", (int)(floats / 256));
}

/* A cache's memory, zeroed: allocated once, as large as the context asks. */
static lam_status make_state(lam_session *s, int layer) {
    const lam_node *n = session_node(s, layer);
    lam_run run = session_bind(s, layer);
    lam_shape in = run.in[0].shape;
    size_t floats = n->op->state(n, &in, s->context, run.out.precision);
    if (s->states[layer] && floats <= s->state_floats[layer]) return LAM_OK;
    memory_free(s->states[layer]);
    s->states[layer] = floats < SIZE_MAX / sizeof(float) ? memory_alloc((floats ? floats : 1) * sizeof(float)) : NULL;
    s->state_floats[layer] = floats;
    if (!s->states[layer]) return session_fail(s, LAM_ENOMEM, "out of memory: a cache for %d tokens needs %d kB", s->context, (int)(floats / 256));
    memset(s->states[layer], 0, floats * sizeof(float));
    return LAM_OK;
}

/* Would the last plan do: nothing that it placed has another size, no scratch is larger. */
static int still_fits(lam_session *s) {
    const lam_graph *g = s->g;
    for (int v = 0; s->planned && v < g->value_count; v++)
        if (s->needed[v] && g->values[v].weight < 0 && !is_kept(s, s->root[v]) && s->sizes[v] != shape_elements(&s->tensors[v].shape))
            s->planned = 0;
    for (int i = 0; s->planned && i < s->layer_count; i++)
        if (measure_scratch(s, i) > s->blocks[s->block_count - s->layer_count + i].floats) s->planned = 0;
    return s->planned;
}

lam_status session_place(lam_session *s) {
    const lam_graph *g = s->g;
    lam_status status = LAM_OK;
    for (int i = 0; i < s->layer_count && status == LAM_OK; i++)
        if (session_keeps(s, session_node(s, i))) status = make_state(s, i);
    if (status != LAM_OK || still_fits(s)) return status;
    find_last_uses(s);
    share_in_place(s);
    list_blocks(s);
    status = grow_arena(s, plan_arena(s->blocks, s->block_count, s->order));
    if (status != LAM_OK) return status;
    for (int v = 0; v < g->value_count; v++) {
        s->sizes[v] = s->needed[v] ? shape_elements(&s->tensors[v].shape) : 0;
        int root = s->root[v];
        if (g->values[root].weight >= 0) s->tensors[v].data = s->tensors[root].data;
        else s->tensors[v].data = s->owner[root] < 0 ? NULL : s->arena + s->blocks[s->owner[root]].offset;
    }
    for (int i = 0; i < s->layer_count; i++) {
        s->scratch[i * 3] = s->blocks[s->block_count - s->layer_count + i].offset;
        if (s->states[i]) s->tensors[session_node(s, i)->out].data = s->states[i];
    }
    for (int v = 0; v < g->value_count; v++)   /* views of a cache */
        if (s->needed[v] && is_kept(s, s->root[v])) s->tensors[v].data = s->tensors[s->root[v]].data;
    s->planned = 1;
    return LAM_OK;
}
