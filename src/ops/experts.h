/* Where the weights of a layer of experts lie: what experts.c, which computes, and expert_pages.c, which keeps them outside, share. */
#pragma once
#include <stdint.h>
#include "product.h"

enum { EXPERTS_X, EXPERTS_ROUTING, EXPERTS_WEIGHTS };
enum { EXPERTS_GATE, EXPERTS_UP, EXPERTS_DOWN, EXPERTS_PARTS };

typedef struct experts_params {
    int count, chosen;
    lam_activation activation;
    lam_precision hidden, down;   /* of gate and up; of down */
} experts_params;

typedef struct experts_places {
    product hidden, down;                          /* x by gate or up; hidden rows by down */
    size_t hidden_floats, down_floats, expert;     /* of gate or up, of down, of all three */
    size_t table;                                  /* floats before the first */
} experts_places;

extern const lam_op op_experts;

experts_places experts_places_of(const lam_node *node, const lam_shape *gate, const lam_shape *down);
experts_places experts_places_in(const lam_graph *g, const lam_node *node);
static inline const product *experts_product(const experts_places *s, int part) { return part == EXPERTS_DOWN ? &s->down : &s->hidden; }

/* node->packed begins, where only some experts are here (node->slots other than 0), with this table [count]: an expert's slot + 1, or 0. */
static inline int32_t *experts_table(const lam_node *node) { return (int32_t *)(void *)node->packed; }
/* Where the expert's weights are; -1: outside. */
static inline int experts_slot(const lam_node *node, size_t expert) { return node->slots ? experts_table(node)[expert] - 1 : (int)expert; }
static inline float *experts_part(const lam_node *node, const experts_places *s, size_t slot, int part) {
    return node->packed + s->table + slot * s->expert + (size_t)part * s->hidden_floats;
}
/* Of routing [rows, count]: does a row go to the expert. */
int experts_wants(const lam_tensor *routing, size_t expert);
