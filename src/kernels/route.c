#include "route.h"
#include "activation.h"
#include "softmax.h"

/* taken[i] becomes 1 for the k largest of values [n], the first of equals, and 0 for the others. */
static void take_largest(float *taken, const float *values, size_t n, size_t k) {
    for (size_t i = 0; i < n; i++) taken[i] = 0;
    for (; k; k--) {
        size_t best = n;
        for (size_t i = 0; i < n; i++) {
            if (taken[i] == 0 && (best == n || values[i] > values[best])) best = i;
        }
        taken[best] = 1;
    }
}

static float group_score(const float *values, size_t n, route_group group) {
    float first = values[0], second = n > 1 ? values[1] : 0;
    if (n > 1 && second > first) {
        first = values[1];
        second = values[0];
    }
    for (size_t i = 2; i < n; i++) {
        if (values[i] > first) {
            second = first;
            first = values[i];
        } else if (values[i] > second) {
            second = values[i];
        }
    }
    return group == ROUTE_GROUP_MAX ? first : first + second;
}

/* Experts outside the best groups compete with `masked`. */
static void mask_groups(float *choice, const route_rule *rule, float *scratch) {
    size_t size = rule->experts / rule->groups;
    float *score = scratch, *kept = scratch + rule->groups;
    for (size_t i = 0; i < rule->groups; i++) score[i] = group_score(choice + i * size, size, rule->group);
    take_largest(kept, score, rule->groups, rule->kept_groups);
    for (size_t i = 0; i < rule->experts; i++) {
        if (kept[i / size] == 0) choice[i] = rule->masked;
    }
}

static void route_token(float *y, const float *logits, const float *bias, const route_rule *rule, float *scratch) {
    const size_t n = rule->experts;
    float *scores = scratch, *choice = scores + n, *taken = choice + n;
    if (rule->sigmoid) activation_f32(scores, logits, n, LAM_SIGMOID);
    else softmax_f32(scores, logits, 1, n);
    for (size_t i = 0; i < n; i++) choice[i] = bias ? scores[i] + bias[i] : scores[i];
    if (rule->group != ROUTE_ALL) mask_groups(choice, rule, taken + n);
    take_largest(taken, choice, n, rule->top_k);
    const float *weights = rule->group == ROUTE_GROUP_MAX ? choice : scores;
    float sum = 0;
    for (size_t i = 0; i < n; i++) {
        if (taken[i] != 0) sum += weights[i];
    }
    for (size_t i = 0; i < n; i++) {
        float weight = rule->norm ? weights[i] / (sum + 1e-20f) : weights[i];
        y[i] = taken[i] != 0 ? weight * rule->scale : 0;
    }
}

void route_f32(float *y, const float *logits, const float *bias, size_t rows, const route_rule *rule, float *scratch) {
    for (size_t i = 0; i < rows; i++) route_token(y + i * rule->experts, logits + i * rule->experts, bias, rule, scratch);
}
