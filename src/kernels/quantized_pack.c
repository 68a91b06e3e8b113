/* Into codes: weights while they load, rows at every run. */
#include <math.h>
#include <string.h>
#include "../simd.h"
#include "quantized.h"

enum { GROUP = 4, MOST_CODE = 127 };

const struct quantized_constants quantized_constants = {
    { 1, 1, 1, 1, 1, 1, 1, 1 }, { 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15 },
    { 0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u },
};

static size_t divide_up(size_t a, size_t b) { return (a + b - 1) / b; }
static size_t blocks_of(size_t k) { return divide_up(k, QUANTIZED_BLOCK); }
static size_t groups_of(quantized_bits bits, size_t k) {
    return bits == QUANTIZED_4 ? blocks_of(k) * (QUANTIZED_BLOCK / GROUP) : divide_up(k, GROUP);
}

/* ---- rows ---- */

size_t quantized_row_floats(quantized_bits bits, size_t k) {
    return QUANTIZED_ROW_HEAD + (bits == QUANTIZED_4 ? blocks_of(k) : 0) + groups_of(bits, k);
}

typedef struct range { float low, high; } range;

static float largest_lane(v128_t v) {
    v = simd_max(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
    return wasm_f32x4_extract_lane(simd_max(v, wasm_i32x4_shuffle(v, v, 1, 0, 3, 2)), 0);
}

/* Smallest and largest, at most and at least 0. Both are NaN if there is a NaN or an infinity, which 0 times x shows. */
static range range_of(const float *x, size_t k) {
    v128_t zero = simd_zero(), low = zero, high = zero, nothing = zero, nothing_too = zero;   /* two: a sum waits for the one before */
    size_t i = 0;
    for (; i + 8 <= k; i += 8) {
        v128_t v = simd_load(x + i), w = simd_load(x + i + 4);
        low = simd_min(simd_min(low, v), w);
        high = simd_max(simd_max(high, v), w);
        nothing = simd_madd(v, zero, nothing);
        nothing_too = simd_madd(w, zero, nothing_too);
    }
    for (; i < k; i += 4) {
        v128_t v = k - i < 4 ? simd_load_part(x + i, k - i) : simd_load(x + i);
        low = simd_min(low, v);
        high = simd_max(high, v);
        nothing = simd_madd(v, zero, nothing);
    }
    float not_finite = simd_sum(wasm_f32x4_add(nothing, nothing_too));
    return (range){ not_finite - largest_lane(wasm_f32x4_neg(low)), not_finite + largest_lane(high) };
}

/* Sixteen codes, which are the low bits of x * inverse + shift. */
SIMD_INLINE v128_t codes_of(const float *x, v128_t inverse, v128_t shift, v128_t base, v128_t most) {
    v128_t a = wasm_i32x4_sub(simd_madd(simd_load(x), inverse, shift), base), b = wasm_i32x4_sub(simd_madd(simd_load(x + 4), inverse, shift), base);
    v128_t c = wasm_i32x4_sub(simd_madd(simd_load(x + 8), inverse, shift), base), d = wasm_i32x4_sub(simd_madd(simd_load(x + 12), inverse, shift), base);
    return wasm_u8x16_min(wasm_u8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(a, b), wasm_i16x8_narrow_i32x4(c, d)), most);
}

/* Codes of x [k]; behind them up to a multiple of 4 that of zero. */
static void write_codes(unsigned char *to, const float *x, size_t k, float inverse, float zero) {
    const float around = 12582912.0f;   /* 1.5 * 2^23: sums of this size are whole numbers */
    v128_t v = wasm_f32x4_splat(inverse), shift = wasm_f32x4_splat(around + zero), base = wasm_f32x4_splat(around), most = wasm_i8x16_splat(MOST_CODE);
    size_t i = 0;
    for (; i + 16 <= k; i += 16) wasm_v128_store(to + i, codes_of(x + i, v, shift, base, most));
    if (i == k) return;
    float rest[16] = { 0 };
    unsigned char codes[16];
    memcpy(rest, x + i, (k - i) * sizeof *x);
    wasm_v128_store(codes, codes_of(rest, v, shift, base, most));
    memcpy(to + i, codes, divide_up(k - i, GROUP) * GROUP);
}

