#include "norm.h"
#include <math.h>
#include "../simd.h"

/* Sum of f(x[i], *parameter) over a row, in four sums that do not wait for each other. */
typedef enum row_function { ROW_SUM, ROW_SQUARES } row_function;

SIMD_INLINE v128_t term(v128_t sum, v128_t x, v128_t mean, row_function f) {
    if (f == ROW_SUM) return wasm_f32x4_add(sum, x);
    x = wasm_f32x4_sub(x, mean);
    return simd_madd(x, x, sum);
}

/* ROW_SUM: sum of x; ROW_SQUARES: sum of (x - mean)^2. */
SIMD_INLINE float row_sum(const float *x, size_t d, float mean, row_function f) {
    v128_t sum[4] = {simd_zero(), simd_zero(), simd_zero(), simd_zero()};
    v128_t m = wasm_f32x4_splat(mean);
    size_t j = 0;
    for (; j + 16 <= d; j += 16) {
        for (size_t v = 0; v < 4; v++) sum[v] = term(sum[v], simd_load(x + j + v * 4), m, f);
    }
    for (; j + 4 <= d; j += 4) sum[0] = term(sum[0], simd_load(x + j), m, f);
    float rest = 0;
    for (; j < d; j++) rest += f == ROW_SUM ? x[j] : (x[j] - mean) * (x[j] - mean);
    return rest + simd_sum(wasm_f32x4_add(wasm_f32x4_add(sum[0], sum[1]), wasm_f32x4_add(sum[2], sum[3])));
}

/* y = (x - mean) * factor * weight + bias */
static void write_row(float *y, const float *x, size_t d, float mean, float factor, const float *weight, const float *bias) {
    v128_t m = wasm_f32x4_splat(mean), f = wasm_f32x4_splat(factor);
    size_t j = 0;
    if (weight && bias) {
        for (; j + 4 <= d; j += 4) {
            simd_store(y + j, simd_madd(wasm_f32x4_mul(wasm_f32x4_sub(simd_load(x + j), m), f), simd_load(weight + j), simd_load(bias + j)));
        }
    }
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

void row_statistics(const float *x, size_t d, float eps, float *mean, float *factor) {
    *mean = row_sum(x, d, 0, ROW_SUM) / (float)d;
    *factor = 1 / sqrtf(row_sum(x, d, *mean, ROW_SQUARES) / (float)d + eps);
}

void layer_norm_f32(float *y, const float *x, size_t rows, size_t d, const float *weight, const float *bias, float eps) {
    for (size_t i = 0; i < rows; i++, x += d, y += d) {
        float mean, factor;
        row_statistics(x, d, eps, &mean, &factor);
        write_row(y, x, d, mean, factor, weight, bias);
    }
}

void rms_norm_f32(float *y, const float *x, size_t rows, size_t d, const float *weight, float eps) {
    for (size_t i = 0; i < rows; i++, x += d, y += d) {
        float square = row_sum(x, d, 0, ROW_SQUARES) / (float)d;
        write_row(y, x, d, 0, 1 / sqrtf(square + eps), weight, NULL);
    }
}

void normalize_f32(float *y, const float *x, size_t rows, size_t d, float eps) {
    for (size_t i = 0; i < rows; i++, x += d, y += d) {
        float length = sqrtf(row_sum(x, d, 0, ROW_SQUARES));
        write_row(y, x, d, 0, 1 / (length < eps ? eps : length), NULL, NULL);
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
