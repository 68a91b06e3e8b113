/* Sessions whose inputs a run may write over (lam_session_donate), beside sessions that keep them. */
#include "check.h"
#include "net.h"
#include "pool.h"

enum { WIDTH = 6, WORDS = 11, FLOATS = 3, IDS = FLOATS, ROWS, INPUTS, MOST_VALUES = 24, MOST_OUTPUTS = 4 };

static size_t elements(const lam_session *s, int output) {
    size_t count = 1;
    for (int axis = 0; axis < lam_session_output_rank(s, output); axis++) count *= (size_t)lam_session_output_dim(s, output, axis);
    return count;
}

/* A copy of an output's numbers. */
static void *taken(lam_session *s, int output) {
    size_t bytes = elements(s, output) * sizeof(float);
    void *copy = malloc(bytes + 1);
    return memcpy(copy, lam_session_output(s, output), bytes);
}

/* ---- random graphs: inputs x, y, z [n, t, WIDTH], ids i32 [n, t] and rows i32 [n], numbered in this order ---- */

typedef struct drawn { lam_graph *g; lam_value inputs[INPUTS], values[MOST_VALUES]; int count, outputs; } drawn;

static lam_value any_value(const drawn *d) { return d->values[check_size(0, (size_t)d->count - 1)]; }

/* A layer of one value or two that keeps the shape [n, t, WIDTH]. */
static lam_value draw_layer(drawn *d) {
    lam_graph *g = d->g;
    lam_value a = any_value(d), b = any_value(d), w = lam_weight(g, "w", 2, (int[]){ WIDTH, WIDTH }), row = lam_weight(g, "row", 1, (int[]){ WIDTH });
    lam_value table = lam_weight(g, "table", 2, (int[]){ WORDS, WIDTH });
    switch (check_size(0, 12)) {
    case 0: return lam_softmax(g, a, -1);
    case 1: return lam_layer_norm(g, a, row, LAM_NONE, 1, 1e-5f);
    case 2: return lam_activate(g, a, check_random() & 1 ? LAM_RELU : LAM_SILU);
    case 3: return lam_arithmetic(g, a, b, check_random() & 1 ? LAM_ADD : LAM_SUB);
    case 4: return lam_arithmetic(g, a, lam_mean(g, b, 1, 1), LAM_MUL);
    case 5: return lam_reshape(g, a, 3, (int[]){ LAM_KEEP, -1, WIDTH });
    case 6: return lam_arithmetic(g, lam_linear(g, a, w, LAM_NONE, 0, WIDTH), check_random() & 1 ? a : b, LAM_ADD);
    case 7: return lam_matmul(g, lam_matmul(g, a, b, 1), check_random() & 1 ? a : any_value(d), 0);
    case 8: return lam_narrow(g, lam_cat(g, 2, (lam_value[]){ a, b }, 2), 2, WIDTH / 2, WIDTH);
    case 9: return lam_embedding(g, check_random() & 1 ? d->inputs[IDS] : lam_argmax(g, a, -1), table);
    case 10: return lam_rotary(g, a, lam_rotary_table(g, a, 1, lam_weight(g, "freqs", 1, (int[]){ 2 }), 1, 1, 0), 1, 1, 0);
    case 11: return lam_arithmetic(g, a, lam_reshape(g, lam_select(g, b, d->inputs[ROWS]), 3, (int[]){ LAM_KEEP, 1, WIDTH }), LAM_ADD);
    default: return lam_cache(g, a, 1);   /* in a session without a context: a itself */
    }
}

static lam_value draw_output(const drawn *d) {
    switch (check_size(0, 9)) {
    case 0: return d->inputs[check_size(0, INPUTS - 1)];
    case 1: return lam_reshape(d->g, d->inputs[IDS], 1, (int[]){ -1 });
    case 2: return lam_argmax(d->g, any_value(d), 2);
    case 3: return lam_select(d->g, any_value(d), d->inputs[ROWS]);
    default: return d->values[d->count - 1 - (int)check_size(0, (size_t)(d->count - 1) / 2)];
    }
}

