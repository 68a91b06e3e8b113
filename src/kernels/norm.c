#include "norm.h"
#include <math.h>
#include "../simd.h"

/* Sums over one or two rows of d, eight that do not wait for each other. ROW_SUM: of x; ROW_SQUARES: of (x - mean)^2. */
typedef enum row_function { ROW_SUM, ROW_SQUARES } row_function;

SIMD_INLINE v128_t term(v128_t sum, v128_t x, v128_t mean, row_function f) {
    if (f == ROW_SUM) return wasm_f32x4_add(sum, x);
    x = wasm_f32x4_sub(x, mean);
    return simd_madd(x, x, sum);
}

SIMD_INLINE void row_sums(float *sums, const float *x, size_t rows, size_t d, const float *mean, row_function f) {
    const size_t each = 8 / rows;
    v128_t sum[8], m[2];
    for (size_t v = 0; v < 8; v++) sum[v] = simd_zero();
    for (size_t r = 0; r < rows; r++) m[r] = wasm_f32x4_splat(mean[r]);
    size_t j = 0;
    for (; j + 4 * each <= d; j += 4 * each) {
        for (size_t v = 0; v < 8; v++) sum[v] = term(sum[v], simd_load(x + v / each * d + j + v % each * 4), m[v / each], f);
    }
    for (size_t r = 0; r < rows; r++) {
        v128_t total = sum[r * each];
        for (size_t v = 1; v < each; v++) total = wasm_f32x4_add(total, sum[r * each + v]);
        size_t i = j;
        for (; i + 4 <= d; i += 4) total = term(total, simd_load(x + r * d + i), m[r], f);
        sums[r] = simd_sum(total);
        for (; i < d; i++) sums[r] += f == ROW_SUM ? x[r * d + i] : (x[r * d + i] - mean[r]) * (x[r * d + i] - mean[r]);
    }
}

static float row_squares(const float *x, size_t d) {
    const float none = 0;
    float squares;
    row_sums(&squares, x, 1, d, &none, ROW_SQUARES);
    return squares;
}

/* y = (x - mean) * factor * weight + bias */
static void write_row(float *y, const float *x, size_t d, size_t from, float mean, float factor, const float *weight, const float *bias) {
    v128_t m = wasm_f32x4_splat(mean), f = wasm_f32x4_splat(factor);
    size_t j = from;
    for (; j + 4 <= d; j += 4) {
        v128_t v = wasm_f32x4_mul(wasm_f32x4_sub(simd_load(x + j), m), f);
        if (weight) v = wasm_f32x4_mul(v, simd_load(weight + j));
        if (bias) v = wasm_f32x4_add(v, simd_load(bias + j));
        simd_store(y + j, v);
    }
    for (; j < d; j++) {
        float v = (x[j] - mean) * factor;
        if (weight) v *= weight[j];
        y[j] = bias ? v + bias[j] : v;
    }
}

/* The same for two rows, which share what is read of weight and bias. */
static void write_two_rows(float *y, const float *x, size_t d, const float *mean, const float *factor, const float *weight, const float *bias) {
    v128_t m0 = wasm_f32x4_splat(mean[0]), m1 = wasm_f32x4_splat(mean[1]), f0 = wasm_f32x4_splat(factor[0]), f1 = wasm_f32x4_splat(factor[1]);
    size_t j = 0;
    for (; weight && bias && j + 4 <= d; j += 4) {
        v128_t w = simd_load(weight + j), b = simd_load(bias + j);
        simd_store(y + j, simd_madd(wasm_f32x4_mul(wasm_f32x4_sub(simd_load(x + j), m0), f0), w, b));
        simd_store(y + d + j, simd_madd(wasm_f32x4_mul(wasm_f32x4_sub(simd_load(x + d + j), m1), f1), w, b));
    }
    write_row(y, x, d, j, mean[0], factor[0], weight, bias);
    write_row(y + d, x + d, d, j, mean[1], factor[1], weight, bias);
}

SIMD_INLINE void statistics(const float *x, size_t rows, size_t d, float eps, float *mean, float *factor) {
    for (size_t r = 0; r < rows; r++) mean[r] = 0;
    row_sums(mean, x, rows, d, mean, ROW_SUM);
    for (size_t r = 0; r < rows; r++) mean[r] /= (float)d;
    row_sums(factor, x, rows, d, mean, ROW_SQUARES);
    for (size_t r = 0; r < rows; r++) factor[r] = 1 / sqrtf(factor[r] / (float)d + eps);
}

void row_statistics(const float *x, size_t d, float eps, float *mean, float *factor) { statistics(x, 1, d, eps, mean, factor); }

void layer_norm_f32(float *y, const float *x, size_t rows, size_t d, const float *weight, const float *bias, float eps) {
    float mean[2], factor[2];
    size_t i = 0;
    for (; i + 2 <= rows; i += 2, x += 2 * d, y += 2 * d) {
        statistics(x, 2, d, eps, mean, factor);
        write_two_rows(y, x, d, mean, factor, weight, bias);
    }
    if (i == rows) return;
    row_statistics(x, d, eps, mean, factor);
    write_row(y, x, d, 0, mean[0], factor[0], weight, bias);
}

void rms_norm_f32(float *y, const float *x, size_t rows, size_t d, const float *weight, float eps) {
    for (size_t i = 0; i < rows; i++, x += d, y += d)
        write_row(y, x, d, 0, 0, 1 / sqrtf(row_squares(x, d) / (float)d + eps), weight, NULL);
}

void normalize_f32(float *y, const float *x, size_t rows, size_t d, float eps) {
    for (size_t i = 0; i < rows; i++, x += d, y += d) {
        float length = sqrtf(row_squares(x, d));
        write_row(y, x, d, 0, 0, 1 / (length < eps ? eps : length), NULL, NULL);
    }
}

void scale_shift_f32(float *y, const float *x, size_t rows, size_t c, const float *scale, const float *shift) {
    for (size_t i = 0; i < rows; i++, x += c, y += c) {
        size_t j = 0;
        for (; j + 4 <= c; j += 4) simd_store(y + j, simd_madd(simd_load(x + j), simd_load(scale + j), simd_load(shift + j)));
        for (; j < c; j++) y[j] = x[j] * scale[j] + shift[j];
    }
}

void batch_norm_scale_shift(float *scale, float *shift, size_t c, const float *mean, const float *var, const float *weight,
                            const float *bias, float eps) {
    for (size_t j = 0; j < c; j++) {
        double factor = (weight ? weight[j] : 1.0) / sqrt((double)var[j] + eps);
        scale[j] = (float)factor;
        shift[j] = (float)((bias ? bias[j] : 0.0) - mean[j] * factor);
    }
}
