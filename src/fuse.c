/* The rewrites between recording and running. Each asks for the same thing: the value in between has one reader. */
#include <string.h>
#include "graph.h"
#include "memory.h"
#include "ops/ops.h"

static void mark(const lam_graph *g, unsigned char *live, lam_value x) {
    if (x >= 0 && g->values[x].node >= 0) live[g->values[x].node] = 1;
}

/* Nodes that no output depends on. */
static void drop_dead(lam_graph *g, unsigned char *live) {
    memset(live, 0, (size_t)g->node_count);
    for (int i = 0; i < g->output_count; i++) mark(g, live, g->outputs[i]);
    for (int i = g->node_count - 1; i >= 0; i--) {
        lam_node *n = &g->nodes[i];
        n->removed = !live[i];
        if (n->removed) continue;
        for (int j = 0; j < n->in_count; j++) mark(g, live, n->in[j]);
    }
}

static int readers(const lam_graph *g, lam_value x) {
    int count = 0;
    for (int i = 0; i < g->output_count; i++) count += g->outputs[i] == x;
    for (int i = 0; i < g->node_count; i++) {
        const lam_node *n = &g->nodes[i];
        if (n->removed) continue;
        for (int j = 0; j < n->in_count; j++) count += n->in[j] == x;
        count += n->add == x;
    }
    return count;
}

/* The node that makes x, if nobody else reads x and its op has the flag. */
static lam_node *sole_producer(lam_graph *g, lam_value x, unsigned flag) {
    if (x < 0 || g->values[x].node < 0) return NULL;
    lam_node *n = &g->nodes[g->values[x].node];
    return !n->removed && (n->op->flags & flag) && n->activation == LAM_IDENTITY && readers(g, x) == 1 ? n : NULL;
}

/* `into` now makes what `n` made. */
static void take_over(lam_graph *g, lam_node *into, lam_node *n) {
    into->out = n->out;
    g->values[n->out].node = (int)(into - g->nodes);
    n->removed = 1;
}

static void fold_batch_norm(lam_graph *g, lam_node *n) {
    if (n->op != &op_batch_norm || g->values[n->in[1]].weight < 0) return;
    lam_node *p = sole_producer(g, n->in[0], OP_TAKES_BATCH_NORM);
    const lam_shape *shape = graph_shape(g, n->in[0]);
    /* A linear layer's outputs are its last axis; a batch norm's channels are axis 1. */
    if (!p || p->norm.mean != LAM_NONE || (p->op == &op_linear && shape->rank != 2)) return;
    p->norm = batch_norm_of(n);
    take_over(g, p, n);
}

/* Sizes that are certain to be equal: what varies comes from the same single input, and prepare checks the rest. */
static int surely_equal(const lam_graph *g, lam_value a, lam_value b) {
    const lam_shape *s = graph_shape(g, a), *t = graph_shape(g, b);
    if (!shape_same(s, t)) return 0;
    int source = g->values[a].source, one = source >= 0 && source == g->values[b].source;
    for (int i = 0; i < s->rank && !one; i++)
        if (s->dims[i] == LAM_ANY) return 0;
    return 1;
}

static int comes_before(const lam_graph *g, lam_value x, const lam_node *n) {
    return g->values[x].node < (int)(n - g->nodes);
}

static void fold_add(lam_graph *g, lam_node *n) {
    if (!arithmetic_is(n, LAM_ADD) || !surely_equal(g, n->in[0], n->in[1])) return;
    for (int i = 0; i < 2; i++) {
        lam_node *p = sole_producer(g, n->in[i], OP_TAKES_ADD);
        if (!p || p->add != LAM_NONE || !comes_before(g, n->in[1 - i], p)) continue;
        p->add = n->in[1 - i];
        take_over(g, p, n);
        return;
    }
}

static void fold_activation(lam_graph *g, lam_node *n) {
    if (n->op != &op_activation) return;
    lam_node *p = sole_producer(g, n->in[0], OP_TAKES_ACTIVATION);
    if (!p) return;
    p->activation = activation_of(n);
    take_over(g, p, n);
}

/* Heads beside each other in every token, as the layer after attention wants them. */
static void fold_heads(lam_graph *g, lam_node *n) {
    if (graph_shape(g, n->out)->rank != 4 || !permute_swaps_heads(n)) return;
    lam_value x = n->in[0];
    lam_node *p = x >= 0 && g->values[x].node >= 0 ? &g->nodes[g->values[x].node] : NULL;
    if (!p || p->removed || p->op != &op_attention || readers(g, x) != 1) return;
    attention_by_token(p);
    take_over(g, p, n);
}

void fuse_graph(lam_graph *g) {
    unsigned char *live = memory_alloc(g->node_count ? (size_t)g->node_count : 1);
    if (!live) {
        graph_fail(g, LAM_ENOMEM, "out of memory while compiling");
        return;
    }
    drop_dead(g, live);
    memory_free(live);
    void (*const rewrites[])(lam_graph *, lam_node *) = { fold_batch_norm, fold_add, fold_activation, fold_heads };
    for (int r = 0; r < 4; r++)
        for (int i = 0; i < g->node_count; i++)
            if (!g->nodes[i].removed) rewrites[r](g, &g->nodes[i]);
}
