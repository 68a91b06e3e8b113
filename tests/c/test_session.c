/* Sessions: several on one graph, parts of a graph, what is kept between runs, and whole numbers. */
#include <limits.h>
#include "check.h"
#include "memory.h"
#include "net.h"

enum { WORDS = 11, WIDTH = 6 };

/* What reads these caches takes f32, so that is what they are, whatever is asked for. */
static lam_precision any_precision(void) { return (lam_precision)check_size(LAM_PRECISION_F32, LAM_Q8); }

static float table_at(int word, int i) { return net_value("table", word * WIDTH + i); }

/* ids [1, t] -> the mean of the embeddings of all tokens so far [1, WIDTH], those of every second token [1, s, WIDTH], and of this run's
 * row where the id is largest [1, WIDTH]. Outputs 0, 1 and 2. */
static lam_graph *rememberer(void) {
    lam_graph *g = lam_graph_new();
    lam_value ids = lam_input(g, LAM_I32, 2, (int[]){ LAM_ANY, LAM_ANY });
    lam_value x = lam_embedding(g, ids, lam_weight(g, "table", 2, (int[]){ WORDS, WIDTH }));
    lam_value all = lam_cache(g, x, 1);
    lam_output(g, lam_mean(g, all, 1, 0));
    lam_output(g, lam_arithmetic(g, lam_reshape(g, all, 2, (int[]){ -1, WIDTH }), lam_weight(g, "one", 1, (int[]){ 1 }), LAM_MUL));
    lam_output(g, lam_select(g, x, lam_argmax(g, ids, 1)));
    CHECK(lam_compile(g) == LAM_OK && net_load(g, 3, 0) == LAM_OK, "%s", lam_graph_error(g));
    return g;
}

static lam_status feed(lam_session *s, int count, const int *ids) {
    lam_session_resize(s, 0, 2, (int[]){ 1, count });
    lam_status status = lam_session_prepare(s);
    if (status != LAM_OK) return status;
    memcpy(lam_session_input(s, 0), ids, (size_t)count * sizeof *ids);
    status = lam_session_check(s);
    if (status == LAM_OK) lam_session_run(s);
    return status;
}

/* The outputs after the tokens [0, end), of which the last run saw [start, end). */
static void check_outputs(lam_session *s, const int *ids, int start, int end, float one) {
    int best = start;
    for (int t = start; t < end; t++) best = ids[t] > ids[best] ? t : best;
    for (int i = 0; i < WIDTH; i++) {
        double sum = 0;
        for (int t = 0; t < end; t++) {
            sum += (double)table_at(ids[t], i);
            float got = lam_session_output(s, 1)[t * WIDTH + i], expected = table_at(ids[t], i) * one;
            CHECK(got == expected, "token %d of %d, column %d: %g instead of %g", t, end, i, (double)got, (double)expected);
        }
        CHECK(fabs(sum / end - (double)lam_session_output(s, 0)[i]) < 1e-6, "mean after %d", end);
        CHECK(lam_session_output(s, 2)[i] == table_at(ids[best], i), "row of the largest id among %d to %d", start, end);
    }
}

static void test_memory(void) {
    lam_graph *g = rememberer();
    float one = net_value("one", 0);
    lam_session *a = lam_session_new(g, NULL), *b = lam_session_new(g, NULL);
    CHECK(lam_session_context(a, 16, any_precision()) == LAM_OK && lam_session_context(b, 40, any_precision()) == LAM_OK, "%s", lam_session_error(a));
    int ids[41];
    for (int i = 0; i < 41; i++) ids[i] = (int)check_size(0, WORDS - 1);
    static const int steps[] = { 3, 1, 1, 4, 1, 6 };
    for (int i = 0, at = 0; i < 6; at += steps[i++]) {
        CHECK(feed(a, steps[i], ids + at) == LAM_OK, "%s", lam_session_error(a));
        CHECK(lam_session_position(a) == at + steps[i], "position %d", lam_session_position(a));
        check_outputs(a, ids, at, at + steps[i], one);
        CHECK(feed(b, 2, ids + 2 * i) == LAM_OK, "%s", lam_session_error(b));      /* in turns: they must not meet */
        check_outputs(b, ids, 2 * i, 2 * i + 2, one);
    }
    CHECK(feed(a, 1, ids) == LAM_EVALUE && strstr(lam_session_error(a), "16 tokens is full: 16 of them are taken and 1 more"), "%s",
          lam_session_error(a));
    CHECK(lam_session_seek(a, 17) == LAM_EVALUE && lam_session_seek(a, -1) == LAM_EVALUE, "seek outside");
    CHECK(lam_session_seek(a, 5) == LAM_OK && feed(a, 7, ids + 5) == LAM_OK, "%s", lam_session_error(a));
    check_outputs(a, ids, 5, 12, one);
    CHECK(lam_session_seek(a, 13) == LAM_EVALUE, "what came after a seek is forgotten");
    CHECK(lam_session_state_bytes(a, LAM_PRECISION_F32) == 16 * WIDTH * sizeof(float), "%zu bytes", lam_session_state_bytes(a, LAM_PRECISION_F32));
    lam_session_free(a);
    lam_session *plain = lam_session_new(g, NULL);
    for (int n = 1; n < 41; n += 13) {
        CHECK(feed(plain, n, ids) == LAM_OK && lam_session_position(plain) == 0, "%s", lam_session_error(plain));
        check_outputs(plain, ids, 0, n, one);
    }
    lam_session_free(plain);
    lam_session_free(b);
    lam_graph_free(g);
}

