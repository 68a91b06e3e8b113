#include "depthwise.h"
#include <string.h>
#include "../simd.h"
#include "activation.h"

enum { PIXELS = 4, SUMS = 8 };     /* pixels side by side; sums in registers */

size_t depthwise_packed_floats(size_t c, size_t taps) { return c * (taps + 1); }

void depthwise_pack_f32(float *packed, size_t c, size_t taps, size_t c0, size_t channels, const float *weight) {
    for (size_t j = 0; j < channels; j++) {
        for (size_t t = 0; t < taps; t++) packed[(t + 1) * c + c0 + j] = weight[j * taps + t];
    }
}

void depthwise_pack_bias(float *packed, size_t c, const float *bias) {
    if (bias) memcpy(packed, bias, c * sizeof *packed);
    else memset(packed, 0, c * sizeof *packed);
}

void depthwise_scale_channels(float *packed, size_t c, size_t taps, const float *scale, const float *shift) {
    for (size_t j = 0; j < c; j++) {
        packed[j] = packed[j] * scale[j] + shift[j];
        for (size_t t = 1; t <= taps; t++) packed[t * c + j] *= scale[j];
    }
}

/* Neighbouring output pixels that have the same taps inside the image. */
typedef struct patch {
    const float *x;                     /* the first tap of the first pixel */
    const float *weight, *bias;         /* that tap's weights */
    const float *add;                   /* of the first pixel, or NULL */
    float *y;
    size_t taps_h, taps_w;
    size_t x_row, x_column, x_pixel;    /* floats between taps, and between pixels */
    size_t weight_row;                  /* floats between rows of taps */
    size_t c, add_stride;
    int relu;
} patch;

SIMD_INLINE v128_t load(const float *p, size_t n) { return n >= 4 ? simd_load(p) : simd_load_part(p, n); }

/* `pixels` pixels by `vectors` vectors of channels, from channel j; n channels if there is less than one vector. */
SIMD_INLINE void channels(const patch *p, size_t j, size_t pixels, size_t vectors, size_t n) {
    v128_t acc[SUMS];                    /* [pixel][vector] */
    for (size_t v = 0; v < vectors; v++) {
        v128_t bias = load(p->bias + j + v * 4, n);
        for (size_t i = 0; i < pixels; i++) acc[i * vectors + v] = bias;
    }
    const size_t c = p->c;
    for (size_t r = 0; r < p->taps_h; r++) {
        const float *x = p->x + r * p->x_row + j, *weight = p->weight + r * p->weight_row + j;
        for (size_t t = 0; t < p->taps_w; t++, x += p->x_column, weight += c) {
            for (size_t v = 0; v < vectors; v++) {
                v128_t w = load(weight + v * 4, n);
                for (size_t i = 0; i < pixels; i++) acc[i * vectors + v] = simd_madd(load(x + i * p->x_pixel + v * 4, n), w, acc[i * vectors + v]);
            }
        }
    }
    for (size_t i = 0; i < pixels; i++) {
        for (size_t v = 0; v < vectors; v++) {
            v128_t sum = acc[i * vectors + v];
            if (p->add) sum = wasm_f32x4_add(sum, load(p->add + i * p->add_stride + j + v * 4, n));
            if (p->relu) sum = simd_max(sum, simd_zero());
            if (n >= 4) simd_store(p->y + i * c + j + v * 4, sum);
            else simd_store_part(p->y + i * c + j, sum, n);
        }
    }
}

static SIMD_NOINLINE void one_pixel(const patch *p) {
    size_t j = 0;
    for (; j + 32 <= p->c; j += 32) channels(p, j, 1, 8, 4);
    for (; j + 8 <= p->c; j += 8) channels(p, j, 1, 2, 4);
    for (; j + 4 <= p->c; j += 4) channels(p, j, 1, 1, 4);
    if (j < p->c) channels(p, j, 1, 1, p->c - j);
}

