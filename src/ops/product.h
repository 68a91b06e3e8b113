/* Products by a weight, in whatever precision the weight is kept: what linear layers, convolutions and experts share. A row of the other operand
 * may have to be prepared first; where product_row_floats is 0 it is used as it is.
 *
 * Every function is gemm.h's or quantized.h's for one precision; there the arguments are explained. */
#pragma once
#include "../graph.h"
#include "../kernels/gemm.h"

typedef struct product {
    lam_precision precision;
    size_t taps, k, n;        /* rows of taps * k values, n columns */
} product;

/* How a weight [n, taps * k] is kept: as was asked of it, or f32 where fewer bits would not pay. */
lam_precision product_precision(const lam_graph *g, lam_value weight, size_t k, size_t n);

size_t product_packed_floats(const product *p);
/* Floats of `packed` before the panels of this column, a multiple of 4 * GEMM_NR. */
size_t product_column(const product *p, size_t column);
/* Whole columns [n0, n0 + columns) of b, whose element (tap, kk, j) is b[tap * tap_stride + kk * k_stride + j * n_stride]. Codes that the checkpoint
 * has are packed as they are where b's columns are its rows. */
void product_pack(const lam_graph *g, const product *p, float *packed, size_t n0, size_t columns, const float *b, size_t tap_stride,
                  size_t k_stride, size_t n_stride);
/* Columns [n0, n0 + columns), packed, times scale [columns]; not their biases. */
void product_scale(const product *p, float *packed, size_t n0, size_t columns, const float *scale);
/* bias [n], NULL: zeros. */
void product_bias(const product *p, float *packed, const float *bias);

/* Floats of a prepared row of k values, 0 where rows are used as they are. */
size_t product_row_floats(const product *p);
/* to [rows] = prepared x [rows] of k values, stride apart; nothing where rows are used as they are. */
void product_prepare(const product *p, lam_pool *pool, float *to, const float *x, size_t rows, size_t stride);

/* c [m, n] = epilogue(rows B + bias); of a convolution, rows as gemm_f32 takes them. `packed` begins at the first column wanted. */
void product_multiply(const product *p, float *c, size_t c_stride, const float *const *rows, const float *packed, size_t m, size_t n,
                      const gemm_epilogue *epilogue);
/* The same with one tap for rows a [m] that lie stride apart: k values, or prepared. */
void product_multiply_matrix(const product *p, float *c, size_t c_stride, const float *a, size_t stride, const float *packed, size_t m, size_t n,
                             const gemm_epilogue *epilogue);