/* sums [blocks]: -8 times the sum of each block's codes, what the weights' own offset of 8 adds. */
static void write_sums(int32_t *sums, const unsigned char *codes, size_t blocks) {
    for (size_t b = 0; b < blocks; b++, codes += QUANTIZED_BLOCK) {
        v128_t pairs = wasm_i16x8_add(wasm_u16x8_extadd_pairwise_u8x16(wasm_v128_load(codes)), wasm_u16x8_extadd_pairwise_u8x16(wasm_v128_load(codes + 16)));
        v128_t v = wasm_u32x4_extadd_pairwise_u16x8(pairs);
        v = wasm_i32x4_add(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
        sums[b] = -8 * (wasm_i32x4_extract_lane(v, 0) + wasm_i32x4_extract_lane(v, 1));
    }
}

void quantized_row(float *row, quantized_bits bits, const float *x, size_t k) {
    range r = range_of(x, k);
    float scale = (r.high - r.low) / MOST_CODE, inverse = scale > 0 ? 1 / scale : 0;
    if (!(inverse < INFINITY)) scale = inverse = 0;   /* so near zero that its reciprocal is infinite */
    float zero = rintf(-r.low * inverse);
    size_t blocks = bits == QUANTIZED_4 ? blocks_of(k) : 0, groups = groups_of(bits, k);
    row[0] = scale;
    row[1] = scale * zero;
    unsigned char *codes = (unsigned char *)(row + QUANTIZED_ROW_HEAD + blocks);
    size_t whole = divide_up(k, GROUP) * GROUP;
    write_codes(codes, x, k, inverse, zero);
    memset(codes + whole, 0, groups * GROUP - whole);
    if (blocks) write_sums((int32_t *)(void *)(row + QUANTIZED_ROW_HEAD), codes, blocks);
}

/* ---- weights ---- */

static size_t tap_floats(quantized_bits bits, size_t k) {
    return QUANTIZED_NR + (bits == QUANTIZED_4 ? blocks_of(k) * QUANTIZED_BLOCK_FLOATS : groups_of(bits, k) * QUANTIZED_NR);
}

size_t quantized_panel_floats(quantized_bits bits, size_t taps, size_t k) { return QUANTIZED_PANEL_HEAD + taps * tap_floats(bits, k); }

size_t quantized_packed_floats(quantized_bits bits, size_t taps, size_t k, size_t n) {
    return divide_up(n, QUANTIZED_NR) * quantized_panel_floats(bits, taps, k);
}

/* Weights that follow each other in a column; zeros behind, up to a whole block. */
typedef struct piece { float w[QUANTIZED_BLOCK]; } piece;

static const float *gather(piece *copy, const float *w, size_t stride, size_t n) {
    if (stride == 1 && n == QUANTIZED_BLOCK) return w;
    for (size_t i = 0; i < QUANTIZED_BLOCK; i++) copy->w[i] = i < n ? w[i * stride] : 0;
    return copy->w;
}

static float largest_magnitude(const float *w, float most) {
    v128_t m = wasm_f32x4_splat(most);
    for (size_t i = 0; i < QUANTIZED_BLOCK; i += 4) m = wasm_f32x4_pmax(m, wasm_f32x4_abs(simd_load(w + i)));   /* a NaN is passed over */
    return largest_lane(m);
}

/* codes = the block's weights times inverse, rounded and kept within low .. high; returns their sum. */
static int codes_of_block(signed char *codes, const float *w, float inverse, int low, int high) {
    const v128_t by = wasm_f32x4_splat(inverse), least = wasm_i32x4_splat(low), most = wasm_i32x4_splat(high);
    v128_t sum = simd_zero(), c[4];
    for (size_t i = 0; i < QUANTIZED_BLOCK; i += 16) {
        for (size_t v = 0; v < 4; v++) {
            c[v] = wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(wasm_f32x4_mul(simd_load(w + i + v * 4), by)));
            c[v] = wasm_i32x4_max(wasm_i32x4_min(c[v], most), least);
            sum = wasm_i32x4_add(sum, c[v]);
        }
        wasm_v128_store(codes + i, wasm_i8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(c[0], c[1]), wasm_i16x8_narrow_i32x4(c[2], c[3])));
    }
    sum = wasm_i32x4_add(sum, wasm_i32x4_shuffle(sum, sum, 2, 3, 0, 1));
    return wasm_i32x4_extract_lane(sum, 0) + wasm_i32x4_extract_lane(sum, 1);
}

