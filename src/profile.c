/* What there is to say about each layer: of the plan, and of the last run. */
#include "kernels/kept_rows.h"
#include "session.h"

int lam_layer_count(const lam_session *s) { return s->layer_count; }
const char *lam_layer_name(const lam_session *s, int layer) { return session_node(s, layer)->label; }
const char *lam_layer_path(const lam_session *s, int layer) { return session_node(s, layer)->path; }

static const lam_shape *output_shape(const lam_session *s, int layer) {
    return &s->tensors[session_node(s, layer)->out].shape;
}

int lam_layer_rank(const lam_session *s, int layer) { return output_shape(s, layer)->rank; }
int lam_layer_dim(const lam_session *s, int layer, int axis) { return output_shape(s, layer)->dims[axis]; }
void lam_session_profile(lam_session *s, int on) { s->profiling = on; }
double lam_layer_milliseconds(const lam_session *s, int layer) { return s->milliseconds[layer]; }

double lam_layer_flops(const lam_session *s, int layer) {
    lam_run run = session_bind(s, layer);
    if (session_views(s, run.node)) return 0;
    double elements = (double)shape_elements(&run.out.shape);
    double own = run.node->op->flops ? run.node->op->flops(&run) : elements;
    return own + elements * ((run.node->add >= 0) + (run.node->activation != LAM_IDENTITY));
}

static size_t tensor_bytes(const lam_tensor *x) {
    size_t elements = shape_elements(&x->shape);
    if (x->precision == LAM_PRECISION_F32 || !elements) return elements * sizeof(float);
    size_t width = shape_tail(&x->shape, 2);   /* of a cache, perhaps divided */
    return elements / width * kept_row_bytes(x->precision, width);
}

double lam_layer_bytes(const lam_session *s, int layer) {
    lam_run run = session_bind(s, layer);
    const lam_node *n = run.node;
    if (session_views(s, n)) return 0;
    size_t bytes = tensor_bytes(&run.out) + n->packed_floats * sizeof(float);
    if (run.add.data) bytes += tensor_bytes(&run.add);
    for (int i = 0; i < n->in_count; i++)
        if (run.in[i].data) bytes += tensor_bytes(&run.in[i]);
    return (double)bytes;
}

int lam_layer_weight(const lam_session *s, int layer, int i) {
    const lam_node *n = session_node(s, layer);
    const lam_value extra[] = { n->add, n->norm.mean, n->norm.var, n->norm.weight, n->norm.bias };
    for (int j = 0; j < n->in_count + 5; j++) {
        lam_value x = j < n->in_count ? n->in[j] : extra[j - n->in_count];
        if (x >= 0 && s->g->values[x].weight >= 0 && !i--) return s->g->values[x].weight;
    }
    return -1;
}
