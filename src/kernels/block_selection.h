/* Which blocks of keys a query attends to in native sparse attention, from the scores of the compressed blocks. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* The mean over `rows` rows [columns] of scores (score_stride apart), then over groups of `together` neighbours; a remainder of columns is
 * dropped. Writes columns floats of which the first columns / together are the result; returns how many that is. */
size_t block_importance_f32(float *importance, const float *scores, size_t score_stride, size_t rows, size_t columns, size_t together);

/* The `most` most important columns, best first, into chosen [most] (the first of equal ones first). `best` [most] is working memory.
 * Returns how many of them count: those whose share in softmax of the importances and of one more, -1000, is above 1e-10. *listed is how
 * many there are whatever their share: min(most, columns). */
size_t block_select_f32(int32_t *chosen, float *best, const float *importance, size_t columns, size_t most, size_t *listed);