static SIMD_NOINLINE void pixels_side_by_side(const patch *p) {
    size_t j = 0;
    for (; j + 8 <= p->c; j += 8) channels(p, j, PIXELS, 2, 4);
    for (; j + 4 <= p->c; j += 4) channels(p, j, PIXELS, 1, 4);
    if (j < p->c) channels(p, j, PIXELS, 1, p->c - j);
}

/* Taps [first, end) of the kernel fall inside the image for output position i of an axis. */
static void axis_taps(size_t i, size_t size, size_t kernel, size_t stride, size_t pad, size_t dilation, size_t *first, size_t *end) {
    size_t start = i * stride;                  /* counted from the first row of padding */
    *first = start < pad ? (pad - start + dilation - 1) / dilation : 0;
    *end = size + pad > start ? (size + pad - start + dilation - 1) / dilation : 0;
    if (*end > kernel) *end = kernel;
    if (*first > *end) *first = *end;
}

/* How many pixels from ox on use all columns of the kernel. */
static size_t whole_pixels(const conv_window *conv, size_t ox) {
    size_t reach = (conv->kernel_w - 1) * conv->dilation_w + 1;
    if (ox * conv->stride_w < conv->pad_w || reach > conv->w + conv->pad_w) return 0;
    size_t last = (conv->w + conv->pad_w - reach) / conv->stride_w;     /* the last pixel that does */
    if (last >= conv->out_w) last = conv->out_w - 1;
    return last >= ox ? last - ox + 1 : 0;
}

static void output_row(float *y, const float *x, const float *packed, const conv_window *conv, size_t oy, const gemm_epilogue *epilogue) {
    const size_t c = conv->c;
    size_t first_h, end_h, first_w, end_w;
    axis_taps(oy, conv->h, conv->kernel_h, conv->stride_h, conv->pad_h, conv->dilation_h, &first_h, &end_h);
    patch p = {.bias = packed, .taps_h = end_h - first_h, .x_row = conv->dilation_h * conv->w * c, .x_column = conv->dilation_w * c,
               .x_pixel = conv->stride_w * c, .weight_row = conv->kernel_w * c, .c = c, .add_stride = epilogue->add_stride,
               .relu = epilogue->activation == LAM_RELU};
    for (size_t ox = 0; ox < conv->out_w;) {
        axis_taps(ox, conv->w, conv->kernel_w, conv->stride_w, conv->pad_w, conv->dilation_w, &first_w, &end_w);
        p.taps_w = end_w - first_w;
        if (!p.taps_w) p.taps_h = 0;
        else p.taps_h = end_h - first_h;
        if (p.taps_h) {
            p.x = x + ((oy * conv->stride_h + first_h * conv->dilation_h - conv->pad_h) * conv->w +
                       (ox * conv->stride_w + first_w * conv->dilation_w - conv->pad_w)) * c;
            p.weight = packed + (1 + first_h * conv->kernel_w + first_w) * c;
        }
        p.y = y + (oy * conv->out_w + ox) * c;
        p.add = epilogue->add ? epilogue->add + (oy * conv->out_w + ox) * epilogue->add_stride : NULL;
        if (whole_pixels(conv, ox) >= PIXELS) {
            pixels_side_by_side(&p);
            ox += PIXELS;
        } else {
            one_pixel(&p);
            ox++;
        }
    }
}

void depthwise_f32(float *y, const float *x, const float *packed, const conv_window *conv, size_t row, size_t rows,
                   const gemm_epilogue *epilogue) {
    const gemm_epilogue none = {NULL, 0, LAM_IDENTITY};
    if (!epilogue) epilogue = &none;
    for (size_t oy = row; oy < row + rows; oy++) {
        output_row(y, x, packed, conv, oy, epilogue);
        if (epilogue->activation != LAM_RELU) {
            activation_tile_f32(y + oy * conv->out_w * conv->c, conv->c, conv->out_w, conv->c, epilogue->activation);
        }
    }
}
