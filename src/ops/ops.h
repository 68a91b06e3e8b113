/* What the engine must recognise of the ops, and what several ops share; everything else about an op stays in its file. */
#pragma once
#include "../graph.h"

/* -- for fuse.c -- */
extern const lam_op op_activation, op_attention, op_batch_norm, op_linear;
lam_norm batch_norm_of(const lam_node *node);             /* of an op_batch_norm node */
lam_activation activation_of(const lam_node *node);       /* of an op_activation node */
int arithmetic_is(const lam_node *node, lam_binary op);   /* is it this arithmetic */
int permute_swaps_heads(const lam_node *node);            /* is it the permutation 0, 2, 1, 3 */
void attention_by_token(lam_node *node);                  /* its output becomes that permutation of itself */

/* -- for layers that only copy numbers -- */
static inline double flops_none(const lam_run *run) {
    (void)run;
    return 0;
}

/* -- for session.c -- */
int cache_stride(const lam_node *node);                   /* of an op_cache node: tokens per row */

/* -- move.c -- */
/* What x is the permutation 0, 2, 1, 3 of; LAM_NONE if it is none. */
lam_value permuted_heads(const lam_graph *g, lam_value x);

/* -- linear.c -- */
/* x [..., in] by a weight [in, out], packed like any linear layer's. */
lam_value linear_matrix(lam_graph *g, lam_value x, lam_value matrix);

/* -- batch_norm.c -- */
/* A fused batch norm as scale [n] followed by shift [n]; the caller frees it. NULL when out of memory. */
float *norm_scale_shift(const lam_graph *g, const lam_norm *norm);

/* -- layout.c -- */
/* The sizes as they lie in memory: {n, h, w, c} for channels last, else the shape's own. */
lam_shape layout_sizes(const lam_shape *shape, lam_layout layout);
/* Where a logical axis lies in memory. */
int layout_axis(int axis, lam_layout layout);

/* -- view.c -- */
/* x with leading ones up to the rank; x itself when it has it, or is no value. */
lam_value view_to_rank(lam_graph *g, lam_value x, int rank);

/* -- route.c -- */
/* How many experts each token has, if x is the output of a route; else 0. */
int route_top_k(const lam_graph *g, lam_value x);

/* -- tiles.c -- */
/* Into how many tasks so many multiplications are cut: 1 where sharing them out would take longer than doing them. */
int task_count(size_t work, int threads);
/* A product [m, n] cut into blocks that threads share out: rows in multiples of GEMM_MR, columns of GEMM_NR. */
typedef struct tile_grid {
    size_t m, n, rows, columns;   /* of the whole, and of one block */
    int row_blocks, column_blocks;
} tile_grid;
typedef struct tile { size_t row, rows, column, columns; } tile;

/* k: the product's depth; most_rows: what a block may have. */
tile_grid tile_grid_of(size_t m, size_t n, size_t k, size_t most_rows, int threads);
static inline int tile_count(const tile_grid *grid) { return grid->row_blocks * grid->column_blocks; }
tile tile_at(const tile_grid *grid, int index);
