/* Other shapes of the same numbers: no memory moves. */
#include <string.h>
#include "../text.h"
#include "ops.h"

typedef enum view_kind { VIEW_RESHAPE, VIEW_FLATTEN, VIEW_UNFLATTEN, VIEW_TO_RANK } view_kind;

typedef struct view_params {
    view_kind kind;
    int first, last;          /* axes: flatten takes both, unflatten the first */
    int rank;                 /* of dims; of the result for VIEW_TO_RANK */
    int dims[LAM_MAX_RANK];
} view_params;

/* A product of sizes, LAM_ANY with an unknown one; what passes 64 bits stays at their end. */
static int64_t times(int64_t a, int b) {
    int64_t product;
    if (a == LAM_ANY || b == LAM_ANY) return LAM_ANY;
    return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

/* Replaces the one -1 in sizes by what makes their product `total`; 0 when that cannot be. */
static int infer_size(int *sizes, int count, int64_t total) {
    int64_t product = 1;
    int unknown = -1;
    for (int i = 0; i < count; i++) {
        if (sizes[i] >= 0) product = times(product, sizes[i]);
        else if (unknown < 0) unknown = i;
        else return 0;
    }
    if (unknown < 0) return total == LAM_ANY || product == total;
    if (total == LAM_ANY) return 1;   /* stays LAM_ANY, which is -1 too */
    if (!product || total % product || total / product > INT_MAX) return 0;
    sizes[unknown] = (int)(total / product);
    return 1;
}

static int64_t total_of(const lam_shape *s, int first, int last) {
    int64_t total = 1;
    for (int i = first; i <= last; i++) total = times(total, s->dims[i]);
    return total;
}

static lam_status reshape(const view_params *p, const lam_shape *x, lam_shape *out, char *why) {
    int64_t total = total_of(x, 0, x->rank - 1);
    int kept_unknown = 0;
    lam_shape wanted = { .rank = p->rank };
    *out = wanted;
    for (int i = 0; i < p->rank; i++) {
        if (p->dims[i] == LAM_KEEP && i >= x->rank)
            return text_format(why, LAM_TEXT, "dimension %d should be kept, but the input is %v", i, x), LAM_EVALUE;
        wanted.dims[i] = out->dims[i] = p->dims[i] == LAM_KEEP ? x->dims[i] : p->dims[i];
        kept_unknown |= p->dims[i] == LAM_KEEP && x->dims[i] == LAM_ANY;
    }
    /* A kept unknown size divides the unknown total: the sizes beside it can be settled without either. */
    if (kept_unknown) {
        int64_t known = 1, rest = 1;
        int inferred = -1;
        for (int i = 0; i < p->rank; i++) {
            if (p->dims[i] == -1) inferred = i;
            else if (p->dims[i] >= 0) known = times(known, p->dims[i]);
        }
        for (int i = 0; i < x->rank; i++)
            if (i >= p->rank || p->dims[i] != LAM_KEEP) rest = times(rest, x->dims[i]);
        if (inferred >= 0 && rest != LAM_ANY && known && rest % known == 0 && rest / known <= INT_MAX) out->dims[inferred] = (int)(rest / known);
        else if (rest != LAM_ANY && (inferred >= 0 || rest != known)) goto refuse;
        return LAM_OK;
    }
    if (infer_size(out->dims, out->rank, total)) return LAM_OK;
refuse:
    return text_format(why, LAM_TEXT, "%v cannot become %v", x, &wanted), LAM_EVALUE;
}

static lam_status flatten(const view_params *p, const lam_shape *x, lam_shape *out, char *why) {
    int first = shape_axis(x, p->first), last = shape_axis(x, p->last);
    if (first < 0 || last < first)
        return text_format(why, LAM_TEXT, "axes %d to %d of %v", p->first, p->last, x), LAM_EVALUE;
    int64_t total = total_of(x, first, last);
    if (total > INT_MAX) return text_format(why, LAM_TEXT, "axes %d to %d of %v are too large for one", p->first, p->last, x), LAM_EVALUE;
    out->rank = 0;
    for (int i = 0; i < first; i++) out->dims[out->rank++] = x->dims[i];
    out->dims[out->rank++] = (int)total;
    for (int i = last + 1; i < x->rank; i++) out->dims[out->rank++] = x->dims[i];
    return LAM_OK;
}

static lam_status unflatten(const view_params *p, const lam_shape *x, lam_shape *out, char *why) {
    int axis = shape_axis(x, p->first);
    lam_shape sizes = { .rank = p->rank };
    memcpy(sizes.dims, p->dims, sizeof sizes.dims);
    if (axis < 0 || x->rank - 1 + p->rank > LAM_MAX_RANK || !infer_size(sizes.dims, p->rank, x->dims[axis]))
        return text_format(why, LAM_TEXT, "axis %d of %v into %v", p->first, x, &sizes), LAM_EVALUE;
    out->rank = 0;
    for (int i = 0; i < axis; i++) out->dims[out->rank++] = x->dims[i];
    for (int i = 0; i < sizes.rank; i++) out->dims[out->rank++] = sizes.dims[i];
    for (int i = axis + 1; i < x->rank; i++) out->dims[out->rank++] = x->dims[i];
    return LAM_OK;
}

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const view_params *p = node->params;
    if (in[0].rank < 0) return text_format(why, LAM_TEXT, "the input is missing"), LAM_EVALUE;
    switch (p->kind) {
    case VIEW_RESHAPE: return reshape(p, &in[0], out, why);
    case VIEW_FLATTEN: return flatten(p, &in[0], out, why);
    case VIEW_UNFLATTEN: return unflatten(p, &in[0], out, why);
    case VIEW_TO_RANK: break;
    }
    int lead = p->rank - in[0].rank;
    out->rank = p->rank;
    for (int i = 0; i < p->rank; i++) out->dims[i] = i < lead ? 1 : in[0].dims[i - lead];
    return LAM_OK;
}

