#include "pool2d.h"
#include <stdint.h>
#include <string.h>
#include "../simd.h"

enum { MEAN_ROWS = 32 };

/* The part of a window that lies in the image. */
typedef struct window {
    const float *x;                    /* its first pixel */
    size_t rows, columns;
    size_t row_step, column_step;      /* floats */
} window;

SIMD_INLINE v128_t load(const float *p, size_t n) { return n >= 4 ? simd_load(p) : simd_load_part(p, n); }
SIMD_INLINE void store(float *p, v128_t v, size_t n) {
    if (n >= 4) simd_store(p, v);
    else simd_store_part(p, v, n);
}

/* `vectors` (a constant) vectors of channels of one output pixel; n channels if there is less than one vector. */
SIMD_INLINE void max_channels(float *y, const window *w, size_t j, size_t vectors, size_t n) {
    v128_t acc[4];
    for (size_t v = 0; v < vectors; v++) acc[v] = wasm_f32x4_splat(-__builtin_inff());
    for (size_t r = 0; r < w->rows; r++) {
        const float *x = w->x + r * w->row_step + j;
        for (size_t i = 0; i < w->columns; i++, x += w->column_step) {
            for (size_t v = 0; v < vectors; v++) acc[v] = wasm_f32x4_max(acc[v], load(x + v * 4, n));
        }
    }
    for (size_t v = 0; v < vectors; v++) store(y + j + v * 4, acc[v], n);
}

/* Each row of the window is summed for itself: over a whole image one long sum would lose digits. */
SIMD_INLINE void sum_channels(float *y, const window *w, const float *divisor, size_t j, size_t vectors, size_t n) {
    v128_t total[4];
    for (size_t v = 0; v < vectors; v++) total[v] = simd_zero();
    for (size_t r = 0; r < w->rows; r++) {
        const float *x = w->x + r * w->row_step + j;
        v128_t acc[4];
        for (size_t v = 0; v < vectors; v++) acc[v] = simd_zero();
        for (size_t i = 0; i < w->columns; i++, x += w->column_step) {
            for (size_t v = 0; v < vectors; v++) acc[v] = wasm_f32x4_add(acc[v], load(x + v * 4, n));
        }
        for (size_t v = 0; v < vectors; v++) total[v] = wasm_f32x4_add(total[v], acc[v]);
    }
    for (size_t v = 0; v < vectors; v++) store(y + j + v * 4, wasm_f32x4_div(total[v], simd_splat(divisor)), n);
}

static void max_window(float *y, const window *w, size_t c) {
    size_t j = 0;
    for (; j + 16 <= c; j += 16) max_channels(y, w, j, 4, 4);
    for (; j + 4 <= c; j += 4) max_channels(y, w, j, 1, 4);
    if (j < c) max_channels(y, w, j, 1, c - j);
}

static void mean_window(float *y, const window *w, size_t c, float divisor) {
    size_t j = 0;
    for (; j + 16 <= c; j += 16) sum_channels(y, w, &divisor, j, 4, 4);
    for (; j + 4 <= c; j += 4) sum_channels(y, w, &divisor, j, 1, 4);
    if (j < c) sum_channels(y, w, &divisor, j, 1, c - j);
}

/* Taps of output position i along one axis: [first, last) of the kernel fall inside, the first of them at `at`. padded: how many
 * there are within the padded image. */
typedef struct span {
    size_t at, count, padded;
} span;

static span axis_span(size_t i, size_t size, size_t kernel, size_t stride, size_t pad, size_t dilation) {
    size_t start = i * stride;                     /* counted from the first row of padding */
    size_t first = start < pad ? (pad - start + dilation - 1) / dilation : 0;
    size_t end = size + pad > start ? (size + pad - start + dilation - 1) / dilation : 0;
    size_t padded = size + 2 * pad > start ? (size + 2 * pad - start + dilation - 1) / dilation : 0;
    if (end > kernel) end = kernel;
    if (padded > kernel) padded = kernel;
    span s = {0, 0, padded};
    if (first < end) {
        s.at = start + first * dilation - pad;
        s.count = end - first;
    }
    return s;
}

