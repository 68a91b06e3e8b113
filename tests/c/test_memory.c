#include "check.h"
#include "memory.h"

static void alignment_and_counts(void) {
    size_t before = lam_memory_used();
    char *blocks[64];
    size_t sizes[64], total = 0;
    lam_memory_reset_peak();
    for (int i = 0; i < 64; i++) {
        sizes[i] = i ? check_size(0, 5000) : 0;
        blocks[i] = memory_alloc(sizes[i]);
        CHECK(blocks[i], "%zu bytes", sizes[i]);
        CHECK((uintptr_t)blocks[i] % 64 == 0, "block %d is at %p", i, (void *)blocks[i]);
        memset(blocks[i], i, sizes[i]);
        total += sizes[i];
    }
    CHECK(lam_memory_used() == before + total, "%zu in use, not %zu", lam_memory_used(), before + total);
    for (int i = 0; i < 64; i++) {
        size_t wrong = 0;
        for (size_t j = 0; j < sizes[i]; j++) wrong += blocks[i][j] != (char)i;
        CHECK(wrong == 0, "block %d was overwritten", i);
        memory_free(blocks[i]);
    }
    CHECK(lam_memory_used() == before, "%zu bytes are left", lam_memory_used() - before);
    CHECK(lam_memory_peak() == before + total, "peak %zu, not %zu", lam_memory_peak(), before + total);
    lam_memory_reset_peak();
    CHECK(lam_memory_peak() == before, "peak %zu after the reset", lam_memory_peak());
    memory_free(NULL);
}

static void failures(void) {
    for (int n = 0; n < 4; n++) {
        lam_memory_fail_after(n);
        for (int i = 0; i < 6; i++) {
            void *p = lam_alloc(10);
            CHECK(!p == (i == n), "allocation %d of fail_after(%d)", i, n);
            lam_free(p);
        }
        CHECK(lam_memory_fail_after(-1) < 0, "fail_after(%d) has not happened", n);
    }
    lam_memory_fail_after(3);
    CHECK(lam_memory_fail_after(-1) == 3, "nothing was allocated");
    size_t before = lam_memory_used();
    lam_memory_limit(before + 100);
    void *p = memory_alloc(100);
    CHECK(p && !memory_alloc(1) && lam_memory_used() == before + 100, "at the limit");
    memory_free(p);
    p = memory_alloc(100);
    CHECK(p && !memory_alloc(SIZE_MAX) && !memory_alloc(SIZE_MAX - 64), "beyond any memory");
    memory_free(p);
    lam_memory_limit(0);
    CHECK(!memory_alloc(SIZE_MAX - 63) && !memory_alloc(SIZE_MAX / 2), "beyond any memory, without a limit");
    CHECK(lam_memory_used() == before, "a refusal counts nothing");
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    alignment_and_counts();
    failures();
    return check_end("memory");
}
