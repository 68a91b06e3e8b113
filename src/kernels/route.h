/* Which experts a token goes to, and with what weights: the gates of DeepSeek's mixtures. */
#pragma once
#include <stddef.h>

typedef enum route_group { ROUTE_ALL, ROUTE_GROUP_MAX, ROUTE_GROUP_TOP_2 } route_group;

typedef struct route_rule {
    size_t experts, top_k;
    route_group group;            /* how a group of neighbouring experts is scored */
    size_t groups, kept_groups;   /* ROUTE_ALL: not used */
    float masked;                 /* what experts of the other groups compete with */
    int sigmoid;                  /* scores: sigmoid of each logit, or softmax over a token's logits */
    int norm;                     /* weights are divided by their sum + 1e-20 */
    float scale;                  /* and then multiplied by this */
} route_rule;

/* Floats of working memory. */
static inline size_t route_scratch_floats(const route_rule *rule) { return 3 * rule->experts + 2 * rule->groups; }

/* y [rows, experts] from logits [rows, experts]; y is 0 for an expert that is not chosen. The choice competes with scores + bias [experts],
 * or the scores where bias is NULL. ROUTE_GROUP_MAX and ROUTE_GROUP_TOP_2 (the sum of the two largest) keep the best groups only. A weight
 * is the score without the bias, and in ROUTE_GROUP_MAX that of the competition, `masked` for a masked expert. Of equals the first is chosen. */
void route_f32(float *y, const float *logits, const float *bias, size_t rows, const route_rule *rule, float *scratch);
