/* From checkpoint rows to packed weights. Everything is measured by lam_plan and allocated by lam_compile, before the first byte arrives; a row is
 * packed by each layer that uses it and then forgotten, so loading needs no memory beyond the caller's chunk. */
#include <string.h>
#include "dtype.h"
#include "graph.h"
#include "kernels/quantized.h"
#include "memory.h"
#include "ops/ops.h"

/* What a node takes: its inputs, then what is fused into it. */
enum { FUSED = 5 };
static lam_value operand(const lam_node *n, int i) {
    const lam_value fused[FUSED] = { n->add, n->norm.mean, n->norm.var, n->norm.weight, n->norm.bias };
    return i < n->in_count ? n->in[i] : fused[i - n->in_count];
}

/* Notes between which nodes each weight is used, mostly one: looking for them among all would take longer than packing a small weight. */
static void find_uses(lam_graph *g) {
    for (int i = 0; i < g->weight_count; i++) g->weights[i].first_use = g->node_count, g->weights[i].last_use = -1;
    for (int i = 0; i < g->node_count; i++) {
        const lam_node *n = &g->nodes[i];
        for (int j = 0; j < n->in_count + FUSED && !n->removed; j++) {
            const lam_value x = operand(n, j);
            if (x < 0 || g->values[x].weight < 0) continue;
            lam_weight_info *w = &g->weights[g->values[x].weight];
            if (w->first_use > i) w->first_use = i;
            w->last_use = i;
        }
    }
}

/* Calls visit(g, node, in) for every live node that takes the weight; `in` is -1 where it is a fused batch norm's or addend. */
static lam_status each_use(lam_graph *g, const lam_weight_info *w, lam_status (*visit)(lam_graph *, lam_node *, int, const void *),
                           const void *argument) {
    for (int i = w->first_use; i <= w->last_use; i++) {
        lam_node *n = &g->nodes[i];
        for (int j = 0; j < n->in_count + FUSED && !n->removed; j++) {
            if (operand(n, j) != w->value) continue;
            lam_status status = visit(g, n, j < n->in_count ? j : -1, argument);
            if (status != LAM_OK) return status;
        }
    }
    return LAM_OK;
}

static int packs(const lam_node *n, int in) {
    if (n->op->flags & OP_PACKS_FEWER_BITS && n->precision == LAM_PRECISION_F32) return 0;
    return in >= 0 && (n->op->packs >> (in < 31 ? in : 31) & 1);
}

static lam_status count_use(lam_graph *g, lam_node *n, int in, const void *argument) {
    (void)g;
    lam_weight_info *w = *(lam_weight_info *const *)argument;
    n->waiting++;
    if (!packs(n, in)) w->needs_plain = 1;
    return LAM_OK;
}

static lam_status allocate(lam_graph *g, lam_weight_info *w) {
    size_t floats = (size_t)w->rows * (size_t)w->row_elements;
    w->arrived = memory_alloc(w->rows ? (size_t)w->rows : 1);
    if (w->needs_plain) w->plain = memory_alloc(floats ? floats * sizeof(float) : 1);
    if (!w->arrived || (w->needs_plain && !w->plain)) {
        graph_fail(g, LAM_ENOMEM, "out of memory for weight \"%s\" %v", w->name, &g->values[w->value].shape);
        return LAM_ENOMEM;
    }
    memset(w->arrived, 0, w->rows ? (size_t)w->rows : 1);
    return LAM_OK;
}

static lam_status arrived_wholly(lam_graph *g, lam_node *n, int in, const void *argument) {
    (void)argument;
    if (n->op->arrived && in >= 0) n->op->arrived(g, n, in);
    if (--n->waiting || !n->op->finish) return LAM_OK;
    int without = n->norm.mean != LAM_NONE && !n->fold && !(n->fold = norm_scale_shift(g, &n->norm));
    lam_status status = without ? LAM_ENOMEM : n->op->finish(g, n);
    memory_free(n->fold);
    n->fold = NULL;
    if (status != LAM_OK) graph_fail(g, status, "%s: out of memory while folding its weights", n->path);
    return status;
}

void weights_measure(lam_graph *g) {
    for (int i = 0; i < g->node_count; i++) {
        lam_node *n = &g->nodes[i];
        if (!n->removed && n->op->packed) n->packed_floats = n->op->packed(g, n);
    }
    find_uses(g);
    for (int i = 0; i < g->weight_count; i++) {
        lam_weight_info *w = &g->weights[i];
        each_use(g, w, count_use, &w);
        for (int j = 0; j < g->output_count; j++) w->needs_plain |= g->outputs[j] == w->value;
    }
}

lam_status weights_allocate(lam_graph *g) {
    for (int i = 0; i < g->node_count; i++) {
        lam_node *n = &g->nodes[i];
        if (n->removed || !n->op->packed) continue;
        if (n->packed_floats < SIZE_MAX / sizeof(float)) n->packed = memory_alloc(n->packed_floats ? n->packed_floats * sizeof(float) : 1);
        if (!n->packed) {
            graph_fail(g, LAM_ENOMEM, "out of memory for %d kB of packed weights", (int)(n->packed_floats / 256));
            return LAM_ENOMEM;
        }
        if (n->precision != LAM_PRECISION_F32 || n->slots) memset(n->packed, 0, n->packed_floats * sizeof(float));
    }
    for (int i = 0; i < g->weight_count; i++)
        if (allocate(g, &g->weights[i]) != LAM_OK) return LAM_ENOMEM;
    for (int i = 0; i < g->weight_count; i++)
        if (!g->weights[i].rows) each_use(g, &g->weights[i], arrived_wholly, NULL);
    return g->status;
}

