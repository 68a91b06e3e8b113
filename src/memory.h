/* The one allocator: aligned to a cache line, counted, and able to fail on demand so that tests reach every way out.
 * Only the thread that runs the engine allocates and frees; the pool's other threads never do. */
#pragma once
#include <stddef.h>
#include "api.h"

void *memory_alloc(size_t bytes);   /* 64-byte aligned, not cleared; 0 bytes is an allocation too. NULL when there is no more */
void memory_free(void *p);          /* NULL is fine */

LAM_API void  *lam_alloc(size_t bytes);   /* the same for a caller outside C: places for weights, shapes and names */
LAM_API void   lam_free(void *p);

LAM_API size_t lam_memory_used(void);          /* bytes asked for and not yet freed */
LAM_API size_t lam_memory_peak(void);          /* most that was in use at once since the last reset */
LAM_API void   lam_memory_reset_peak(void);
LAM_API void   lam_memory_limit(size_t bytes); /* what would put more than this in use fails; 0: no limit */
/* After n more allocations one fails, and then they succeed again; n = 0: the next one. Negative: none fails.
 * Returns what was left of the last call's count: negative when its failure has happened or was never due. */
LAM_API int    lam_memory_fail_after(int n);
