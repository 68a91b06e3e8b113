#include "patches.h"
#include "../simd.h"

/* Whole vectors are copied, in the order of rows: what one writes too far the next one writes again, but for a row's last. */
static size_t vectors_of(const conv_window *v) { return (v->kernel_w + 3) / 4; }

size_t patches_row_floats(const conv_window *v) { return (v->c * v->kernel_h - 1) * v->kernel_w + vectors_of(v) * 4; }

/* to [count] of to_stride, from [count] of step: `vectors` each, a constant where this is inlined. */
SIMD_INLINE void copy(float *to, size_t to_stride, const float *from, size_t step, size_t vectors, size_t count) {
    for (; count; count--, to += to_stride, from += step)
        for (size_t i = 0; i < vectors; i++) simd_store(to + i * 4, simd_load(from + i * 4));
}

static SIMD_NOINLINE void copy_inside(float *to, size_t to_stride, const float *from, size_t step, size_t vectors, size_t count) {
    if (vectors == 1) copy(to, to_stride, from, step, 1, count);
    else if (vectors == 2) copy(to, to_stride, from, step, 2, count);
    else copy(to, to_stride, from, step, vectors, count);
}

/* One tap at a time. row NULL: it lies outside. */
static void copy_at_edge(float *to, size_t to_stride, const float *row, const conv_window *v, size_t column, size_t end) {
    for (; column < end; column++, to += to_stride)
        for (size_t i = 0; i < v->kernel_w; i++) {
            size_t x = column * v->stride_w + i * v->dilation_w - v->pad_w;   /* left of the image: beyond its width */
            to[i] = row && x < v->w ? row[x] : 0;
        }
}

static size_t between(size_t x, size_t low, size_t high) { return x < low ? low : x > high ? high : x; }

/* One row of the kernel for the output columns [column, end). */
static void kernel_row(float *to, size_t to_stride, const float *row, const conv_window *v, size_t column, size_t end) {
    size_t width = vectors_of(v) * 4, from = end, until = end;
    if (row && v->dilation_w == 1 && v->w + v->pad_w >= width) {
        from = between((v->pad_w + v->stride_w - 1) / v->stride_w, column, end);
        until = between((v->w + v->pad_w - width) / v->stride_w + 1, from, end);
    }
    copy_at_edge(to, to_stride, row, v, column, from);
    if (from < until) copy_inside(to + (from - column) * to_stride, to_stride, row + (from * v->stride_w - v->pad_w), v->stride_w, width / 4, until - from);
    copy_at_edge(to + (until - column) * to_stride, to_stride, row, v, until, end);
}

void patches_f32(float *rows, const float *x, const conv_window *v, size_t pixel, size_t count) {
    const size_t floats = patches_row_floats(v);
    for (size_t columns; count; count -= columns, pixel += columns, rows += columns * floats) {
        size_t column = pixel % v->out_w, top = pixel / v->out_w % v->out_h * v->stride_h, image = pixel / v->out_w / v->out_h;
        columns = v->out_w - column < count ? v->out_w - column : count;
        float *to = rows;
        for (size_t c = 0; c < v->c; c++)
            for (size_t i = 0; i < v->kernel_h; i++, to += v->kernel_w) {
                size_t y = top + i * v->dilation_h - v->pad_h;
                kernel_row(to, floats, y < v->h ? x + ((image * v->c + c) * v->h + y) * v->w : NULL, v, column, column + columns);
            }
    }
}
