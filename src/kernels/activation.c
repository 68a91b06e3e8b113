#include "activation.h"
#include "simd_math.h"

/* x sigmoid(z). Far below zero the gate is 0 already: the limit keeps -inf times 0 from becoming NaN. */
SIMD_INLINE v128_t gated(v128_t x, v128_t z) { return simd_gated(simd_max(x, simd_splat(&simd_math.gate_min)), z); }

SIMD_INLINE v128_t identity(v128_t x) { return x; }
SIMD_INLINE v128_t relu(v128_t x) { return simd_max(x, simd_zero()); }
SIMD_INLINE v128_t sigmoid(v128_t x) { return simd_gated(simd_splat(&simd_math.one), x); }
SIMD_INLINE v128_t silu(v128_t x) { return gated(x, x); }
SIMD_INLINE v128_t quick_gelu(v128_t x) { return gated(x, wasm_f32x4_mul(x, simd_splat(&simd_math.quick_gelu))); }

/* x Phi(x), and Phi(x) = 1 - Phi(-x) */
SIMD_INLINE v128_t gelu(v128_t x) { return wasm_f32x4_sub(simd_max(x, simd_zero()), simd_normal_tail(x)); }

/* 0.5 x (1 + tanh(u)) = x sigmoid(2u), 2u = x (1.596 + 0.0714 x^2) */
SIMD_INLINE v128_t gelu_tanh(v128_t x) {
    v128_t inner = simd_madd(wasm_f32x4_mul(x, x), simd_splat(&simd_math.gelu_cubic), simd_splat(&simd_math.gelu_inner));
    return gated(x, wasm_f32x4_mul(x, inner));
}

/* tanh(log(1 + z)) = (z^2 + 2z) / (z^2 + 2z + 2), z = e^x; it is 1 long before z^2 overflows. */
SIMD_INLINE v128_t mish(v128_t x) {
    v128_t z = simd_exp_minus(wasm_f32x4_neg(simd_min(x, simd_splat(&simd_math.mish_max))), simd_zero());
    v128_t two = simd_splat(&simd_math.two);
    v128_t top = wasm_f32x4_mul(z, wasm_f32x4_add(z, two));
    v128_t gate = wasm_f32x4_div(top, wasm_f32x4_add(top, two));
    return wasm_f32x4_mul(simd_max(x, simd_splat(&simd_math.gate_min)), gate);
}

/* max(x, 0) + log(1 + e^-|x|), which needs no case above 20. */
SIMD_INLINE v128_t softplus(v128_t x) {
    return wasm_f32x4_add(simd_max(x, simd_zero()), simd_log1p(simd_exp_minus(wasm_f32x4_abs(x), simd_zero())));
}

/* One loop for each function: called through a pointer it would not be inlined. */
#define OVER_ARRAY(name, function) \
    static void name(float *y, const float *x, size_t n) { \
        size_t i = 0; \
        for (; i + 4 <= n; i += 4) simd_store(y + i, function(simd_load(x + i))); \
        if (i < n) simd_store_part(y + i, function(simd_load_part(x + i, n - i)), n - i); \
    }
OVER_ARRAY(identity_array, identity)
OVER_ARRAY(relu_array, relu)
OVER_ARRAY(sigmoid_array, sigmoid)
OVER_ARRAY(silu_array, silu)
OVER_ARRAY(tanh_array, simd_tanh)
OVER_ARRAY(gelu_array, gelu)
OVER_ARRAY(gelu_tanh_array, gelu_tanh)
OVER_ARRAY(quick_gelu_array, quick_gelu)
OVER_ARRAY(mish_array, mish)
OVER_ARRAY(softplus_array, softplus)

typedef void array_function(float *, const float *, size_t);
static array_function *const functions[LAM_ACTIVATIONS] = {
    [LAM_IDENTITY] = identity_array, [LAM_RELU] = relu_array, [LAM_SIGMOID] = sigmoid_array, [LAM_SILU] = silu_array,
    [LAM_TANH] = tanh_array, [LAM_GELU] = gelu_array, [LAM_GELU_TANH] = gelu_tanh_array, [LAM_QUICK_GELU] = quick_gelu_array,
    [LAM_MISH] = mish_array, [LAM_SOFTPLUS] = softplus_array,
};

void activation_f32(float *y, const float *x, size_t n, lam_activation activation) {
    if (activation == LAM_IDENTITY && y == x) return;
    functions[activation](y, x, n);
}

void activation_tile_f32(float *c, size_t c_stride, size_t m, size_t n, lam_activation activation) {
    if (activation == LAM_IDENTITY) return;
    array_function *function = functions[activation];
    if (c_stride == n) {
        function(c, c, m * n);
        return;
    }
    for (size_t i = 0; i < m; i++) function(c + i * c_stride, c + i * c_stride, n);
}

void softplus_f32(float *y, const float *x, size_t n, float beta, float threshold) {
    v128_t b = wasm_f32x4_splat(beta), limit = wasm_f32x4_splat(threshold);
    for (size_t i = 0; i < n; i += 4) {
        size_t here = n - i < 4 ? n - i : 4;
        v128_t v = here == 4 ? simd_load(x + i) : simd_load_part(x + i, here), z = wasm_f32x4_mul(v, b);
        v = wasm_v128_bitselect(v, wasm_f32x4_div(softplus(z), b), wasm_f32x4_gt(z, limit));
        if (here == 4) simd_store(y + i, v);
        else simd_store_part(y + i, v, here);
    }
}
