/* Products of a few rows with consecutive keys and values, read where they lie: where each query has keys of its own, packing them for
 * gemm would cost more than it saves. */
#pragma once
#include <stddef.h>

typedef struct key_range {
    const void *k, *v;             /* [count, d], f32 or halves */
    size_t k_stride, v_stride;     /* floats from a row to the next */
    size_t count;
    const float *k_factor, *v_factor;   /* of halves (kept_rows.h), of the first row, the next ones as far apart as the rows; NULL: f32 */
} key_range;

/* scores[r, j] = q[r] . k[j]      q [rows, d] -> scores [rows, range->count] with score_stride */
void range_scores_f32(float *scores, size_t score_stride, const float *q, size_t q_stride, size_t rows, size_t d, const key_range *range);
/* y[r] += sum over j of weights[r, j] v[j]      weights [rows, range->count] with weight_stride, y [rows, d] */
void range_values_f32(float *y, size_t y_stride, const float *weights, size_t weight_stride, size_t rows, size_t d, const key_range *range);
