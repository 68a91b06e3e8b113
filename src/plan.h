/* Places in one arena for tensors that live at different times. */
#pragma once
#include <stddef.h>

typedef struct plan_block {
    size_t floats;
    int first, last;   /* steps during which it is needed, both included */
    size_t offset;     /* the answer, in floats, a multiple of PLAN_ALIGNMENT */
} plan_block;

enum { PLAN_ALIGNMENT = 16 };   /* floats: one cache line */

/* Sets every offset so that blocks needed at the same step do not overlap; returns the arena's size in floats.
 * Largest first, each into the smallest gap that holds it. order [count] is working memory. */
size_t plan_arena(plan_block *blocks, int count, int *order);
