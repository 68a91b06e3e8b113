/* What a graph is made of, for the files of the engine and for the layers in ops/. lamella.h is the public side.
 *
 * A value is a tensor: an input, a weight or the result of a node. A node applies an op to values. An op is a constant
 * table of functions, found by pointer: a new layer is a new file in ops/ and needs no entry anywhere else in the engine.
 */
#pragma once
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include "lamella.h"
#include "pool.h"

typedef struct lam_shape {
    int rank;
    int dims[LAM_MAX_RANK];   /* in PyTorch's order whatever the layout; LAM_ANY where unknown before a session */
} lam_shape;

/* How the numbers of a rank-4 value lie in memory. Everything else is plain, row by row in the order of the shape. */
typedef enum lam_layout { LAYOUT_PLAIN, LAYOUT_CHANNELS_LAST } lam_layout;

typedef struct lam_op lam_op;
typedef struct lam_node lam_node;

/* A concrete tensor during a run. data is NULL for an argument that was left out. */
typedef struct lam_tensor {
    float *data;
    lam_shape shape;
    lam_precision precision;  /* f32, or that of a cache's rows (kernels/kept_rows.h), for ops that said they can read them */
} lam_tensor;

/* All that an op's run sees. */
typedef struct lam_run {
    const lam_node *node;
    const lam_tensor *in;     /* [node->in_count] */
    lam_tensor out;
    lam_tensor add;           /* fused residual, same shape and layout as out; data NULL without one */
    lam_pool *pool;
    float *scratch;           /* scratch_floats per thread, thread t's at scratch + t * scratch_floats; then shared_floats */
    size_t scratch_floats;
    float *shared;
    int position;             /* tokens that the session has seen before this run; 0 without a context */
    int *paused;              /* 0 at first; left other than 0 by a layer that waits for weights from outside, which is then run again */
} lam_run;

enum {
    OP_VIEW = 1,            /* the output is the first input's memory */
    OP_IN_PLACE = 2,        /* the output may be written over the first input, or over the second, if they are equally large */
    OP_TAKES_ACTIVATION = 4,/* applies node->activation to what it writes */
    OP_TAKES_ADD = 8,       /* adds run->add before the activation; may be written in place of it */
    OP_TAKES_BATCH_NORM = 16,/* folds node->norm into its weights in finish */
    OP_ANY_TYPE = 32,         /* moves numbers without looking at them: all inputs and the output are of one type */
    OP_MAKES_I32 = 64,        /* the output is i32 */
    OP_CACHE = 128,           /* in a session with a context the output is memory that outlives the run; else as OP_VIEW */
    OP_IN_PLACE_FIRST = 256,  /* as OP_IN_PLACE, but over the first input only */
    OP_PACKS_CODES = 1024,    /* pack is given rows that may not be f32 yet: product_pack or weights_expand see to them */
    OP_PACKS_FEWER_BITS = 512,/* takes its weights as they are while node->precision is f32 */
};

/* A layer. shape and finish may fail; run may not fail, allocate or print. */
struct lam_op {
    const char *name;
    unsigned flags;
    /* Bits of the inputs that pack turns into another form, the last bit for all from 31 on; the other weights are kept as plain f32. */
    unsigned packs;
    /* Bits of the inputs that are i32; all others are f32. */
    unsigned integers;
    /* Output shape from input shapes, with LAM_ANY where unknown; called at define time and again with every session's sizes.
     * An input left out has rank -1. On a mismatch writes why into `why` [LAM_TEXT] and returns LAM_EVALUE. */
    lam_status (*shape)(const lam_node *node, const lam_shape *in, lam_shape *out, char *why);
    /* Corrects *out for the sizes of one run that begins at this position; NULL when the position does not matter. */
    void (*at)(const lam_node *node, const lam_shape *in, int position, lam_shape *out);
    /* OP_CACHE: floats to keep for `context` tokens. */
    size_t (*state)(const lam_node *node, const lam_shape *in, int context, lam_precision precision);
    /* Bits of the inputs that may be rows of a cache in fewer bits; of a view that its output then is. NULL: none. */
    unsigned (*reads_kept)(const lam_graph *g, const lam_node *node);
    /* Floats of node->packed, settled at compile time. NULL: none. Not cleared: pack and finish write all of it, padding too, since touching
     * new memory is most of what loading takes. */
    size_t (*packed)(const lam_graph *g, lam_node *node);
    /* Writes rows [first, first + rows) of weight input `in` into node->packed. */
    void (*pack)(const lam_graph *g, lam_node *node, int in, const float *data, int first, int rows);
    /* Weight input `in` has arrived. NULL: nothing to do. */
    void (*arrived)(const lam_graph *g, lam_node *node, int in);
    /* All weights of the node have arrived: fold biases and batch norm into node->packed. */
    lam_status (*finish)(const lam_graph *g, lam_node *node);
    /* Floats of working memory: per thread, and once for all threads. NULL: none. */
    void (*scratch)(const lam_run *run, size_t *per_thread, size_t *shared);
    /* Looks at whole numbers that come from the caller before a run: why not, and LAM_EINPUT. NULL: any will do. */
    lam_status (*check)(const lam_run *run, char *why);
    void (*run)(const lam_run *run);
    double (*flops)(const lam_run *run);   /* NULL: one per output element */
};

typedef struct lam_norm {   /* a batch norm folded into the layer before it */
    lam_value mean, var, weight, bias;
    float eps;
} lam_norm;

