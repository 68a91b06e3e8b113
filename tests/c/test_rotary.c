/* The kernel against the formula in double, then both layers through a graph: axes, columns, batches, the stretched table. */
#include "check.h"
#include "kernels/rotary.h"
#include "lamella.h"
#include "pool.h"

/* Rows of one token, as reference. */
static void turn(float *y, const float *x, const float *table, size_t rows, size_t width, size_t first, size_t half, int interleaved) {
    for (size_t i = 0; i < rows; i++, x += width, y += width) {
        for (size_t c = 0; c < width; c++) y[c] = x[c];
        for (size_t j = 0; j < half; j++) {
            size_t a = first + (interleaved ? 2 * j : j), b = first + (interleaved ? 2 * j + 1 : half + j);
            double cosine = table[j], sine = table[half + j];
            y[a] = (float)(x[a] * cosine - x[b] * sine);
            y[b] = (float)(x[b] * cosine + x[a] * sine);
        }
    }
}

static void kernel(size_t half, size_t first, size_t rest, size_t rows, int interleaved) {
    size_t width = first + 2 * half + rest;
    float *x = check_floats(rows * width), *y = check_floats(rows * width), *expected = check_floats(rows * width), *table = check_floats(2 * half);
    turn(expected, x, table, rows, width, first, half, interleaved);
    rotary_f32(y, x, table, rows, width, first, half, interleaved);
    check_close(y, expected, rows * width, 3e-7, "rotary");
    rotary_f32(x, x, table, rows, width, first, half, interleaved);
    check_close(x, expected, rows * width, 3e-7, "rotary in place");
    check_free(x), check_free(y), check_free(expected), check_free(table);
}

static void table(void) {
    size_t half = check_size(1, 40);
    float *freqs = check_floats(half), *row = check_floats(2 * half), *expected = check_floats(2 * half);
    float position = (float)check_size(0, 5000), scale = check_uniform(0.5f, 2);
    for (size_t j = 0; j < half; j++) {
        float angle = position * freqs[j];   /* rounded: the angle is part of the definition */
        expected[j] = (float)(cos(angle) * scale);
        expected[half + j] = (float)(sin(angle) * scale);
    }
    rotary_table_f32(row, freqs, half, position, scale);
    check_close(row, expected, 2 * half, 3e-7, "table");
    check_free(freqs), check_free(row), check_free(expected);
}

/* x [2, 3, t, 11] with tokens along `axis`, columns 2 to 10 turned; the expected angles in double. */
static void graph(int axis, int t, int interleaved, int longest, lam_pool *pool) {
    enum { HALF = 4, FIRST = 2, WIDTH = 11 };
    int dims[] = { 2, 3, t, WIDTH }, tokens = dims[axis < 0 ? axis + 4 : axis], n = 2 * 3 * t * WIDTH;
    static const float freqs[HALF] = { 1, 0.31f, 0.07f, 0.002f };
    lam_graph *g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 4, (int[]){ LAM_ANY, LAM_ANY, LAM_ANY, WIDTH });
    lam_value turned = lam_rotary_table(g, x, axis, lam_weight(g, "freqs", 1, (int[]){ HALF }), 1.5f, 3, longest);
    /* A computed tensor, so that the rotation is in place. */
    lam_output(g, lam_rotary(g, lam_arithmetic(g, x, lam_weight(g, "two", 0, NULL), LAM_MUL), turned, axis, FIRST, interleaved));
    CHECK(lam_compile(g) == LAM_OK && lam_load(g, 0, LAM_F32, freqs, 0, HALF) == LAM_OK && lam_load(g, 1, LAM_F32, &(float){ 2 }, 0, 1) == LAM_OK, "%s",
          lam_graph_error(g));
    lam_session *s = lam_session_new(g, pool);
    CHECK(lam_session_resize(s, 0, 4, dims) == LAM_OK && lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
    float *in = lam_session_input(s, 0), *given = check_floats((size_t)n), *expected = check_floats((size_t)n);
    for (int i = 0; i < n; i++) in[i] = given[i] / 2;
    double ratio = longest && tokens > longest ? 3.0 * tokens / longest - 2 : 1;
    for (int i = 0; i < n / WIDTH; i++) {
        int at[] = { i / (3 * t), i / t % 3, i % t }, token = at[axis < 0 ? axis + 4 : axis];
        float row[2 * HALF];
        for (int j = 0; j < HALF; j++) {
            double angle = token * freqs[j] * pow(ratio, -j / (HALF - 1.0));
            row[j] = (float)(1.5 * cos(angle));
            row[HALF + j] = (float)(1.5 * sin(angle));
        }
        turn(expected + i * WIDTH, given + i * WIDTH, row, 1, WIDTH, FIRST, HALF, interleaved);
    }
    lam_session_run(s);
    check_close(lam_session_output(s, 0), expected, (size_t)n, 4e-7 * (1 + tokens), "rotary in a graph");
    check_free(given), check_free(expected);
    lam_session_free(s);
    lam_graph_free(g);
}

