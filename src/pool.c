#define _POSIX_C_SOURCE 200112L
#include "pool.h"
#include <stdint.h>
#include "memory.h"

#if !defined(__wasm__)
#include <pthread.h>
#include <sched.h>
#endif

enum { ASLEEP, ACTIVE, STOPPED };   /* lam_pool.state */
enum { SPINS = 4000 };              /* looks without finding work, a few microseconds, before a worker sleeps */

struct lam_pool {
    lam_task *task;   /* the current loop */
    void *arg;
    int n;
    int threads;
    int woken;        /* since pool_enter */
    /* The words that threads pass to each other, on a cache line each. */
    _Alignas(64) uint64_t work;   /* loops begun so far << 32 | indices of this one that nobody has taken yet */
    _Alignas(64) int done;        /* indices whose task has returned */
    _Alignas(64) int state;
    int sleepers, inside;         /* workers asleep, workers in lam_pool_worker */
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
    lam_pool *p = memory_alloc(sizeof *p);
    if (!p) return NULL;
    *p = (lam_pool){ .threads = threads < 1 ? 1 : threads > most_threads ? most_threads : threads };
    return start(p);
}

void lam_pool_free(lam_pool *p) {
    if (!p) return;
    __atomic_store_n(&p->state, STOPPED, __ATOMIC_SEQ_CST);
    wake_all(p);
    while (LOAD(&p->inside)) breathe();
    join(p);
    memory_free(p);
}

int lam_pool_threads(const lam_pool *p) { return p ? p->threads : 1; }

/* Takes one index and does it; 0 when none was left. The words in `work` change together, so a worker that comes late can never
 * take an index of a loop whose task it does not see. */
static int do_next(lam_pool *p, int thread) {
    uint64_t work = LOAD(&p->work);
    while ((uint32_t)work) {
        if (!__atomic_compare_exchange_n(&p->work, &work, work - 1, 1, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) continue;
        p->task(p->arg, p->n - (int)(uint32_t)work, thread);
        __atomic_fetch_add(&p->done, 1, __ATOMIC_RELEASE);
        return 1;
    }
    return 0;
}

void lam_pool_worker(lam_pool *p, int thread) {
    ADD(&p->inside, 1);
    for (int idle = 0; LOAD(&p->state) != STOPPED; idle++) {
        if (do_next(p, thread)) idle = 0;
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
    p->n = n;
    p->done = 0;
    __atomic_store_n(&p->work, ((LOAD(&p->work) >> 32) + 1) << 32 | (uint32_t)n, __ATOMIC_RELEASE);
    while (do_next(p, 0)) {}
    for (int spins = 0; LOAD(&p->done) < n; spins++) {
        if (spins % SPINS == SPINS - 1) breathe();
    }
}