static drawn draw_graph(void) {
    drawn d = { .g = lam_graph_new(), .count = FLOATS, .outputs = (int)check_size(1, MOST_OUTPUTS) };
    for (int i = 0; i < INPUTS; i++)
        d.inputs[i] = lam_input(d.g, i < FLOATS ? LAM_F32 : LAM_I32, i < FLOATS ? 3 : i == IDS ? 2 : 1, (int[]){ LAM_ANY, LAM_ANY, WIDTH });
    memcpy(d.values, d.inputs, FLOATS * sizeof *d.values);
    for (int layers = (int)check_size(1, MOST_VALUES - FLOATS); layers > 0; layers--) d.values[d.count++] = draw_layer(&d);
    for (int i = 0; i < d.outputs; i++) lam_output(d.g, draw_output(&d));
    CHECK(lam_compile(d.g) == LAM_OK && net_load(d.g, 3, 0) == LAM_OK, "%s", lam_graph_error(d.g));
    return d;
}

static size_t input_count(int i, int n, int t) { return (size_t)n * (size_t)(i == ROWS ? 1 : t) * (i < FLOATS ? WIDTH : 1); }

/* The number at i of an input, in the run of this seed; ids and rows are in bounds. */
static float float_at(int input, size_t i, int seed) {
    char name[3] = { (char)('a' + input), (char)('a' + seed % 26), 0 };
    return net_value(name, (int)i);
}
static int32_t whole_at(int input, size_t i, int seed, int t) { return (int32_t)((i * 7 + (size_t)seed * 5 + 3) % (size_t)(input == IDS ? WORDS : t)); }

static lam_status sized(lam_session *s, int n, int t) {
    for (int i = 0; i < INPUTS; i++) lam_session_resize(s, i, i < FLOATS ? 3 : i == IDS ? 2 : 1, (int[]){ n, t, WIDTH });
    return lam_session_prepare(s);
}

/* Writes the inputs, or only looks at them. Those that nothing depends on have no memory. Returns how many numbers were others. */
static size_t fill(lam_session *s, int n, int t, int seed, int write) {
    size_t others = 0;
    for (int input = 0; input < INPUTS; input++) {
        int32_t *data = lam_session_input(s, input), number;
        for (size_t i = 0; data && i < input_count(input, n, t); i++) {
            float f = float_at(input, i, seed);
            if (input < FLOATS) memcpy(&number, &f, sizeof f);
            else number = whole_at(input, i, seed, t);
            others += data[i] != number;
            if (write) data[i] = number;
        }
    }
    return others;
}

static struct { size_t kept, donated; int changed; } seen;   /* floats of arenas, and runs that wrote over an input */

/* The same numbers from both; the session that keeps its inputs gives them again without being told anew. */
static void compare(const drawn *d, lam_session *keeps, lam_session *donates, int first, int count, int n, int t, int seed) {
    fill(keeps, n, t, seed, 1);
    fill(donates, n, t, seed, 1);
    CHECK(fill(keeps, n, t, seed, 0) == 0 && fill(donates, n, t, seed, 0) == 0, "two inputs share memory");
    CHECK(lam_session_check(keeps) == LAM_OK && lam_session_check(donates) == LAM_OK, "%s%s", lam_session_error(keeps), lam_session_error(donates));
    lam_session_run(keeps);
    lam_session_run(keeps);
    lam_session_run(donates);
    CHECK(fill(keeps, n, t, seed, 0) == 0, "an input that is not donated was written over");
    seen.changed += fill(donates, n, t, seed, 0) != 0;
    for (int i = first; i < first + count; i++) {
        float *y = lam_session_output(donates, i);
        CHECK(elements(keeps, i) == elements(donates, i), "sizes of output %d", i);
        CHECK(!memcmp(y, lam_session_output(keeps, i), elements(keeps, i) * sizeof *y), "output %d of %d of a graph of %d values, [%d, %d]", i, d->outputs, d->count, n, t);
        for (int input = 0; input < INPUTS; input++)
            if (lam_session_input(keeps, input) && (void *)lam_session_output(keeps, i) == lam_session_input(keeps, input))
                CHECK((void *)y == lam_session_input(donates, input), "output %d is input %d, or a view of it", i, input);
    }
}

