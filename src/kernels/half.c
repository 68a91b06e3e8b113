#include "half.h"
#include <string.h>

/* A half's exponent and fraction, moved to where a float has them, are 2^-112 of it, subnormal ones too; sign and these are the bits. */
const struct half_constants half_constants = {
    { 0x8fffe000u, 0x8fffe000u, 0x8fffe000u, 0x8fffe000u }, { 0x1p112f, 0x1p112f, 0x1p112f, 0x1p112f },
    { 0x1p56f, 0x1p56f, 0x1p56f, 0x1p56f },
};

/* Four halves as 32-bit numbers, sign extended. A number 2^13 times as large as the leading bit of x, and no less than 1/2, has as its last
 * bit the half's last: adding it rounds, by the machine's own rule. */
static v128_t rounded(v128_t x) {
    v128_t size = simd_min(wasm_f32x4_abs(x), wasm_f32x4_splat(65504));
    v128_t large = simd_max(wasm_i32x4_add(wasm_v128_and(size, wasm_i32x4_splat(0x7f800000)), wasm_i32x4_splat(13 << 23)),
                            wasm_f32x4_splat(0.5f));
    size = wasm_f32x4_mul(wasm_f32x4_sub(wasm_f32x4_add(size, large), large), wasm_f32x4_splat(0x1p-112f));
    return wasm_v128_or(wasm_u32x4_shr(size, 13), wasm_i32x4_shr(wasm_v128_andnot(x, wasm_i32x4_splat(0x7fffffff)), 16));
}

void half_from_f32(uint16_t *to, const float *x, size_t n) {
    for (; n >= 8; n -= 8, to += 8, x += 8) wasm_v128_store(to, wasm_i16x8_narrow_i32x4(rounded(simd_load(x)), rounded(simd_load(x + 4))));
    if (!n) return;
    float some[8] = {0};
    uint16_t halves[8];
    memcpy(some, x, n * sizeof *x);
    half_from_f32(halves, some, 8);
    memcpy(to, halves, n * sizeof *to);
}
