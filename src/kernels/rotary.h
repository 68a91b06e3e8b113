/* Rotary position embedding: pairs of numbers turned by an angle that grows with their token's position. */
#pragma once
#include <stddef.h>

/* One token's cosines [half] and sines [half], one after the other:
 * cosine[j] = scale cos(position freqs[j]), sine[j] = scale sin(position freqs[j]), the angle rounded to f32 as PyTorch's is. */
void rotary_table_f32(float *row, const float *freqs, size_t half, float position, float scale);

/* Rows [rows, width] of one token; table [2, half] is its cosines and sines. Columns [first, first + 2 half) are turned, the others
 * copied. y may be x.
 *     interleaved  y[2j] = x[2j] cos_j - x[2j + 1] sin_j,    y[2j + 1] = x[2j + 1] cos_j + x[2j] sin_j
 *     else         y[j] = x[j] cos_j - x[j + half] sin_j,    y[j + half] = x[j + half] cos_j + x[j] sin_j */
void rotary_f32(float *y, const float *x, const float *table, size_t rows, size_t width, size_t first, size_t half, int interleaved);