/* Tokens one after another get the positions, and with dynamic scaling the length, that they have in the whole. */
static void remembers(void) {
    enum { HALF = 6, TOKENS = 9, WIDTH = 2 * HALF };
    static const float freqs[HALF] = { 1, 0.3f, 0.1f, 0.02f, 0.5f, 0.7f };
    lam_graph *g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 3, (int[]){ 1, LAM_ANY, WIDTH }), f = lam_weight(g, "freqs", 1, (int[]){ HALF });
    lam_output(g, lam_cache(g, lam_rotary(g, x, lam_rotary_table(g, x, 1, f, 1, 0, 0), 1, 0, 1), 1));   /* as large as its table */
    lam_output(g, lam_rotary_table(g, x, 1, f, 1, 2, 4));
    CHECK(lam_compile(g) == LAM_OK && lam_load(g, 0, LAM_F32, freqs, 0, HALF) == LAM_OK, "%s", lam_graph_error(g));
    float *given = check_floats(TOKENS * WIDTH), expected[TOKENS * WIDTH], row[WIDTH];
    lam_session *s = lam_session_new(g, NULL);
    CHECK(lam_session_context(s, TOKENS, LAM_PRECISION_F32) == LAM_OK, "%s", lam_session_error(s));
    static const int steps[] = { 4, 1, 2, 1, 1 };
    for (int i = 0, at = 0; i < 5; at += steps[i++]) {
        CHECK(lam_session_resize(s, 0, 3, (int[]){ 1, steps[i], WIDTH }) == LAM_OK && lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
        memcpy(lam_session_input(s, 0), given + at * WIDTH, (size_t)(steps[i] * WIDTH) * sizeof(float));
        lam_session_run(s);
        int length = at + steps[i];
        double ratio = length > 4 ? 2.0 * length / 4 - 1 : 1;
        for (int t = at; t < length; t++) {
            for (int j = 0; j < HALF; j++) {
                row[j] = cosf((float)t * freqs[j]);
                row[HALF + j] = sinf((float)t * freqs[j]);
                double angle = t * freqs[j] * pow(ratio, -j / (HALF - 1.0)), got = lam_session_output(s, 1)[(t - at) * WIDTH + j];
                CHECK(fabs(got - cos(angle)) < 1e-5, "token %d of %d, cosine %d: %g, expected %g", t, length, j, got, cos(angle));
            }
            turn(expected + t * WIDTH, given + t * WIDTH, row, 1, WIDTH, 0, HALF, 1);
        }
        check_close(lam_session_output(s, 0), expected, (size_t)(length * WIDTH), 1e-6, "token by token");
    }
    check_free(given);
    lam_session_free(s);
    lam_graph_free(g);
}

static void refused(lam_graph *g, const char *message) {
    CHECK(!strcmp(lam_graph_error(g), message), "\"%s\", expected \"%s\"", lam_graph_error(g), message);
    lam_graph_free(g);
}

static void errors(void) {
    for (int i = 0; i < 6; i++) {
        lam_graph *g = lam_graph_new();
        lam_value x = lam_input(g, LAM_F32, 3, (int[]){ 2, 5, 8 }), freqs = lam_weight(g, "f", 1, (int[]){ 3 });
        lam_value turned = lam_rotary_table(g, x, i == 0 ? 3 : -2, i == 1 ? x : freqs, 1, 0.5f, i == 2 ? 16 : 0);
        if (i == 3) lam_rotary(g, x, turned, -2, 3, 0);
        if (i == 4) lam_rotary(g, x, turned, 0, 0, 0);
        if (i == 5) lam_rotary(g, x, x, -1, 0, 0);
        refused(g, (const char *[]){ "rotary_table: axis 3 of an input [2, 5, 8]", "rotary_table: frequencies [2, 5, 8] should be [half of the rotated width]",
                                     "rotary_table: dynamic scaling needs a factor of at least 1 and a length, got 16 positions",
                                     "rotary: columns from 3 on, 2 times 3, of a width of 8", "rotary: a table of 5 tokens for 2 tokens of [2, 5, 8]",
                                     "rotary: tokens along axis -1 of [2, 5, 8], whose last axis is rotated" }[i]);
    }
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    for (size_t half = 0; half <= 20; half++)
        for (int interleaved = 0; interleaved < 2; interleaved++) kernel(half, check_size(0, 9), check_size(0, 9), check_size(0, 4), interleaved);
    for (int i = 0; i < 200; i++) table();
    lam_pool *pool = lam_pool_new(3);
    for (int i = 0; i < 24; i++) graph((int[]){ 2, -2, 0, 1 }[i % 4], 1 + 13 * i, i / 4 % 2, i % 3 ? 20 : 0, i % 2 ? pool : NULL);
    lam_pool_free(pool);
    remembers();
    errors();
    return check_end("rotary");
}
