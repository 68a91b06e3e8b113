/* Normalisation over the last axis of x [rows, d], and scale and shift per channel. y may be x. */
#pragma once
#include <stddef.h>

/* Of x [d]: its mean, and factor = 1 / sqrt(var + eps), var divided by d: as exact as in two passes. */
void row_statistics(const float *x, size_t d, float eps, float *mean, float *factor);
/* y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias, var divided by d. weight [d] and bias [d] may be NULL. */
void layer_norm_f32(float *y, const float *x, size_t rows, size_t d, const float *weight, const float *bias, float eps);
/* y = x / sqrt(mean(x^2) + eps) * weight. weight [d] may be NULL. */
void rms_norm_f32(float *y, const float *x, size_t rows, size_t d, const float *weight, float eps);
/* y = x / max(sqrt(sum(x^2)), eps) */
void normalize_f32(float *y, const float *x, size_t rows, size_t d, float eps);
/* y[i][j] = x[i][j] * scale[j] + shift[j]: a batch norm that no layer could take in. */
void scale_shift_f32(float *y, const float *x, size_t rows, size_t c, const float *scale, const float *shift);
/* What batch norm does at inference: scale = weight / sqrt(var + eps), shift = bias - mean * scale. weight and bias may be NULL. */
void batch_norm_scale_shift(float *scale, float *shift, size_t c, const float *mean, const float *var, const float *weight,
                            const float *bias, float eps);
