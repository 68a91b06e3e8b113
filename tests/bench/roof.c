/* What this core can do at most, measured the way the kernels see it: through wasm. Build with -mrelaxed-simd.
 * Operands are arguments, never constants: V8 rebuilds a constant vector at every use. */
#include <stddef.h>
#include <string.h>
#include <wasm_simd128.h>

#define EXPORT(name) __attribute__((export_name(#name))) name

enum {
    BUFFER_FLOATS = 32 << 20,  /* 128 MiB: well beyond the last cache */
    COPY_FLOATS = 1 << 20,     /* what the layers that are held against a copy work on */
};
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

/* Products of bytes, 32 operations an instruction, 384 a step. y must be at most 127. */
int EXPORT(roof_dot)(int steps, int x, int y) {
    v128_t a = wasm_i8x16_splat((signed char)x), b = wasm_i8x16_splat((signed char)y), total = wasm_i32x4_splat(0);
#define START_DOT(i) v128_t sum##i = wasm_i32x4_splat(i);
#define DOT(i) sum##i = wasm_i32x4_relaxed_dot_i8x16_i7x16_add(a, b, sum##i);
#define TOTAL_DOT(i) total = wasm_i32x4_add(total, sum##i);
    EACH_CHAIN(START_DOT)
    for (int i = 0; i < steps; i++) { EACH_CHAIN(DOT) }
    EACH_CHAIN(TOTAL_DOT)
    return wasm_i32x4_extract_lane(total, 0);
}

/* The same in pairs and then pairs of pairs, which is faster where the one instruction is several of the machine's. The product depends on the
 * sum, or it would leave the loop. 8 chains, 256 operations a step: with more the registers would not suffice. */
#define EACH_OF_8(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
int EXPORT(roof_dot_pairs)(int steps, int x, int y, int one) {
    v128_t a = wasm_i32x4_splat(x), b = wasm_i8x16_splat((signed char)y), ones = wasm_i16x8_splat((short)one), total = wasm_i32x4_splat(0);
#define PAIRS(i) sum##i = wasm_i32x4_add(a, wasm_i32x4_dot_i16x8(wasm_i16x8_relaxed_dot_i8x16_i7x16(sum##i, b), ones));
    EACH_OF_8(START_DOT)
    for (int i = 0; i < steps; i++) { EACH_OF_8(PAIRS) }
    EACH_OF_8(TOTAL_DOT)
    return wasm_i32x4_extract_lane(total, 0);
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

/* 4 MiB from one place to another, vector by vector. */
void EXPORT(roof_copy)(void) {
    const float *x = buffer;
    float *y = buffer + 2 * COPY_FLOATS;
    for (size_t i = 0; i < COPY_FLOATS; i += 16) {
        for (size_t v = 0; v < 16; v += 4) wasm_v128_store(y + i + v, wasm_v128_load(x + i + v));
    }
}

/* The same by the one instruction for it. */
void EXPORT(roof_copy_bulk)(void) { memcpy(buffer + 2 * COPY_FLOATS, buffer, COPY_FLOATS * sizeof(float)); }
