/* The gate against the rule by ranks in double, then through a graph: batches, threads, what is refused. */
#include "check.h"
#include "kernels/route.h"
#include "lamella.h"
#include "pool.h"

enum { MOST = 64 };

/* How many come before value i: larger, or equal with a lower index. */
static size_t rank_of(const double *values, size_t n, size_t i) {
    size_t rank = 0;
    for (size_t j = 0; j < n; j++) rank += values[j] > values[i] || (values[j] == values[i] && j < i);
    return rank;
}

static void reference(float *y, const float *logits, const float *bias, const route_rule *rule) {
    double score[MOST], choice[MOST], group[MOST] = { 0 }, sum = 0, weight[MOST];
    size_t n = rule->experts, size = rule->group == ROUTE_ALL ? n : n / rule->groups;
    for (size_t i = 0; i < n; i++) sum += exp((double)logits[i]);
    for (size_t i = 0; i < n; i++) {
        score[i] = rule->sigmoid ? 1 / (1 + exp(-(double)logits[i])) : exp((double)logits[i]) / sum;
        choice[i] = score[i] + (bias ? bias[i] : 0);
    }
    if (rule->group != ROUTE_ALL) {
        for (size_t i = 0; i < n; i++) {
            size_t rank = rank_of(choice + i / size * size, size, i % size);
            if (rank < (rule->group == ROUTE_GROUP_MAX ? 1 : 2)) group[i / size] += choice[i];
        }
        for (size_t i = 0; i < n; i++)
            if (rank_of(group, rule->groups, i / size) >= rule->kept_groups) choice[i] = rule->masked;
    }
    sum = 0;
    for (size_t i = 0; i < n; i++) {
        weight[i] = rank_of(choice, n, i) >= rule->top_k ? 0 : rule->group == ROUTE_GROUP_MAX ? choice[i] : score[i];
        sum += weight[i];
    }
    for (size_t i = 0; i < n; i++) y[i] = (float)(weight[i] * rule->scale / (rule->norm ? sum + 1e-20 : 1));
}

static route_rule any_rule(void) {
    size_t groups = check_size(1, 6), size = check_size(2, MOST / 6);
    route_rule rule = { .experts = groups * size, .group = (route_group)check_size(0, 2), .groups = groups, .kept_groups = check_size(1, groups),
                        .masked = check_size(0, 1) ? 0 : -INFINITY, .sigmoid = (int)check_size(0, 1), .norm = (int)check_size(0, 1),
                        .scale = check_uniform(0.5f, 3) };
    rule.top_k = check_size(1, rule.group == ROUTE_ALL ? rule.experts : rule.kept_groups * size);
    return rule;
}

static void random_rules(void) {
    route_rule rule = any_rule();
    size_t rows = check_size(1, 5), n = rule.experts;
    float *logits = check_floats(rows * n), *bias = check_floats(n), *y = check_floats(rows * n), *expected = check_floats(rows * n);
    float *scratch = check_floats(route_scratch_floats(&rule));
    for (size_t i = 0; i < rows * n; i++) logits[i] *= 4;
    const float *given = rule.group == ROUTE_GROUP_TOP_2 ? bias : NULL;
    /* Negative biases let masked experts with 0 win, positive ones do not. */
    for (size_t i = 0; i < n; i++) bias[i] = bias[i] * 0.3f - (rows % 2 ? 0.4f : 0);
    for (size_t i = 0; i < rows; i++) reference(expected + i * n, logits + i * n, given, &rule);
    route_f32(y, logits, given, rows, &rule, scratch);
    check_close(y, expected, rows * n, 2e-6, "route");
    check_free(logits), check_free(bias), check_free(y), check_free(expected), check_free(scratch);
}

/* Equal scores: the lowest index is chosen, of groups too. */
static void ties(void) {
    float logits[8] = { 0 }, y[8], scratch[40];
    route_rule rule = { .experts = 8, .top_k = 3, .scale = 1 };
    route_f32(y, logits, NULL, 1, &rule, scratch);
    for (int i = 0; i < 8; i++) CHECK(y[i] == (i < 3 ? 0.125f : 0), "element %d is %g", i, y[i]);
    rule = (route_rule){ .experts = 8, .top_k = 2, .group = ROUTE_GROUP_MAX, .groups = 4, .kept_groups = 2, .norm = 1, .scale = 2 };
    logits[5] = 1, logits[7] = 1, logits[4] = -5;
    route_f32(y, logits, NULL, 1, &rule, scratch);
    for (int i = 0; i < 8; i++) CHECK(y[i] == (i == 5 || i == 7 ? 1.0f : 0), "element %d is %g", i, y[i]);
}

