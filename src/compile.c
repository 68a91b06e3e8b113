/* From the recorded graph to the list of layers that run. */
#include <string.h>
#include "graph.h"
#include "memory.h"
#include "text.h"

static const char *const activation_names[LAM_ACTIVATIONS] = {
    "", "+relu", "+sigmoid", "+silu", "+tanh", "+gelu", "+gelu_tanh", "+quick_gelu", "+mish", "+softplus",
};

static const char *const precision_names[LAM_PRECISIONS] = { "", "f16 ", "q8 ", "q4 " };

static lam_status name_layer(lam_graph *g, lam_node *n) {
    char label[96];
    text_format(label, sizeof label, "%s%s%s%s%s", precision_names[n->precision], n->op->name, n->norm.mean >= 0 ? "+batch_norm" : "",
                n->add >= 0 ? "+add" : "", activation_names[n->activation]);
    size_t size = strlen(label) + 1;
    n->label = memory_alloc(size);
    if (!n->label) return graph_fail(g, LAM_ENOMEM, "out of memory while compiling"), LAM_ENOMEM;
    memcpy(n->label, label, size);
    return LAM_OK;
}

lam_status lam_plan(lam_graph *g) {
    if (g->status != LAM_OK || g->planned) return g->status;
    if (!g->output_count) return graph_fail(g, LAM_EVALUE, "compile: the graph has no output"), LAM_EVALUE;
    fuse_graph(g);
    if (g->status != LAM_OK) return g->status;
    g->layers = memory_alloc((size_t)(g->node_count ? g->node_count : 1) * sizeof *g->layers);
    if (!g->layers) return graph_fail(g, LAM_ENOMEM, "out of memory while compiling"), LAM_ENOMEM;
    for (int i = 0; i < g->node_count; i++) {
        if (g->nodes[i].removed) continue;
        g->layers[g->layer_count++] = i;
    }
    weights_measure(g);   /* where layers settle what they are */
    g->planned = 1;
    return g->status;
}

lam_status lam_compile(lam_graph *g) {
    if (g->compiled) return graph_fail(g, LAM_ESTATE, "compile: the graph is compiled already"), LAM_ESTATE;
    if (lam_plan(g) != LAM_OK || weights_allocate(g) != LAM_OK) return g->status;
    for (int i = 0; i < g->layer_count; i++)
        if (name_layer(g, &g->nodes[g->layers[i]]) != LAM_OK) return g->status;
    g->compiled = 1;
    return g->status;
}
