/* 128-bit vectors of four floats: WebAssembly's intrinsics by their own names, in the native build through SIMDe,
 * so that the tests under sanitizers run the source that ships. All other files that use vectors include this one,
 * and no kernel has an #ifdef.
 *
 * Three things about V8 shape what is here. A constant vector is rebuilt each time it is used, so loops read their constants
 * from memory. f32x4.min and max take several instructions, pmin and pmax one. And a loop that starts in the baseline
 * compiler ends there, so kernels are many short calls.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __wasm_simd128__
#include <wasm_simd128.h>
#else
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/wasm/simd128.h>
#endif

#define SIMD_INLINE static inline __attribute__((always_inline))
#define SIMD_NOINLINE __attribute__((noinline))
/* Before a loop that LLVM is to leave as it is: unrolled, it would bring forward all loads, for which V8 has no registers. */
#ifdef __clang__
#define SIMD_KEEP_LOOP _Pragma("clang loop unroll(disable)")
#else
#define SIMD_KEEP_LOOP
#endif

/* Whether simd_madd is one instruction: the relaxed build. */
#ifdef LAM_RELAXED
enum { SIMD_MADD_IS_FUSED = 1 };
#else
enum { SIMD_MADD_IS_FUSED = 0 };
#endif

/* Whether sums of bytes' products are made in more ways than one; without relaxed SIMD in wasm there is nothing to choose. */
#if defined(LAM_RELAXED) || !defined(__wasm__)
enum { SIMD_DOT_VARIES = 1 };
#else
enum { SIMD_DOT_VARIES = 0 };
#endif

/* a * b + c; one rounding or two, as the machine has it. */
SIMD_INLINE v128_t simd_madd(v128_t a, v128_t b, v128_t c) {
#ifdef LAM_RELAXED
    return wasm_f32x4_relaxed_madd(a, b, c);
#else
    return wasm_f32x4_add(wasm_f32x4_mul(a, b), c);
#endif
}

/* c - a * b */
SIMD_INLINE v128_t simd_nmadd(v128_t a, v128_t b, v128_t c) {
#ifdef LAM_RELAXED
    return wasm_f32x4_relaxed_nmadd(a, b, c);
#else
    return wasm_f32x4_sub(c, wasm_f32x4_mul(a, b));
#endif
}

/* Where a and b hold no NaN and no zeros of different sign. A NaN in x survives in max(x, limit) and min(x, limit). */
SIMD_INLINE v128_t simd_max(v128_t x, v128_t limit) { return wasm_f32x4_pmax(x, limit); }
SIMD_INLINE v128_t simd_min(v128_t x, v128_t limit) { return wasm_f32x4_pmin(x, limit); }

/* Sixteen products of signed bytes a by bytes b that must be 0 .. 127, in pairs: lane i is a[2i] b[2i] + a[2i + 1] b[2i + 1]. */
SIMD_INLINE v128_t simd_dot_pairs(v128_t a, v128_t b) {
#ifdef LAM_RELAXED
    return wasm_i16x8_relaxed_dot_i8x16_i7x16(a, b);
#else
    v128_t low = wasm_i16x8_extmul_low_i8x16(a, b), high = wasm_i16x8_extmul_high_i8x16(a, b);
    return wasm_i16x8_add(wasm_i16x8_shuffle(low, high, 0, 2, 4, 6, 8, 10, 12, 14), wasm_i16x8_shuffle(low, high, 1, 3, 5, 7, 9, 11, 13, 15));
#endif
}

/* Sums of the same products in fours, 32-bit numbers. Without relaxed SIMD they are made of pairs, low ones and high ones apart (SIMD_DOT_PARTS), which
 * are brought together at the end. */
#ifdef LAM_RELAXED
enum { SIMD_DOT_PARTS = 1 };
#else
enum { SIMD_DOT_PARTS = 2 };
#endif
typedef struct simd_dots { v128_t part[SIMD_DOT_PARTS]; } simd_dots;

/* b is the same four bytes four times. */
SIMD_INLINE simd_dots simd_dot(v128_t a, v128_t b, simd_dots sums) {
#ifdef LAM_RELAXED
    sums.part[0] = wasm_i32x4_relaxed_dot_i8x16_i7x16_add(a, b, sums.part[0]);
#else
    const v128_t both = wasm_u16x8_extend_low_u8x16(b);   /* of the other kind than a: else LLVM makes two multiplications of each */
    sums.part[0] = wasm_i32x4_add(sums.part[0], wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(a), both));
    sums.part[1] = wasm_i32x4_add(sums.part[1], wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(a), both));
#endif
    return sums;
}

SIMD_INLINE v128_t simd_dot_total(simd_dots sums) {
#ifdef LAM_RELAXED
    return sums.part[0];
#else
    return wasm_i32x4_add(wasm_i32x4_shuffle(sums.part[0], sums.part[1], 0, 2, 4, 6), wasm_i32x4_shuffle(sums.part[0], sums.part[1], 1, 3, 5, 7));
#endif
}

SIMD_INLINE v128_t simd_load(const float *p) { return wasm_v128_load(p); }
SIMD_INLINE void simd_store(float *p, v128_t v) { wasm_v128_store(p, v); }
SIMD_INLINE v128_t simd_splat(const float *p) { return wasm_v128_load32_splat(p); }
SIMD_INLINE v128_t simd_zero(void) { return wasm_i32x4_const(0, 0, 0, 0); }

/* The first n (1 to 3) lanes, zeros in the others. Reads no further. */
SIMD_INLINE v128_t simd_load_part(const float *p, size_t n) {
    if (n == 1) return wasm_v128_load32_zero(p);
    v128_t v = wasm_v128_load64_zero(p);
    return n == 2 ? v : wasm_v128_load32_lane(p + 2, v, 2);
}

/* Writes the first n (1 to 3) lanes. */
SIMD_INLINE void simd_store_part(float *p, v128_t v, size_t n) {
    if (n == 1) {
        wasm_v128_store32_lane(p, v, 0);
        return;
    }
    wasm_v128_store64_lane(p, v, 0);
    if (n == 3) wasm_v128_store32_lane(p + 2, v, 2);
}

/* Sum of the four lanes. */
SIMD_INLINE float simd_sum(v128_t v) {
    v = wasm_f32x4_add(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
    return wasm_f32x4_extract_lane(wasm_f32x4_add(v, wasm_i32x4_shuffle(v, v, 1, 0, 3, 2)), 0);
}
