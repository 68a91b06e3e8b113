#include "kept_rows.h"
#include <math.h>
#include <string.h>
#include "half.h"

enum { STEP = 8 };
static const float MOST_HALF = 65504, MOST_CODE = 127;

/* Factors or scales of a row. */
static size_t head_floats(lam_precision precision, size_t width) {
    return precision == LAM_PRECISION_F32 ? 0 : precision == LAM_PRECISION_F16 ? 1 : (width + KEPT_BLOCK - 1) / KEPT_BLOCK;
}

/* Bytes of a number. */
static size_t number_bytes(lam_precision precision) { return precision == LAM_PRECISION_F32 ? 4 : precision == LAM_PRECISION_F16 ? 2 : 1; }

size_t kept_row_bytes(lam_precision precision, size_t width) {
    return (head_floats(precision, width) + (width * number_bytes(precision) + 3) / 4) * 4;
}

/* The largest size of a number; NaN where there is a NaN or an infinity. */
static float largest_size(const float *x, size_t n) {
    v128_t most = simd_zero(), nothing = simd_zero();
    for (size_t i = 0; i < n; i += 4) {
        v128_t v = n - i < 4 ? simd_load_part(x + i, n - i) : simd_load(x + i);
        most = simd_max(wasm_f32x4_abs(v), most);
        nothing = simd_madd(v, simd_zero(), nothing);
    }
    most = simd_max(most, wasm_i32x4_shuffle(most, most, 2, 3, 0, 1));
    most = simd_max(most, wasm_i32x4_shuffle(most, most, 1, 0, 3, 2));
    return wasm_f32x4_extract_lane(most, 0) + simd_sum(nothing);
}

static void write_halves(float *head, const float *x, size_t width) {
    float most = largest_size(x, width), scale = 1, scaled[KEPT_BLOCK];
    uint16_t *to = (uint16_t *)(void *)(head + 1);
    while (most * scale > MOST_HALF) scale *= 0.5f;
    head[0] = isnan(most) ? NAN : 0x1p112f / scale;
    if (!(most > MOST_HALF)) {
        half_from_f32(to, x, width);
        return;
    }
    for (size_t i = 0, n; i < width; i += n) {
        n = width - i < KEPT_BLOCK ? width - i : KEPT_BLOCK;
        for (size_t j = 0; j < n; j++) scaled[j] = x[i + j] * scale;
        half_from_f32(to + i, scaled, n);
    }
}

static void write_codes(float *head, const float *x, size_t width) {
    signed char *to = (signed char *)(head + head_floats(LAM_Q8, width));
    for (size_t i = 0, n; i < width; i += n, x += n, to += n) {
        n = width - i < KEPT_BLOCK ? width - i : KEPT_BLOCK;
        float scale = largest_size(x, n) / MOST_CODE, inverse = 1 / scale;
        if (!(inverse < INFINITY)) inverse = 0;                     /* nothing but zeros, or NaN, or too near zero */
        *head++ = inverse > 0 ? scale : scale * 0;
        for (size_t j = 0; j < n; j++) to[j] = (signed char)(inverse > 0 ? rintf(x[j] * inverse) : 0);
    }
}

void kept_write(void *data, lam_precision precision, size_t row, const float *x, size_t rows, size_t width) {
    size_t bytes = kept_row_bytes(precision, width);
    char *to = (char *)data + row * bytes;
    if (precision == LAM_PRECISION_F32) memcpy(to, x, rows * bytes);
    else for (; rows; rows--, to += bytes, x += width) (precision == LAM_PRECISION_F16 ? write_halves : write_codes)((float *)(void *)to, x, width);
}

/* to [n] = from [n] times factor, n a multiple of STEP */
static SIMD_NOINLINE void read_halves(float *to, const uint16_t *from, const float *factor, size_t n) {
    const v128_t bits = wasm_v128_load(half_constants.bits), f = simd_splat(factor);
    SIMD_KEEP_LOOP
    for (; n; n -= STEP, to += STEP, from += STEP) {
        simd_store(to, wasm_f32x4_mul(half_load(from, bits), f));
        simd_store(to + 4, wasm_f32x4_mul(half_load(from + 4, bits), f));
    }
}

static SIMD_NOINLINE void read_codes(float *to, const signed char *from, const float *scale, size_t n) {
    const v128_t s = simd_splat(scale);
    SIMD_KEEP_LOOP
    for (; n; n -= STEP, to += STEP, from += STEP) {
        v128_t codes = wasm_i16x8_load8x8(from);
        simd_store(to, wasm_f32x4_mul(wasm_f32x4_convert_i32x4(wasm_i32x4_extend_low_i16x8(codes)), s));
        simd_store(to + 4, wasm_f32x4_mul(wasm_f32x4_convert_i32x4(wasm_i32x4_extend_high_i16x8(codes)), s));
    }
}

/* Numbers that share a factor or scale. */
static void read_part(float *to, const char *from, lam_precision precision, const float *head, size_t n) {
    size_t whole = n / STEP * STEP, bytes = number_bytes(precision), rest = n - whole;
    if (precision == LAM_PRECISION_F16) read_halves(to, (const uint16_t *)(const void *)from, head, whole);
    else read_codes(to, (const signed char *)from, head, whole);
    if (!rest) return;
    char some[STEP * 2] __attribute__((aligned(4))) = {0};
    float numbers[STEP];
    memcpy(some, from + whole * bytes, rest * bytes);
    read_part(numbers, some, precision, head, STEP);
    memcpy(to + whole, numbers, rest * sizeof *to);
}

void kept_read(float *to, size_t to_stride, const kept_rows *from, size_t row, size_t rows, size_t column, size_t columns) {
    const lam_precision precision = from->precision;
    size_t bytes = kept_row_bytes(precision, from->width), heads = head_floats(precision, from->width), first = from->column + column;
    const char *data = (const char *)from->data + row * bytes;
    for (; rows; rows--, data += bytes, to += to_stride) {
        const float *head = (const float *)(const void *)data;
        const char *numbers = data + heads * 4 + first * number_bytes(precision);
        if (precision == LAM_PRECISION_F32) memcpy(to, numbers, columns * sizeof *to);
        else if (precision == LAM_PRECISION_F16) read_part(to, numbers, precision, head, columns);
        else for (size_t i = 0, n; i < columns; i += n) {
            n = KEPT_BLOCK - (first + i) % KEPT_BLOCK;
            if (n > columns - i) n = columns - i;
            read_part(to + i, numbers + i, precision, head + (first + i) / KEPT_BLOCK, n);
        }
    }
}

const void *kept_halves(const kept_rows *from, size_t row, const float **factor) {
    const char *data = (const char *)from->data + row * kept_row_bytes(LAM_PRECISION_F16, from->width);
    *factor = (const float *)(const void *)data;
    return data + 4 + from->column * 2;
}

void kept_touch(const kept_rows *from, size_t row, size_t rows, size_t columns) {
    enum { LINE = 64 };
    size_t bytes = kept_row_bytes(from->precision, from->width), each = number_bytes(from->precision);
    size_t first = head_floats(from->precision, from->width) * 4 + from->column * each;
    const char *data = (const char *)from->data + row * bytes + first;
    for (; rows; rows--, data += bytes)
        for (size_t i = 0; i < columns * each; i += LINE) (void)*(const volatile char *)(data + i);
}
