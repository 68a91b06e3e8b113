/* What a session keeps between runs: rows appended at its position. */
#include "../kernels/kept_rows.h"
#include "../text.h"
#include "ops.h"

typedef struct cache_params { int stride; } cache_params;

int cache_stride(const lam_node *node) { return ((const cache_params *)node->params)->stride; }

/* How many rows there will be is not known when the layer is defined, even where x has a fixed length. */
static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    (void)node;
    if (in[0].rank != 3 || in[0].dims[2] == LAM_ANY) return text_format(why, LAM_TEXT, "expected [b, t, w] of a known width, got %v", &in[0]), LAM_EVALUE;
    *out = in[0];
    out->dims[1] = LAM_ANY;
    return LAM_OK;
}

static void at(const lam_node *node, const lam_shape *in, int position, lam_shape *out) {
    out->dims[1] = position / cache_stride(node) + in[0].dims[1];
}

static size_t state(const lam_node *node, const lam_shape *in, int context, lam_precision precision) {
    return scratch_times((size_t)(context / cache_stride(node)), kept_row_bytes(precision, (size_t)in[0].dims[2]) / sizeof(float));
}

static void run(const lam_run *r) {
    size_t rows = (size_t)r->in[0].shape.dims[1], width = (size_t)r->in[0].shape.dims[2];
    if (r->out.data == r->in[0].data) return;   /* without a context: a view */
    kept_write(r->out.data, r->out.precision, (size_t)r->out.shape.dims[1] - rows, r->in[0].data, rows, width);
}

static const lam_op op_cache = {
    .name = "cache", .flags = OP_CACHE, .shape = shape, .at = at, .state = state, .run = run, .flops = flops_none,
};

lam_value lam_cache(lam_graph *g, lam_value x, int stride) {
    if (stride < 1) return graph_fail(g, LAM_EVALUE, "cache: a stride of %d", stride);
    return graph_add(g, &op_cache, 1, &x, &(cache_params){ stride }, sizeof(cache_params), LAYOUT_PLAIN);
}
