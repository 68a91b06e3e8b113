/* What kernels.mjs times: each function repeats one piece of work `times` times on memory of its own. Sizes in, nothing out. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/depthwise.h"
#include "kernels/gemm.h"
#include "kernels/norm.h"
#include "kernels/patches.h"
#include "kernels/pool2d.h"
#include "kernels/quantized.h"
#include "kernels/softmax.h"
#include "kernels/sparse_attention.h"
#include "kernels/transpose.h"
#include "kernels/winograd.h"
#include "simd.h"

#define BENCH __attribute__((visibility("default"), used))

/* One block of memory for everything: each function lays out its arrays from the start. */
static float *memory;
static size_t memory_floats, used;

static float *take(size_t floats) {
    float *p = memory + used;
    used += (floats + 15) / 16 * 16;
    if (used > memory_floats) abort();
    return p;
}

/* Small numbers of both signs, so that nothing overflows and no value is denormal. */
BENCH void bench_start(size_t floats) {
    memory_floats = floats;
    memory = aligned_alloc(64, floats * sizeof(float));
    uint32_t state = 1;
    for (size_t i = 0; i < floats; i++) {
        state = state * 1664525u + 1013904223u;
        memory[i] = (float)(int32_t)state * 0x1p-33f;
    }
}

/* -- the roof: 12 chains that never wait for each other, operands in registers. 96 flops a round. -- */

BENCH float bench_roof_madd(size_t rounds, const float *operands) {
    v128_t a = simd_splat(operands), b = simd_splat(operands + 1), sum[12];
    for (int i = 0; i < 12; i++) sum[i] = simd_splat(operands + i);
    for (size_t r = 0; r < rounds; r++) {
        for (int i = 0; i < 12; i++) sum[i] = simd_madd(sum[i], a, b);
    }
    for (int i = 1; i < 12; i++) sum[0] = wasm_f32x4_add(sum[0], sum[i]);
    return simd_sum(sum[0]);
}

BENCH float bench_roof_mul_add(size_t rounds, const float *operands) {
    v128_t a = simd_splat(operands), b = simd_splat(operands + 1), sum[12];
    for (int i = 0; i < 12; i++) sum[i] = simd_splat(operands + i);
    for (size_t r = 0; r < rounds; r++) {
        for (int i = 0; i < 12; i++) sum[i] = wasm_f32x4_add(wasm_f32x4_mul(sum[i], a), b);
    }
    for (int i = 1; i < 12; i++) sum[0] = wasm_f32x4_add(sum[0], sum[i]);
    return simd_sum(sum[0]);
}

/* Reads memory, 12 chains. */
BENCH float bench_read(size_t times, size_t floats) {
    v128_t sum[12];
    for (int i = 0; i < 12; i++) sum[i] = simd_zero();
    for (size_t t = 0; t < times; t++) {
        for (const float *p = memory, *end = p + floats / 48 * 48; p < end; p += 48) {
            for (int i = 0; i < 12; i++) sum[i] = wasm_v128_xor(sum[i], simd_load(p + 4 * i));
        }
    }
    for (int i = 1; i < 12; i++) sum[0] = wasm_v128_xor(sum[0], sum[i]);
    return simd_sum(sum[0]);
}

/* Two multiplications with one addition, as polynomials among other steps: 12 instructions a round. */
BENCH float bench_roof_mix(size_t rounds, const float *operands) {
    v128_t a = simd_splat(operands), b = simd_splat(operands + 1), sum[12];
    for (int i = 0; i < 12; i++) sum[i] = simd_splat(operands + i);
    for (size_t r = 0; r < rounds; r++) {
        for (int i = 0; i < 12; i++) sum[i] = i % 3 == 2 ? wasm_f32x4_add(sum[i], a) : simd_madd(sum[i], a, b);
    }
    for (int i = 1; i < 12; i++) sum[0] = wasm_f32x4_add(sum[0], sum[i]);
    return simd_sum(sum[0]);
}

BENCH float *bench_operands(void) {
    memory[0] = 0.5f;
    memory[1] = 0.25f;
    return memory;
}

/* -- matrices -- */

BENCH void bench_gemm(size_t times, size_t m, size_t n, size_t k) {
    used = 0;
    float *a = take(m * k), *c = take(m * n), *packed = take(gemm_packed_floats(k, n));
    for (size_t t = 0; t < times; t++) gemm_f32_matrix(c, n, a, k, packed, m, n, k, NULL);
}

