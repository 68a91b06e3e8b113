#include "dtype.h"
#include <string.h>

size_t dtype_bytes(lam_type type) {
    static const unsigned char bytes[LAM_TYPES] = {
        [LAM_F32] = 4, [LAM_F16] = 2, [LAM_BF16] = 2, [LAM_F64] = 8, [LAM_I64] = 8,
        [LAM_I32] = 4, [LAM_I16] = 2, [LAM_I8] = 1, [LAM_U8] = 1, [LAM_BOOL] = 1,
    };
    return (unsigned)type < LAM_TYPES ? bytes[type] : 0;
}

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The exponent and fraction of a half, moved to where a float has them, are 2^-112 of the value: the multiplication
 * restores it and makes subnormal halves normal floats. Exponent 31 means infinity or NaN and is set by hand. */
static float from_half(uint16_t half) {
    uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13, sign = (uint32_t)(half & 0x8000) << 16;
    if (magnitude >= 0x0f800000u) return from_bits(sign | 0x7f800000u | (magnitude & 0x007fffffu));
    float value = from_bits(magnitude) * from_bits((127u + 112u) << 23);
    return sign ? -value : value;
}

#define CONVERT(type, expression)                              \
    do {                                                       \
        const type *s = src;                                   \
        for (size_t i = 0; i < n; i++) dst[i] = (expression);  \
    } while (0)

void dtype_to_f32(float *dst, lam_type type, const void *src, size_t n) {
    switch (type) {
    case LAM_F32: memcpy(dst, src, n * sizeof *dst); break;
    case LAM_F16: CONVERT(uint16_t, from_half(s[i])); break;
    case LAM_BF16: CONVERT(uint16_t, from_bits((uint32_t)s[i] << 16)); break;
    case LAM_F64: CONVERT(double, (float)s[i]); break;
    case LAM_I64: CONVERT(int64_t, (float)s[i]); break;
    case LAM_I32: CONVERT(int32_t, (float)s[i]); break;
    case LAM_I16: CONVERT(int16_t, (float)s[i]); break;
    case LAM_I8: CONVERT(int8_t, (float)s[i]); break;
    case LAM_U8: CONVERT(uint8_t, (float)s[i]); break;
    case LAM_BOOL: CONVERT(uint8_t, s[i] ? 1.0f : 0.0f); break;
    case LAM_TYPES: case LAM_CODES_4: break;
    }
}
