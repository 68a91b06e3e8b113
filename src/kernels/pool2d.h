/* Pooling of one image, channels last: x [h, w, c] -> y [out_h, out_w, c], output rows [row, row + rows). y points at the
 * whole output image. x and y do not overlap. A window is clipped to the image; out_h and out_w are given, so ceil_mode
 * is the caller's affair. */
#pragma once
#include <stddef.h>

typedef struct pool2d {
    size_t h, w, c, out_h, out_w;
    size_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
    size_t dilation_h, dilation_w;     /* max only; 1 elsewhere */
    int count_include_pad;             /* average: divide by the window with its padding, but never what ceil_mode adds beyond it */
    size_t divisor_override;           /* average: divide by this; 0: not used */
} pool2d;

/* y = max over the window, -inf where it is empty; a NaN wins. */
void max_pool2d_f32(float *y, const float *x, const pool2d *pool, size_t row, size_t rows);
/* y = sum over the window / divisor. */
void avg_pool2d_f32(float *y, const float *x, const pool2d *pool, size_t row, size_t rows);
/* Window of output i: [floor(i h / out_h), ceil((i + 1) h / out_h)). Only h, w, c, out_h and out_w of pool are read.
 * Any size to any size. */
void adaptive_avg_pool2d_f32(float *y, const float *x, const pool2d *pool, size_t row, size_t rows);
/* y[j] = mean over i of x[i * x_stride + j]: x [rows, c]. A thread may take a range of columns. rows > 0. */
void mean_rows_f32(float *y, const float *x, size_t x_stride, size_t rows, size_t c);