/* Rows of a cache stay rows where only their numbers are divided. */
static unsigned reads_kept(const lam_graph *g, const lam_node *node) {
    const view_params *p = node->params;
    return p->kind == VIEW_UNFLATTEN && shape_axis(graph_shape(g, node->in[0]), p->first) == 2;
}

static const lam_op op_view = { .name = "reshape", .flags = OP_VIEW | OP_ANY_TYPE, .shape = shape, .reads_kept = reads_kept };

static lam_value add(lam_graph *g, lam_value x, const view_params *p) {
    x = graph_in_layout(g, x, LAYOUT_PLAIN);
    return graph_add(g, &op_view, 1, &x, p, sizeof *p, LAYOUT_PLAIN);
}

static int take_dims(lam_graph *g, view_params *p, int rank, const int *dims) {
    if (rank < 0 || rank > LAM_MAX_RANK) {
        graph_fail(g, LAM_EVALUE, "reshape: rank %d, expected 0 to %d", rank, LAM_MAX_RANK);
        return 0;
    }
    p->rank = rank;
    for (int i = 0; i < rank; i++) p->dims[i] = dims[i];
    return 1;
}

lam_value lam_reshape(lam_graph *g, lam_value x, int rank, const int *dims) {
    view_params p = { .kind = VIEW_RESHAPE };
    return take_dims(g, &p, rank, dims) ? add(g, x, &p) : LAM_BAD;
}

lam_value lam_flatten(lam_graph *g, lam_value x, int first, int last) {
    return add(g, x, &(view_params){ .kind = VIEW_FLATTEN, .first = first, .last = last });
}

lam_value lam_unflatten(lam_graph *g, lam_value x, int axis, int count, const int *sizes) {
    view_params p = { .kind = VIEW_UNFLATTEN, .first = axis };
    return take_dims(g, &p, count, sizes) ? add(g, x, &p) : LAM_BAD;
}

lam_value view_to_rank(lam_graph *g, lam_value x, int rank) {
    int have = graph_shape(g, x)->rank;
    return have < 0 || have >= rank ? x : add(g, x, &(view_params){ .kind = VIEW_TO_RANK, .rank = rank });
}
