#include "plan.h"
#include <stdint.h>

static size_t aligned(size_t floats) { return (floats + PLAN_ALIGNMENT - 1) / PLAN_ALIGNMENT * PLAN_ALIGNMENT; }

static int meet(const plan_block *a, const plan_block *b) { return a->first <= b->last && b->first <= a->last; }

/* The best offset for `block` among those already placed, which order lists by rising offset. */
static size_t best_gap(const plan_block *blocks, const int *order, int placed, const plan_block *block) {
    size_t end = 0, best = 0, best_size = (size_t)-1, wanted = aligned(block->floats);
    for (int i = 0; i < placed; i++) {
        const plan_block *other = &blocks[order[i]];
        if (!meet(block, other)) continue;
        size_t gap = other->offset > end ? other->offset - end : 0;
        if (gap >= wanted && gap < best_size) {
            best = end;
            best_size = gap;
        }
        size_t other_end = other->offset + aligned(other->floats);
        if (other_end > end) end = other_end;
    }
    return best_size == (size_t)-1 ? end : best;
}

static void sort_by_size(const plan_block *blocks, int count, int *order) {
    for (int i = 0; i < count; i++) {
        int j = i;
        for (; j > 0 && blocks[order[j - 1]].floats < blocks[i].floats; j--) order[j] = order[j - 1];
        order[j] = i;
    }
}

size_t plan_arena(plan_block *blocks, int count, int *order) {
    size_t total = 0;
    sort_by_size(blocks, count, order);
    for (int i = 0; i < count; i++) {
        int index = order[i], j = i;
        plan_block *block = &blocks[index];
        block->offset = best_gap(blocks, order, i, block);
        for (; j > 0 && blocks[order[j - 1]].offset > block->offset; j--) order[j] = order[j - 1];
        order[j] = index;
        size_t end = block->offset + aligned(block->floats);
        if (end > total) total = end;
        if (total > SIZE_MAX / sizeof(float)) return SIZE_MAX;   /* further offsets would wrap round */
    }
    return total;
}
