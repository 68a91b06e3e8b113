/* The state of one run; private to session.c, place.c and profile.c. */
#pragma once
#include "graph.h"
#include "plan.h"

enum { NEEDED = 1, NEEDED_F32 = 2 };

struct lam_session {
    lam_graph *g;
    lam_pool *pool;
    int *layers, layer_count; /* the graph's nodes that run: all that the chosen outputs depend on, in order */
    int first_output, output_count;   /* of the graph's */
    unsigned char *needed;    /* [g->value_count] NEEDED: it is computed or read, NEEDED_F32: by what takes nothing but f32 */
    lam_shape *input_shapes;  /* [g->input_count] as set by resize; rank -1 before */
    lam_tensor *tensors;      /* [g->value_count]; data of a weight is the graph's, of a cache its state, of
                               * everything else in the arena */
    lam_tensor *arguments;    /* [most inputs of a node] */
    int *root;                /* [g->value_count] the value whose memory this one is */
    size_t *scratch;          /* [layer_count][3] offset in the arena, floats per thread, shared floats */
    float *arena;
    size_t arena_floats;
    int ready;                /* prepare succeeded and no resize since */
    int stale;                /* the position has moved since prepare */
    int step;                 /* next layer of a run in progress */
    int asked, paused;        /* of a layer whose experts are outside: the caller has been asked for them; where it goes on */
    int profiling;
    int donated;              /* inputs may be written over */
    double *milliseconds;     /* [layer_count] */
    int context;              /* tokens that caches have room for; 0: nothing is kept between runs */
    lam_precision kept;       /* of their rows, where all that read them can */
    int position, filled;     /* tokens before the next run; tokens that the caches hold */
    int tokens;               /* of the prepared run; 0 when the graph has no cache */
    float **states;           /* [layer_count] of caches, NULL elsewhere and until prepare */
    size_t *state_floats;     /* [layer_count] */
    plan_block *blocks;       /* the plan: a block per value with memory of its own, then one per layer for its scratch */
    int block_count, planned; /* is there a plan for sizes like these */
    size_t *sizes;            /* [g->value_count] elements at the time of the plan */
    int *last, *owner, *order;
    char error[LAM_TEXT];
};

/* -- place.c -- */
/* Gives every tensor its memory, keeping the last plan where the sizes still fit it. */
lam_status session_place(lam_session *s);

/* -- session.c -- */
lam_status session_fail(lam_session *s, lam_status status, const char *format, ...);
static inline lam_node *session_node(const lam_session *s, int layer) { return &s->g->nodes[s->layers[layer]]; }
/* Does the layer's output live in memory that outlives the run. */
static inline int session_keeps(const lam_session *s, const lam_node *n) { return s->context > 0 && (n->op->flags & OP_CACHE); }
/* Is the layer's output the memory of its first input. */
static inline int session_views(const lam_session *s, const lam_node *n) {
    return (n->op->flags & OP_VIEW) || ((n->op->flags & OP_CACHE) && !s->context);
}
/* Everything a layer's run needs. Uses s->arguments, so one at a time. */
lam_run session_bind(const lam_session *s, int layer);
