/* The state of one run; private to session.c and profile.c. */
#pragma once
#include "graph.h"

struct lam_session {
    lam_graph *g;
    lam_pool *pool;
    lam_shape *input_shapes;  /* [g->input_count] as set by resize; rank -1 before */
    lam_tensor *tensors;      /* [g->value_count]; data of a weight is the graph's, of everything else in the arena */
    lam_tensor *arguments;    /* [most inputs of a node] */
    int *root;                /* [g->value_count] the value whose memory this one is */
    size_t *scratch;          /* [g->layer_count][3] offset in the arena, floats per thread, shared floats */
    float *arena;
    size_t arena_floats;
    int ready;                /* prepare succeeded and no resize since */
    int step;                 /* next layer of a run in progress */
    int profiling;
    double *milliseconds;     /* [g->layer_count] */
    char error[LAM_TEXT];
};

/* Everything a layer's run needs. Uses s->arguments, so one at a time. */
lam_run session_bind(const lam_session *s, int layer);
