/* The threads. Thread 0 is whoever calls pool_for; it always takes its share and never sleeps, so it may be a page's main
 * thread. The others run lam_pool_worker, started by lam_pool_new natively and by the host in WebAssembly. A loop waits for no
 * thread that has not taken part in it, so workers may start late or never.
 *
 * A pool serves one loop at a time, from one calling thread; loops do not nest. */
#pragma once
#include "lamella.h"

typedef void lam_task(void *arg, int index, int thread);

LAM_API lam_pool *lam_pool_new(int threads);                /* thread 0 counted; below 1 is 1. NULL when out of memory */
LAM_API void lam_pool_free(lam_pool *pool);                 /* stops the workers and waits for them. NULL is fine */
LAM_API int  lam_pool_threads(const lam_pool *pool);        /* 1 for NULL: no pool is a pool of one */
/* For hosts that survive a trap. What trapped in lam_pool_worker says so with `lost`: a loop that waits for it traps, too. Whoever catches a trap of
 * a run calls `stop`: it ends the workers that are left and waits until none can read the run's memory; the pool is then a pool of one. */
LAM_API void lam_pool_lost(lam_pool *pool);
LAM_API void lam_pool_stop(lam_pool *pool);
LAM_API void lam_pool_worker(lam_pool *pool, int thread);   /* body of thread 1 .. threads - 1; returns when the pool is freed */

/* Around a run of loops: workers look for the next loop without sleeping until pool_leave. */
void pool_enter(lam_pool *pool);
void pool_leave(lam_pool *pool);
/* task(arg, i, thread) once for every i in [0, n), in any order, on any thread; returns when all have returned. */
void pool_for(lam_pool *pool, int n, lam_task *task, void *arg);
