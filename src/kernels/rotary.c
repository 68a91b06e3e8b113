#include "rotary.h"
#include <math.h>
#include <string.h>
#include "../simd.h"

void rotary_table_f32(float *row, const float *freqs, size_t half, float position, float scale) {
    for (size_t j = 0; j < half; j++) {
        float angle = position * freqs[j];
        row[j] = cosf(angle) * scale;
        row[half + j] = sinf(angle) * scale;
    }
}

/* (a, b) turned by the angle. */
SIMD_INLINE void turn(v128_t *a, v128_t *b, v128_t cosine, v128_t sine) {
    v128_t x = *a;
    *a = simd_nmadd(*b, sine, wasm_f32x4_mul(x, cosine));
    *b = simd_madd(x, sine, wasm_f32x4_mul(*b, cosine));
}

static void turn_neighbours(float *y, const float *x, const float *cosine, const float *sine, size_t half) {
    size_t j = 0;
    for (; j + 4 <= half; j += 4) {
        v128_t low = simd_load(x + 2 * j), high = simd_load(x + 2 * j + 4);
        v128_t a = wasm_i32x4_shuffle(low, high, 0, 2, 4, 6), b = wasm_i32x4_shuffle(low, high, 1, 3, 5, 7);
        turn(&a, &b, simd_load(cosine + j), simd_load(sine + j));
        simd_store(y + 2 * j, wasm_i32x4_shuffle(a, b, 0, 4, 1, 5));
        simd_store(y + 2 * j + 4, wasm_i32x4_shuffle(a, b, 2, 6, 3, 7));
    }
    for (; j < half; j++) {
        float a = x[2 * j], b = x[2 * j + 1];
        y[2 * j] = a * cosine[j] - b * sine[j];
        y[2 * j + 1] = b * cosine[j] + a * sine[j];
    }
}

static void turn_halves(float *y, const float *x, const float *cosine, const float *sine, size_t half) {
    size_t j = 0;
    for (; j + 4 <= half; j += 4) {
        v128_t a = simd_load(x + j), b = simd_load(x + half + j);
        turn(&a, &b, simd_load(cosine + j), simd_load(sine + j));
        simd_store(y + j, a);
        simd_store(y + half + j, b);
    }
    for (; j < half; j++) {
        float a = x[j], b = x[half + j];
        y[j] = a * cosine[j] - b * sine[j];
        y[half + j] = b * cosine[j] + a * sine[j];
    }
}

void rotary_f32(float *y, const float *x, const float *table, size_t rows, size_t width, size_t first, size_t half, int interleaved) {
    size_t end = first + 2 * half;
    for (size_t i = 0; i < rows; i++, x += width, y += width) {
        if (y != x) {
            memcpy(y, x, first * sizeof *y);
            memcpy(y + end, x + end, (width - end) * sizeof *y);
        }
        if (interleaved) turn_neighbours(y + first, x + first, table, table + half, half);
        else turn_halves(y + first, x + first, table, table + half, half);
    }
}
