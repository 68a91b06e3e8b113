/* a op b with axes that one of them repeats, a residual and an activation behind it, in every layout: against the definition, number by number. */
#include "check.h"
#include "lamella.h"
#include "pool.h"
#include "reference.h"

enum { RANK = 5 };

static size_t elements(int rank, const int *dims) {
    size_t n = 1;
    for (int i = 0; i < rank; i++) n *= (size_t)dims[i];
    return n;
}

/* Where the number of `operand` lies that goes with element `at` of y. */
static size_t place(size_t at, int rank, const int *y, int operand_rank, const int *operand) {
    size_t offset = 0, step = 1;
    for (int i = 1; i <= rank; i++) {
        size_t index = at % (size_t)y[rank - i];
        at /= (size_t)y[rank - i];
        if (i > operand_rank) continue;
        if (operand[operand_rank - i] > 1) offset += index * step;
        step *= (size_t)operand[operand_rank - i];
    }
    return offset;
}

/* Dimensions `dims` of which some are 1, or left out in front. */
static int narrowed(int rank, const int *dims, int *to) {
    int first = (int)check_size(0, 3) ? 0 : (int)check_size(0, (size_t)rank - 1);
    for (int i = first; i < rank; i++) to[i - first] = check_size(0, 2) ? dims[i] : 1;
    return rank - first;
}

static void one(int rank, const int *full, lam_pool *pool) {
    int dims[3][RANK], ranks[3] = { narrowed(rank, full, dims[0]), narrowed(rank, full, dims[1]), rank }, images = rank == 4 && check_size(0, 1);
    lam_binary op = (lam_binary)check_size(LAM_ADD, LAM_DIV);
    lam_activation activation = (lam_activation)check_size(0, 3);
    /* y's own sizes */
    for (int i = 0; i < rank; i++) {
        int a = i - rank + ranks[0], b = i - rank + ranks[1], x = a < 0 ? 1 : dims[0][a], z = b < 0 ? 1 : dims[1][b];
        dims[2][i] = x > z ? x : z;
    }
    while (ranks[2] > ranks[0] && ranks[2] > ranks[1]) {                     /* neither has the first axis */
        ranks[2]--;
        for (int i = 0; i < ranks[2]; i++) dims[2][i] = dims[2][i + 1];
    }
    lam_graph *g = lam_graph_new();
    lam_value in[3];
    for (int i = 0; i < 3; i++) {
        in[i] = lam_input(g, LAM_F32, ranks[i], dims[i]);
        if (images && ranks[i] == 4) in[i] = lam_max_pool2d(g, in[i], (int[]){ 1, 1 }, (int[]){ 1, 1 }, (int[]){ 0, 0 }, (int[]){ 1, 1 }, 0);   /* channels last */
    }
    lam_output(g, lam_activate(g, lam_arithmetic(g, lam_arithmetic(g, in[0], in[1], op), in[2], LAM_ADD), activation));
    CHECK(lam_compile(g) == LAM_OK, "%s", lam_graph_error(g));
    lam_session *s = lam_session_new(g, pool);
    float *x[3], *expected = check_floats(elements(ranks[2], dims[2]));
    for (int i = 0; i < 3; i++) lam_session_resize(s, i, ranks[i], dims[i]);
    CHECK(lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
    for (int i = 0; i < 3; i++) {
        x[i] = check_floats(elements(ranks[i], dims[i]));
        for (size_t j = 0; i == 1 && j < elements(ranks[i], dims[i]); j++) x[i][j] += x[i][j] < 0 ? -0.3f : 0.3f;   /* may be divided by */
        memcpy(lam_session_input(s, i), x[i], elements(ranks[i], dims[i]) * sizeof(float));
    }
    lam_session_run(s);
    for (size_t i = 0; i < elements(ranks[2], dims[2]); i++) {
        double a = x[0][place(i, ranks[2], dims[2], ranks[0], dims[0])], b = x[1][place(i, ranks[2], dims[2], ranks[1], dims[1])];
        double y = op == LAM_ADD ? a + b : op == LAM_SUB ? a - b : op == LAM_MUL ? a * b : a / b;
        expected[i] = (float)reference_activation(y + (double)x[2][i], activation);
    }
    if (!check_close(lam_session_output(s, 0), expected, elements(ranks[2], dims[2]), 1e-6, "arithmetic"))
        printf("    op %d activation %d rank %d: %d %d %d %d %d, operands of rank %d and %d, images %d\n", op, activation, rank, full[0], full[1], full[2], full[3], full[4], ranks[0],
               ranks[1], images);
    for (int i = 0; i < 3; i++) check_free(x[i]);
    check_free(expected);
    lam_session_free(s);
    lam_graph_free(g);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    lam_pool *pool = lam_pool_new(3);
    for (int i = 0; i < 600; i++) {
        int rank = (int)check_size(1, RANK), dims[RANK] = { 0 };
        for (int j = 0; j < rank; j++) dims[j] = (int)check_size(1, 7);
        one(rank, dims, i % 4 ? NULL : pool);
    }
    for (int i = 0; i < 40; i++) {                                           /* rows longer than are done at a time, and many short ones */
        one(2, (int[RANK]){ 3, 40000 }, i % 2 ? NULL : pool);
        one(3, (int[RANK]){ 2, 9000, 5 }, i % 2 ? NULL : pool);
        one(4, (int[RANK]){ 2, 24, 33, 31 }, i % 2 ? NULL : pool);
    }
    lam_pool_free(pool);
    return check_end("arithmetic");
}
