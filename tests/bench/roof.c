/* What this core can do at most, measured the way the kernels see it: through wasm. Build with -mrelaxed-simd.
 * Operands are arguments, never constants: V8 rebuilds a constant vector at every use. */
#include <stddef.h>
#include <wasm_simd128.h>

#define EXPORT(name) __attribute__((export_name(#name))) name

enum { BUFFER_FLOATS = 32 << 20 };  /* 128 MiB: well beyond the last cache */
static float buffer[BUFFER_FLOATS];

/* 12 independent chains hide the latency (4 cycles x 2 per cycle on current cores) and fit V8's 15 registers. */
#define EACH_CHAIN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define START(i) v128_t sum##i = wasm_f32x4_splat((float)i);
#define MADD(i) sum##i = wasm_f32x4_relaxed_madd(a, b, sum##i);
#define MUL_ADD(i) sum##i = wasm_f32x4_add(wasm_f32x4_mul(sum##i, a), b);
#define TOTAL(i) total = wasm_f32x4_add(total, sum##i);

/* 96 floating-point operations a step. */
float EXPORT(roof_fma)(int steps, float x, float y) {
    v128_t a = wasm_f32x4_splat(x), b = wasm_f32x4_splat(y), total = wasm_f32x4_splat(0);
    EACH_CHAIN(START)
    for (int i = 0; i < steps; i++) { EACH_CHAIN(MADD) }
    EACH_CHAIN(TOTAL)
    return wasm_f32x4_extract_lane(total, 0);
}

/* The same without relaxed SIMD: 96 operations a step. The product depends on the sum, or it would leave the loop. */
float EXPORT(roof_mul_add)(int steps, float x, float y) {
    v128_t a = wasm_f32x4_splat(x), b = wasm_f32x4_splat(y), total = wasm_f32x4_splat(0);
    EACH_CHAIN(START)
    for (int i = 0; i < steps; i++) { EACH_CHAIN(MUL_ADD) }
    EACH_CHAIN(TOTAL)
    return wasm_f32x4_extract_lane(total, 0);
}

/* Touches every page: pages never written to are all one page of zeros, which would sit in the cache. */
void EXPORT(roof_fill)(float x) {
    for (size_t i = 0; i < BUFFER_FLOATS; i++) buffer[i] = x;
}

/* Reads the buffer once: 128 MiB. */
float EXPORT(roof_read)(void) {
    v128_t total = wasm_f32x4_splat(0);
    EACH_CHAIN(START)
    const float *p = buffer, *end = buffer + BUFFER_FLOATS;
#define READ(i) sum##i = wasm_v128_xor(sum##i, wasm_v128_load(p + 4 * i));
    for (; end - p >= 48; p += 48) { EACH_CHAIN(READ) }
    EACH_CHAIN(TOTAL)
    return wasm_f32x4_extract_lane(total, 0);
}
