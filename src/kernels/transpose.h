/* Changes of memory order. y and x do not overlap. */
#pragma once
#include <stddef.h>

enum { PERMUTE_MAX_RANK = 6 };

/* y[j * y_stride + i] = x[i * x_stride + j], x [rows, columns]. NCHW to NHWC: rows = c, columns = h * w, per image; back: the other way. */
void transpose_f32(float *y, size_t y_stride, const float *x, size_t x_stride, size_t rows, size_t columns);
/* y, dense with sizes dims [rank], from x with strides [rank]: element (i0, i1, ...) of y is x[i0 * strides[0] + i1 * strides[1] + ...].
 * A stride may be 0. rank is 1 to PERMUTE_MAX_RANK. A thread takes a range of the first axis by moving both pointers. */
void permute_f32(float *y, const float *x, size_t rank, const size_t *dims, const size_t *strides);
