#include "graph.h"
#include <string.h>
#include "memory.h"
#include "text.h"

/* ---- shapes ---- */

size_t shape_tail(const lam_shape *shape, int first) {
    size_t n = 1;
    for (int i = first; i < shape->rank; i++) n *= (size_t)shape->dims[i];
    return n;
}

size_t shape_elements(const lam_shape *shape) { return shape_tail(shape, 0); }

int shape_axis(const lam_shape *shape, int axis) {
    if (axis < 0) axis += shape->rank;
    return axis >= 0 && axis < shape->rank ? axis : -1;
}

int shape_same(const lam_shape *a, const lam_shape *b) {
    if (a->rank != b->rank) return 0;
    for (int i = 0; i < a->rank; i++)
        if (a->dims[i] != b->dims[i]) return 0;
    return 1;
}

/* ---- storage ---- */

/* Makes room for one more element; 0 when out of memory. */
static int grow(void *array, int count, int *room, size_t element) {
    void **at = array;
    if (count < *room) return 1;
    int wanted = *room ? *room * 2 : 16;
    void *bigger = memory_alloc((size_t)wanted * element);
    if (!bigger) return 0;
    if (count) memcpy(bigger, *at, (size_t)count * element);
    memory_free(*at);
    *at = bigger;
    *room = wanted;
    return 1;
}

static char *copy_text(const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = memory_alloc(size);
    if (copy) memcpy(copy, text, size);
    return copy;
}

lam_graph *lam_graph_new(void) {
    lam_graph *g = memory_alloc(sizeof *g);
    if (!g) return NULL;
    *g = (lam_graph){ .status = LAM_OK };
    return g;
}

void lam_graph_free(lam_graph *g) {
    if (!g) return;
    for (int i = 0; i < g->node_count; i++) {
        lam_node *n = &g->nodes[i];
        memory_free(n->path);
        memory_free(n->label);
        memory_free(n->in);
        memory_free(n->params);
        memory_free(n->fold);
        memory_free(n->packed);
    }
    for (int i = 0; i < g->weight_count; i++) {
        memory_free(g->weights[i].name);
        memory_free(g->weights[i].arrived);
        memory_free(g->weights[i].plain);
    }
    memory_free(g->values);
    memory_free(g->nodes);
    memory_free(g->weights);
    memory_free(g->inputs);
    memory_free(g->outputs);
    memory_free(g->scope);
    memory_free(g->layers);
    memory_free(g->staging);
    memory_free(g);
}

/* ---- errors ---- */

const char *lam_graph_error(const lam_graph *g) { return g->error; }
lam_status lam_graph_status(const lam_graph *g) { return g->status; }

lam_value graph_fail(lam_graph *g, lam_status status, const char *format, ...) {
    if (g->status == LAM_OK) {
        g->status = status;
        size_t used = 0;
        if (!g->compiled && g->scope && *g->scope) {
            text_format(g->error, LAM_TEXT / 2, "%s: ", g->scope);
            used = strlen(g->error);
        }
        va_list arguments;
        va_start(arguments, format);
        text_format_list(g->error + used, LAM_TEXT - used, format, arguments);
        va_end(arguments);
    }
    return LAM_BAD;
}

static lam_value out_of_memory(lam_graph *g) { return graph_fail(g, LAM_ENOMEM, "out of memory while recording the graph"); }

void lam_scope(lam_graph *g, const char *path) {
    char *copy = copy_text(path);
    if (!copy) {
        out_of_memory(g);
        return;
    }
    memory_free(g->scope);
    g->scope = copy;
}

/* ---- values ---- */

static int is_value(const lam_graph *g, lam_value x) { return x >= 0 && x < g->value_count; }

static lam_value add_value(lam_graph *g, lam_shape shape, lam_type type, lam_layout layout) {
    if (!grow(&g->values, g->value_count, &g->value_room, sizeof *g->values)) return out_of_memory(g);
    g->values[g->value_count] = (lam_value_info){
        .shape = shape, .layout = layout, .type = type, .node = -1, .weight = -1, .input = -1, .source = -1,
        .twin = LAM_NONE,
    };
    return g->value_count++;
}

static int read_shape(lam_graph *g, const char *what, int rank, const int *dims, int smallest, lam_shape *shape) {
    if (rank < 0 || rank > LAM_MAX_RANK) {
        graph_fail(g, LAM_EVALUE, "%s: rank %d, expected 0 to %d", what, rank, LAM_MAX_RANK);
        return 0;
    }
    *shape = (lam_shape){ .rank = rank };
    for (int i = 0; i < rank; i++) {
        shape->dims[i] = dims[i];
        if (dims[i] < smallest) {
            graph_fail(g, LAM_EVALUE, "%s: dimension %d is %d", what, i, dims[i]);
            return 0;
        }
    }
    return 1;
}

