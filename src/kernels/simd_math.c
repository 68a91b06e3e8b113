#include "simd_math.h"

/* Minimax fits of the relative error: e^-r = 1 - r (exp[0] - exp[1] r + ...) on |r| <= ln 2 / 2 to 3.1e-9, 2^f on |f| <= 1/2 to 9.2e-8,
 * (1 - Phi(a)) e^(a^2 / 2) on [0, tail_max] to 4.9e-8 (1 + log(1 + a) + a^2 / 2), log(1 + z) on [0, 1] to 1.1e-9.
 * ln 2 is in two parts, the first with zeros at its end so that n ln2_hi is exact. The last bits of a sum with `round` are an exponent, n + 127. */
const simd_math_constants simd_math = {
    .log2e = 1.44269504f, .round = 12583039.0f, .ln2_hi = 0.693145752f, .ln2_lo = 1.42860677e-6f,
    .exp_minus_max = 88.0f, .exp2_min = -127.0f,
    .one = 1.0f, .two = 2.0f,
    .exp = {1.0f, 0.499999935f, 0.166665207f, 0.0416683874f, 0.00836871193f, 0.00138146204f},
    .exp2 = {1.0f, 0.693147004f, 0.240222424f, 0.0555073358f, 0.00967151299f, 0.00132647227f},
    .tail_max = 13.0f, .tail_exponent = -0.72134752f, .tail_round = 12582912.0f,
    .tail_p = {0.5f, 0.341219604f, 0.107726708f, 0.0142828915f},
    .tail_q = {1.0f, 1.48032153f, 0.896607935f, 0.269630909f, 0.0358140729f},
    .log1p_p = {-0.499999911f, -0.45089066f, -0.0723165423f},
    .log1p_q = {1.0f, 1.56844318f, 0.690307379f, 0.075770326f},
    .gelu_inner = 1.59576912f, .gelu_cubic = 0.0713548162f, .quick_gelu = 1.702f,
    .tanh_max = 20.0f, .gate_min = -88.8f, .mish_max = 20.0f,
};
