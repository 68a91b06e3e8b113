#include "norm.h"
#include <math.h>
#include "../simd.h"

/* What is summed at a time: longer sums of single numbers lose digits. */
enum { BLOCK = 4096, TOGETHER = 6 };

/* {sum of x - shift, sum of its squares} as doubles, TOGETHER of each that do not wait for each other. n <= BLOCK; shift: NULL for zeros. */
SIMD_INLINE v128_t block_sums(const float *x, size_t n, const float *shift) {
    v128_t sum[TOGETHER], square[TOGETHER], s = shift ? simd_splat(shift) : simd_zero(), t;
    for (size_t v = 0; v < TOGETHER; v++) sum[v] = square[v] = simd_zero();
    size_t j = 0;
    SIMD_KEEP_LOOP
    for (; j + 4 * TOGETHER <= n; j += 4 * TOGETHER) {
        for (size_t v = 0; v < TOGETHER; v++) {
            t = simd_load(x + j + v * 4);
            if (shift) t = wasm_f32x4_sub(t, s);
            sum[v] = wasm_f32x4_add(sum[v], t);
            square[v] = simd_madd(t, t, square[v]);
        }
    }
    for (size_t apart = 1; apart < TOGETHER; apart *= 2) {
        for (size_t v = 0; v + apart < TOGETHER; v += 2 * apart) {
            sum[v] = wasm_f32x4_add(sum[v], sum[v + apart]);
            square[v] = wasm_f32x4_add(square[v], square[v + apart]);
        }
    }
    SIMD_KEEP_LOOP
    for (; j < n; j += 4) {
        t = n - j < 4 ? simd_load_part(x + j, n - j) : simd_load(x + j);
        if (shift) t = wasm_v128_and(wasm_f32x4_sub(t, s), wasm_i32x4_gt(wasm_i32x4_splat((int)(n - j)), wasm_i32x4_const(0, 1, 2, 3)));
        sum[0] = wasm_f32x4_add(sum[0], t);
        square[0] = simd_madd(t, t, square[0]);
    }
    t = wasm_f32x4_add(wasm_i32x4_shuffle(sum[0], square[0], 0, 1, 4, 5), wasm_i32x4_shuffle(sum[0], square[0], 2, 3, 6, 7));
    t = wasm_f32x4_add(wasm_i32x4_shuffle(t, t, 0, 2, 0, 2), wasm_i32x4_shuffle(t, t, 1, 3, 1, 3));
    return wasm_f64x2_promote_low_f32x4(t);
}
static SIMD_NOINLINE v128_t plain_sums(const float *x, size_t n) { return block_sums(x, n, NULL); }
static SIMD_NOINLINE v128_t shifted_sums(const float *x, size_t n, const float *shift) { return block_sums(x, n, shift); }

/* Means of x - shift and of its squares; shift: NULL for zeros. */
typedef struct moments { double mean, square; } moments;
SIMD_INLINE moments row_moments(const float *x, size_t d, const float *shift) {
    v128_t sums = simd_zero();
    for (size_t j = 0; j < d; j += BLOCK) {
        const size_t n = d - j < BLOCK ? d - j : BLOCK;
        sums = wasm_f64x2_add(sums, shift ? shifted_sums(x + j, n, shift) : plain_sums(x + j, n));
    }
    sums = wasm_f64x2_mul(sums, wasm_f64x2_splat(1 / (double)d));
    return (moments){wasm_f64x2_extract_lane(sums, 0), wasm_f64x2_extract_lane(sums, 1)};
}

/* One pass is enough where the mean is near zero, as is usual: what the squares lose to it is then one rounding more. Else, and where squares are too
 * large for numbers, another around that mean. */
void row_statistics(const float *x, size_t d, float eps, float *mean, float *factor) {
    moments m = row_moments(x, d, NULL);
    *mean = (float)m.mean;
    double square = m.mean * m.mean;
    if (!(2 * square <= m.square && m.square < INFINITY)) {
        m = row_moments(x, d, mean);
        *mean += (float)m.mean;
        square = m.mean * m.mean;
    }
    *factor = 1 / sqrtf((float)(m.square < square ? 0 : m.square - square) + eps);
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

/* The same for two rows, which share what is read of weight and bias. Addresses cost as much as arithmetic here: one of each array for 16 columns. */
static void write_two_rows(float *y, const float *x, size_t d, const float *mean, const float *factor, const float *weight, const float *bias) {
    v128_t m0 = wasm_f32x4_splat(mean[0]), m1 = wasm_f32x4_splat(mean[1]), f0 = wasm_f32x4_splat(factor[0]), f1 = wasm_f32x4_splat(factor[1]);
    size_t j = 0;
    SIMD_KEEP_LOOP
    for (; weight && bias && j + 16 <= d; j += 16) {
        const float *x0 = x + j, *x1 = x0 + d, *w = weight + j, *b = bias + j;
        float *y0 = y + j, *y1 = y0 + d;
        for (size_t i = 0; i < 16; i += 4) {
            v128_t wi = simd_load(w + i), bi = simd_load(b + i), v0 = simd_load(x0 + i), v1 = simd_load(x1 + i);
            v0 = simd_madd(wasm_f32x4_mul(wasm_f32x4_sub(v0, m0), f0), wi, bi);
            v1 = simd_madd(wasm_f32x4_mul(wasm_f32x4_sub(v1, m1), f1), wi, bi);
            simd_store(y0 + i, v0);
            simd_store(y1 + i, v1);
        }
    }
    write_row(y, x, d, j, mean[0], factor[0], weight, bias);
    write_row(y + d, x + d, d, j, mean[1], factor[1], weight, bias);
}

void layer_norm_f32(float *y, const float *x, size_t rows, size_t d, const float *weight, const float *bias, float eps) {
    float mean[2], factor[2];
    for (size_t i = 0; i < rows; i += 2, x += 2 * d, y += 2 * d) {
        row_statistics(x, d, eps, mean, factor);
        if (i + 1 == rows) write_row(y, x, d, 0, mean[0], factor[0], weight, bias);
        else {
            row_statistics(x + d, d, eps, mean + 1, factor + 1);
            write_two_rows(y, x, d, mean, factor, weight, bias);
        }
    }
}

void rms_norm_f32(float *y, const float *x, size_t rows, size_t d, const float *weight, float eps) {
    for (size_t i = 0; i < rows; i++, x += d, y += d)
        write_row(y, x, d, 0, 0, 1 / sqrtf((float)row_moments(x, d, NULL).square + eps), weight, NULL);
}

void normalize_f32(float *y, const float *x, size_t rows, size_t d, float eps) {
    for (size_t i = 0; i < rows; i++, x += d, y += d) {
        double length = sqrt(row_moments(x, d, NULL).square * (double)d);
        write_row(y, x, d, 0, 0, (float)(1 / (length < eps ? eps : length)), NULL, NULL);
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
