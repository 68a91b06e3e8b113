/* The points at which Winograd's algorithm evaluates, and what follows from them. In a file of its own so that the compiler cannot
 * put the numbers into the code of the transforms, where V8 would rebuild each of them at every use. */
#pragma once

/* F(4x4, 3x3): 0, a, -a, b, -b and infinity with b = 1 / a. */
typedef struct winograd_constants {
    float a, b, a2, b2, a3, b3, a2_b2;      /* powers, and a2 + b2 */
} winograd_constants;
extern const winograd_constants winograd_4;

/* The rows of G: what the three taps of a filter become at each point. */
extern const float winograd_filter_2[4][3], winograd_filter_4[6][3];
