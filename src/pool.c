#define _POSIX_C_SOURCE 200112L
#include "pool.h"
#include <stdint.h>
#include <string.h>
#include "memory.h"

#if !defined(__wasm__)
#include <pthread.h>
#include <sched.h>
#endif

enum { ASLEEP, ACTIVE, STOPPED };   /* lam_pool.state */
enum { SPINS = 4000 };              /* looks without finding work, a few microseconds, before a worker sleeps */

typedef struct share {
    _Alignas(64) uint64_t left;   /* the first index that nobody has taken << 32 | the end of this thread's indices */
} share;

struct lam_pool {
    lam_task *task;   /* the current loop */
    void *arg;
    int threads;
    int woken;        /* since pool_enter */
    int share_count;  /* threads that were asked for, whether they started or not */
    share *shares;
    /* The words that threads pass to each other, on a cache line each. */
    _Alignas(64) int done;        /* indices that workers have done */
    _Alignas(64) int state;
    int sleepers, inside;         /* workers asleep, workers in lam_pool_worker */
    int lost;                     /* has a worker trapped */
#if !defined(__wasm__)
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    pthread_t *handles;           /* [threads - 1] */
#endif
};

#define LOAD(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define ADD(p, x) __atomic_fetch_add(p, x, __ATOMIC_SEQ_CST)

/* ---- sleeping: the only part that differs between hosts ----------------------------------------------------------- */