static void test_random_graphs(void) {
    lam_pool *pool = lam_pool_new(2);
    for (int number = 0; number < 400; number++) {
        drawn d = draw_graph();
        int first = (int)check_size(0, (size_t)d.outputs - 1), count = (int)check_size(1, (size_t)(d.outputs - first));
        lam_session *keeps = lam_session_new(d.g, number % 2 ? pool : NULL), *donates = lam_session_new(d.g, number % 2 ? pool : NULL);
        CHECK(lam_session_select(keeps, first, count) == LAM_OK && lam_session_select(donates, first, count) == LAM_OK, "select");
        lam_session_donate(donates, 1);
        for (int size = 0; size < 3; size++) {
            int n = (int)check_size(1, 3), t = (int)check_size(1, 9);
            CHECK(sized(keeps, n, t) == LAM_OK && sized(donates, n, t) == LAM_OK, "%s%s", lam_session_error(keeps), lam_session_error(donates));
            for (int run = 0; run < 2; run++) compare(&d, keeps, donates, first, count, n, t, number + size + run);
            lam_session_run(donates);   /* a caller's error: other numbers, but no other memory */
        }
        seen.kept += lam_session_bytes(keeps);
        seen.donated += lam_session_bytes(donates);
        lam_session_free(keeps);
        lam_session_free(donates);
        lam_graph_free(d.g);
    }
    lam_pool_free(pool);
    CHECK(seen.changed > 1000 && seen.donated < seen.kept, "%d runs wrote over an input, %zu bytes instead of %zu", seen.changed, seen.donated, seen.kept);
}

/* ---- what the plan must and may do ---- */

/* Layer norm of x [n, WIDTH] alone. */
static lam_graph *one_norm(void) {
    lam_graph *g = lam_graph_new();
    lam_output(g, lam_layer_norm(g, lam_input(g, LAM_F32, 2, (int[]){ LAM_ANY, WIDTH }), LAM_NONE, LAM_NONE, 1, 1e-5f));
    CHECK(lam_compile(g) == LAM_OK, "%s", lam_graph_error(g));
    return g;
}