lam_value lam_input(lam_graph *g, lam_type type, int rank, const int *dims) {
    lam_shape shape;
    if (type != LAM_F32 && type != LAM_I32) return graph_fail(g, LAM_EVALUE, "input: type is neither f32 nor i32");
    if (!read_shape(g, "input", rank, dims, LAM_ANY, &shape)) return LAM_BAD;
    if (!grow(&g->inputs, g->input_count, &g->input_room, sizeof *g->inputs)) return out_of_memory(g);
    lam_value x = add_value(g, shape, type, LAYOUT_PLAIN);
    if (x == LAM_BAD) return x;
    g->values[x].input = g->values[x].source = g->input_count;
    g->inputs[g->input_count++] = x;
    return x;
}

/* Fewer bytes than an address can count, and rows whose elements an int can. */
static int can_be_counted(const lam_shape *shape) {
    double row = 1;
    for (int i = 1; i < shape->rank; i++) row *= shape->dims[i];
    return row <= INT_MAX && row * (shape->rank ? shape->dims[0] : 1) < (double)(SIZE_MAX / sizeof(float));
}

static lam_value find_weight(lam_graph *g, const char *name, const lam_shape *shape) {
    for (int i = 0; i < g->weight_count; i++) {
        if (strcmp(g->weights[i].name, name)) continue;
        lam_value x = g->weights[i].value;
        if (shape_same(&g->values[x].shape, shape)) return x;
        return graph_fail(g, LAM_EVALUE, "weight \"%s\" is used as %v and as %v", name, &g->values[x].shape, shape);
    }
    return LAM_NONE;
}

lam_value lam_weight_precision(lam_graph *g, lam_value weight, lam_precision precision) {
    if (weight == LAM_BAD) return weight;
    if (!is_value(g, weight) || g->values[weight].weight < 0) return graph_fail(g, LAM_EVALUE, "weight_precision: %d is not a weight", weight);
    if ((unsigned)precision >= LAM_PRECISIONS) return graph_fail(g, LAM_EVALUE, "weight_precision: there is no precision %d", (int)precision);
    g->weights[g->values[weight].weight].precision = precision;
    return weight;
}

lam_value lam_weight(lam_graph *g, const char *name, int rank, const int *dims) {
    lam_shape shape;
    if (!read_shape(g, name, rank, dims, 0, &shape)) return LAM_BAD;
    if (!can_be_counted(&shape)) return graph_fail(g, LAM_ENOMEM, "out of memory: weight \"%s\" of %v", name, &shape);
    lam_value known = find_weight(g, name, &shape);
    if (known != LAM_NONE) return known;
    if (!grow(&g->weights, g->weight_count, &g->weight_room, sizeof *g->weights)) return out_of_memory(g);
    char *copy = copy_text(name);
    lam_value x = copy ? add_value(g, shape, LAM_F32, LAYOUT_PLAIN) : out_of_memory(g);
    if (x == LAM_BAD) {
        memory_free(copy);
        return x;
    }
    g->values[x].weight = g->weight_count;
    g->weights[g->weight_count++] = (lam_weight_info){
        .name = copy, .value = x,
        .rows = rank ? dims[0] : 1, .row_elements = (int)shape_tail(&shape, rank ? 1 : 0),
    };
    return x;
}

lam_status lam_output(lam_graph *g, lam_value x) {
    if (!is_value(g, x)) {
        graph_fail(g, LAM_EVALUE, "output: not a value of this graph");
        return g->status;
    }
    /* An output has memory of its own: a view of an input or weight would be overwritten or freed under the caller. */
    x = graph_in_layout(g, x, LAYOUT_PLAIN);
    if (x == LAM_BAD) return g->status;
    if (!grow(&g->outputs, g->output_count, &g->output_room, sizeof *g->outputs)) {
        out_of_memory(g);
        return g->status;
    }
    g->outputs[g->output_count++] = x;
    return LAM_OK;
}

int lam_rank(const lam_graph *g, lam_value x) { return is_value(g, x) ? g->values[x].shape.rank : -1; }
int lam_dim(const lam_graph *g, lam_value x, int axis) { return g->values[x].shape.dims[axis]; }
lam_type lam_value_type(const lam_graph *g, lam_value x) { return is_value(g, x) ? g->values[x].type : LAM_F32; }
lam_type lam_output_type(const lam_graph *g, int output) { return lam_value_type(g, g->outputs[output]); }
int lam_output_count(const lam_graph *g) { return g->output_count; }

lam_layout graph_layout(const lam_graph *g, lam_value x) { return is_value(g, x) ? g->values[x].layout : LAYOUT_PLAIN; }

