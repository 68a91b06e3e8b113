/* Matrix product on packed weights: the one inner loop of linear layers, convolutions and attention.
 *
 * B [k_total, n] is packed once into panels of GEMM_NR columns. Panel p holds, contiguously,
 *     bias  [GEMM_NR]                      (zeros where there is no bias)
 *     B     [k_total][GEMM_NR]             (k-major; columns past n are zero)
 * so that accumulators start from the bias and the loop reads memory in one direction.
 *
 * A is given by row pointers, so that the same kernel serves a plain matrix (one tap) and a convolution
 * (kernel_h * kernel_w taps, padding taps pointing at zeros) without building im2col:
 *     rows [tiles][taps][GEMM_MR]          rows[(tile * taps + tap) * GEMM_MR + r] -> k values, contiguous
 * The last tile repeats its last valid row in the unused places. k_total = taps * k.
 */
#pragma once
#include <stddef.h>
#include "../activation.h"

enum { GEMM_MR = 6, GEMM_NR = 8 };

/* What happens to a result before it is stored:  c = activation(acc + add). */
typedef struct gemm_epilogue {
    const float *add;      /* [m, n] with add_stride, or NULL; may be the same memory as c */
    size_t add_stride;     /* elements between rows of add */
    lam_activation activation;
} gemm_epilogue;

/* Floats that the packed form of B [k_total, n] takes. */
static inline size_t gemm_packed_floats(size_t k_total, size_t n) {
    return (n + GEMM_NR - 1) / GEMM_NR * GEMM_NR * (k_total + 1);
}

/* Writes columns [n0, n0 + columns) of B into `packed` (whole of it sized gemm_packed_floats(k_total, n_total)).
 * Element (kk, j) of the source is at b[kk * k_stride + j * n_stride], j counted from n0. n0 need not be a multiple
 * of GEMM_NR. Bias rows are left alone: gemm_pack_bias writes them. Rows [k0, k0 + k) of the panels are written. */
void gemm_pack_f32(float *packed, size_t k_total, size_t k0, size_t k, size_t n0, size_t columns,
                   const float *b, size_t k_stride, size_t n_stride);
/* bias [n] (NULL: zeros) into the first row of each panel; columns past n become zero throughout the panel's bias row. */
void gemm_pack_bias(float *packed, size_t k_total, size_t n, const float *bias);
/* Columns [n0, n0 + columns) are multiplied by scale [columns], without their biases: a batch norm folded into weights that are packed. */
void gemm_scale_columns(float *packed, size_t k_total, size_t n0, size_t columns, const float *scale);

/* C [m, n_columns] += nothing: C = epilogue(A B + bias). `packed` points at the first panel to use (n a multiple of GEMM_NR may be
 * skipped by the caller), n: columns to write, c_stride: elements between rows of c. */
void gemm_f32(float *c, size_t c_stride, const float *const *rows, size_t taps, const float *packed,
              size_t m, size_t n, size_t k, const gemm_epilogue *epilogue);
/* The same for a plain matrix a [m, k] with a_stride; blocked over rows so that A and the panels stay in cache. */
void gemm_f32_matrix(float *c, size_t c_stride, const float *a, size_t a_stride, const float *packed,
                     size_t m, size_t n, size_t k, const gemm_epilogue *epilogue);
/* C += A B for rows [k0, k0 + k) of B [k_total, n] alone, without its bias. a [m, k] */
void gemm_f32_add_rows(float *c, size_t c_stride, const float *a, size_t a_stride, const float *packed, size_t k_total, size_t k0,
                       size_t m, size_t n, size_t k);