static void graph(lam_pool *pool) {
    enum { ROWS = 77, EXPERTS = 12 };
    static const float bias[EXPERTS] = { 0.3f, -0.2f, 0.1f, 0, 0.05f, -0.4f, 0.2f, 0.15f, -0.1f, 0.25f, 0, 0.35f };
    const route_rule rule = { .experts = EXPERTS, .top_k = 3, .group = ROUTE_GROUP_TOP_2, .groups = 3, .kept_groups = 2, .sigmoid = 1, .norm = 1, .scale = 2.5f };
    lam_graph *g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 3, (int[]){ LAM_ANY, LAM_ANY, EXPERTS });
    lam_output(g, lam_route(g, x, lam_weight(g, "bias", 1, (int[]){ EXPERTS }), 3, LAM_SCORE_SIGMOID, LAM_NOAUX_TC, 3, 2, 0, 1, 2.5f));
    CHECK(lam_compile(g) == LAM_OK && lam_load(g, 0, LAM_F32, bias, 0, EXPERTS) == LAM_OK, "%s", lam_graph_error(g));
    lam_session *s = lam_session_new(g, pool);
    CHECK(lam_session_resize(s, 0, 3, (int[]){ 7, 11, EXPERTS }) == LAM_OK && lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
    float *in = lam_session_input(s, 0), *expected = check_floats(ROWS * EXPERTS);
    for (int i = 0; i < ROWS * EXPERTS; i++) in[i] = check_uniform(-3, 3);
    for (int i = 0; i < ROWS; i++) reference(expected + i * EXPERTS, in + i * EXPERTS, bias, &rule);
    lam_session_run(s);
    check_close(lam_session_output(s, 0), expected, ROWS * EXPERTS, 2e-6, "route in a graph");
    check_free(expected);
    lam_session_free(s);
    lam_graph_free(g);
}

static void errors(void) {
    static const struct { int top_k, biased, groups, kept; lam_route_method method; const char *message; } cases[] = {
        { 13, 0, 1, 1, LAM_GREEDY, "route: 13 of 12 experts for each token" },
        { 0, 0, 1, 1, LAM_GREEDY, "route: 0 of 12 experts for each token" },
        { 2, 1, 1, 1, LAM_NOAUX_TC, "route: bias [11] for 12 experts" },
        { 2, 2, 1, 1, LAM_GREEDY, "route: a bias [12], which only noaux_tc has" },
        { 2, 0, 5, 1, LAM_GROUP_LIMITED_GREEDY, "route: 5 groups do not divide 12 experts" },
        { 2, 0, 4, 5, LAM_NOAUX_TC, "route: 5 of 4 groups are kept" },
        { 2, 0, 12, 5, LAM_NOAUX_TC, "route: 12 groups of 12 experts have less than two each" },
        { 2, 0, 12, 5, (lam_route_method)3, "route: there is no scoring 0 with method 3" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lam_graph *g = lam_graph_new();
        lam_value x = lam_input(g, LAM_F32, 2, (int[]){ LAM_ANY, 12 });
        lam_value bias = cases[i].biased ? lam_weight(g, "bias", 1, (int[]){ 10 + cases[i].biased }) : LAM_NONE;
        lam_value y = lam_route(g, x, bias, cases[i].top_k, LAM_SCORE_SOFTMAX, cases[i].method, cases[i].groups, cases[i].kept, 0, 0, 1);
        CHECK(y == LAM_BAD && !strcmp(lam_graph_error(g), cases[i].message), "\"%s\", expected \"%s\"", lam_graph_error(g), cases[i].message);
        lam_graph_free(g);
    }
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    for (int i = 0; i < 2000; i++) random_rules();
    ties();
    lam_pool *pool = lam_pool_new(3);
    graph(NULL);
    graph(pool);
    lam_pool_free(pool);
    errors();
    return check_end("route");
}