static void test_refusals(void) {
    lam_graph *g = rememberer();
    lam_session *s = lam_session_new(g, NULL);
    CHECK(feed(s, 3, (int[]){ 1, WORDS, 2 }) == LAM_EINPUT && strstr(lam_session_error(s), "id 11 (number 1 of [1, 3]) is outside the table of 11 rows"),
          "%s", lam_session_error(s));
    CHECK(feed(s, 1, (int[]){ -1 }) == LAM_EINPUT, "a negative id");
    CHECK(lam_session_select(s, 2, 2) == LAM_EVALUE && lam_session_select(s, -1, 1) == LAM_EVALUE, "outputs there are not");
    CHECK(lam_session_context(s, -1, LAM_PRECISION_F32) == LAM_EVALUE, "a negative context");
    CHECK(lam_session_context(s, 8, LAM_Q4) == LAM_EVALUE && strstr(lam_session_error(s), "precision 3"), "%s", lam_session_error(s));
    lam_session_context(s, 8, any_precision());
    lam_session_resize(s, 0, 2, (int[]){ 2, 3 });
    CHECK(lam_session_prepare(s) == LAM_EVALUE && strstr(lam_session_error(s), "expected batch 1, got [2, 3, 6]"), "%s", lam_session_error(s));
    lam_session_free(s);
    lam_graph_free(g);

    g = lam_graph_new();
    lam_value ids = lam_input(g, LAM_I32, 1, (int[]){ 3 });
    CHECK(lam_activate(g, ids, LAM_RELU) == LAM_BAD && strstr(lam_graph_error(g), "argument 0 holds whole numbers (i32), expected f32"), "%s",
          lam_graph_error(g));
    lam_graph_free(g);
    g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 2, (int[]){ 3, 4 });
    CHECK(lam_embedding(g, x, x) == LAM_BAD && strstr(lam_graph_error(g), "argument 0 holds f32, expected whole numbers"), "%s", lam_graph_error(g));
    lam_graph_free(g);
    g = lam_graph_new();
    lam_output(g, lam_activate(g, lam_input(g, LAM_F32, 1, (int[]){ 3 }), LAM_RELU));
    lam_compile(g);
    s = lam_session_new(g, NULL);
    CHECK(lam_session_context(s, 8, LAM_PRECISION_F32) == LAM_EVALUE, "nothing to keep");
    lam_session_free(s);
    lam_graph_free(g);
}

