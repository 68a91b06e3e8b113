/* Pointwise functions that no layer took into its own pass. */
#include "../kernels/activation.h"
#include "../text.h"
#include "ops.h"

typedef struct activation_params { lam_activation kind; } activation_params;
typedef struct softplus_params { float beta, threshold; } softplus_params;

lam_activation activation_of(const lam_node *node) { return ((const activation_params *)node->params)->kind; }

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    (void)node;
    (void)why;
    *out = in[0];
    return LAM_OK;
}

enum { CHUNK = 16 * 1024 };

typedef struct job { const lam_run *run; size_t n; } job;

static void apply(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    size_t at = (size_t)index * CHUNK, n = j->n - at < CHUNK ? j->n - at : CHUNK;
    activation_f32(j->run->out.data + at, j->run->in[0].data + at, n, activation_of(j->run->node));
}

static void apply_softplus(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    const softplus_params *p = j->run->node->params;
    size_t at = (size_t)index * CHUNK, n = j->n - at < CHUNK ? j->n - at : CHUNK;
    softplus_f32(j->run->out.data + at, j->run->in[0].data + at, n, p->beta, p->threshold);
}

static void run_chunks(const lam_run *r, lam_task *task) {
    job j = { r, shape_elements(&r->out.shape) };
    pool_for(r->pool, (int)((j.n + CHUNK - 1) / CHUNK), task, &j);
}

static void run(const lam_run *r) { run_chunks(r, apply); }
static void run_softplus(const lam_run *r) { run_chunks(r, apply_softplus); }

const lam_op op_activation = { .name = "activation", .flags = OP_IN_PLACE, .shape = shape, .run = run };
static const lam_op op_softplus = { .name = "softplus", .flags = OP_IN_PLACE, .shape = shape, .run = run_softplus };

lam_value lam_activate(lam_graph *g, lam_value x, lam_activation kind) {
    if ((unsigned)kind >= LAM_ACTIVATIONS) return graph_fail(g, LAM_EVALUE, "activation: there is no kind %d", (int)kind);
    return graph_add(g, &op_activation, 1, &x, &(activation_params){ kind }, sizeof(activation_params), graph_layout(g, x));
}

lam_value lam_softplus(lam_graph *g, lam_value x, float beta, float threshold) {
    if (beta == 0) return graph_fail(g, LAM_EVALUE, "softplus: beta 0");
    return graph_add(g, &op_softplus, 1, &x, &(softplus_params){ beta, threshold }, sizeof(softplus_params), graph_layout(g, x));
}