typedef struct chunk { const float *data; int first, rows, loaded; } chunk;

static lam_status pack_chunk(lam_graph *g, lam_node *n, int in, const void *argument) {
    const chunk *c = argument;
    if (!packs(n, in)) return LAM_OK;
    /* Before the first rows of a node's last weight. Without memory the norm is folded in at the end, like one that comes late. */
    if (!c->loaded && n->waiting == 1 && n->norm.mean != LAM_NONE) n->folded = (n->fold = norm_scale_shift(g, &n->norm)) != NULL;
    if (!(n->op->flags & OP_PACKS_CODES)) weights_expand(g);
    n->op->pack(g, n, in, c->data, c->first, c->rows);
    return LAM_OK;
}

static int is_coded(lam_type type) { return type == LAM_CODES_8 || type == LAM_CODES_4; }
static quantized_bits bits_of(lam_precision precision) { return precision == LAM_Q4 ? QUANTIZED_4 : QUANTIZED_8; }

void weights_expand(const lam_graph *g) {
    coded_rows *c = g->coded;
    if (!c || c->expanded) return;
    c->expanded = 1;
    const size_t bytes = quantized_coded_bytes(bits_of(c->precision), c->elements);
    for (size_t i = 0; i < c->count; i++) quantized_expand(g->staging + i * c->elements, bits_of(c->precision), c->rows + i * bytes, c->elements);
}

/* data as f32: itself, or converted into the graph's staging memory, which grows to the largest chunk seen. Codes are left to weights_expand. */
static const float *as_f32(lam_graph *g, lam_type type, const void *data, size_t n) {
    if (type == LAM_F32) return data;
    if (n > g->staging_floats) {
        memory_free(g->staging);
        g->staging = memory_alloc(n * sizeof(float));
        g->staging_floats = g->staging ? n : 0;
        if (!g->staging) return NULL;
    }
    if (!is_coded(type)) dtype_to_f32(g->staging, type, data, n);
    return g->staging;
}

static lam_status check_chunk(lam_graph *g, int weight, lam_type type, int first, int rows) {
    if (!g->compiled) return graph_fail(g, LAM_ESTATE, "load: the graph is not compiled"), LAM_ESTATE;
    if (weight < 0 || weight >= g->weight_count) return graph_fail(g, LAM_EVALUE, "load: no weight %d", weight), LAM_EVALUE;
    const lam_weight_info *w = &g->weights[weight];
    if (!dtype_bytes(type) && !is_coded(type)) return graph_fail(g, LAM_EVALUE, "%s: unknown type %d", w->name, (int)type), LAM_EVALUE;
    if (first < 0 || rows < 0 || rows > w->rows - first)
        return graph_fail(g, LAM_EVALUE, "%s: rows %d to %d of %d", w->name, first, first + rows, w->rows), LAM_EVALUE;
    for (int r = first; r < first + rows; r++)
        if (w->arrived[r]) return graph_fail(g, LAM_ESTATE, "%s: row %d is loaded twice", w->name, r), LAM_ESTATE;
    return LAM_OK;
}

lam_status lam_load(lam_graph *g, int weight, lam_type type, const void *data, int first, int rows) {
    lam_status status = check_chunk(g, weight, type, first, rows);
    if (status != LAM_OK || !rows) return status;
    lam_weight_info *w = &g->weights[weight];
    size_t n = (size_t)rows * (size_t)w->row_elements;
    static const float nothing = 0;
    const float *values = n ? as_f32(g, type, data, n) : &nothing;
    if (!values) return graph_fail(g, LAM_ENOMEM, "%s: out of memory while loading", w->name), LAM_ENOMEM;
    coded_rows coded = { type == LAM_CODES_4 ? LAM_Q4 : LAM_Q8, data, (size_t)rows, (size_t)w->row_elements, !n };
    g->coded = is_coded(type) ? &coded : NULL;
    if (w->plain) {
        weights_expand(g);
        memcpy(w->plain + (size_t)first * (size_t)w->row_elements, values, n * sizeof(float));
    }
    each_use(g, w, pack_chunk, &(chunk){ values, first, rows, w->loaded });
    g->coded = NULL;
    memset(w->arrived + first, 1, (size_t)rows);
    w->loaded += rows;
    return w->loaded == w->rows ? each_use(g, w, arrived_wholly, NULL) : LAM_OK;
}

int lam_weight_count(const lam_graph *g) { return g->weight_count; }
const char *lam_weight_name(const lam_graph *g, int weight) { return g->weights[weight].name; }
int lam_weight_rank(const lam_graph *g, int weight) { return g->values[g->weights[weight].value].shape.rank; }
int lam_weight_dim(const lam_graph *g, int weight, int axis) { return g->values[g->weights[weight].value].shape.dims[axis]; }
int lam_loaded_rows(const lam_graph *g, int weight) { return g->weights[weight].loaded; }

double lam_planned_bytes(const lam_graph *g, int context) {
    double floats = 0;
    for (int i = 0; i < g->node_count; i++) {
        const lam_node *n = &g->nodes[i];
        floats += (double)n->packed_floats;
        /* In halves, as sessions keep most of them by default. */
        if (!n->removed && n->op->flags & OP_CACHE) floats += (double)n->op->state(n, graph_shape(g, n->in[0]), context, LAM_PRECISION_F16);
    }
    for (int i = 0; i < g->weight_count; i++) {
        const lam_weight_info *w = &g->weights[i];
        if (w->needs_plain) floats += (double)w->rows * w->row_elements;
    }
    return floats * sizeof(float);
}

size_t lam_packed_bytes(const lam_graph *g) { return (size_t)lam_planned_bytes(g, 0); }