/* Two networks on one graph that share a layer: each runs without the other's input. */
static void test_parts(void) {
    lam_graph *g = lam_graph_new();
    lam_value w = lam_weight(g, "w", 2, (int[]){ 5, 4 }), m = lam_weight(g, "m", 2, (int[]){ 4, 5 }), h = lam_weight(g, "h", 3, (int[]){ 3, 4, 2 });
    lam_value x = lam_input(g, LAM_F32, 2, (int[]){ LAM_ANY, 4 }), y = lam_input(g, LAM_F32, 3, (int[]){ 3, LAM_ANY, 4 });
    lam_value first = lam_linear(g, x, w, LAM_NONE, 0, 5);
    lam_output(g, lam_arithmetic(g, lam_activate(g, lam_arithmetic(g, lam_matmul(g, x, m, 0), first, LAM_ADD), LAM_RELU), first, LAM_SUB));
    lam_output(g, lam_matmul(g, y, h, 0));
    lam_output(g, lam_matmul(g, y, w, 1));
    CHECK(lam_compile(g) == LAM_OK && net_load(g, 1, 1) == LAM_OK, "%s", lam_graph_error(g));
    lam_session *a = lam_session_new(g, NULL), *b = lam_session_new(g, NULL);
    CHECK(lam_session_select(a, 0, 1) == LAM_OK && lam_session_select(b, 1, 2) == LAM_OK, "select");
    CHECK(lam_layer_count(a) == 3 && lam_layer_count(b) == 2, "%d and %d layers", lam_layer_count(a), lam_layer_count(b));
    lam_session_resize(a, 0, 2, (int[]){ 7, 4 });
    lam_session_resize(b, 1, 3, (int[]){ 3, 2, 4 });
    CHECK(lam_session_prepare(a) == LAM_OK && lam_session_prepare(b) == LAM_OK, "%s%s", lam_session_error(a), lam_session_error(b));
    float *in = lam_session_input(a, 0), *in_b = lam_session_input(b, 1);
    for (int i = 0; i < 28; i++) in[i] = net_value("x", i);
    for (int i = 0; i < 24; i++) in_b[i] = net_value("y", i);
    lam_session_run(a);
    lam_session_run(b);
    for (int r = 0; r < 7; r++)
        for (int c = 0; c < 5; c++) {
            double linear = 0, product = 0;
            for (int k = 0; k < 4; k++) {
                linear += (double)net_value("x", r * 4 + k) * (double)net_value("w", c * 4 + k);
                product += (double)net_value("x", r * 4 + k) * (double)net_value("m", k * 5 + c);
            }
            double expected = fmax(linear + product, 0) - linear;
            CHECK(fabs(expected - (double)lam_session_output(a, 0)[r * 5 + c]) < 1e-5, "%d, %d", r, c);
        }
    for (int i = 0; i < 12; i++) {
        double expected = 0;
        for (int k = 0; k < 4; k++) expected += (double)net_value("y", i / 2 * 4 + k) * (double)net_value("h", i / 4 * 8 + k * 2 + i % 2);
        CHECK(fabs(expected - (double)lam_session_output(b, 1)[i]) < 1e-5, "per matrix, %d", i);
    }
    for (int i = 0; i < 30; i++) {
        double expected = 0;
        for (int k = 0; k < 4; k++) expected += (double)net_value("y", i / 5 * 4 + k) * (double)net_value("w", i % 5 * 4 + k);
        CHECK(fabs(expected - (double)lam_session_output(b, 2)[i]) < 1e-5, "by a weight, %d", i);
    }
    lam_session_free(a);
    lam_session_free(b);
    lam_graph_free(g);
}

/* x [1, t, WIDTH] kept row by row, and z [1, s, WIDTH] of which a row stands for four tokens. */
static lam_graph *two_rates(int stride) {
    lam_graph *g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 3, (int[]){ LAM_ANY, LAM_ANY, WIDTH }), z = lam_input(g, LAM_F32, 3, (int[]){ LAM_ANY, LAM_ANY, WIDTH });
    lam_output(g, lam_mean(g, lam_cache(g, x, 1), 1, 0));
    lam_output(g, lam_cache(g, z, stride));
    CHECK(lam_compile(g) == LAM_OK, "%s", lam_graph_error(g));
    return g;
}

static lam_status sized(lam_session *s, int rows, int slow) {
    lam_session_resize(s, 0, 3, (int[]){ 1, rows, WIDTH });
    lam_session_resize(s, 1, 3, (int[]){ 1, slow, WIDTH });
    return lam_session_prepare(s);
}

static lam_status step_both(lam_session *s, int rows, int slow) {
    lam_status status = sized(s, rows, slow);
    if (status != LAM_OK) return status;
    for (int i = 0; i < rows * WIDTH; i++) ((float *)lam_session_input(s, 0))[i] = 1;
    for (int i = 0; i < slow * WIDTH; i++) ((float *)lam_session_input(s, 1))[i] = (float)(lam_session_position(s) + i);
    lam_session_run(s);
    return LAM_OK;
}