/* With weights in halves, of small random numbers. */
BENCH void bench_halves(size_t times, size_t m, size_t n, size_t k) {
    used = 0;
    size_t packed_floats = gemm_packed_floats_in(GEMM_F16, k, n);
    float *a = take(m * k), *c = take(m * n), *packed = take(packed_floats);
    if (packed[0] != 0) {
        memset(packed, 0, packed_floats * sizeof *packed);
        for (size_t j = 0; j < n; j++) gemm_pack(GEMM_F16, packed, k, 0, k, j, 1, memory + j, 1, 1);
        gemm_bias(GEMM_F16, packed, k, n, NULL);
    }
    for (size_t t = 0; t < times; t++) gemm_matrix(GEMM_F16, c, n, a, k, packed, m, n, k, NULL);
}

/* Rows of random bytes would hold NaNs: what is packed here is zeros, of which the product takes as long. way: as quantized_way. */
BENCH void bench_quantized(size_t times, int bits, int way, size_t m, size_t n, size_t k) {
    used = 0;
    quantized_way_taken = (quantized_way)way;
    size_t row_floats = quantized_row_floats((quantized_bits)bits, k), packed_floats = quantized_packed_floats((quantized_bits)bits, 1, k, n);
    float *a = take(m * k), *c = take(m * n), *rows = take(m * row_floats), *packed = take(packed_floats);
    if (packed[0] != 0) memset(packed, 0, packed_floats * sizeof *packed);
    for (size_t t = 0; t < times; t++) {
        for (size_t i = 0; i < m; i++) quantized_row(rows + i * row_floats, (quantized_bits)bits, a + i * k, k);
        quantized_gemm_matrix(c, n, rows, (quantized_bits)bits, packed, m, n, k, NULL);
    }
}

/* As a linear layer's weights are packed. */
BENCH void bench_quantized_pack(size_t times, int bits, size_t n, size_t k) {
    used = 0;
    float *w = take(n * k), *packed = take(quantized_packed_floats((quantized_bits)bits, 1, k, n));
    for (size_t t = 0; t < times; t++) quantized_pack(packed, (quantized_bits)bits, 1, k, 0, n, w, 0, 1, k);
}

BENCH void bench_quantize_rows(size_t times, int bits, size_t m, size_t k) {
    used = 0;
    float *a = take(m * k), *rows = take(m * quantized_row_floats((quantized_bits)bits, k));
    for (size_t t = 0; t < times; t++)
        for (size_t i = 0; i < m; i++) quantized_row(rows + i * quantized_row_floats((quantized_bits)bits, k), (quantized_bits)bits, a + i * k, k);
}

/* The convolution as ops do it: pointers to taps, padding to zeros. */
static const float **conv_rows(const float *x, const float *zeros, size_t h, size_t w, size_t c, size_t kernel, size_t stride, size_t pad) {
    size_t out_h = (h + 2 * pad - kernel) / stride + 1, out_w = (w + 2 * pad - kernel) / stride + 1, taps = kernel * kernel;
    size_t pixels = out_h * out_w, tiles = (pixels + GEMM_MR - 1) / GEMM_MR;
    const float **rows = malloc(tiles * taps * GEMM_MR * sizeof *rows);
    for (size_t i = 0; i < tiles * GEMM_MR; i++) {
        size_t pixel = i < pixels ? i : pixels - 1;
        for (size_t t = 0; t < taps; t++) {
            size_t y = pixel / out_w * stride + t / kernel, x_at = pixel % out_w * stride + t % kernel;
            int inside = y >= pad && y - pad < h && x_at >= pad && x_at - pad < w;
            rows[(i / GEMM_MR * taps + t) * GEMM_MR + i % GEMM_MR] = inside ? x + ((y - pad) * w + x_at - pad) * c : zeros;
        }
    }
    return rows;
}

/* How many copies of some weights it takes to push each other out of the caches, as the layers of a network do. */
static size_t cold_copies(size_t floats) { return used + floats < memory_floats ? (memory_floats - used) / (floats + 16) : 1; }

BENCH void bench_conv(size_t times, size_t h, size_t w, size_t c, size_t n, size_t kernel, size_t stride, size_t pad) {
    used = 0;
    size_t pixels = ((h + 2 * pad - kernel) / stride + 1) * ((w + 2 * pad - kernel) / stride + 1), taps = kernel * kernel;
    float *x = take(h * w * c), *zeros = take(c), *y = take(pixels * n);
    size_t packed_floats = gemm_packed_floats(taps * c, n), copies = cold_copies(packed_floats), start = used;
    const float **rows = conv_rows(x, zeros, h, w, c, kernel, stride, pad);
    const gemm_epilogue relu = {NULL, 0, LAM_RELU};
    for (size_t t = 0; t < times; t++) {
        if (t % copies == 0) used = start;
        gemm_f32(y, n, rows, taps, take(packed_floats), pixels, n, c, &relu);
    }
    free(rows);
}

