#define _POSIX_C_SOURCE 200112L   /* posix_memalign: unlike aligned_alloc it takes any size, so a sanitizer sees the exact end */
#include "memory.h"
#include <stdint.h>
#include <stdlib.h>

enum { LINE = 64 };   /* also the room before each block, where its size is kept */

static size_t used, peak, limit;
static int fail_after = -1;

void *memory_alloc(size_t bytes) {
    if (fail_after >= 0 && fail_after-- == 0) return NULL;
    if (bytes > SIZE_MAX - LINE || bytes > SIZE_MAX - used || (limit && used + bytes > limit)) return NULL;
    void *block;
    if (posix_memalign(&block, LINE, LINE + bytes)) return NULL;
    *(size_t *)block = bytes;
    used += bytes;
    if (used > peak) peak = used;
    return (char *)block + LINE;
}

void memory_free(void *p) {
    if (!p) return;
    void *block = (char *)p - LINE;
    used -= *(size_t *)block;
    free(block);
}

void *lam_alloc(size_t bytes) { return memory_alloc(bytes); }
void lam_free(void *p) { memory_free(p); }
size_t lam_memory_used(void) { return used; }
size_t lam_memory_peak(void) { return peak; }
void lam_memory_reset_peak(void) { peak = used; }
void lam_memory_limit(size_t bytes) { limit = bytes; }

int lam_memory_fail_after(int n) {
    int last = fail_after;
    fail_after = n;
    return last;
}
