#include "group_norm.h"
#include <math.h>
#include <string.h>
#include "../simd.h"
#include "norm.h"

/* y = (x - mean) * factor + shift */
static void write_plane(float *y, const float *x, size_t n, float mean, float factor, float shift) {
    v128_t m = wasm_f32x4_splat(mean), f = wasm_f32x4_splat(factor), s = wasm_f32x4_splat(shift);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) simd_store(y + i, simd_madd(wasm_f32x4_sub(simd_load(x + i), m), f, s));
    for (; i < n; i++) y[i] = (x[i] - mean) * factor + shift;
}

void group_norm_planes_f32(float *y, const float *x, size_t width, size_t size, const float *weight, const float *bias, float eps) {
    float mean, factor;
    row_statistics(x, width * size, eps, &mean, &factor);
    for (size_t c = 0; c < width; c++)
        write_plane(y + c * size, x + c * size, size, mean, weight ? factor * weight[c] : factor, bias ? bias[c] : 0);
}

/* sum[j] += x[i][j], or (x[i][j] - mean[j])^2, over the rows. */
static void add_rows(float *sum, const float *x, size_t rows, size_t stride, size_t n, const float *mean) {
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        v128_t total = simd_zero(), m = mean ? simd_load(mean + j) : simd_zero();
        for (size_t i = 0; i < rows; i++) {
            v128_t v = wasm_f32x4_sub(simd_load(x + i * stride + j), m);
            total = mean ? simd_madd(v, v, total) : wasm_f32x4_add(total, v);
        }
        simd_store(sum + j, wasm_f32x4_add(simd_load(sum + j), total));
    }
    for (; j < n; j++) {
        float total = 0;
        for (size_t i = 0; i < rows; i++) {
            float v = x[i * stride + j] - (mean ? mean[j] : 0);
            total += mean ? v * v : v;
        }
        sum[j] += total;
    }
}

/* Sums of columns, a few rows at a time: a long sum of single numbers loses digits, and a block stays in the cache. */
static void column_sums(float *sum, const float *x, size_t rows, size_t stride, size_t n, const float *mean) {
    enum { BLOCK = 64 };
    memset(sum, 0, n * sizeof *sum);
    for (size_t i = 0; i < rows; i += BLOCK) add_rows(sum, x + i * stride, rows - i < BLOCK ? rows - i : BLOCK, stride, n, mean);
}

static double total(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    return sum;
}

void group_norm_columns_f32(float *y, const float *x, size_t rows, size_t stride, size_t groups, size_t width, const float *weight,
                            const float *bias, float eps, float *scratch) {
    size_t n = groups * width;
    float *mean = scratch, *scale = scratch + n;
    double size = (double)width * (double)rows;
    column_sums(scale, x, rows, stride, n, NULL);
    for (size_t g = 0; g < groups; g++) {
        float m = (float)(total(scale + g * width, width) / size);
        for (size_t j = 0; j < width; j++) mean[g * width + j] = m;
    }
    column_sums(scale, x, rows, stride, n, mean);
    for (size_t g = 0; g < groups; g++) {
        float factor = 1 / sqrtf((float)(total(scale + g * width, width) / size) + eps);
        for (size_t j = g * width; j < (g + 1) * width; j++) scale[j] = weight ? factor * weight[j] : factor;
    }
    for (size_t i = 0; i < rows; i++, x += stride, y += stride) {
        size_t j = 0;
        for (; j + 4 <= n; j += 4) {
            v128_t v = wasm_f32x4_mul(wasm_f32x4_sub(simd_load(x + j), simd_load(mean + j)), simd_load(scale + j));
            simd_store(y + j, bias ? wasm_f32x4_add(v, simd_load(bias + j)) : v);
        }
        for (; j < n; j++) y[j] = (x[j] - mean[j]) * scale[j] + (bias ? bias[j] : 0);
    }
}