#if defined(__wasm__) && defined(__wasm_atomics__)
static void sleep_while_asleep(lam_pool *p) { __builtin_wasm_memory_atomic_wait32(&p->state, ASLEEP, -1); }
static void wake_all(lam_pool *p) { __builtin_wasm_memory_atomic_notify(&p->state, ~0u); }
static void breathe(void) {}
static lam_pool *start(lam_pool *p) { return p; }
static void join(lam_pool *p) { (void)p; }
static const int most_threads = 256;
#elif defined(__wasm__)
static void sleep_while_asleep(lam_pool *p) { (void)p; }
static void wake_all(lam_pool *p) { (void)p; }
static void breathe(void) {}
static lam_pool *start(lam_pool *p) { return p; }
static void join(lam_pool *p) { (void)p; }
static const int most_threads = 1;
#else
static void sleep_while_asleep(lam_pool *p) {
    pthread_mutex_lock(&p->mutex);
    while (LOAD(&p->state) == ASLEEP) pthread_cond_wait(&p->wake, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
}

static void wake_all(lam_pool *p) {
    pthread_mutex_lock(&p->mutex);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
}

static void breathe(void) { sched_yield(); }

typedef struct thread_start { lam_pool *pool; int thread; } thread_start;

static void *thread_main(void *arg) {
    thread_start s = *(thread_start *)arg;
    __atomic_store_n(&((thread_start *)arg)->pool, NULL, __ATOMIC_RELEASE);   /* read: the starter may go on */
    lam_pool_worker(s.pool, s.thread);
    return NULL;
}

static void join(lam_pool *p) {
    for (int i = 0; i < p->threads - 1; i++) pthread_join(p->handles[i], NULL);
    memory_free(p->handles);
    pthread_mutex_destroy(&p->mutex);
    pthread_cond_destroy(&p->wake);
}

/* Starts as many as the system allows. */
static lam_pool *start(lam_pool *p) {
    int wanted = p->threads;
    p->threads = 1;
    p->handles = memory_alloc((size_t)wanted * sizeof *p->handles);
    if (!p->handles) {
        memory_free(p);
        return NULL;
    }
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    for (int i = 1; i < wanted; i++) {
        thread_start s = { p, i };
        if (pthread_create(&p->handles[i - 1], NULL, thread_main, &s)) break;
        while (LOAD(&s.pool)) sched_yield();
        p->threads++;
    }
    return p;
}

static const int most_threads = 256;
#endif

/* ---- the pool ------------------------------------------------------------------------------------------------------ */

lam_pool *lam_pool_new(int threads) {
    threads = threads < 1 ? 1 : threads > most_threads ? most_threads : threads;
    size_t shares = (size_t)threads * sizeof(share);
    lam_pool *p = memory_alloc(sizeof *p + shares);
    if (!p) return NULL;
    *p = (lam_pool){ .threads = threads, .share_count = threads, .shares = (share *)(void *)(p + 1) };
    memset(p->shares, 0, shares);
    return start(p);
}

void lam_pool_stop(lam_pool *p) {
    if (!p || LOAD(&p->state) == STOPPED) return;
    for (int i = 0; i < p->share_count; i++) __atomic_store_n(&p->shares[i].left, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&p->state, STOPPED, __ATOMIC_SEQ_CST);
    wake_all(p);
    while (LOAD(&p->inside)) breathe();
    join(p);
    p->threads = 1;
}

void lam_pool_lost(lam_pool *p) {
    __atomic_store_n(&p->lost, 1, __ATOMIC_SEQ_CST);
    ADD(&p->inside, -1);
}

void lam_pool_free(lam_pool *p) {
    lam_pool_stop(p);
    memory_free(p);
}

int lam_pool_threads(const lam_pool *p) { return p ? p->threads : 1; }

/* Takes an index and does it; 0 when none is left. Each thread has a part of the indices and takes them from its beginning, so that the
 * same thread has the same part of a picture in its cache from layer to layer; then it takes from the ends of the others' parts. The words of
 * `left` change together, so a thread that comes late takes an index of the loop whose task it sees, or none. */
static int do_next(lam_pool *p, int thread) {
    for (int i = 0, of = thread; i < p->share_count; i++, of = of + 1 < p->share_count ? of + 1 : 0) {
        uint64_t left = LOAD(&p->shares[of].left);
        while (left >> 32 < (uint32_t)left) {
            uint64_t rest = i ? left - 1 : left + ((uint64_t)1 << 32);
            if (!__atomic_compare_exchange_n(&p->shares[of].left, &left, rest, 1, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) continue;
            p->task(p->arg, i ? (int)(uint32_t)rest : (int)(left >> 32), thread);
            return 1;
        }
    }
    return 0;
}

/* All indices that are left; how many they were. */
static int do_all(lam_pool *p, int thread) {
    int count = 0;
    while (do_next(p, thread)) count++;
    return count;
}

void lam_pool_worker(lam_pool *p, int thread) {
    ADD(&p->inside, 1);
    for (int idle = 0; LOAD(&p->state) != STOPPED; idle++) {
        int count = do_all(p, thread);
        if (count) {
            __atomic_fetch_add(&p->done, count, __ATOMIC_RELEASE);
            idle = 0;
        }
        if (idle < SPINS) continue;
        breathe();
        idle = 0;
        if (LOAD(&p->state) != ASLEEP) continue;
        ADD(&p->sleepers, 1);
        sleep_while_asleep(p);
        ADD(&p->sleepers, -1);
    }
    ADD(&p->inside, -1);
}

void pool_enter(lam_pool *p) {
    if (!p || p->threads == 1) return;
    p->woken = 0;
    __atomic_store_n(&p->state, ACTIVE, __ATOMIC_SEQ_CST);
}

void pool_leave(lam_pool *p) {
    if (p && p->threads > 1) __atomic_store_n(&p->state, ASLEEP, __ATOMIC_SEQ_CST);
}

void pool_for(lam_pool *p, int n, lam_task *task, void *arg) {
    if (!p || p->threads == 1 || n <= 1) {
        for (int i = 0; i < n; i++) task(arg, i, 0);
        return;
    }
    /* Not in pool_enter: waking costs microseconds, and a forward of small layers never gets here. */
    if (!p->woken && ADD(&p->sleepers, 0)) wake_all(p);
    p->woken = 1;
    p->task = task;
    p->arg = arg;
    p->done = 0;
    for (int i = 0; i < p->threads; i++) {
        uint64_t first = (uint64_t)n * (uint64_t)i / (uint64_t)p->threads, end = (uint64_t)n * (uint64_t)(i + 1) / (uint64_t)p->threads;
        __atomic_store_n(&p->shares[i].left, first << 32 | end, __ATOMIC_RELEASE);
    }
    int own = do_all(p, 0);
    for (int spins = 0; LOAD(&p->done) < n - own; spins++) {
        if (LOAD(&p->lost)) __builtin_trap();   /* what it was doing is never done */
        if (spins % SPINS == SPINS - 1) breathe();
    }
}
