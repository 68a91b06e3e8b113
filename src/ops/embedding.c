/* Rows of a table, chosen by number. */
#include <string.h>
#include "../dtype.h"
#include "../kernels/half.h"
#include "../text.h"
#include "ops.h"

enum { IDS, TABLE };

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    (void)node;
    const lam_shape *ids = &in[IDS], *table = &in[TABLE];
    if (table->rank != 2) return text_format(why, LAM_TEXT, "the table %v should be [rows, width]", table), LAM_EVALUE;
    if (ids->rank < 0 || ids->rank >= LAM_MAX_RANK) return text_format(why, LAM_TEXT, "ids of shape %v", ids), LAM_EVALUE;
    *out = *ids;
    out->dims[out->rank++] = table->dims[1];
    return LAM_OK;
}

static lam_status check(const lam_run *r, char *why) {
    const int32_t *ids = (const int32_t *)r->in[IDS].data;
    size_t count = shape_elements(&r->in[IDS].shape);
    int rows = r->in[TABLE].shape.dims[0];
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= rows)
            return text_format(why, LAM_TEXT, "id %d (number %d of %v) is outside the table of %d rows", ids[i], (int)i, &r->in[IDS].shape, rows), LAM_EINPUT;
    return LAM_OK;
}

/* In fewer bits than f32 a table is kept in halves: a layer that finds its precision is not f32 packs. */
static size_t packed(const lam_graph *g, lam_node *node) {
    const lam_value table = node->in[TABLE];
    if (g->values[table].weight < 0 || g->weights[g->values[table].weight].precision == LAM_PRECISION_F32) return 0;
    node->precision = LAM_PRECISION_F16;
    return (shape_elements(graph_shape(g, table)) + 1) / 2;
}

static uint16_t *halves(const lam_node *node) { return (uint16_t *)(void *)node->packed; }

static void pack(const lam_graph *g, lam_node *node, int in, const float *data, int first, int rows) {
    const size_t width = (size_t)graph_shape(g, node->in[in])->dims[1];
    half_from_f32(halves(node) + (size_t)first * width, data, (size_t)rows * width);
}

static void run(const lam_run *r) {
    const int32_t *ids = (const int32_t *)r->in[IDS].data;
    size_t count = shape_elements(&r->in[IDS].shape), width = (size_t)r->in[TABLE].shape.dims[1];
    for (size_t i = 0; i < count; i++) {
        float *y = r->out.data + i * width;   /* [width] */
        if (ids[i] < 0 || ids[i] >= r->in[TABLE].shape.dims[0]) memset(y, 0, width * sizeof(float));
        else if (r->node->precision == LAM_PRECISION_F16) dtype_to_f32(y, LAM_F16, halves(r->node) + (size_t)ids[i] * width, width);
        else memcpy(y, r->in[TABLE].data + (size_t)ids[i] * width, width * sizeof(float));
    }
}

static const lam_op op_embedding = {
    .name = "embedding", .flags = OP_PACKS_FEWER_BITS, .integers = 1u << IDS, .packs = 1u << TABLE,
    .shape = shape, .packed = packed, .pack = pack, .check = check, .run = run, .flops = flops_none,
};

lam_value lam_embedding(lam_graph *g, lam_value ids, lam_value table) {
    const lam_value in[] = { graph_in_layout(g, ids, LAYOUT_PLAIN), graph_in_layout(g, table, LAYOUT_PLAIN) };
    return graph_add(g, &op_embedding, 2, in, NULL, 0, LAYOUT_PLAIN);
}
