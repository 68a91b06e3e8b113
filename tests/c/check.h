/* A test is a program: it checks, prints what failed with the seed that shows it again, and exits with 1 if anything did.
 *     int main(int argc, char **argv) { check_start(argc, argv); ...CHECK(...)...; return check_end("gemm"); }
 * The first argument is the seed; the default is fixed. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, size) ((void)(p), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(p, size) ((void)(p), (void)(size))
#endif

static struct {
    uint64_t seed, state;
    size_t checks, failures;
} check_run;

/* The condition is evaluated once, so it may be the call under test. */
#define CHECK(condition, ...) \
    do { \
        int check_holds = !!(condition); \
        check_run.checks++; \
        if (!check_holds) check_fail(__FILE__, __LINE__, #condition); \
        if (!check_holds && check_run.failures <= 20) { \
            fprintf(stderr, "    " __VA_ARGS__); \
            fputc('\n', stderr); \
        } \
    } while (0)

static inline void check_fail(const char *file, int line, const char *condition) {
    if (++check_run.failures <= 20) fprintf(stderr, "%s:%d: %s (seed %llu)\n", file, line, condition, (unsigned long long)check_run.seed);
}

static inline void check_start(int argc, char **argv) {
    check_run.seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 20240229;
    check_run.state = check_run.seed * 2 + 1;
}

static inline int check_end(const char *name) {
    printf("%s: %zu checks, %zu failed\n", name, check_run.checks, check_run.failures);
    return check_run.failures || !check_run.checks;
}

/* -- random numbers -- */

static inline uint32_t check_random(void) {
    check_run.state = check_run.state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(check_run.state >> 32);
}

/* low to high, both included. */
static inline size_t check_size(size_t low, size_t high) { return low + check_random() % (high - low + 1); }
static inline float check_uniform(float low, float high) { return low + (high - low) * (float)(check_random() >> 8) * 0x1p-24f; }

/* -- memory: what lies around it must stay as it is, and under AddressSanitizer must not even be read -- */

enum { CHECK_GUARD = 64, CHECK_GUARD_BYTE = 0xa5 };

/* n floats between -1 and 1. Freed by check_free. */
static inline float *check_floats(size_t n) {
    size_t bytes = n * sizeof(float);
    unsigned char *p = malloc(bytes + 2 * CHECK_GUARD);
    if (!p) abort();
    memset(p, CHECK_GUARD_BYTE, bytes + 2 * CHECK_GUARD);
    memcpy(p, &n, sizeof n);
    float *data = (float *)(void *)(p + CHECK_GUARD);
    for (size_t i = 0; i < n; i++) data[i] = check_uniform(-1, 1);
    ASAN_POISON_MEMORY_REGION(p, CHECK_GUARD);
    ASAN_POISON_MEMORY_REGION(p + CHECK_GUARD + bytes, CHECK_GUARD);
    return data;
}

static inline void check_free(float *data) {
    if (!data) return;
    unsigned char *p = (unsigned char *)data - CHECK_GUARD;
    ASAN_UNPOISON_MEMORY_REGION(p, CHECK_GUARD);
    size_t n, wrong = 0;
    memcpy(&n, p, sizeof n);
    unsigned char *end = (unsigned char *)(data + n);
    ASAN_UNPOISON_MEMORY_REGION(end, CHECK_GUARD);
    for (size_t i = sizeof n; i < CHECK_GUARD; i++) wrong += p[i] != CHECK_GUARD_BYTE;
    for (size_t i = 0; i < CHECK_GUARD; i++) wrong += end[i] != CHECK_GUARD_BYTE;
    CHECK(wrong == 0, "%zu bytes written outside an array of %zu floats", wrong, n);
    free(p);
}

/* -- comparison -- */

/* max|y - expected| <= tolerance max|expected|; NaN and infinities must be the same. */
static inline int check_close(const float *y, const float *expected, size_t n, double tolerance, const char *what) {
    double largest = 0, worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (isfinite(expected[i]) && fabs(expected[i]) > largest) largest = fabs(expected[i]);
    }
    for (size_t i = 0; i < n; i++) {
        double error = fabs((double)y[i] - expected[i]);
        if (isnan(y[i]) && isnan(expected[i])) error = 0;
        else if (y[i] == expected[i]) error = 0;
        else if (isnan(error)) error = INFINITY;
        if (error > worst) {
            worst = error;
            at = i;
        }
    }
    int close = worst <= tolerance * largest;
    CHECK(close, "%s: element %zu of %zu is %.9g, expected %.9g (error %.3g of the largest, allowed %.3g)", what, at, n,
          n ? y[at] : 0, n ? expected[at] : 0, largest > 0 ? worst / largest : worst, tolerance);
    return close;
}
