#include "transpose.h"
#include <string.h>
#include "../simd.h"

/* Columns of a strip: one cache line of each row of x is read whole. */
enum { STRIP = 16 };

/* rows x columns (each 1 to 4) */
SIMD_INLINE void square(float *y, size_t y_stride, const float *x, size_t x_stride, size_t rows, size_t columns) {
    v128_t r[4];
    for (size_t i = 0; i < 4; i++) {
        if (i >= rows) r[i] = simd_zero();
        else r[i] = columns == 4 ? simd_load(x + i * x_stride) : simd_load_part(x + i * x_stride, columns);
    }
    v128_t a = wasm_i32x4_shuffle(r[0], r[1], 0, 4, 1, 5), b = wasm_i32x4_shuffle(r[2], r[3], 0, 4, 1, 5);
    v128_t c = wasm_i32x4_shuffle(r[0], r[1], 2, 6, 3, 7), d = wasm_i32x4_shuffle(r[2], r[3], 2, 6, 3, 7);
    v128_t t[4] = {wasm_i64x2_shuffle(a, b, 0, 2), wasm_i64x2_shuffle(a, b, 1, 3),
                   wasm_i64x2_shuffle(c, d, 0, 2), wasm_i64x2_shuffle(c, d, 1, 3)};
    for (size_t j = 0; j < columns; j++) {
        if (rows == 4) simd_store(y + j * y_stride, t[j]);
        else simd_store_part(y + j * y_stride, t[j], rows);
    }
}

static void strip(float *y, size_t y_stride, const float *x, size_t x_stride, size_t rows, size_t columns) {
    for (size_t i = 0; i < rows; i += 4) {
        const size_t height = rows - i < 4 ? rows - i : 4;
        size_t j = 0;
        if (height == 4) {
            for (; j + 4 <= columns; j += 4) square(y + j * y_stride + i, y_stride, x + i * x_stride + j, x_stride, 4, 4);
        }
        for (; j < columns; j += 4) {
            square(y + j * y_stride + i, y_stride, x + i * x_stride + j, x_stride, height, columns - j < 4 ? columns - j : 4);
        }
    }
}

void transpose_f32(float *y, size_t y_stride, const float *x, size_t x_stride, size_t rows, size_t columns) {
    for (size_t j = 0; j < columns; j += STRIP) {
        strip(y + j * y_stride, y_stride, x + j, x_stride, rows, columns - j < STRIP ? columns - j : STRIP);
    }
}

typedef struct axis {
    size_t count, y_stride, x_stride;
} axis;

/* Drops axes of one element and joins neighbours that are one run in x, too. Returns how many are left, at least one. */
static size_t simplify(axis *axes, size_t rank, const size_t *dims, const size_t *strides) {
    size_t used = 0, y_stride = 1;
    for (size_t i = rank; i-- > 0;) {              /* from the innermost: axes[0] */
        if (used && axes[used - 1].count * axes[used - 1].x_stride == strides[i]) axes[used - 1].count *= dims[i];
        else if (dims[i] != 1) axes[used++] = (axis){dims[i], y_stride, strides[i]};
        y_stride *= dims[i];
    }
    if (!used) axes[used++] = (axis){1, 1, 1};
    return used;
}

/* The two axes that the inner function handles: the one contiguous in y and the one contiguous in x. */
static void plane(float *y, const float *x, const axis *inner, const axis *other) {
    if (inner->x_stride == 1) {
        for (size_t i = 0; i < other->count; i++) {
            memcpy(y + i * other->y_stride, x + i * other->x_stride, inner->count * sizeof *y);
        }
    } else if (other->x_stride == 1) {
        transpose_f32(y, other->y_stride, x, inner->x_stride, inner->count, other->count);
    } else {
        for (size_t i = 0; i < other->count; i++) {
            for (size_t j = 0; j < inner->count; j++) y[i * other->y_stride + j] = x[i * other->x_stride + j * inner->x_stride];
        }
    }
}

void permute_f32(float *y, const float *x, size_t rank, const size_t *dims, const size_t *strides) {
    axis axes[PERMUTE_MAX_RANK + 1];
    for (size_t i = 0; i < rank; i++) {
        if (!dims[i]) return;
    }
    size_t count = simplify(axes, rank, dims, strides);
    if (count == 1) axes[count++] = (axis){1, 0, 0};
    if (axes[0].x_stride != 1) {                   /* bring the axis that is contiguous in x next to the inner one */
        for (size_t i = 1; i < count; i++) {
            if (axes[i].x_stride != 1) continue;
            axis found = axes[i];
            axes[i] = axes[1];
            axes[1] = found;
            break;
        }
    }
    size_t at[PERMUTE_MAX_RANK + 1] = {0};
    for (;;) {
        plane(y, x, &axes[0], &axes[1]);
        size_t i = 2;
        for (; i < count; i++) {
            y += axes[i].y_stride;
            x += axes[i].x_stride;
            if (++at[i] < axes[i].count) break;
            y -= axes[i].y_stride * at[i];
            x -= axes[i].x_stride * at[i];
            at[i] = 0;
        }
        if (i >= count) return;
    }
}
