/* Elementary functions on four floats. Errors are the largest found by tests/c/test_activation.c, relative to the exact result.
 * NaN stays NaN. */
#pragma once
#include "../simd.h"

/* In memory, not as constants in the code: V8 would rebuild each of them at every use. Defined in another file so that the
 * compiler cannot put the values back. */
typedef struct simd_math_constants {
    float log2e, round, ln2_hi, ln2_lo;
    float exp_min, exp_max;
    float exp_2, exp_3, exp_4, exp_5, exp_6;
    float one, two;
    float round_biased, exp2_min;
    float tail_max, tail_exponent, exp2[6], tail_p[4], tail_q[5];
    float log1p_p[3], log1p_q[4];
    float gelu_inner, gelu_cubic, quick_gelu;
    float tanh_max, minus_two, gate_min, mish_max;
} simd_math_constants;
extern const simd_math_constants simd_math;

/* x = n ln 2 + r with |r| <= ln 2 / 2; returns e^r - 1 and puts n in *n. |x| < 2^21. */
SIMD_INLINE v128_t simd_expm1_reduced(v128_t x, v128_t *n) {
    v128_t magic = simd_splat(&simd_math.round);
    v128_t t = simd_madd(x, simd_splat(&simd_math.log2e), magic);
    *n = wasm_i32x4_sub(t, magic);
    t = wasm_f32x4_sub(t, magic);
    v128_t r = simd_nmadd(t, simd_splat(&simd_math.ln2_hi), x);
    r = simd_nmadd(t, simd_splat(&simd_math.ln2_lo), r);
    v128_t p = simd_madd(r, simd_splat(&simd_math.exp_6), simd_splat(&simd_math.exp_5));
    p = simd_madd(p, r, simd_splat(&simd_math.exp_4));
    p = simd_madd(p, r, simd_splat(&simd_math.exp_3));
    p = simd_madd(p, r, simd_splat(&simd_math.exp_2));
    return simd_madd(wasm_f32x4_mul(p, r), r, r);
}

/* 2^n for -126 <= n <= 127 */
SIMD_INLINE v128_t simd_power_of_two(v128_t n) {
    return wasm_i32x4_add(wasm_i32x4_shl(n, 23), simd_splat(&simd_math.one));
}

/* e^x for every x: denormal results are right, too. */
SIMD_INLINE v128_t simd_exp(v128_t x) {
    x = simd_min(simd_max(x, simd_splat(&simd_math.exp_min)), simd_splat(&simd_math.exp_max));
    v128_t n, p = simd_expm1_reduced(x, &n);
    v128_t half = wasm_i32x4_shr(n, 1);
    p = wasm_f32x4_add(p, simd_splat(&simd_math.one));
    return wasm_f32x4_mul(wasm_f32x4_mul(p, simd_power_of_two(half)), simd_power_of_two(wasm_i32x4_sub(n, half)));
}

/* 2^x for x < 128; below 2^-126.5 it is 0. */
SIMD_INLINE v128_t simd_exp2(v128_t x) {
    v128_t magic = simd_splat(&simd_math.round_biased);
    x = simd_max(x, simd_splat(&simd_math.exp2_min));
    v128_t t = wasm_f32x4_add(x, magic), f = wasm_f32x4_sub(x, wasm_f32x4_sub(t, magic)), p = simd_splat(&simd_math.exp2[5]);
    for (int i = 4; i >= 0; i--) p = simd_madd(p, f, simd_splat(&simd_math.exp2[i]));
    return wasm_f32x4_mul(p, wasm_i32x4_shl(t, 23));
}

/* e^-|x|, in (0, 1] */
SIMD_INLINE v128_t simd_exp_minus_abs(v128_t x) { return simd_exp(wasm_f32x4_neg(wasm_f32x4_abs(x))); }

/* 1 / (1 + e^-x) without overflow. */
SIMD_INLINE v128_t simd_sigmoid(v128_t x) {
    v128_t one = simd_splat(&simd_math.one);
    v128_t z = simd_exp_minus_abs(x);
    v128_t negative = wasm_i32x4_shr(x, 31);
    return wasm_f32x4_div(wasm_v128_bitselect(z, one, negative), wasm_f32x4_add(one, z));
}

/* (e^-2|x| - 1) / (e^-2|x| + 1), with the sign of x */
SIMD_INLINE v128_t simd_tanh(v128_t x) {
    v128_t one = simd_splat(&simd_math.one);
    v128_t sign = wasm_v128_and(x, wasm_f32x4_neg(simd_zero()));
    v128_t a = simd_min(wasm_f32x4_abs(x), simd_splat(&simd_math.tanh_max));
    v128_t n, p = simd_expm1_reduced(wasm_f32x4_mul(a, simd_splat(&simd_math.minus_two)), &n);
    v128_t scale = simd_power_of_two(n);
    v128_t t = simd_madd(p, scale, wasm_f32x4_sub(scale, one));
    v128_t y = wasm_f32x4_div(wasm_f32x4_neg(t), wasm_f32x4_add(t, simd_splat(&simd_math.two)));
    return wasm_v128_or(y, sign);
}

/* |x| times the normal distribution's tail, a (1 - Phi(a)) = a e^(-a^2 / 2) P(a) / Q(a) for a = |x|: no digits are lost however small it is, and
 * P and Q have no negative coefficient. Above tail_max, where it is less than 1e-36, as there. The power is 2^(n + f), |f| <= 1/2, with the n
 * that rounding leaves in the last bits of a sum; its error is that of the rounded exponent. */
SIMD_INLINE v128_t simd_normal_tail(v128_t x) {
    v128_t a = simd_min(wasm_f32x4_abs(x), simd_splat(&simd_math.tail_max)), magic = simd_splat(&simd_math.round);
    v128_t t = wasm_f32x4_mul(wasm_f32x4_mul(a, a), simd_splat(&simd_math.tail_exponent));
    v128_t n = wasm_f32x4_add(t, magic), f = wasm_f32x4_sub(t, wasm_f32x4_sub(n, magic));
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