/* A column's weights: element kk of a tap is at w[kk * stride], or as many codes on in `row`. */
typedef struct column { const float *w; const unsigned char *row; size_t taps, k, tap_stride, stride; } column;

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static float largest(const column *c) {
    float most = 0;
    piece copy;
    for (size_t tap = 0; tap < c->taps; tap++)
        for (size_t kk = 0; kk < c->k; kk += QUANTIZED_BLOCK)
            most = largest_magnitude(gather(&copy, c->w + tap * c->tap_stride + kk * c->stride, c->stride, least(QUANTIZED_BLOCK, c->k - kk)), most);
    return most;
}

static int sum_of(const signed char *codes) {
    v128_t pairs = wasm_i16x8_add(wasm_i16x8_extadd_pairwise_i8x16(wasm_v128_load(codes)), wasm_i16x8_extadd_pairwise_i8x16(wasm_v128_load(codes + 16)));
    v128_t v = wasm_i32x4_extadd_pairwise_i16x8(pairs);
    v = wasm_i32x4_add(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
    return wasm_i32x4_extract_lane(v, 0) + wasm_i32x4_extract_lane(v, 1);
}

/* codes = those of 8 bits at from[i * stride], zeros behind them; returns their sum. */
static int take_8(signed char *codes, const unsigned char *from, size_t stride, size_t n) {
    memset(codes, 0, QUANTIZED_BLOCK);
    if (stride == 1) memcpy(codes, from, n);
    else for (size_t i = 0; i < n; i++) codes[i] = (signed char)from[i * stride];
    return sum_of(codes);
}

static void pack_8(float *panel, size_t lane, const column *c) {
    float scale, inverse = 0;
    if (c->row) {
        memcpy(&scale, c->row, sizeof scale);
    } else {
        scale = largest(c) / MOST_CODE;
        inverse = scale > 0 && 1 / scale < INFINITY ? 1 / scale : 0;
    }
    panel[QUANTIZED_NR + lane] = scale;
    piece copy;
    signed char codes[QUANTIZED_BLOCK];
    for (size_t tap = 0; tap < c->taps; tap++) {
        float *sum = panel + QUANTIZED_PANEL_HEAD + tap * tap_floats(QUANTIZED_8, c->k) + lane, *to = sum + QUANTIZED_NR;
        int total = 0;
        for (size_t kk = 0; kk < c->k; kk += QUANTIZED_BLOCK) {
            const size_t n = least(QUANTIZED_BLOCK, c->k - kk), at = tap * c->tap_stride + kk * c->stride;
            total += c->row ? take_8(codes, c->row + sizeof scale + at, c->stride, n)
                            : codes_of_block(codes, gather(&copy, c->w + at, c->stride, n), inverse, -MOST_CODE, MOST_CODE);
            for (size_t i = 0; i < n; i += GROUP, to += QUANTIZED_NR) memcpy(to, codes + i, GROUP);
        }
        *sum = (float)total;
    }
}

/* Rounded to the 16 bits that a block keeps. */
static float to_bfloat16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The scale that makes the largest weight by magnitude, the first of several, -8 times itself. */
static float block_scale(const float *w) {
    const float most = largest_magnitude(w, 0);
    for (size_t i = 0; i < QUANTIZED_BLOCK; i++)
        if (fabsf(w[i]) == most) return to_bfloat16(w[i] / -8);
    return 0;
}

static float scale_at(const unsigned char *row, size_t block) {
    uint16_t half;
    memcpy(&half, row + 2 * block, sizeof half);
    const uint32_t bits = (uint32_t)half << 16;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

static int nibble(const unsigned char *codes, size_t i) { return (codes[i / 2] >> (i % 2 * 4) & 15) - 8; }

/* codes = the n of a block, less 8, zeros behind them; returns their sum. */
static int take_4(signed char *codes, const unsigned char *from, size_t n) {
    unsigned char pairs[QUANTIZED_BLOCK / 2] = { 0 };
    memcpy(pairs, from, (n + 1) / 2);
    const v128_t both = wasm_v128_load(pairs), low = wasm_v128_and(both, wasm_i8x16_splat(15)), high = wasm_u8x16_shr(both, 4), eight = wasm_i8x16_splat(8);
    wasm_v128_store(codes, wasm_i8x16_sub(wasm_i8x16_shuffle(low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23), eight));
    wasm_v128_store(codes + 16, wasm_i8x16_sub(wasm_i8x16_shuffle(low, high, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), eight));
    memset(codes + n, 0, QUANTIZED_BLOCK - n);
    return sum_of(codes);
}

/* Block b of a column of one tap; returns the sum of its weights as packed. */
static float pack_block(float *block, size_t lane, const column *c, size_t tap, size_t b) {
    const size_t place = lane / 8 * 4 + lane % 4, high = lane / 4 % 2;   /* of 4 weights, or of 2 scales */
    const size_t kk = b * QUANTIZED_BLOCK, n = least(QUANTIZED_BLOCK, c->k - kk);
    piece copy;
    const float *w = c->row ? NULL : gather(&copy, c->w + tap * c->tap_stride + kk * c->stride, c->stride, n);
    float scale = c->row ? scale_at(c->row, b) : block_scale(w), inverse = scale != 0 ? 1 / scale : 0, kept = high ? scale / 16 : scale;
    if (!(fabsf(inverse) < INFINITY)) kept = inverse = 0;
    uint32_t bits;
    memcpy(&bits, &kept, sizeof bits);
    uint16_t half = (uint16_t)(bits >> 16);
    memcpy((char *)(block + QUANTIZED_BLOCK_CODES + place) + high * 2, &half, sizeof half);
    signed char codes[QUANTIZED_BLOCK];
    const int total = c->row ? take_4(codes, c->row + 2 * blocks_of(c->k) + kk / 2, n) : codes_of_block(codes, w, inverse, -8, 7);
    for (size_t i = 0; i < QUANTIZED_BLOCK; i += GROUP) {
        uint32_t both, here;
        float *to = block + place + i / GROUP * (QUANTIZED_NR / 2);
        memcpy(&here, codes + i, sizeof here);
        memcpy(&both, to, sizeof both);
        both |= high ? (here & 0x0f0f0f0fu) << 4 : (here & 0x0f0f0f0fu) ^ 0x08080808u;
        memcpy(to, &both, sizeof both);
    }
    return (float)total * scale;
}

static void pack_4(float *panel, size_t lane, const column *c) {
    panel[QUANTIZED_NR + lane] = 1;
    for (size_t tap = 0; tap < c->taps; tap++) {
        float *sum = panel + QUANTIZED_PANEL_HEAD + tap * tap_floats(QUANTIZED_4, c->k) + lane, *block = sum - lane + QUANTIZED_NR;
        for (size_t b = 0; b < blocks_of(c->k); b++, block += QUANTIZED_BLOCK_FLOATS) *sum += pack_block(block, lane, c, tap, b);
    }
}

void quantized_pack(float *packed, quantized_bits bits, size_t taps, size_t k, size_t n0, size_t columns, const float *b, size_t tap_stride,
                    size_t k_stride, size_t n_stride) {
    const size_t panel = quantized_panel_floats(bits, taps, k);
    for (size_t j = n0; j < n0 + columns; j++) {
        column c = { b + (j - n0) * n_stride, NULL, taps, k, tap_stride, k_stride };
        (bits == QUANTIZED_4 ? pack_4 : pack_8)(packed + j / QUANTIZED_NR * panel, j % QUANTIZED_NR, &c);
    }
}

/* ---- rows of codes ---- */

size_t quantized_coded_bytes(quantized_bits bits, size_t elements) {
    return bits == QUANTIZED_4 ? 2 * blocks_of(elements) + divide_up(elements, 8) * 4 : sizeof(float) + elements;
}

void quantized_pack_coded(float *packed, quantized_bits bits, size_t taps, size_t k, size_t n0, size_t columns, const unsigned char *rows,
                          size_t tap_stride, size_t k_stride) {
    const size_t panel = quantized_panel_floats(bits, taps, k), bytes = quantized_coded_bytes(bits, taps * k);
    for (size_t j = n0; j < n0 + columns; j++) {
        column c = { NULL, rows + (j - n0) * bytes, taps, k, tap_stride, k_stride };
        (bits == QUANTIZED_4 ? pack_4 : pack_8)(packed + j / QUANTIZED_NR * panel, j % QUANTIZED_NR, &c);
    }
}

void quantized_expand(float *to, quantized_bits bits, const unsigned char *row, size_t elements) {
    if (bits == QUANTIZED_8) {
        float scale;
        memcpy(&scale, row, sizeof scale);
        for (size_t i = 0; i < elements; i++) to[i] = scale * (float)(signed char)row[sizeof scale + i];
        return;
    }
    const unsigned char *codes = row + 2 * blocks_of(elements);
    for (size_t i = 0; i < elements; i++) to[i] = scale_at(row, i / QUANTIZED_BLOCK) * (float)nibble(codes, i);
}

const float *quantized_bias(const float *packed, size_t taps, size_t k, size_t panel) {
    const size_t panels = QUANTIZED_NR / GEMM_NR;
    return packed + panel / panels * quantized_panel_floats(QUANTIZED_8, taps, k) + panel % panels * GEMM_NR;
}

/* Codes of four columns, of each four that follow each other, at to [4][GEMM_NR]. */
SIMD_INLINE void unpack_group(float *to, v128_t codes, v128_t scale) {
    v128_t rows = wasm_i8x16_shuffle(codes, codes, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    v128_t low = wasm_i16x8_extend_low_i8x16(rows), high = wasm_i16x8_extend_high_i8x16(rows);
    v128_t four[4] = { wasm_i32x4_extend_low_i16x8(low), wasm_i32x4_extend_high_i16x8(low), wasm_i32x4_extend_low_i16x8(high), wasm_i32x4_extend_high_i16x8(high) };
    for (size_t i = 0; i < 4; i++) simd_store(to + i * GEMM_NR, wasm_f32x4_mul(wasm_f32x4_convert_i32x4(four[i]), scale));
}

void quantized_unpack(float *to, const float *packed, size_t taps, size_t k, size_t panel, size_t tap, size_t k0, size_t count) {
    const float *bias = quantized_bias(packed, taps, k, panel), *from = bias + QUANTIZED_PANEL_HEAD + tap * tap_floats(QUANTIZED_8, k) + QUANTIZED_NR;
    const v128_t low = simd_load(bias + QUANTIZED_NR), high = simd_load(bias + QUANTIZED_NR + 4);
    from += k0 / GROUP * QUANTIZED_NR;
    for (; count >= GROUP; count -= GROUP, from += QUANTIZED_NR, to += GROUP * GEMM_NR) {
        unpack_group(to, wasm_v128_load(from), low);
        unpack_group(to + 4, wasm_v128_load(from + 4), high);
    }
    if (!count) return;
    float rest[GROUP * GEMM_NR];
    unpack_group(rest, wasm_v128_load(from), low);
    unpack_group(rest + 4, wasm_v128_load(from + 4), high);
    memcpy(to, rest, count * GEMM_NR * sizeof *to);
}

void quantized_pack_bias(float *packed, quantized_bits bits, size_t taps, size_t k, size_t n, const float *bias) {
    const size_t panel = quantized_panel_floats(bits, taps, k);
    for (size_t j = 0; j < n; j++) packed[j / QUANTIZED_NR * panel + j % QUANTIZED_NR] = bias ? bias[j] : 0;
}

void quantized_scale_columns(float *packed, quantized_bits bits, size_t taps, size_t k, size_t n0, size_t columns, const float *scale) {
    const size_t panel = quantized_panel_floats(bits, taps, k);
    for (size_t j = n0; j < n0 + columns; j++) packed[j / QUANTIZED_NR * panel + QUANTIZED_NR + j % QUANTIZED_NR] *= scale[j - n0];
}