const lam_shape *graph_shape(const lam_graph *g, lam_value x) {
    static const lam_shape none = { .rank = -1 };
    return is_value(g, x) ? &g->values[x].shape : &none;
}

int graph_is_weight(const lam_graph *g, lam_value x) { return !is_value(g, x) || g->values[x].weight >= 0; }

const float *graph_plain(const lam_graph *g, lam_value weight) {
    return is_value(g, weight) ? g->weights[g->values[weight].weight].plain : NULL;
}

/* ---- nodes ---- */

static int fill_node(lam_graph *g, lam_node *n, const lam_op *op, int in_count, const lam_value *in, const void *params,
                     size_t params_size) {
    *n = (lam_node){ .op = op, .in_count = in_count, .add = LAM_NONE,
                      .norm = { LAM_NONE, LAM_NONE, LAM_NONE, LAM_NONE, 0 } };
    n->path = copy_text(g->scope ? g->scope : "");
    n->in = memory_alloc((size_t)(in_count ? in_count : 1) * sizeof *in);
    n->params = memory_alloc(params_size ? params_size : 1);
    if (!n->path || !n->in || !n->params) {
        memory_free(n->path);
        memory_free(n->in);
        memory_free(n->params);
        out_of_memory(g);
        return 0;
    }
    memcpy(n->in, in, (size_t)in_count * sizeof *in);
    if (params_size) memcpy(n->params, params, params_size);
    return 1;
}

static int infer(lam_graph *g, const lam_node *n, lam_shape *out) {
    char why[LAM_TEXT] = "";
    lam_shape *in = memory_alloc((size_t)(n->in_count ? n->in_count : 1) * sizeof *in);
    if (!in) {
        out_of_memory(g);
        return 0;
    }
    for (int i = 0; i < n->in_count; i++) in[i] = *graph_shape(g, n->in[i]);
    *out = (lam_shape){ .rank = 0 };
    lam_status status = n->op->shape(n, in, out, why);
    memory_free(in);
    if (status != LAM_OK) graph_fail(g, status, "%s: %s", n->op->name, why);
    return status == LAM_OK;
}

/* Whole numbers where the op wants them, and only there. The type of the output in *type: what the op makes, else that which all inputs of
 * an op of any type have. */
static int check_types(lam_graph *g, const lam_op *op, int in_count, const lam_value *in, lam_type *type) {
    int any = (op->flags & OP_ANY_TYPE) && in_count > 0 && in[0] >= 0;
    lam_type common = any ? g->values[in[0]].type : LAM_F32;
    *type = op->flags & OP_MAKES_I32 ? LAM_I32 : common;
    for (int i = 0; i < in_count; i++) {
        if (in[i] == LAM_NONE) continue;
        lam_type wanted = any ? common : i < 32 && (op->integers >> i & 1) ? LAM_I32 : LAM_F32;
        if (g->values[in[i]].type == wanted) continue;
        graph_fail(g, LAM_EVALUE, "%s: argument %d holds %s, expected %s", op->name, i, wanted == LAM_F32 ? "whole numbers (i32)" : "f32",
                   wanted == LAM_F32 ? "f32" : "whole numbers (i32)");
        return 0;
    }
    return 1;
}

/* The one input that all of these depend on, if it is one. */
static int source_of(const lam_graph *g, int in_count, const lam_value *in) {
    int source = -1;
    for (int i = 0; i < in_count; i++) {
        int other = in[i] >= 0 ? g->values[in[i]].source : -1;
        if (other != -1) source = source == -1 || source == other ? other : SEVERAL_INPUTS;
    }
    return source;
}

lam_value graph_add(lam_graph *g, const lam_op *op, int in_count, const lam_value *in, const void *params, size_t params_size,
                    lam_layout layout) {
    if (g->planned) return graph_fail(g, LAM_ESTATE, "%s: the graph is compiled and takes no more layers", op->name);
    for (int i = 0; i < in_count; i++)
        if (in[i] != LAM_NONE && !is_value(g, in[i]))
            return graph_fail(g, LAM_EVALUE, "%s: argument %d is not a value of this graph", op->name, i);
    lam_type type;
    if (!check_types(g, op, in_count, in, &type)) return LAM_BAD;
    if (!grow(&g->nodes, g->node_count, &g->node_room, sizeof *g->nodes)) return out_of_memory(g);
    lam_node *n = &g->nodes[g->node_count];
    if (!fill_node(g, n, op, in_count, in, params, params_size)) return LAM_BAD;
    g->node_count++;
    lam_shape out;
    lam_value x = infer(g, n, &out) ? add_value(g, out, type, layout) : LAM_BAD;
    n->out = x;
    if (x == LAM_BAD) return x;
    g->values[x].node = g->node_count - 1;
    g->values[x].source = source_of(g, in_count, in);
    return x;
}
