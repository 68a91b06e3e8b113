/* Depthwise convolution of one image, channels last: each channel with its own kernel_h x kernel_w filter,
 *     y = activation(conv(x, weight) + bias + add)      x [h, w, c] -> y [out_h, out_w, c]
 * with zeros around x. Packed weights: bias [c], then weight [kernel_h * kernel_w][c]. */
#pragma once
#include <stddef.h>
#include "conv_window.h"
#include "gemm.h"

size_t depthwise_packed_floats(size_t c, size_t taps);
/* weight [channels, 1, kernel_h, kernel_w]: channels [c0, c0 + channels) of c. */
void depthwise_pack_f32(float *packed, size_t c, size_t taps, size_t c0, size_t channels, const float *weight);
/* bias [c], NULL: zeros. */
void depthwise_pack_bias(float *packed, size_t c, const float *bias);
/* Channel j times scale[j], its bias becomes bias * scale[j] + shift[j]. */
void depthwise_scale_channels(float *packed, size_t c, size_t taps, const float *scale, const float *shift);
/* Output rows [row, row + rows) of one image; y and epilogue->add (add_stride floats per pixel) point at the whole output image.
 * epilogue NULL: none; add may be y. x and y do not overlap. */
void depthwise_f32(float *y, const float *x, const float *packed, const conv_window *conv, size_t row, size_t rows,
                   const gemm_epilogue *epilogue);