/* Of planes of few channels: patches, as many together as ops take, and their product. */
BENCH void bench_patches(size_t times, size_t size, size_t c, size_t n, size_t kernel, size_t stride, size_t pad) {
    used = 0;
    const size_t out = (size + 2 * pad - kernel) / stride + 1, pixels = out * out, k = c * kernel * kernel, most = 64 * 1024 / k / GEMM_MR * GEMM_MR;
    const conv_window window = { size, size, c, out, out, kernel, kernel, stride, stride, pad, pad, 1, 1 };
    const size_t together = most < 32 * GEMM_MR ? most : 32 * GEMM_MR, floats = patches_row_floats(&window);
    float *x = take(c * size * size), *y = take(pixels * n), *rows = take(together * floats), *packed = take(gemm_packed_floats(k, n));
    const gemm_epilogue relu = {NULL, 0, LAM_RELU};
    for (size_t t = 0; t < times; t++) {
        for (size_t i = 0; i < pixels; i += together) {
            size_t m = pixels - i < together ? pixels - i : together;
            patches_f32(rows, x, &window, i, m);
            gemm_f32_matrix(y + i * n, n, rows, floats, packed, m, n, k, &relu);
        }
    }
}

BENCH void bench_winograd(size_t times, int tile, size_t h, size_t w, size_t c, size_t n) {
    used = 0;
    const winograd_conv conv = {tile, 32, 1, h, w, c, h, w, n, 1, 1, c, n};
    float *x = take(h * w * c), *y = take(h * w * n), *scratch = take(winograd_scratch_floats(&conv));
    size_t packed_floats = gemm_packed_floats(9 * c, n), copies = cold_copies(packed_floats), start = used;
    const gemm_epilogue relu = {NULL, 0, LAM_RELU};
    for (size_t t = 0; t < times; t++) {
        if (t % copies == 0) used = start;
        winograd_forget(scratch);
        winograd_f32(y, x, take(packed_floats), &conv, 0, winograd_units(&conv), &relu, scratch);
    }
}

BENCH int bench_winograd_choice(size_t size, size_t c, size_t n) { return winograd_choose(size, size, c, n); }

/* -- the rest -- */

BENCH void bench_depthwise(size_t times, size_t h, size_t w, size_t c, size_t kernel) {
    used = 0;
    const conv_window conv = {h, w, c, h, w, kernel, kernel, 1, 1, kernel / 2, kernel / 2, 1, 1};
    float *x = take(h * w * c), *y = take(h * w * c), *packed = take(depthwise_packed_floats(c, kernel * kernel));
    for (size_t t = 0; t < times; t++) depthwise_f32(y, x, packed, &conv, 0, h, NULL);
}

BENCH void bench_activation(size_t times, size_t n, int activation) {
    used = 0;
    float *x = take(n), *y = take(n);
    for (size_t t = 0; t < times; t++) activation_f32(y, x, n, (lam_activation)activation);
}

BENCH void bench_copy(size_t times, size_t n) {
    used = 0;
    float *x = take(n), *y = take(n);
    for (size_t t = 0; t < times; t++) memcpy(y, x, n * sizeof *y);
}

BENCH void bench_softmax(size_t times, size_t rows, size_t d) {
    used = 0;
    float *x = take(rows * d), *y = take(rows * d);
    for (size_t t = 0; t < times; t++) softmax_f32(y, x, rows, d);
}

BENCH void bench_layer_norm(size_t times, size_t rows, size_t d) {
    used = 0;
    float *x = take(rows * d), *y = take(rows * d), *weight = take(d), *bias = take(d);
    for (size_t t = 0; t < times; t++) layer_norm_f32(y, x, rows, d, weight, bias, 1e-5f);
}

BENCH void bench_rms_norm(size_t times, size_t rows, size_t d) {
    used = 0;
    float *x = take(rows * d), *y = take(rows * d), *weight = take(d);
    for (size_t t = 0; t < times; t++) rms_norm_f32(y, x, rows, d, weight, 1e-5f);
}

BENCH void bench_avg_pool(size_t times, size_t h, size_t w, size_t c) {
    used = 0;
    const pool2d pool = {.h = h, .w = w, .c = c, .out_h = h / 2, .out_w = w / 2, .kernel_h = 2, .kernel_w = 2, .stride_h = 2, .stride_w = 2};
    float *x = take(h * w * c), *y = take(h * w * c / 4);
    for (size_t t = 0; t < times; t++) avg_pool2d_f32(y, x, &pool, 0, h / 2);
}