struct lam_node {
    const lam_op *op;
    char *path;              /* scope at define time */
    char *label;             /* "conv2d+batch_norm+relu", made by lam_compile */
    int in_count;
    lam_value *in;
    lam_value out;
    void *params;            /* private to the op's file */
    lam_activation activation;
    lam_value add;           /* LAM_NONE without */
    lam_norm norm;           /* norm.mean LAM_NONE without */
    float *packed;
    size_t packed_floats;
    lam_precision precision; /* of packed; f32 unless the op finds otherwise in `packed`: then packed begins as zeros */
    int slots;               /* experts that packed has room for, the others being outside; 0: it has all */
    int removed;             /* fused into another */
    int waiting;             /* weights that have not arrived wholly */
    float *fold;             /* its norm as scale and then shift: in finish, and in pack where it came before the weight; else NULL */
    int folded;              /* pack had it from the first row on */
};

enum { SEVERAL_INPUTS = -2 };

typedef struct lam_value_info {
    lam_shape shape;
    lam_layout layout;
    lam_type type;
    int node;                /* producer, or -1 */
    int weight, input;       /* index among the graph's, or -1 */
    int source;              /* the input it depends on, -1: none, SEVERAL_INPUTS */
    lam_value twin;          /* the same numbers in the other layout, once made; else LAM_NONE */
} lam_value_info;

typedef struct lam_weight_info {
    char *name;
    lam_value value;
    int rows, row_elements;
    int first_use, last_use; /* nodes between which it is used, known once the graph is planned */
    int loaded;              /* rows that have arrived */
    unsigned char *arrived;  /* [rows] */
    float *plain;            /* kept for ops that read it as it is; NULL when every consumer packs it */
    int needs_plain;
    lam_precision precision; /* that is asked for */
} lam_weight_info;

/* Rows of codes on their way in. Ops get the place in `staging` where they are or will be as f32. */
typedef struct coded_rows {
    lam_precision precision;   /* of the codes */
    const unsigned char *rows; /* [count] of quantized_coded_bytes */
    size_t count, elements;    /* elements of a row */
    int expanded;
} coded_rows;

enum { LAM_TEXT = 512 };

struct lam_graph {
    lam_value_info *values;   int value_count, value_room;
    lam_node *nodes;          int node_count, node_room;
    lam_weight_info *weights; int weight_count, weight_room;
    lam_value *inputs;        int input_count, input_room;
    lam_value *outputs;       int output_count, output_room;
    char *scope;
    int planned, compiled;
    int *layers;              int layer_count;     /* nodes that run, in order */
    float *staging;           size_t staging_floats;
    coded_rows *coded;        /* while lam_load packs codes; else NULL */
    lam_status status;
    char error[LAM_TEXT];
};

/* -- graph.c: for the ops -- */

/* Records a node and returns its output, LAM_BAD when an input is bad or shape refuses. params is copied. */
lam_value graph_add(lam_graph *g, const lam_op *op, int in_count, const lam_value *in, const void *params, size_t params_size,
                    lam_layout layout);
/* The same numbers in the wanted layout, converted once per value however many layers ask. Not rank 4: x itself. */
lam_value graph_in_layout(lam_graph *g, lam_value x, lam_layout layout);
lam_layout graph_layout(const lam_graph *g, lam_value x);
const lam_shape *graph_shape(const lam_graph *g, lam_value x);   /* rank -1 for LAM_NONE and LAM_BAD */
/* Keeps the first error, behind the scope while recording. Returns LAM_BAD so that a define can end with it. */
lam_value graph_fail(lam_graph *g, lam_status status, const char *format, ...);
/* The weights of a layer are packed while loading, so they cannot be computed values. True for LAM_NONE too. */
int graph_is_weight(const lam_graph *g, lam_value x);
/* Concrete plain data of a weight value, NULL for LAM_NONE. */
const float *graph_plain(const lam_graph *g, lam_value weight);

/* -- shapes -- */
size_t shape_elements(const lam_shape *shape);                   /* of a concrete shape */
size_t shape_tail(const lam_shape *shape, int first);            /* product of dims[first..] */
int shape_axis(const lam_shape *shape, int axis);                /* negative counts from the end; -1 when outside */
int shape_same(const lam_shape *a, const lam_shape *b);
/* LAM_ANY agrees with everything. */
static inline int dim_agrees(int a, int b) { return a == b || a == LAM_ANY || b == LAM_ANY; }
/* As a dimension: what is larger than any is the largest there is. */
static inline int dim_limit(int64_t size) { return size > INT_MAX ? INT_MAX : (int)size; }
static inline int dim_times(int a, int b) { return a == LAM_ANY || b == LAM_ANY ? LAM_ANY : dim_limit((int64_t)a * b); }

/* a * b floats of working memory, or so many that prepare refuses them where the product would wrap round. */
static inline size_t scratch_times(size_t a, size_t b) {
    size_t product;
    return __builtin_mul_overflow(a, b, &product) || product > SIZE_MAX / sizeof(float) ? SIZE_MAX / sizeof(float) : product;
}

/* -- the stages -- */
void fuse_graph(lam_graph *g);                                   /* fuse.c */
void weights_measure(lam_graph *g);                              /* weights.c: decide packed forms */
lam_status weights_allocate(lam_graph *g);                       /* and make room for them */
void weights_expand(const lam_graph *g);                         /* the codes that are being loaded, if any, as f32 in staging */
