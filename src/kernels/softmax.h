/* y[i] = exp(x[i] - max x) / sum over the last axis of x [rows, d]. y may be x. As in PyTorch a NaN makes its row NaN, and so
 * do a row of -inf alone and a +inf. */
#pragma once
#include <stddef.h>

void softmax_f32(float *y, const float *x, size_t rows, size_t d);
/* One row of d >= 1 before the division: y[i] = exp(x[i] - max x). Returns the sum of y. */
float softmax_weights_f32(float *y, const float *x, size_t d);
