/* IEEE halves: f32 weights rounded to them, and back. */
#pragma once
#include <stdint.h>
#include "../simd.h"

/* What the loops need of memory: V8 rebuilds a constant vector each time it is used. */
extern const struct half_constants { uint32_t bits[4]; float factor[4], root[4]; } half_constants;

/* to [n] = x [n], to nearest, ties to even. Beyond 65504, infinities too, it becomes 65504; NaN stays. */
void half_from_f32(uint16_t *to, const float *x, size_t n);

/* Four halves, exact once they are multiplied by half_constants.factor, or twice by its root. Not for infinities and NaN. bits:
 * half_constants.bits. */
SIMD_INLINE v128_t half_load(const void *halves, v128_t bits) {
    return wasm_v128_and(wasm_i32x4_shl(wasm_i32x4_load16x4(halves), 13), bits);
}
