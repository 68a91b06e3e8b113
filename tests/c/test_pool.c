#define _POSIX_C_SOURCE 199309L   /* nanosleep */
/* Also run under ThreadSanitizer, which sees whether a task could meet another loop's fields. */
#include "check.h"
#include <time.h>
#include "kernels/gemm.h"
#include "memory.h"
#include "ops/ops.h"
#include "pool.h"

enum { MOST = 3000 };

typedef struct job {
    int n, threads, delay;
    int visits[MOST];
    int on_thread[16];
} job;

static void visit(void *arg, int index, int thread) {
    job *j = arg;
    if (index < 0 || index >= j->n || thread < 0 || thread >= j->threads) abort();
    j->visits[index]++;   /* not atomic: each index must have one visitor */
    __atomic_fetch_add(&j->on_thread[thread], 1, __ATOMIC_RELAXED);
    if (j->delay) nanosleep(&(struct timespec){ .tv_nsec = j->delay }, NULL);
}

static void loop(lam_pool *pool, int n, int delay) {
    static job j;
    memset(&j, 0, sizeof j);
    j.n = n;
    j.threads = lam_pool_threads(pool);
    j.delay = delay;
    pool_for(pool, n, visit, &j);
    int wrong = 0, sum = 0;
    for (int i = 0; i < n; i++) wrong += j.visits[i] != 1;
    for (int t = 0; t < 16; t++) sum += j.on_thread[t];
    CHECK(wrong == 0 && sum == n, "%d of %d indices were not visited once, %d visits", wrong, n, sum);
}

/* Loops of many sizes close upon each other: a late worker must not take an index of the wrong loop. */
static void many_loops(int threads) {
    lam_pool *pool = lam_pool_new(threads);
    CHECK(pool && lam_pool_threads(pool) == threads, "%d threads", threads);
    for (int forward = 0; forward < 60; forward++) {
        pool_enter(pool);
        for (int i = 0; i < 20; i++) loop(pool, (int)check_size(0, i % 7 ? 6 : 300), 0);
        pool_leave(pool);
        if (forward % 8 == 0) nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);   /* the workers fall asleep */
    }
    loop(pool, MOST, 0);   /* outside of enter and leave */
    lam_pool_free(pool);
}

/* With tasks that wait, all threads get some: nobody is left asleep. */
static void everybody_works(int threads) {
    lam_pool *pool = lam_pool_new(threads);
    for (int attempt = 0; attempt < 2; attempt++) {
        static job j;
        j = (job){ .n = 16 * threads, .threads = threads, .delay = 3000000 };
        pool_enter(pool);
        pool_for(pool, j.n, visit, &j);
        pool_leave(pool);
        for (int t = 0; t < threads; t++) CHECK(j.on_thread[t] > 0, "thread %d had nothing to do", t);
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    }
    lam_pool_free(pool);
}

/* Between two forwards workers sleep: they take no time of a processor. */
static void nobody_waits_busily(void) {
    lam_pool *pool = lam_pool_new(4);
    pool_enter(pool);
    loop(pool, 300, 0);
    pool_leave(pool);
    nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
    clock_t before = clock();
    nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
    double busy = (double)(clock() - before) / CLOCKS_PER_SEC;
    CHECK(busy < 0.02, "%g of 0.1 seconds", busy);
    lam_pool_free(pool);
}

/* A pool that was stopped goes on alone, whatever state its workers were in. */
static void stopped(void) {
    for (int attempt = 0; attempt < 20; attempt++) {
        lam_pool *pool = lam_pool_new(4);
        if (attempt % 2) pool_enter(pool);
        if (attempt % 3) loop(pool, 300, 0);
        lam_pool_stop(pool);
        CHECK(lam_pool_threads(pool) == 1, "%d threads", lam_pool_threads(pool));
        loop(pool, 300, 0);
        lam_pool_stop(pool);
        pool_enter(pool);
        loop(pool, 20, 0);
        pool_leave(pool);
        lam_pool_free(pool);
    }
    lam_pool_stop(NULL);
}

/* The tasks of a product cover it, each element once, within the limits; small ones stay whole. */
static void tiles_cover_products(void) {
    static unsigned char covered[700][400];
    for (int round = 0; round < 300; round++) {
        size_t m = check_size(0, round % 3 ? 60 : 700), n = check_size(1, 400), k = check_size(0, round % 2 ? 40 : 4000), most = check_size(1, 300);
        int threads = (int)check_size(1, 8), wrong = 0;
        tile_grid grid = tile_grid_of(m, n, k, most, threads);
        memset(covered, 0, sizeof covered);
        for (int i = 0; i < tile_count(&grid); i++) {
            tile t = tile_at(&grid, i);
            wrong += t.row % GEMM_MR || t.column % GEMM_NR || !t.rows || !t.columns || (t.rows > most && t.rows > GEMM_MR);
            for (size_t y = t.row; y < t.row + t.rows; y++)
                for (size_t x = t.column; x < t.column + t.columns; x++) covered[y][x]++;
        }
        for (size_t y = 0; y < m; y++)
            for (size_t x = 0; x < n; x++) wrong += covered[y][x] != 1;
        CHECK(!wrong, "%zu x %zu x %zu, at most %zu rows, %d threads: %d wrong", m, n, k, most, threads, wrong);
        CHECK(threads == 1 || m * n * k > 100000 || m > most || m < GEMM_MR || tile_count(&grid) == 1, "%zu x %zu x %zu is shared out", m, n, k);
    }
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    size_t before = lam_memory_used();
    CHECK(lam_pool_threads(NULL) == 1, "no pool is one thread");
    pool_enter(NULL);
    loop(NULL, 100, 0);
    pool_leave(NULL);
    lam_pool_free(NULL);
    for (int threads = 1; threads <= 8; threads++) many_loops(threads);
    everybody_works(4);
    everybody_works(2);
    nobody_waits_busily();
    stopped();
    tiles_cover_products();
    lam_pool *one = lam_pool_new(-3);
    CHECK(one && lam_pool_threads(one) == 1, "fewer than one is one");
    lam_pool_free(one);
    for (int n = 0; n < 2; n++) {
        lam_memory_fail_after(n);
        CHECK(!lam_pool_new(3), "allocation %d fails", n);
        lam_memory_fail_after(-1);
    }
    CHECK(lam_memory_used() == before, "%zu bytes leaked", lam_memory_used() - before);
    return check_end("pool");
}
