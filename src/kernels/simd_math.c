#include "simd_math.h"

/* Minimax fits of the relative error: e^r = 1 + r + r^2 (exp_2 + exp_3 r + ...) on |r| <= ln 2 / 2 to 1.3e-8, erf(x) / x in x^2 on [0, erf_max^2]
 * to 1.9e-8, log(1 + z) on [0, 1] to 1.1e-9. ln 2 is in two parts, the first with zeros at its end so that n ln2_hi is exact. */
const simd_math_constants simd_math = {
    .log2e = 1.44269504f, .round = 12582912.0f, .ln2_hi = 0.693145752f, .ln2_lo = 1.42860677e-6f,
    .exp_min = -104.0f, .exp_max = 89.0f,
    .exp_2 = 0.49999997f, .exp_3 = 0.16666545f, .exp_4 = 0.0416678041f, .exp_5 = 0.00836640783f, .exp_6 = 0.00138402148f,
    .half = 0.5f, .one = 1.0f, .two = 2.0f,
    .erf_max = 3.93f,
    .erf_p = {1.12837911f, 0.190781757f, 0.0527899005f, 0.00377948419f, 0.0002847998f, 2.04190974e-6f},
    .erf_q = {1.0f, 0.502408624f, 0.114256561f, 0.0149971992f, 0.00116517057f, 3.80029705e-5f},
    .log1p_p = {-0.499999911f, -0.45089066f, -0.0723165423f},
    .log1p_q = {1.0f, 1.56844318f, 0.690307379f, 0.075770326f},
    .sqrt_half = 0.707106781f, .gelu_inner = 1.59576912f, .gelu_cubic = 0.0713548162f, .quick_gelu = 1.702f,
    .tanh_max = 20.0f, .minus_two = -2.0f, .gate_min = -150.0f, .mish_max = 20.0f,
};
