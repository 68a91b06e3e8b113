#include "block_selection.h"
#include <math.h>
#include "simd_math.h"

static const float PHANTOM = -1e3f, LEAST_SHARE = 1e-10f;

static void mean_of_rows(float *mean, const float *scores, size_t score_stride, size_t rows, size_t columns) {
    const v128_t divisor = wasm_f32x4_splat((float)rows);
    size_t j = 0;
    for (; j + 4 <= columns; j += 4) {
        v128_t sum = simd_load(scores + j);
        for (size_t r = 1; r < rows; r++) sum = wasm_f32x4_add(sum, simd_load(scores + r * score_stride + j));
        simd_store(mean + j, rows == 1 ? sum : wasm_f32x4_div(sum, divisor));
    }
    for (; j < columns; j++) {
        float sum = scores[j];
        for (size_t r = 1; r < rows; r++) sum += scores[r * score_stride + j];
        mean[j] = sum / (float)rows;
    }
}

/* The sums of neighbours in place: x[i] = x[2 i] + x[2 i + 1] */
static void add_pairs(float *x, size_t count) {
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        v128_t a = simd_load(x + 2 * i), b = simd_load(x + 2 * i + 4);
        simd_store(x + i, wasm_f32x4_add(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6), wasm_i32x4_shuffle(a, b, 1, 3, 5, 7)));
    }
    for (; i < count; i++) x[i] = x[2 * i] + x[2 * i + 1];
}

size_t block_importance_f32(float *importance, const float *scores, size_t score_stride, size_t rows, size_t columns, size_t together) {
    size_t count = columns / together, group = together;
    mean_of_rows(importance, scores, score_stride, rows, columns);
    if (together == 1) return count;
    for (; group % 2 == 0; group /= 2) add_pairs(importance, count * group / 2);
    for (size_t i = 0; i < count; i++) {
        float sum = importance[i * group];
        for (size_t j = 1; j < group; j++) sum += importance[i * group + j];
        importance[i] = sum / (float)together;
    }
    return count;
}

/* Puts a column among the best, of which there are `held`. */
static void insert(int32_t *chosen, float *best, size_t held, size_t most, float value, size_t column) {
    size_t at = held < most ? held : most - 1;
    for (; at > 0 && best[at - 1] < value; at--) {
        best[at] = best[at - 1];
        chosen[at] = chosen[at - 1];
    }
    best[at] = value;
    chosen[at] = (int32_t)column;
}

/* sum of exp(x - max) */
static float sum_of_exponentials(const float *x, size_t count, float max) {
    v128_t m = wasm_f32x4_splat(max), sum = simd_zero();
    size_t j = 0;
    for (; j + 4 <= count; j += 4) sum = wasm_f32x4_add(sum, simd_weight(simd_load(x + j), m));
    float rest = 0;
    for (; j < count; j++) rest += expf(x[j] - max);
    return rest + simd_sum(sum);
}

/* How many of the best count. The sum lies between 1 and 1 + columns, which mostly decides without it. */
static size_t count_shares(const float *best, size_t held, const float *importance, size_t columns) {
    float max = best[0] > PHANTOM ? best[0] : PHANTOM, sum = 0;
    size_t count = 0;
    for (; count < held; count++) {
        float share = expf(best[count] - max);
        if (share > LEAST_SHARE * (float)(columns + 2)) continue;
        if (!(share > LEAST_SHARE * 0.5f)) break;
        if (sum == 0) sum = sum_of_exponentials(importance, columns, max) + expf(PHANTOM - max);
        if (!(share / sum > LEAST_SHARE)) break;
    }
    return count;
}

size_t block_select_f32(int32_t *chosen, float *best, const float *importance, size_t columns, size_t most, size_t *listed) {
    size_t held = 0, j = 0;
    *listed = 0;
    if (!most || !columns) return 0;
    for (; j < columns && held < most; j++, held++) insert(chosen, best, held, most, importance[j], j);
    for (; j + 4 <= columns; j += 4) {
        if (!wasm_v128_any_true(wasm_f32x4_gt(simd_load(importance + j), wasm_f32x4_splat(best[most - 1])))) continue;
        for (size_t lane = 0; lane < 4; lane++) {
            if (importance[j + lane] > best[most - 1]) insert(chosen, best, held, most, importance[j + lane], j + lane);
        }
    }
    for (; j < columns; j++) {
        if (importance[j] > best[most - 1]) insert(chosen, best, held, most, importance[j], j);
    }
    *listed = held;
    return count_shares(best, held, importance, columns);
}
