/* y[i] = activation(x[i]), n of them. y may be x. NaN stays NaN, the limits at +-inf are right. */
#pragma once
#include <stddef.h>
#include "../activation.h"

void activation_f32(float *y, const float *x, size_t n, lam_activation activation);
/* The same in place on c [m, n] with rows c_stride apart: what follows a tile of a matrix product. */
void activation_tile_f32(float *c, size_t c_stride, size_t m, size_t n, lam_activation activation);
/* y = log(1 + e^(beta x)) / beta, x where beta x > threshold. y may be x. */
void softplus_f32(float *y, const float *x, size_t n, float beta, float threshold);