static window window_of(const float *x, const pool2d *p, span rows, span columns, size_t dilation_h, size_t dilation_w) {
    window w = {x + (rows.at * p->w + columns.at) * p->c, rows.count, columns.count, dilation_h * p->w * p->c, dilation_w * p->c};
    if (!w.columns) w.rows = 0;
    return w;
}

void max_pool2d_f32(float *y, const float *x, const pool2d *p, size_t row, size_t rows) {
    y += row * p->out_w * p->c;
    for (size_t oy = row; oy < row + rows; oy++) {
        span vertical = axis_span(oy, p->h, p->kernel_h, p->stride_h, p->pad_h, p->dilation_h);
        for (size_t ox = 0; ox < p->out_w; ox++, y += p->c) {
            span horizontal = axis_span(ox, p->w, p->kernel_w, p->stride_w, p->pad_w, p->dilation_w);
            window w = window_of(x, p, vertical, horizontal, p->dilation_h, p->dilation_w);
            max_window(y, &w, p->c);
        }
    }
}

void avg_pool2d_f32(float *y, const float *x, const pool2d *p, size_t row, size_t rows) {
    y += row * p->out_w * p->c;
    for (size_t oy = row; oy < row + rows; oy++) {
        span vertical = axis_span(oy, p->h, p->kernel_h, p->stride_h, p->pad_h, 1);
        for (size_t ox = 0; ox < p->out_w; ox++, y += p->c) {
            span horizontal = axis_span(ox, p->w, p->kernel_w, p->stride_w, p->pad_w, 1);
            window w = window_of(x, p, vertical, horizontal, 1, 1);
            size_t divisor = p->divisor_override;
            if (!divisor) divisor = p->count_include_pad ? vertical.padded * horizontal.padded : vertical.count * horizontal.count;
            mean_window(y, &w, p->c, (float)divisor);
        }
    }
}

static span adaptive_span(size_t i, size_t size, size_t out_size) {
    /* 64 bits: the products pass 32 where a long axis keeps its size. */
    uint64_t at = (uint64_t)i * size / out_size, end = ((uint64_t)(i + 1) * size + out_size - 1) / out_size;
    return (span){(size_t)at, (size_t)(end - at), 0};
}

void adaptive_avg_pool2d_f32(float *y, const float *x, const pool2d *p, size_t row, size_t rows) {
    y += row * p->out_w * p->c;
    for (size_t oy = row; oy < row + rows; oy++) {
        span vertical = adaptive_span(oy, p->h, p->out_h);
        for (size_t ox = 0; ox < p->out_w; ox++, y += p->c) {
            span horizontal = adaptive_span(ox, p->w, p->out_w);
            window w = window_of(x, p, vertical, horizontal, 1, 1);
            mean_window(y, &w, p->c, (float)(vertical.count * horizontal.count));
        }
    }
}

/* y [c] += sums of `rows` rows, sixteen channels and the last ones. */
SIMD_INLINE void add_channels(float *y, const float *x, size_t x_stride, size_t rows, size_t vectors, size_t n) {
    v128_t acc[4];
    for (size_t v = 0; v < vectors; v++) acc[v] = simd_zero();
    for (size_t i = 0; i < rows; i++, x += x_stride)
        for (size_t v = 0; v < vectors; v++) acc[v] = wasm_f32x4_add(acc[v], load(x + v * 4, n));
    for (size_t v = 0; v < vectors; v++) store(y + v * 4, wasm_f32x4_add(load(y + v * 4, n), acc[v]), n);
}

static SIMD_NOINLINE void add_rows(float *y, const float *x, size_t x_stride, size_t rows, size_t c) {
    size_t j = 0;
    for (; j + 16 <= c; j += 16) add_channels(y + j, x + j, x_stride, rows, 4, 4);
    for (; j + 4 <= c; j += 4) add_channels(y + j, x + j, x_stride, rows, 1, 4);
    if (j < c) add_channels(y + j, x + j, x_stride, rows, 1, c - j);
}

void mean_rows_f32(float *y, const float *x, size_t x_stride, size_t rows, size_t c) {
    memset(y, 0, c * sizeof *y);
    for (size_t i = 0; i < rows; i += MEAN_ROWS) add_rows(y, x + i * x_stride, x_stride, rows - i < MEAN_ROWS ? rows - i : MEAN_ROWS, c);
    for (size_t j = 0; j < c; j++) y[j] /= (float)rows;
}
