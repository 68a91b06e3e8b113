/* 3x3 convolution with stride 1 and dilation 1 by Winograd's F(tile x tile, 3x3), channels last:
 *     y = activation(conv(x, weight) + bias + add)
 * with 2.25 (tile 2) or 4 (tile 4) times fewer multiplications than the direct form. Weights are those of the direct form, B [9 c, n] as gemm.h packs
 * it or, with 8 bits, quantized.h: transformed they would take 1.8 or 4 times the memory, so that is done for a block at a time, in the cache.
 * tile 4 evaluates at 0, +-a, +-1/a and infinity, whose error is within 1.5 to 2.5 times that of the direct form.
 *
 * Work is cut into units that do not depend on each other: threads share them out. Neighbouring ones have inputs in common,
 * whose transforms stay in the scratch of who does them.
 */
#pragma once
#include <stddef.h>
#include "gemm.h"

typedef struct winograd_conv {
    int tile;                     /* 2 or 4 */
    int bits;                     /* of a weight: 32, 16 or 8 */
    size_t batch;                 /* images; x is [batch, h, w, c], y and add are [batch, out_h, out_w, n] */
    size_t h, w, c;               /* input */
    size_t out_h, out_w, n;       /* output */
    size_t pad_h, pad_w;          /* rows of zeros above, columns of zeros to the left; those below and right follow from out_h, out_w */
    size_t x_stride, y_stride;    /* floats from a pixel to the next, >= c and >= n: a group of a grouped convolution is a slice */
} winograd_conv;

/* The tile that is fastest by measurement for one image: 4, 2, or 0 where a direct convolution by gemm_f32 is. */
int winograd_choose(size_t out_h, size_t out_w, size_t c, size_t n);

/* Into how many blocks tiles are cut whose transformed inputs are points * c4 floats each: all weights are read and transformed for each block. */
size_t winograd_blocks(size_t tiles, size_t points, size_t c4);
/* How many independent units of work there are. */
size_t winograd_units(const winograd_conv *conv);
/* Floats of working memory that each caller of winograd_f32 needs. */
size_t winograd_scratch_floats(const winograd_conv *conv);
/* Before the first units of other inputs are computed with this scratch. */
void winograd_forget(float *scratch);
/* Computes units [first, first + units). epilogue NULL: none; epilogue->add may be y. x and y do not overlap. */
void winograd_f32(float *y, const float *x, const float *packed, const winograd_conv *conv, size_t first, size_t units,
                  const gemm_epilogue *epilogue, float *scratch);
