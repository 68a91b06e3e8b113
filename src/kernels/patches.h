/* What a convolution sees of an image of few channels, made into the rows of a product: where the taps of a channel lie beside each other and
 * channels are few, row pointers as in gemm.h would be followed for two or three values each.
 *
 * x [n, c, h, w], planes as PyTorch keeps them, so that such an image needs no conversion either. A row holds the patch of one output pixel in the
 * order of a filter, [c][kernel_h][kernel_w], zeros where it reaches over the edge, and floats that mean nothing behind. */
#pragma once
#include "conv_window.h"

/* Floats from a row to the next. */
size_t patches_row_floats(const conv_window *v);
/* Rows of the output pixels [pixel, pixel + count), counted through the batch. */
void patches_f32(float *rows, const float *x, const conv_window *v, size_t pixel, size_t count);
