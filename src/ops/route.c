/* The gate of a mixture of experts. */
#include "../kernels/route.h"
#include "../text.h"
#include "ops.h"

enum { LOGITS, BIAS };

typedef struct route_params {
    int top_k, groups, kept_groups, norm;
    lam_scoring scoring;
    lam_route_method method;
    float masked, scale;
} route_params;

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const route_params *p = node->params;
    const lam_shape *x = &in[LOGITS], *bias = &in[BIAS];
    int experts = x->rank < 1 ? LAM_ANY : x->dims[x->rank - 1];
    if (experts == LAM_ANY) return text_format(why, LAM_TEXT, "logits %v should be [..., experts]", x), LAM_EVALUE;
    if (p->top_k < 1 || p->top_k > experts) return text_format(why, LAM_TEXT, "%d of %d experts for each token", p->top_k, experts), LAM_EVALUE;
    if (bias->rank >= 0 && (bias->rank != 1 || bias->dims[0] != experts))
        return text_format(why, LAM_TEXT, "bias %v for %d experts", bias, experts), LAM_EVALUE;
    if (bias->rank >= 0 && p->method != LAM_NOAUX_TC)
        return text_format(why, LAM_TEXT, "a bias %v, which only noaux_tc has", bias), LAM_EVALUE;
    *out = *x;
    if (p->method == LAM_GREEDY) return LAM_OK;
    if (p->groups < 1 || experts % p->groups)
        return text_format(why, LAM_TEXT, "%d groups do not divide %d experts", p->groups, experts), LAM_EVALUE;
    if (p->kept_groups < 1 || p->kept_groups > p->groups)
        return text_format(why, LAM_TEXT, "%d of %d groups are kept", p->kept_groups, p->groups), LAM_EVALUE;
    if (p->method == LAM_NOAUX_TC && experts / p->groups < 2)
        return text_format(why, LAM_TEXT, "%d groups of %d experts have less than two each", p->groups, experts), LAM_EVALUE;
    return LAM_OK;
}

static route_rule rule_of(const lam_run *r) {
    const route_params *p = r->node->params;
    const lam_shape *x = &r->in[LOGITS].shape;
    static const route_group group[] = { [LAM_GREEDY] = ROUTE_ALL, [LAM_GROUP_LIMITED_GREEDY] = ROUTE_GROUP_MAX, [LAM_NOAUX_TC] = ROUTE_GROUP_TOP_2 };
    return (route_rule){
        .experts = (size_t)x->dims[x->rank - 1], .top_k = (size_t)p->top_k, .group = group[p->method], .groups = (size_t)p->groups,
        .kept_groups = (size_t)p->kept_groups, .masked = p->masked, .sigmoid = p->scoring == LAM_SCORE_SIGMOID, .norm = p->norm, .scale = p->scale,
    };
}

typedef struct job { const lam_run *run; route_rule rule; size_t rows, block; } job;

static void scratch(const lam_run *r, size_t *per_thread, size_t *shared) {
    (void)shared;
    route_rule rule = rule_of(r);
    *per_thread = route_scratch_floats(&rule);
}

static void choose(void *argument, int index, int thread) {
    const job *j = argument;
    const lam_run *r = j->run;
    size_t row = (size_t)index * j->block, rows = j->rows - row < j->block ? j->rows - row : j->block, at = row * j->rule.experts;
    route_f32(r->out.data + at, r->in[LOGITS].data + at, r->in[BIAS].data, rows, &j->rule, r->scratch + (size_t)thread * r->scratch_floats);
}

static void run(const lam_run *r) {
    job j = { .run = r, .rule = rule_of(r), .block = 16 };
    j.rows = shape_elements(&r->out.shape) / j.rule.experts;
    pool_for(r->pool, (int)((j.rows + j.block - 1) / j.block), choose, &j);
}

static double flops(const lam_run *r) {
    const route_params *p = r->node->params;
    return (6.0 + p->top_k) * (double)shape_elements(&r->out.shape);
}

static const lam_op op_route = { .name = "route", .shape = shape, .scratch = scratch, .run = run, .flops = flops };

int route_top_k(const lam_graph *g, lam_value x) {
    if (x < 0 || g->values[x].node < 0) return 0;
    const lam_node *n = &g->nodes[g->values[x].node];
    return n->op == &op_route ? ((const route_params *)n->params)->top_k : 0;
}

lam_value lam_route(lam_graph *g, lam_value logits, lam_value bias, int top_k, lam_scoring scoring, lam_route_method method, int groups,
                    int kept_groups, float masked, int norm, float scale) {
    if ((unsigned)scoring > LAM_SCORE_SIGMOID || (unsigned)method > LAM_NOAUX_TC)
        return graph_fail(g, LAM_EVALUE, "route: there is no scoring %d with method %d", (int)scoring, (int)method);
    const lam_value in[] = { graph_in_layout(g, logits, LAYOUT_PLAIN), bias };
    const int grouped = method != LAM_GREEDY;
    return graph_add(g, &op_route, 2, in, &(route_params){
        .top_k = top_k, .groups = grouped ? groups : 0, .kept_groups = grouped ? kept_groups : 0, .norm = norm, .scoring = scoring,
        .method = method, .masked = masked, .scale = scale,
    }, sizeof(route_params), LAYOUT_PLAIN);
}
