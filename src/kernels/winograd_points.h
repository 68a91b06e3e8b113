/* The points at which Winograd's algorithm evaluates, and what follows from them. In a file of its own so that the compiler cannot
 * put the numbers into the code of the transforms, where V8 would rebuild each of them at every use. */
#pragma once

/* F(4x4, 3x3): 0, a, -a, b, -b and infinity with b = 1 / a. */
typedef struct winograd_constants {
    float a, b, a2, b2, a2_b2;              /* squares, and their sum */
    float power_a[4], power_b[4];           /* powers from the 0th on, over the product of the point's distances to the other finite ones */
} winograd_constants;
extern const winograd_constants winograd_4;

/* F(2x2, 3x3): 0, 1, -1 and infinity; half: over the distances. */
extern const float winograd_half;

/* Each pair's p and p^2, where its points are: what the taps of a filter are multiplied by. */
extern const float winograd_points_2[4], winograd_points_4[6];
