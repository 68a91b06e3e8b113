/* The naive loops that every kernel is checked against: one accumulator in double, in the order of the formula. Layouts and
 * arguments are those of the kernel of the same name, weights as PyTorch stores them. */
#pragma once
#include <stddef.h>
#include "activation.h"
#include "kernels/attention.h"
#include "kernels/depthwise.h"
#include "kernels/elementwise.h"
#include "kernels/pool2d.h"

double reference_activation(double x, lam_activation activation);

/* c = activation(a b + bias + add): a [m, k], b [k, n], bias [n] or NULL, add [m, n] with rows c_stride apart or NULL. */
void reference_gemm(float *c, size_t c_stride, const float *a, size_t a_stride, const float *b, const float *bias, const float *add,
                    size_t m, size_t n, size_t k, lam_activation activation);

typedef struct reference_conv {
    size_t h, w, c, out_h, out_w, n;
    size_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
} reference_conv;
/* One image: x [h, w, c] with x_stride floats per pixel, weight [n, c, kernel_h, kernel_w], y and add [out_h, out_w, n] with y_stride. */
void reference_conv2d(float *y, size_t y_stride, const float *x, size_t x_stride, const float *weight, const float *bias, const float *add,
                      const reference_conv *conv, lam_activation activation);
/* weight [c, 1, kernel_h, kernel_w] */
void reference_depthwise(float *y, const float *x, const float *weight, const float *bias, const float *add,
                         const conv_window *conv, lam_activation activation);

void reference_max_pool2d(float *y, const float *x, const pool2d *pool);
void reference_avg_pool2d(float *y, const float *x, const pool2d *pool);
void reference_adaptive_avg_pool2d(float *y, const float *x, const pool2d *pool);
void reference_mean_rows(float *y, const float *x, size_t x_stride, size_t rows, size_t c);

void reference_layer_norm(float *y, const float *x, size_t rows, size_t d, const float *weight, const float *bias, float eps);
void reference_rms_norm(float *y, const float *x, size_t rows, size_t d, const float *weight, float eps);
void reference_softmax(float *y, const float *x, size_t rows, size_t d);
void reference_elementwise(float *y, size_t y_stride, elementwise_op op, const elementwise_operand *a, const elementwise_operand *b,
                           const float *add, size_t rows, size_t columns, lam_activation activation);
void reference_permute(float *y, const float *x, size_t rank, const size_t *dims, const size_t *strides);
void reference_attention(const attention_head *head, float *y);
