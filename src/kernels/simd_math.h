/* Elementary functions on four floats. Errors are the largest found by tests/c/test_activation.c, relative to the exact result.
 * NaN stays NaN. */
#pragma once
#include "../simd.h"

/* In memory, not as constants in the code: V8 would rebuild each of them at every use. Defined in another file so that the
 * compiler cannot put the values back. */
typedef struct simd_math_constants {
    float log2e, round, ln2_hi, ln2_lo;
    float exp_minus_max, exp2_min;
    float one, two;
    float exp[6], exp2[6];
    float tail_max, tail_exponent, tail_round, tail_p[4], tail_q[5];
    float log1p_p[3], log1p_q[4];
    float gelu_inner, gelu_cubic, quick_gelu;
    float tanh_max, gate_min, mish_max;
} simd_math_constants;
extern const simd_math_constants simd_math;

/* e^-z = 2^n e^-r with |r| <= ln 2 / 2; returns (1 - e^-r) / r, and puts r in *r and 2^n in *power: 0 for n = -127, infinity for 128. */
SIMD_INLINE v128_t simd_exp_minus_reduced(v128_t z, v128_t *r, v128_t *power) {
    v128_t magic = simd_splat(&simd_math.round);
    v128_t t = simd_nmadd(z, simd_splat(&simd_math.log2e), magic), n = wasm_f32x4_sub(t, magic);
    *power = wasm_i32x4_shl(t, 23);
    z = simd_madd(n, simd_splat(&simd_math.ln2_hi), z);
    z = simd_madd(n, simd_splat(&simd_math.ln2_lo), z);
    *r = z;
    v128_t p = simd_splat(&simd_math.exp[5]);
    for (int i = 4; i >= 0; i--) p = simd_nmadd(p, z, simd_splat(&simd_math.exp[i]));
    return p;
}

/* e^-z + add; e^-z is 0 above 87.7 (2^-126.5), infinity below -88.37. */
SIMD_INLINE v128_t simd_exp_minus(v128_t z, v128_t add) {
    z = simd_min(simd_max(z, simd_splat(&simd_math.gate_min)), simd_splat(&simd_math.exp_minus_max));
    v128_t r, power, p = simd_exp_minus_reduced(z, &r, &power);
    return simd_madd(simd_nmadd(p, r, simd_splat(&simd_math.one)), power, add);
}

/* 2^x for -127.5 < x < 127.5; 0 below -126.5. */
SIMD_INLINE v128_t simd_exp2(v128_t x) {
    v128_t magic = simd_splat(&simd_math.round), p = simd_splat(&simd_math.exp2[5]);
    v128_t t = wasm_f32x4_add(x, magic), f = wasm_f32x4_sub(x, wasm_f32x4_sub(t, magic));
    for (int i = 4; i >= 0; i--) p = simd_madd(p, f, simd_splat(&simd_math.exp2[i]));
    return wasm_f32x4_mul(p, wasm_i32x4_shl(t, 23));
}

/* 2^x for x < 127.5 */
SIMD_INLINE v128_t simd_exp2_below(v128_t x) { return simd_exp2(simd_max(x, simd_splat(&simd_math.exp2_min))); }

/* e^(x - max) for x <= max, with the error of a weight among others: relative to 1. */
SIMD_INLINE v128_t simd_weight(v128_t x, v128_t max) {
    return simd_exp2_below(wasm_f32x4_mul(wasm_f32x4_sub(x, max), simd_splat(&simd_math.log2e)));
}

/* x / (1 + e^-z) */
SIMD_INLINE v128_t simd_gated(v128_t x, v128_t z) { return wasm_f32x4_div(x, simd_exp_minus(z, simd_splat(&simd_math.one))); }

/* t / (2 - t) with t = 1 - e^-2|x|, and the sign of x */
SIMD_INLINE v128_t simd_tanh(v128_t x) {
    v128_t one = simd_splat(&simd_math.one);
    v128_t sign = wasm_v128_and(x, wasm_f32x4_neg(simd_zero()));
    v128_t a = simd_min(wasm_f32x4_abs(x), simd_splat(&simd_math.tanh_max));
    v128_t r, scale, p = simd_exp_minus_reduced(wasm_f32x4_add(a, a), &r, &scale);
    v128_t t = simd_madd(wasm_f32x4_mul(p, r), scale, wasm_f32x4_sub(one, scale));
    v128_t y = wasm_f32x4_div(t, wasm_f32x4_sub(simd_splat(&simd_math.two), t));
    return wasm_v128_or(y, sign);
}

/* |x| times the normal distribution's tail, a (1 - Phi(a)) = a e^(-a^2 / 2) P(a) / Q(a) for a = |x|: no digits are lost however small it is, and
 * P and Q have no negative coefficient. Above tail_max, where it is less than 1e-36, as there. The power is 2^(n + f), |f| <= 1/2, with the n
 * that rounding leaves in the last bits of a sum; its error is that of the rounded exponent. */
SIMD_INLINE v128_t simd_normal_tail(v128_t x) {
    v128_t a = simd_min(wasm_f32x4_abs(x), simd_splat(&simd_math.tail_max)), magic = simd_splat(&simd_math.tail_round);
    v128_t a2 = wasm_f32x4_mul(a, a), c = simd_splat(&simd_math.tail_exponent);
    v128_t n = simd_madd(a2, c, magic), f = simd_madd(a2, c, wasm_f32x4_sub(magic, n));
    v128_t e = simd_splat(&simd_math.exp2[5]), p = simd_splat(&simd_math.tail_p[3]), q = simd_splat(&simd_math.tail_q[4]);
    for (int i = 4; i >= 0; i--) e = simd_madd(e, f, simd_splat(&simd_math.exp2[i]));
    for (int i = 3; i >= 0; i--) q = simd_madd(q, a, simd_splat(&simd_math.tail_q[i]));
    for (int i = 2; i >= 0; i--) p = simd_madd(p, a, simd_splat(&simd_math.tail_p[i]));
    e = wasm_i32x4_add(e, wasm_i32x4_shl(n, 23));
    return wasm_f32x4_div(wasm_f32x4_mul(e, wasm_f32x4_mul(a, p)), q);
}

/* log(1 + z) = z + z^2 P(z) / Q(z) for 0 <= z <= 1 */
SIMD_INLINE v128_t simd_log1p(v128_t z) {
    v128_t p = simd_splat(&simd_math.log1p_p[2]), q = simd_splat(&simd_math.log1p_q[3]);
    q = simd_madd(q, z, simd_splat(&simd_math.log1p_q[2]));
    for (int i = 1; i >= 0; i--) {
        p = simd_madd(p, z, simd_splat(&simd_math.log1p_p[i]));
        q = simd_madd(q, z, simd_splat(&simd_math.log1p_q[i]));
    }
    return simd_madd(wasm_f32x4_mul(z, z), wasm_f32x4_div(p, q), z);
}
