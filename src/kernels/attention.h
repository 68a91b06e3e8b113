/* Scaled dot product attention of one head:
 *     y = softmax(scale q k^T + mask) v          q [queries, d], k [keys, d], v [keys, dv] -> y [queries, dv]
 * in tiles of keys with a running maximum and sum, so that no [queries, keys] matrix is ever stored. Keys outside the band of a tile of
 * queries are not looked at: the time is that of the band.
 * A row that sees no key (keys = 0, or none in its band, or all masked by -inf) becomes zeros, as in PyTorch's scaled_dot_product_attention. */
#pragma once
#include <stddef.h>
#include "kept_rows.h"

typedef struct attention_head {
    float *y;                      /* [queries, dv] */
    const float *q;                /* [queries, d] */
    kept_rows k, v;                /* [keys, d], [keys, dv] */
    size_t y_stride, q_stride;     /* floats from a row to the next */
    size_t queries, keys, d, dv;
    float scale;                   /* usually 1 / sqrt(d) */
    const float *mask;             /* added to the scores [queries, keys], NULL: none; -inf hides a key */
    size_t mask_stride;            /* 0: one row for all queries */
    int one_mask;                  /* a row of the mask is one number for all keys */
    int banded;                    /* query i sees keys i + low <= j <= i + high, the mask's say besides; else all */
    ptrdiff_t low, high;           /* between -queries and keys */
} attention_head;

/* Keys are packed once for ATTENTION_QUERIES queries; scores are those of ATTENTION_ROWS queries and ATTENTION_KEYS keys. */
enum { ATTENTION_ROWS = 24, ATTENTION_QUERIES = 12 * ATTENTION_ROWS, ATTENTION_KEYS = 128 };
/* Below ATTENTION_FEW queries packing a tile of keys costs more than it saves; up to ATTENTION_BESIDE heads go through the keys together. */
enum { ATTENTION_FEW = 4, ATTENTION_BESIDE = 32 };
/* Floats of working memory for attention_f32. */
size_t attention_scratch_floats(size_t d, size_t dv);
/* Queries [first, first + count) of the head: threads split heads, and queries in multiples of ATTENTION_ROWS. */
void attention_f32(const attention_head *head, size_t first, size_t count, float *scratch);
/* Fewer than ATTENTION_FEW queries of each of at most ATTENTION_BESIDE heads with the same sizes and band, a few keys of all heads after another:
 * where heads lie beside each other in every row (in ascending columns; rows in fewer bits must), memory is read once and in order. */
void attention_beside_f32(const attention_head *heads, size_t count, float *scratch);