/* One layer that may writes over its input, and is told otherwise, and again. */
static void test_setting(void) {
    lam_graph *g = one_norm();
    lam_session *s = lam_session_new(g, NULL);
    static const int donated[] = { 0, 1, 0, 1 };
    size_t bytes[4];
    for (int i = 0; i < 4; i++) {
        lam_session_donate(s, donated[i]);
        CHECK(!lam_session_input(s, 0) && lam_session_check(s) == LAM_ESTATE, "it comes before prepare");
        lam_session_resize(s, 0, 2, (int[]){ 16 << i, WIDTH });
        CHECK(lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
        CHECK((lam_session_input(s, 0) == (void *)lam_session_output(s, 0)) == donated[i], "in place, %d", i);
        bytes[i] = lam_session_bytes(s);
        for (int j = 0; j < (16 << i) * WIDTH; j++) ((float *)lam_session_input(s, 0))[j] = net_value("x", j);
        lam_session_run(s);
        double sum = 0, squares = 0;
        for (int j = 0; j < WIDTH; j++) {
            double y = (double)lam_session_output(s, 0)[j];
            sum += y;
            squares += y * y;
        }
        CHECK(fabs(sum) < 1e-4 && fabs(squares - WIDTH) < 0.01, "sum %g, squares %g", sum, squares);
    }
    CHECK(bytes[1] == bytes[0] && bytes[2] == 4 * bytes[0] && bytes[3] == bytes[2], "%zu, %zu, %zu, %zu bytes", bytes[0], bytes[1], bytes[2], bytes[3]);
    lam_session_free(s);
    lam_graph_free(g);
}

/* A bad id is refused and leaves the session as it was; ids are donated as well as floats. */
static void test_ids(void) {
    lam_graph *g = lam_graph_new();
    lam_value ids = lam_input(g, LAM_I32, 2, (int[]){ 1, LAM_ANY });
    lam_value x = lam_embedding(g, lam_reshape(g, ids, 1, (int[]){ -1 }), lam_weight(g, "table", 2, (int[]){ WORDS, WIDTH }));
    lam_output(g, lam_linear(g, lam_softmax(g, x, -1), lam_weight(g, "w", 2, (int[]){ WIDTH, WIDTH }), LAM_NONE, 0, WIDTH));
    CHECK(lam_compile(g) == LAM_OK && net_load(g, 3, 0) == LAM_OK, "%s", lam_graph_error(g));
    lam_session *s = lam_session_new(g, NULL);
    lam_session_donate(s, 1);
    lam_session_resize(s, 0, 2, (int[]){ 1, 4 });
    CHECK(lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
    static const int32_t good[] = { 3, 0, 10, 3 }, bad[] = { 3, 0, WORDS, 3 };
    void *expected = NULL;
    for (int i = 0; i < 3; i++) {
        memcpy(lam_session_input(s, 0), bad, sizeof bad);
        CHECK(lam_session_check(s) == LAM_EINPUT && strstr(lam_session_error(s), "id 11 (number 2 of [4])"), "%s", lam_session_error(s));
        memcpy(lam_session_input(s, 0), good, sizeof good);
        CHECK(lam_session_check(s) == LAM_OK, "%s", lam_session_error(s));
        lam_session_run(s);
        if (!i) expected = taken(s, 0);
        CHECK(!memcmp(expected, lam_session_output(s, 0), 4 * WIDTH * sizeof(float)), "run %d", i);
        CHECK(!memcmp(expected, (char *)expected + 3 * WIDTH * sizeof(float), WIDTH * sizeof(float)), "equal ids");
    }
    free(expected);
    lam_session_free(s);
    lam_graph_free(g);
}

/* What caches hold outlives a change of the setting, and runs that write over what was put into them. A cache's row [1, WIDTH] also goes through
 * a softmax, which is after the cache. */
static void test_caches(void) {
    lam_graph *g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 3, (int[]){ 1, LAM_ANY, WIDTH });
    lam_output(g, lam_mean(g, lam_cache(g, x, 1), 1, 0));
    lam_output(g, lam_softmax(g, x, -1));
    CHECK(lam_compile(g) == LAM_OK, "%s", lam_graph_error(g));
    lam_session *s = lam_session_new(g, NULL);
    CHECK(lam_session_context(s, 12, LAM_PRECISION_F32) == LAM_OK, "%s", lam_session_error(s));
    static const int steps[] = { 3, 1, 4, 1, 1, 2 };
    double sums[WIDTH] = { 0 };
    for (int i = 0, at = 0; i < 6; at += steps[i++]) {
        if (i != 2) lam_session_donate(s, i != 3);
        lam_session_resize(s, 0, 3, (int[]){ 1, steps[i], WIDTH });
        CHECK(lam_session_prepare(s) == LAM_OK && lam_session_position(s) == at, "%s", lam_session_error(s));
        for (int j = 0; j < steps[i] * WIDTH; j++) {
            ((float *)lam_session_input(s, 0))[j] = net_value("x", at * WIDTH + j);
            sums[j % WIDTH] += (double)net_value("x", at * WIDTH + j);
        }
        lam_session_run(s);
        CHECK((lam_session_input(s, 0) == (void *)lam_session_output(s, 1)) == (i != 3), "the softmax is in place, %d", i);
        for (int j = 0; j < WIDTH; j++)
            CHECK(fabs(sums[j] / (at + steps[i]) - (double)lam_session_output(s, 0)[j]) < 1e-6, "mean after %d, column %d", at + steps[i], j);
    }
    lam_session_free(s);
    lam_graph_free(g);
}

/* W x + x, in one layer, wide enough that a row is written in several steps. */
static void test_read_twice(void) {
    enum { WIDE = 150 };
    lam_graph *g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 2, (int[]){ LAM_ANY, WIDE }), w = lam_weight(g, "w", 2, (int[]){ WIDE, WIDE });
    lam_output(g, lam_arithmetic(g, lam_linear(g, x, w, LAM_NONE, 0, WIDE), lam_reshape(g, x, 2, (int[]){ -1, WIDE }), LAM_ADD));
    CHECK(lam_compile(g) == LAM_OK && net_load(g, 3, 0) == LAM_OK, "%s", lam_graph_error(g));
    lam_session *s = lam_session_new(g, NULL);
    lam_session_donate(s, 1);
    lam_session_resize(s, 0, 2, (int[]){ 9, WIDE });
    CHECK(lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
    for (int i = 0; i < 9 * WIDE; i++) ((float *)lam_session_input(s, 0))[i] = net_value("x", i);
    lam_session_run(s);
    for (int i = 0; i < 9 * WIDE; i++) {
        double expected = (double)net_value("x", i);
        for (int k = 0; k < WIDE; k++) expected += (double)net_value("x", i / WIDE * WIDE + k) * (double)net_value("w", i % WIDE * WIDE + k);
        CHECK(fabs(expected - (double)lam_session_output(s, 0)[i]) < 1e-4, "%d: %g instead of %g", i, (double)lam_session_output(s, 0)[i], expected);
    }
    lam_session_free(s);
    lam_graph_free(g);
}

/* z is read by the last layer only: nothing before may lie there, and the last may. */
static void test_read_late(void) {
    lam_graph *g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 2, (int[]){ LAM_ANY, WIDTH }), z = lam_input(g, LAM_F32, 2, (int[]){ LAM_ANY, WIDTH });
    lam_value unread = lam_input(g, LAM_F32, 1, (int[]){ LAM_ANY }), y = lam_softmax(g, x, -1);
    CHECK(unread >= 0, "an input");
    for (int i = 0; i < 3; i++) y = lam_permute(g, y, (int[]){ 1, 0 });
    y = lam_permute(g, lam_softmax(g, y, 0), (int[]){ 1, 0 });
    lam_output(g, lam_arithmetic(g, y, z, LAM_MUL));
    CHECK(lam_compile(g) == LAM_OK, "%s", lam_graph_error(g));
    size_t bytes[2];
    void *answers[2];
    for (int donated = 0; donated < 2; donated++) {
        lam_session *s = lam_session_new(g, NULL);
        lam_session_donate(s, donated);
        for (int i = 0; i < 2; i++) lam_session_resize(s, i, 2, (int[]){ 32, WIDTH });
        CHECK(lam_session_prepare(s) == LAM_OK && !lam_session_input(s, 2), "an input that nothing reads needs neither size nor memory: %s", lam_session_error(s));
        for (int input = 0; input < 2; input++)
            for (int i = 0; i < 32 * WIDTH; i++) ((float *)lam_session_input(s, input))[i] = float_at(input, (size_t)i, 0);
        lam_session_run(s);
        bytes[donated] = lam_session_bytes(s);
        answers[donated] = taken(s, 0);
        lam_session_free(s);
    }
    CHECK(!memcmp(answers[0], answers[1], 32 * WIDTH * sizeof(float)), "another answer");
    CHECK(bytes[1] < bytes[0], "%zu bytes instead of %zu", bytes[1], bytes[0]);
    free(answers[0]);
    free(answers[1]);
    lam_graph_free(g);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    test_random_graphs();
    test_setting();
    test_ids();
    test_caches();
    test_read_twice();
    test_read_late();
    return check_end("donated");
}
