/* Matrix product on packed weights: the one inner loop of linear layers, convolutions and attention.
 *
 * B [k_total, n] is packed once into panels of GEMM_NR columns. Panel p holds, contiguously,
 *     bias  [GEMM_NR]                      (zeros where there is no bias)
 *     B     [k_total][GEMM_NR]             (k-major; columns past n are zero)
 * so that accumulators start from the bias and the loop reads memory in one direction. With weights in halves (GEMM_F16) it holds
 *     bias  [GEMM_NR]
 *     scale [GEMM_NR]                      of the column, in f32, so that no weight is rounded twice; NaN where a weight is none or infinite
 *     B     [k_total][GEMM_NR] IEEE halves
 * of which a product of one or two rows makes f32 as it goes, others a piece of a panel at a time, in the first cache level.
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

/* How B is kept: floats that a row of a panel takes. */
typedef enum gemm_format { GEMM_F16 = GEMM_NR / 2, GEMM_F32 = GEMM_NR } gemm_format;

/* Floats of a panel, and of the packed form of B [k_total, n]. */
static inline size_t gemm_panel_floats(gemm_format format, size_t k_total) {
    return (format == GEMM_F16 ? 2 * GEMM_NR : GEMM_NR) + k_total * (size_t)format;
}
static inline size_t gemm_packed_floats_in(gemm_format format, size_t k_total, size_t n) {
    return (n + GEMM_NR - 1) / GEMM_NR * gemm_panel_floats(format, k_total);
}
static inline size_t gemm_packed_floats(size_t k_total, size_t n) { return gemm_packed_floats_in(GEMM_F32, k_total, n); }

/* Writes columns [n0, n0 + columns) of B into `packed` (whole of it sized gemm_packed_floats_in(format, k_total, n_total)).
 * Element (kk, j) of the source is at b[kk * k_stride + j * n_stride], j counted from n0. n0 need not be a multiple
 * of GEMM_NR. Bias rows are left alone: gemm_pack_bias writes them. Rows [k0, k0 + k) of the panels are written. What GEMM_F16 is packed
 * to must be zeros before. */
void gemm_pack(gemm_format format, float *packed, size_t k_total, size_t k0, size_t k, size_t n0, size_t columns,
               const float *b, size_t k_stride, size_t n_stride);
/* bias [n] (NULL: zeros) into the first row of each panel; columns past n become zero throughout the panel. */
void gemm_bias(gemm_format format, float *packed, size_t k_total, size_t n, const float *bias);
/* Columns [n0, n0 + columns) are multiplied by scale [columns], without their biases: a batch norm folded into weights that are packed. */
void gemm_scale(gemm_format format, float *packed, size_t k_total, size_t n0, size_t columns, const float *scale);

/* to [k][GEMM_NR] = rows [k0, k0 + k) of a panel in halves, scaled. */
void gemm_unpack(float *to, const float *panel, size_t k0, size_t k);

/* C [m, n_columns] += nothing: C = epilogue(A B + bias). `packed` points at the first panel to use (n a multiple of GEMM_NR may be
 * skipped by the caller), n: columns to write, c_stride: elements between rows of c. */
void gemm(gemm_format format, float *c, size_t c_stride, const float *const *rows, size_t taps, const float *packed,
          size_t m, size_t n, size_t k, const gemm_epilogue *epilogue);
/* The same for a plain matrix a [m, k] with a_stride; blocked over rows so that A and the panels stay in cache. */
void gemm_matrix(gemm_format format, float *c, size_t c_stride, const float *a, size_t a_stride, const float *packed,
                 size_t m, size_t n, size_t k, const gemm_epilogue *epilogue);
/* C += A B for rows [k0, k0 + k) of B [k_total, n] alone, f32, without its bias. a [m, k] */
void gemm_f32_add_rows(float *c, size_t c_stride, const float *a, size_t a_stride, const float *packed, size_t k_total, size_t k0,
                       size_t m, size_t n, size_t k);

/* Of B in f32. */
static inline void gemm_pack_f32(float *packed, size_t k_total, size_t k0, size_t k, size_t n0, size_t columns,
                                 const float *b, size_t k_stride, size_t n_stride) {
    gemm_pack(GEMM_F32, packed, k_total, k0, k, n0, columns, b, k_stride, n_stride);
}
static inline void gemm_pack_bias(float *packed, size_t k_total, size_t n, const float *bias) { gemm_bias(GEMM_F32, packed, k_total, n, bias); }
static inline void gemm_scale_columns(float *packed, size_t k_total, size_t n0, size_t columns, const float *scale) {
    gemm_scale(GEMM_F32, packed, k_total, n0, columns, scale);
}
static inline void gemm_f32(float *c, size_t c_stride, const float *const *rows, size_t taps, const float *packed,
                            size_t m, size_t n, size_t k, const gemm_epilogue *epilogue) {
    gemm(GEMM_F32, c, c_stride, rows, taps, packed, m, n, k, epilogue);
}
static inline void gemm_f32_matrix(float *c, size_t c_stride, const float *a, size_t a_stride, const float *packed,
                                   size_t m, size_t n, size_t k, const gemm_epilogue *epilogue) {
    gemm_matrix(GEMM_F32, c, c_stride, a, a_stride, packed, m, n, k, epilogue);
}