/* A cache is never given more rows than its tokens make, nor fewer. */
static void test_rows_of_caches(void) {
    lam_graph *g = two_rates(4);
    lam_session *s = lam_session_new(g, NULL);
    CHECK(lam_session_context(s, 16, any_precision()) == LAM_OK, "%s", lam_session_error(s));
    CHECK(step_both(s, 10, 2) == LAM_OK && lam_session_output_dim(s, 1, 1) == 2, "%s", lam_session_error(s));
    static const int wrong[][2] = { { 1, 1 }, { 2, 0 }, { 2, 2 }, { 1, 9 }, { 0, 1 }, { 7, 1 }, { INT_MAX, 0 }, { 1, INT_MAX } };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(step_both(s, wrong[i][0], wrong[i][1]) == LAM_EVALUE && strstr(lam_session_error(s), "cache"), "%d and %d rows: %s", wrong[i][0], wrong[i][1],
              lam_session_error(s));
    CHECK(step_both(s, 1, 0) == LAM_OK && step_both(s, 5, 2) == LAM_OK && lam_session_position(s) == 16, "%s", lam_session_error(s));
    CHECK(lam_session_output_dim(s, 1, 1) == 4 && lam_session_output(s, 1)[2 * WIDTH + 1] == 12, "rows behind each other");
    CHECK(lam_session_select(s, 1, 1) == LAM_OK && lam_session_context(s, 16, LAM_PRECISION_F32) == LAM_EVALUE, "nothing counts the tokens");
    lam_session_free(s);
    lam_graph_free(g);

    g = two_rates(1);   /* two that count */
    s = lam_session_new(g, NULL);
    lam_session_context(s, 16, any_precision());
    CHECK(sized(s, 3, 2) == LAM_EVALUE && sized(s, 2, 3) == LAM_EVALUE && sized(s, 2, 2) == LAM_OK, "%s", lam_session_error(s));
    lam_session_free(s);
    lam_graph_free(g);

    g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 3, (int[]){ 1, LAM_ANY, LAM_ANY });
    CHECK(lam_cache(g, x, 1) == LAM_BAD && strstr(lam_graph_error(g), "width"), "rows that change their width: %s", lam_graph_error(g));
    lam_graph_free(g);
}

/* What was kept is gone when the context changes, and a plan with it. */
static void test_other_context(void) {
    lam_graph *g = rememberer();
    float one = net_value("one", 0);
    int ids[40];
    for (int i = 0; i < 40; i++) ids[i] = (int)check_size(0, WORDS - 1);
    lam_session *s = lam_session_new(g, NULL);
    static const int contexts[] = { 4, 0, 40, 0, 2, 12 };
    for (int i = 0; i < 6; i++) {
        int context = contexts[i], count = context ? context - 1 : 40;
        CHECK(lam_session_context(s, context, any_precision()) == LAM_OK, "%s", lam_session_error(s));
        CHECK(feed(s, count, ids) == LAM_OK, "%s", lam_session_error(s));
        check_outputs(s, ids, 0, count, one);
        CHECK(lam_session_state_bytes(s, LAM_PRECISION_F32) == (size_t)context * WIDTH * sizeof(float), "%zu bytes for %d", lam_session_state_bytes(s, LAM_PRECISION_F32), context);
        if (context) CHECK(feed(s, 1, ids + count) == LAM_OK, "%s", lam_session_error(s));
        if (context) check_outputs(s, ids, count, count + 1, one);
    }
    lam_session_free(s);
    lam_graph_free(g);
}

