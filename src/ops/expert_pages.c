/* Experts whose weights stay outside: what the caller that keeps them asks and says. */
#include "../session.h"
#include "experts.h"

/* The layer's node; NULL when there are fewer. */
static lam_node *node_of(const lam_graph *g, int layer) {
    for (int i = 0; i < g->node_count; i++)
        if (!g->nodes[i].removed && g->nodes[i].op == &op_experts && layer-- == 0) return &g->nodes[i];
    return NULL;
}

static int layer_of(const lam_graph *g, const lam_node *node) {
    int layer = 0;
    for (const lam_node *n = g->nodes; n < node; n++) layer += !n->removed && n->op == &op_experts;
    return layer;
}

int lam_expert_layers(const lam_graph *g) { return layer_of(g, g->nodes + g->node_count); }

int lam_expert_count(const lam_graph *g, int layer) { return ((const experts_params *)node_of(g, layer)->params)->count; }

size_t lam_expert_bytes(const lam_graph *g, int layer) { return experts_places_in(g, node_of(g, layer)).expert * sizeof(float); }

/* How often nodes use the weight. */
static int uses(const lam_graph *g, lam_value weight) {
    int count = 0;
    for (int i = 0; i < g->node_count; i++)
        for (int j = 0; !g->nodes[i].removed && j < g->nodes[i].in_count; j++) count += g->nodes[i].in[j] == weight;
    return count;
}

lam_status lam_expert_slots(lam_graph *g, int layer, int slots) {
    lam_node *node = node_of(g, layer);
    if (!g->planned || g->compiled) return graph_fail(g, LAM_ESTATE, "experts: slots are settled between plan and compile"), LAM_ESTATE;
    if (!node || slots < 1 || slots > lam_expert_count(g, layer)) return graph_fail(g, LAM_EVALUE, "experts: %d slots in layer %d", slots, layer), LAM_EVALUE;
    for (int i = EXPERTS_WEIGHTS; i < node->in_count; i++)
        if (uses(g, node->in[i]) != 1)
            return graph_fail(g, LAM_EVALUE, "%s: weight \"%s\" is used twice and cannot be kept outside", node->path,
                              g->weights[g->values[node->in[i]].weight].name), LAM_EVALUE;
    node->slots = slots;
    node->packed_floats = node->op->packed(g, node);
    return LAM_OK;
}

char *lam_expert_slot(const lam_graph *g, int layer, int slot) {
    const lam_node *node = node_of(g, layer);
    experts_places s = experts_places_in(g, node);
    return (char *)experts_part(node, &s, (size_t)slot, 0);
}

void lam_expert_set(lam_graph *g, int layer, int slot, int expert) {
    const lam_node *node = node_of(g, layer);
    int32_t *table = experts_table(node);
    for (int e = 0; e < lam_expert_count(g, layer); e++)
        if (table[e] == slot + 1) table[e] = 0;
    if (expert >= 0) table[expert] = slot + 1;
}

int lam_expert_place(const lam_graph *g, int weight, int what) {
    const lam_value value = g->weights[weight].value;
    for (int i = 0; i < g->node_count; i++) {
        const lam_node *node = &g->nodes[i];
        if (node->removed || !node->slots) continue;
        for (int j = EXPERTS_WEIGHTS; j < node->in_count; j++) {
            if (node->in[j] != value) continue;
            experts_places s = experts_places_in(g, node);
            const int part = (j - EXPERTS_WEIGHTS) % EXPERTS_PARTS;
            const size_t at = (size_t)part * s.hidden_floats, floats = part == EXPERTS_DOWN ? s.down_floats : s.hidden_floats;
            const size_t answers[] = { (size_t)layer_of(g, node), (size_t)((j - EXPERTS_WEIGHTS) / EXPERTS_PARTS), at * sizeof(float), floats * sizeof(float) };
            return (int)answers[what];
        }
    }
    return -1;
}

int lam_session_waits(const lam_session *s) { return s->asked ? layer_of(s->g, session_node(s, s->step)) : -1; }

int lam_session_wanted(const lam_session *s, int from) {
    if (!s->asked) return -1;
    const lam_node *node = session_node(s, s->step);
    const experts_params *p = node->params;
    if (s->paused && from < s->paused - 1) from = s->paused - 1;
    for (int e = from; e < p->count; e++)
        if (experts_wants(&s->tensors[node->in[EXPERTS_ROUTING]], (size_t)e)) return e;
    return -1;
}
