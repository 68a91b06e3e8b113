#include "softmax.h"
#include "simd_math.h"

static float row_max(const float *x, size_t d) {
    float max = x[0];
    size_t j = 0;
    if (d >= 16) {
        v128_t m[4];
        for (size_t v = 0; v < 4; v++) m[v] = simd_load(x + v * 4);
        for (j = 16; j + 16 <= d; j += 16) {
            for (size_t v = 0; v < 4; v++) m[v] = simd_max(m[v], simd_load(x + j + v * 4));
        }
        m[0] = simd_max(simd_max(m[0], m[1]), simd_max(m[2], m[3]));
        float lanes[4];
        simd_store(lanes, m[0]);
        for (size_t v = 0; v < 4; v++) max = lanes[v] > max ? lanes[v] : max;
    }
    for (; j < d; j++) max = x[j] > max ? x[j] : max;
    return max;
}

/* y = exp(x - max), returns their sum. A NaN that row_max overlooked arrives in the sum. */
static float exp_row(float *y, const float *x, size_t d, float max) {
    v128_t m = wasm_f32x4_splat(max), sum = simd_zero();
    size_t j = 0;
    for (; j + 4 <= d; j += 4) {
        v128_t e = simd_weight(simd_load(x + j), m);
        simd_store(y + j, e);
        sum = wasm_f32x4_add(sum, e);
    }
    float rest = 0;
    if (j < d) {
        simd_store_part(y + j, simd_weight(simd_load_part(x + j, d - j), m), d - j);
        for (; j < d; j++) rest += y[j];
    }
    return rest + simd_sum(sum);
}

float softmax_weights_f32(float *y, const float *x, size_t d) { return exp_row(y, x, d, row_max(x, d)); }

void softmax_f32(float *y, const float *x, size_t rows, size_t d) {
    if (!d) return;
    for (size_t i = 0; i < rows; i++, x += d, y += d) {
        float factor = 1 / exp_row(y, x, d, row_max(x, d));
        v128_t f = wasm_f32x4_splat(factor);
        size_t j = 0;
        for (; j + 4 <= d; j += 4) simd_store(y + j, wasm_f32x4_mul(simd_load(y + j), f));
        for (; j < d; j++) y[j] *= factor;
    }
}