/* A run that is left in the middle: some caches have its rows, others do not. */
static void test_left_in_the_middle(void) {
    lam_graph *g = rememberer();
    float one = net_value("one", 0);
    int ids[12], others[12];
    for (int i = 0; i < 12; i++) {
        ids[i] = i % WORDS;
        others[i] = (i + 5) % WORDS;
    }
    for (int layers = 1; layers < 4; layers++) {
        lam_session *s = lam_session_new(g, NULL);
        lam_session_context(s, 12, any_precision());
        CHECK(feed(s, 9, ids) == LAM_OK && lam_session_seek(s, 4) == LAM_OK, "%s", lam_session_error(s));
        lam_session_resize(s, 0, 2, (int[]){ 1, 3 });
        CHECK(lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
        memcpy(lam_session_input(s, 0), others, 3 * sizeof *others);
        for (int i = 0; i < layers; i++) CHECK(!lam_session_step(s, 0), "all layers in one step");
        CHECK(lam_session_position(s) == 4 && lam_session_seek(s, 9) == LAM_EVALUE, "tokens that were overwritten after %d layers", layers);
        CHECK(feed(s, 5, ids + 4) == LAM_OK, "%s", lam_session_error(s));
        check_outputs(s, ids, 4, 9, one);
        lam_session_free(s);
    }
    lam_graph_free(g);
}

/* A decoder that has a bit of everything that keeps, chooses or counts. Outputs: logits [1, t, 7], the largest of them i32 [1, t], and
 * the row of x where the largest id is [1, WIDTH]. */
static lam_graph *decoder(void) {
    lam_graph *g = lam_graph_new();
    if (!g) return NULL;
    lam_scope(g, "decoder");
    lam_value ids = lam_input(g, LAM_I32, 2, (int[]){ LAM_ANY, LAM_ANY }), parts[4], experts[6];
    lam_value x = lam_embedding(g, ids, lam_weight(g, "table", 2, (int[]){ WORDS, WIDTH }));
    lam_value table = lam_rotary_table(g, x, 1, lam_weight(g, "freqs", 1, (int[]){ 1 }), 1, 1, 0);
    lam_value turned = lam_rotary(g, x, table, 1, WIDTH - 2, 1), latents = lam_cache(g, turned, 1);
    parts[0] = lam_mla(g, lam_cat(g, 2, (lam_value[]){ turned, x }, 2), latents, lam_weight(g, "kv_b", 2, (int[]){ 2 * (4 + 3), 4 }), 2, 4, 2, 3, 0.4f);
    lam_value seen = lam_cache(g, x, 1);
    for (int i = 1; i < 3; i++) {
        lam_value rows = lam_mean(g, lam_windows(g, seen, i, 2 * i, 2), 3, 0);                              /* [b, heads, w, WIDTH / heads] */
        rows = lam_reshape(g, lam_permute(g, rows, (int[]){ 0, 2, 1, 3 }), 3, (int[]){ LAM_KEEP, -1, WIDTH });
        parts[i] = lam_mean(g, lam_cache(g, rows, 2), 1, 1);
    }
    lam_value route = lam_route(g, lam_linear(g, x, lam_weight(g, "gate", 2, (int[]){ 2, WIDTH }), LAM_NONE, 0, 2), LAM_NONE, 1, LAM_SCORE_SOFTMAX,
                                LAM_GREEDY, 0, 0, 0, 0, 1);
    for (int i = 0; i < 6; i++) {
        char name[] = "expert0";
        name[6] = (char)('0' + i);
        experts[i] = lam_weight(g, name, 2, (int[]){ i % 3 == 2 ? WIDTH : 5, i % 3 == 2 ? 5 : WIDTH });
    }
    parts[3] = lam_experts(g, x, route, LAM_SILU, 2, experts);
    lam_value y = lam_arithmetic(g, lam_arithmetic(g, parts[0], parts[3], LAM_ADD), parts[2], LAM_ADD);
    y = lam_arithmetic(g, lam_normalize(g, y, 1e-6f), parts[1], LAM_ADD);
    lam_value logits = lam_matmul(g, y, lam_weight(g, "head", 2, (int[]){ WIDTH, 7 }), 0);
    lam_output(g, logits);
    lam_output(g, lam_argmax(g, logits, -1));
    lam_output(g, lam_select(g, x, lam_argmax(g, ids, 1)));
    return g;
}

enum { PROMPT = 5, SINGLE = 3, SEEN = PROMPT + SINGLE, LOGITS = 7 };

/* A prompt and single tokens in a session, the logits of each call behind each other in y [SEEN, LOGITS]; every call is made again when it
 * fails, so what a failure leaves behind is used. The first output that was selected is always output 0. */
static lam_status decode(lam_session *s, const int *ids, float *y) {
    lam_status status = LAM_OK, once;
    for (int at = 0, count = PROMPT; at < SEEN; at += count, count = 1) {
        if ((once = feed(s, count, ids + at)) != LAM_OK) {
            CHECK(once == LAM_ENOMEM && *lam_session_error(s), "%s", lam_session_error(s));
            CHECK(lam_session_position(s) == at && feed(s, count, ids + at) == LAM_OK, "after a failure: %s", lam_session_error(s));
            status = once;
        }
        memcpy(y + at * LOGITS, lam_session_output(s, 0), (size_t)(count * LOGITS) * sizeof *y);
    }
    return status;
}

/* Fails allocation after allocation until everything passes; a session that could be made computes the same in spite of it. */
static void test_every_allocation(void) {
    static const int ids[SEEN] = { 3, 9, 0, 4, 4, 10, 1, 2 };
    static const int selections[][2] = { { 0, 3 }, { 0, 1 } };
    size_t before = lam_memory_used();
    float expected[SEEN * LOGITS], y[SEEN * LOGITS];
    lam_graph *g = decoder();
    CHECK(g && lam_compile(g) == LAM_OK && net_load(g, 2, 0) == LAM_OK, "%s", lam_graph_error(g));
    lam_session *s = lam_session_new(g, NULL);
    CHECK(lam_session_context(s, 9, LAM_PRECISION_F32) == LAM_OK && decode(s, ids, expected) == LAM_OK, "%s", lam_session_error(s));
    lam_session_free(s);
    lam_graph_free(g);
    int passed = 0, failures = 0, in_session = 0;
    for (int n = 0; !passed && n < 10000; n++) {
        lam_memory_fail_after(n);
        g = decoder();
        int loaded = g && lam_compile(g) == LAM_OK && net_load(g, 2, 0) == LAM_OK, whole = loaded;
        CHECK(!g || loaded || lam_graph_status(g) == LAM_ENOMEM, "allocation %d: %s", n, lam_graph_error(g));
        s = loaded ? lam_session_new(g, NULL) : NULL;
        whole = whole && s;
        for (int i = 0; s && i < 2; i++) {
            CHECK(lam_session_select(s, selections[i][0], selections[i][1]) == LAM_OK && lam_session_context(s, 9 + 4 * i, LAM_PRECISION_F32) == LAM_OK, "%s", lam_session_error(s));
            if (decode(s, ids, y) != LAM_OK) {
                whole = 0;
                in_session++;
            }
            CHECK(!memcmp(y, expected, sizeof y), "other logits in part %d after allocation %d failed", i, n);
        }
        lam_memory_fail_after(-1);
        passed = whole;
        failures += !whole;
        lam_session_free(s);
        lam_graph_free(g);
        CHECK(lam_memory_used() == before, "failing allocation %d leaks %d bytes", n, (int)(lam_memory_used() - before));
    }
    CHECK(passed && failures > 100 && in_session > 8, "%d failed, %d of them in a session, passed %d", failures, in_session, passed);
}

/* No token at all: nothing runs, and the session goes on. */
static void test_no_tokens(void) {
    lam_graph *g = decoder();
    CHECK(g && lam_compile(g) == LAM_OK && net_load(g, 2, 0) == LAM_OK, "%s", lam_graph_error(g));
    lam_session *s = lam_session_new(g, NULL);
    CHECK(lam_session_select(s, 0, 1) == LAM_OK && lam_session_context(s, 9, LAM_PRECISION_F32) == LAM_OK, "%s", lam_session_error(s));
    static const int ids[] = { 3, 9, 0, 4 };
    CHECK(feed(s, 4, ids) == LAM_OK && feed(s, 0, ids) == LAM_OK, "%s", lam_session_error(s));
    CHECK(lam_session_position(s) == 4 && lam_session_output_dim(s, 0, 1) == 0, "position %d", lam_session_position(s));
    for (int i = 0; i < lam_layer_count(s); i++)
        CHECK(isfinite(lam_layer_flops(s, i)) && isfinite(lam_layer_bytes(s, i)), "%s: %g operations", lam_layer_name(s, i), lam_layer_flops(s, i));
    CHECK(feed(s, 1, ids) == LAM_OK && lam_session_position(s) == 5, "%s", lam_session_error(s));
    lam_session_free(s);
    lam_graph_free(g);

    g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 3, (int[]){ 1, 4, 6 });
    CHECK(lam_rotary(g, x, lam_weight(g, "empty", 3, (int[]){ 4, 2, 0 }), 1, 7, 0) == LAM_BAD, "columns behind the last");
    lam_graph_free(g);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    test_memory();
    test_refusals();
    test_parts();
    test_rows_of_caches();
    test_other_context();
    test_left_in_the_middle();
    test_every_allocation();
    test_no_tokens();
    return check_end("session");
}