BENCH void bench_transpose(size_t times, size_t rows, size_t columns) {
    used = 0;
    float *x = take(rows * columns), *y = take(rows * columns);
    for (size_t t = 0; t < times; t++) transpose_f32(y, rows, x, columns, rows, columns);
}

/* Heads one after the other, as the op does them: the calls of one thread. */
BENCH void bench_attention(size_t times, size_t heads, size_t queries, size_t keys, size_t d, int causal) {
    used = 0;
    float *q = take(heads * queries * d), *k = take(heads * keys * d), *v = take(heads * keys * d), *y = take(heads * queries * d);
    float *scratch = take(attention_scratch_floats(d, d));
    for (size_t t = 0; t < times; t++) {
        for (size_t h = 0; h < heads; h++) {
            const attention_head head = {.y = y + h * queries * d, .q = q + h * queries * d,
                                         .k = {k + h * keys * d, LAM_PRECISION_F32, d, 0}, .v = {v + h * keys * d, LAM_PRECISION_F32, d, 0},
                                         .y_stride = d, .q_stride = d, .queries = queries, .keys = keys, .d = d, .dv = d,
                                         .scale = 8, .banded = causal, .low = -(ptrdiff_t)queries, .high = (ptrdiff_t)(keys - queries)};
            attention_f32(&head, 0, queries, scratch);
        }
    }
}

/* A step of a decoder: one query of each head over rows that hold all heads, of LAYERS caches by turns, so that they come from memory. */
BENCH void bench_attention_step(size_t times, size_t heads, size_t group, size_t keys, size_t d, size_t precision) {
    used = 0;
    enum { LAYERS = 12 };
    const lam_precision kept = (lam_precision)precision;
    size_t width = heads / group * d, floats = keys * kept_row_bytes(kept, width) / sizeof(float);
    float *q = take(heads * d), *y = take(heads * d), *rows = take(keys * width), *scratch = take(attention_scratch_floats(d, d)), *caches = take(2 * LAYERS * floats);
    static const float *filled;
    static size_t filled_as;
    for (size_t i = 0; i < 2 * LAYERS && (filled != caches || filled_as != precision); i++) kept_write(caches + i * floats, kept, 0, rows, keys, width);
    filled = caches;
    filled_as = precision;
    for (size_t t = 0; t < times; t++) {
        const float *cache = caches + t % LAYERS * 2 * floats;
        attention_head all[ATTENTION_BESIDE];
        for (size_t h = 0; h < heads; h++)
            all[h] = (attention_head){.y = y + h * d, .q = q + h * d, .k = {cache, kept, width, h / group * d}, .v = {cache + floats, kept, width, h / group * d},
                                      .y_stride = heads * d, .q_stride = heads * d, .queries = 1, .keys = keys, .d = d, .dv = d, .scale = 8};
        attention_beside_f32(all, heads, scratch);
    }
}

/* The last block of queries of one key head with two query heads, d 64; rows as far apart as those of four key heads are. */
BENCH void bench_sparse_attention(size_t times, size_t keys, size_t stride) {
    used = 0;
    enum { ROW = 256 };
    const sparse_sizes sizes = {.queries = keys, .keys = keys, .blocks = keys / stride, .memory = 1, .group = 2, .d = 64, .window = 64, .stride = stride,
                                .selection = 16, .selected = 4, .causal = 1, .shared = 1};
    float *q = take(keys * 128), *y = take(keys * 128), *gates = take(keys * 6), *scratch = take(sparse_scratch_floats(&sizes));
    float *k = take(keys * ROW), *v = take(keys * ROW), *ck = take(sizes.blocks * ROW), *cv = take(sizes.blocks * ROW), *packed = take(sparse_packed_floats(&sizes));
    const sparse_head head = {.packed = packed, .y = y, .q = q, .q_rotated = q, .gates = gates, .k = k, .v = v, .ck = ck, .cv = cv, .mem_k = k, .mem_v = v,
                              .q_stride = 128, .gate_stride = 6, .k_stride = ROW, .c_stride = ROW};
    for (size_t t = 0; t < sparse_tiles(&sizes); t++) sparse_pack_f32(packed, &head, &sizes, t);
    size_t count = sparse_queries(&sizes);
    for (size_t t = 0; t < times; t++) sparse_attention_f32(&head, &sizes, keys - count, count, scratch);
}
