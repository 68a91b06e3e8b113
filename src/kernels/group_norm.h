/* Normalisation of groups of channels, each by its own mean and biased variance: y = (x - mean) / sqrt(var + eps) * weight + bias with weight and
 * bias per channel, either of which may be NULL. y may be x. */
#pragma once
#include <stddef.h>

/* One group, channel after channel: x [width, size]; weight, bias [width]. */
void group_norm_planes_f32(float *y, const float *x, size_t width, size_t size, const float *weight, const float *bias, float eps);

/* `groups` groups of `width` channels side by side, x [rows, groups * width] with a stride; weight, bias [groups * width].
 * scratch [2 * groups * width]. */
void group_norm_columns_f32(float *y, const float *x, size_t rows, size_t stride, size_t groups, size_t width, const float *weight,
                            const float *bias, float eps, float *scratch);
