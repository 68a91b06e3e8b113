/* Native sparse attention of one key head and the group of query heads that share it: for each query
 *     y = g[0] compressed + g[1] fine + g[2] sliding          (gates of its own for each query head)
 * compressed: over the memory and the compressed blocks, with queries and keys that are not rotated;
 * fine:       over the blocks of keys whose compressed scores are best, and in causal form the query's own block up to itself;
 * sliding:    over the keys near the query.
 * Work goes by blocks of queries; nothing of size queries x keys is ever stored. */
#pragma once
#include <stddef.h>

typedef struct sparse_sizes {
    size_t queries, keys;      /* query 0 is key number keys - queries */
    size_t blocks, memory;     /* compressed keys, and learned ones before them */
    size_t group, d;           /* query heads to a key head, width of a head */
    size_t window;             /* a query slides over the `window` keys before it, not causal: and as many after it */
    size_t stride, selection;  /* tokens to a compressed block, and to a block of fine attention: a multiple of stride */
    size_t selected;           /* blocks of fine attention to a query, at most */
    int causal;                /* keys after the query, and blocks that end with or after it, are hidden */
    int shared;                /* the group's query heads choose blocks together */
} sparse_sizes;

typedef struct sparse_head {
    float *y;                        /* [queries, group d] */
    const float *q, *q_rotated;      /* [queries, group d] */
    const float *gates;              /* [queries, group, 3] */
    const float *k, *v;              /* k rotated: [keys, d] */
    const float *ck, *cv;            /* [blocks, d] */
    const float *mem_k, *mem_v;      /* [memory, d], contiguous */
    const float *packed;             /* what sparse_pack_f32 made of the compressed keys and values, memory first */
    size_t q_stride, gate_stride, k_stride, c_stride;   /* floats from a row to the next; y has q_stride, v k_stride, cv c_stride */
} sparse_head;

/* Several queries share packed keys: floats of the packed form, and the tiles that it has, 0 where there are so few queries that keys are read
 * where they lie. */
size_t sparse_packed_floats(const sparse_sizes *sizes);
size_t sparse_tiles(const sparse_sizes *sizes);
/* Writes one tile into `packed` [sparse_packed_floats]. */
void sparse_pack_f32(float *packed, const sparse_head *head, const sparse_sizes *sizes, size_t tile);

/* Queries that are worked on together: threads share out such blocks. */
size_t sparse_queries(const sparse_sizes *sizes);
/* Floats of working memory for sparse_attention_f32. */
size_t sparse_scratch_floats(const sparse_sizes *sizes);
/* Queries [first, first + count), at most sparse_queries of them. */
void sparse_attention_f32(const sparse_head *head, const sparse_sizes *sizes, size_t first, size_t count, float *scratch);
