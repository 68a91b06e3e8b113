/* Graph, fusion, loading, sessions and memory, on net.c's network and on small graphs of their own. */
#include <limits.h>
#include "check.h"
#include "dtype.h"
#include "memory.h"
#include "net.h"
#include "plan.h"
#include "pool.h"

static const int one[] = { 1, 1 }, none[] = { 0, 0, 0, 0 }, same[] = { 1, 1, 1, 1 };

static lam_graph *compiled_net(int step, int backwards) {
    lam_graph *g = net_record();
    CHECK(lam_compile(g) == LAM_OK, "compile: %s", lam_graph_error(g));
    CHECK(net_load(g, step, backwards) == LAM_OK, "load: %s", lam_graph_error(g));
    return g;
}

static double difference(const float *a, const float *b, int n) {
    double most = 0;
    for (int i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        if (!(d <= most)) most = d;
    }
    return most;
}

static void test_load_order(void) {
    int n = 0, m = 0;
    lam_graph *forwards = compiled_net(1000, 0), *backwards = compiled_net(1, 1), *odd = compiled_net(5, 0);
    float *a = net_run(forwards, NULL, 2, 17, 14, 1, &n), *b = net_run(backwards, NULL, 2, 17, 14, 1, &m);
    float *c = net_run(odd, NULL, 2, 17, 14, 1, &m);
    CHECK(n == 10 && m == 10, "output has %d and %d elements, expected 10", n, m);
    CHECK(difference(a, b, n) == 0 && difference(a, c, n) == 0, "the order in which rows arrive changes the result");
    double size = 0;
    for (int i = 0; i < n; i++) size += fabs((double)a[i]);
    CHECK(size > 0.1 && size < 1e4, "degenerate output, sum of sizes %g", size);
    free(a), free(b), free(c);
    lam_graph_free(forwards), lam_graph_free(backwards), lam_graph_free(odd);
}

static void test_threads(void) {
    lam_graph *g = compiled_net(7, 0);
    lam_pool *pool = lam_pool_new(3);
    for (int round = 0; round < 8; round++) {
        int n = 0, h = 11 + 3 * round, w = 26 - round;
        float *alone = net_run(g, NULL, 3, h, w, (unsigned)round, &n), *shared = net_run(g, pool, 3, h, w, (unsigned)round, &n);
        CHECK(difference(alone, shared, n) <= 1e-6, "three threads differ from one at %d x %d", h, w);
        free(alone), free(shared);
    }
    lam_pool_free(pool);
    lam_graph_free(g);
}

/* One session through growing and shrinking sizes gives what fresh sessions give. */
static void test_resize(void) {
    lam_graph *g = compiled_net(7, 0);
    lam_session *s = lam_session_new(g, NULL);
    const int sizes[][3] = { { 1, 9, 9 }, { 4, 31, 13 }, { 2, 8, 20 }, { 4, 31, 13 } };
    for (int k = 0; k < 4; k++) {
        int n = 0, batch = sizes[k][0], h = sizes[k][1], w = sizes[k][2];
        float *fresh = net_run(g, NULL, batch, h, w, 3, &n);
        CHECK(lam_session_resize(s, 0, 4, (int[]){ batch, 6, h, w }) == LAM_OK, "resize: %s", lam_session_error(s));
        CHECK(lam_session_prepare(s) == LAM_OK, "prepare: %s", lam_session_error(s));
        for (int again = 0; again < 2; again++) {   /* the input survives a run, so running twice is allowed */
            float *in = lam_session_input(s, 0);
            for (int i = 0; i < batch * 6 * h * w && !again; i++) in[i] = net_value("d", i);
            lam_session_run(s);
            CHECK(difference(fresh, lam_session_output(s, 0), n) == 0, "size %d, run %d differs from a fresh session", k, again);
        }
        free(fresh);
    }
    CHECK(lam_session_resize(s, 0, 4, (int[]){ 1, 5, 9, 9 }) == LAM_EVALUE, "5 channels were accepted");
    CHECK(!strcmp(lam_session_error(s), "input 0: expected [?, 6, ?, ?], got [1, 5, 9, 9]"), "%s", lam_session_error(s));
    lam_session_free(s);
    lam_graph_free(g);
}

static void test_steps(void) {
    lam_graph *g = compiled_net(7, 0);
    int n = 0, calls = 0;
    float *whole = net_run(g, NULL, 1, 12, 12, 3, &n);
    lam_session *s = lam_session_new(g, NULL);
    lam_session_resize(s, 0, 4, (int[]){ 1, 6, 12, 12 });
    CHECK(lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
    float *in = lam_session_input(s, 0);
    for (int i = 0; i < 6 * 144; i++) in[i] = net_value("d", i);
    do calls++; while (!lam_session_step(s, 0));
    CHECK(calls == lam_layer_count(s), "%d calls for %d layers", calls, lam_layer_count(s));
    CHECK(difference(whole, lam_session_output(s, 0), n) == 0, "step by step differs");
    free(whole);
    lam_session_free(s);
    lam_graph_free(g);
}

/* Layers behind x [2, 8, 9, 11] in v, the last of them an output of 2 numbers times those returned in *width; returns how many. */
typedef int record_chain(lam_graph *g, lam_value x, lam_value *v, int *width);

static int record_residual(lam_graph *g, lam_value x, lam_value *v, int *width) {
    v[0] = lam_conv2d(g, x, lam_weight(g, "w", 4, (int[]){ 8, 8, 3, 3 }), LAM_NONE, one, same, one, 1);
    v[1] = lam_batch_norm(g, v[0], lam_weight(g, "b.mean", 1, (int[]){ 8 }), lam_weight(g, "b.var", 1, (int[]){ 8 }),
                          lam_weight(g, "b.gain", 1, (int[]){ 8 }), LAM_NONE, 1e-3f);
    v[2] = lam_arithmetic(g, v[1], x, LAM_ADD);
    v[3] = lam_activate(g, v[2], LAM_RELU);
    v[4] = lam_linear(g, lam_flatten(g, v[3], 2, 3), lam_weight(g, "fc", 2, (int[]){ 5, 99 }), LAM_NONE, 0, 5);
    v[5] = lam_activate(g, v[4], LAM_GELU);
    *width = 8 * 5;
    return 6;
}

/* Squeeze and excitation, then a residual: one layer scales, adds and activates. */
static int record_scale(lam_graph *g, lam_value x, lam_value *v, int *width) {
    v[0] = lam_conv2d(g, x, lam_weight(g, "w", 4, (int[]){ 8, 8, 3, 3 }), LAM_NONE, one, same, one, 1);
    v[1] = lam_flatten(g, lam_adaptive_avg_pool2d(g, v[0], one), 1, -1);
    v[2] = lam_activate(g, lam_linear(g, v[1], lam_weight(g, "fc", 2, (int[]){ 8, 8 }), LAM_NONE, 0, 8), LAM_SIGMOID);
    v[3] = lam_arithmetic(g, v[0], lam_reshape(g, v[2], 4, (int[]){ -1, 8, 1, 1 }), LAM_MUL);
    v[4] = lam_arithmetic(g, v[3], x, LAM_ADD);
    v[5] = lam_activate(g, v[4], LAM_RELU);
    *width = 8 * 99;
    return 6;
}

/* The same layers with every value an output, so that nothing fuses or shares memory. */
static void test_fusion(record_chain *record, int fewer, const char *fused) {
    float *result[2] = { NULL, NULL };
    int layers[2], width = 0;
    for (int apart = 0; apart < 2; apart++) {
        lam_graph *g = lam_graph_new();
        lam_value x = lam_input(g, LAM_F32, 4, (int[]){ 2, 8, 9, 11 }), v[8];
        int count = record(g, x, v, &width), found = 0;
        lam_output(g, v[count - 1]);
        for (int i = 0; apart && i < count - 1; i++) lam_output(g, v[i]);
        /* Backwards the norm comes before the weight, so that rows are scaled as they come. */
        CHECK(lam_compile(g) == LAM_OK && net_load(g, 3, !apart) == LAM_OK, "%s", lam_graph_error(g));
        lam_session *s = lam_session_new(g, NULL);
        layers[apart] = lam_layer_count(s);
        for (int i = 0; i < layers[apart]; i++) found |= !strcmp(lam_layer_name(s, i), fused);
        CHECK(found == !apart, "%s is%s a layer", fused, found ? "" : " not");
        lam_session_resize(s, 0, 4, (int[]){ 2, 8, 9, 11 });
        CHECK(lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
        float *in = lam_session_input(s, 0);
        for (int i = 0; i < 2 * 8 * 99; i++) in[i] = net_value("x", i);
        lam_session_run(s);
        result[apart] = malloc((size_t)(2 * width) * sizeof(float));
        memcpy(result[apart], lam_session_output(s, 0), (size_t)(2 * width) * sizeof(float));
        lam_session_free(s);
        lam_graph_free(g);
    }
    CHECK(layers[0] + fewer <= layers[1], "%d layers fused, %d apart: nothing was fused", layers[0], layers[1]);
    CHECK(difference(result[0], result[1], 2 * width) < 1e-4, "fused differs by %g", difference(result[0], result[1], 2 * width));
    free(result[0]), free(result[1]);
}

/* Values that two layers read must not be fused away or overwritten. */
static void test_shared_values(void) {
    lam_graph *g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 2, (int[]){ LAM_ANY, 6 });
    lam_value y = lam_linear(g, x, lam_weight(g, "w", 2, (int[]){ 6, 6 }), LAM_NONE, 0, 6);
    lam_value r = lam_activate(g, y, LAM_RELU), t = lam_activate(g, y, LAM_TANH);
    lam_output(g, lam_arithmetic(g, lam_arithmetic(g, r, t, LAM_SUB), lam_arithmetic(g, y, y, LAM_MUL), LAM_ADD));
    lam_output(g, x);
    CHECK(lam_compile(g) == LAM_OK && net_load(g, 6, 0) == LAM_OK, "%s", lam_graph_error(g));
    lam_session *s = lam_session_new(g, NULL);
    lam_session_resize(s, 0, 2, (int[]){ 3, 6 });
    lam_session_prepare(s);
    float *in = lam_session_input(s, 0);
    for (int i = 0; i < 18; i++) in[i] = net_value("x", i);
    lam_session_run(s);
    for (int i = 0; i < 18; i++) {
        double sum = 0;
        for (int k = 0; k < 6; k++) sum += (double)net_value("x", i / 6 * 6 + k) * net_value("w", i % 6 * 6 + k);
        double expected = (sum > 0 ? sum : 0) - tanh(sum) + sum * sum, got = lam_session_output(s, 0)[i];
        CHECK(fabs(got - expected) < 1e-5, "element %d: %g, expected %g", i, got, expected);
        CHECK(lam_session_output(s, 1)[i] == net_value("x", i), "the input that is an output changed");
    }
    lam_session_free(s);
    lam_graph_free(g);
}

/* A product over nothing is zero, and no image is no work. */
static void test_empty(void) {
    lam_graph *g = lam_graph_new();
    lam_value a = lam_input(g, LAM_F32, 3, (int[]){ 2, 3, LAM_ANY }), b = lam_input(g, LAM_F32, 3, (int[]){ 2, LAM_ANY, 5 });
    lam_output(g, lam_matmul(g, a, b, 0));
    CHECK(lam_compile(g) == LAM_OK, "%s", lam_graph_error(g));
    lam_session *s = lam_session_new(g, NULL);
    lam_session_resize(s, 0, 3, (int[]){ 2, 3, 0 });
    lam_session_resize(s, 1, 3, (int[]){ 2, 0, 5 });
    CHECK(lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
    for (int i = 0; i < 30; i++) lam_session_output(s, 0)[i] = 7;
    lam_session_profile(s, 1);
    lam_session_run(s);
    for (int i = 0; i < 30; i++) CHECK(lam_session_output(s, 0)[i] == 0, "element %d is %g", i, (double)lam_session_output(s, 0)[i]);
    lam_session_free(s);
    lam_graph_free(g);
    g = compiled_net(9, 0);
    int n = -1;
    float *y = net_run(g, NULL, 0, 12, 12, 1, &n);
    CHECK(y && n == 0, "a batch of none has %d numbers", n);
    free(y);
    lam_graph_free(g);
    g = lam_graph_new();
    a = lam_input(g, LAM_F32, 3, (int[]){ LAM_ANY, 4, 1 });
    lam_output(g, lam_arithmetic(g, a, lam_weight(g, "b", 3, (int[]){ 2, 4, 0 }), LAM_ADD));
    CHECK(lam_compile(g) == LAM_OK, "%s", lam_graph_error(g));
    CHECK(lam_load(g, 0, LAM_F32, NULL, 0, 1) == LAM_OK && lam_load(g, 0, LAM_F16, NULL, 1, 1) == LAM_OK, "%s", lam_graph_error(g));
    CHECK(lam_loaded_rows(g, 0) == 2, "rows without elements did not arrive");
    lam_graph_free(g);
}

/* What the profile says of a layer whose work is easily counted. */
static void test_profile(void) {
    lam_graph *g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 2, (int[]){ LAM_ANY, 6 });
    lam_scope(g, "fc");
    lam_output(g, lam_activate(g, lam_linear(g, x, lam_weight(g, "w", 2, (int[]){ 4, 6 }), LAM_NONE, 0, 4), LAM_RELU));
    CHECK(lam_compile(g) == LAM_OK && net_load(g, 4, 0) == LAM_OK, "%s", lam_graph_error(g));
    lam_session *s = lam_session_new(g, NULL);
    lam_session_resize(s, 0, 2, (int[]){ 3, 6 });
    CHECK(lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
    lam_session_profile(s, 1);
    memset(lam_session_input(s, 0), 0, 18 * sizeof(float));
    lam_session_run(s);
    CHECK(lam_layer_count(s) == 1 && !strcmp(lam_layer_name(s, 0), "linear+relu") && !strcmp(lam_layer_path(s, 0), "fc"), "%s at %s",
          lam_layer_name(s, 0), lam_layer_path(s, 0));
    CHECK(lam_layer_rank(s, 0) == 2 && lam_layer_dim(s, 0, 0) == 3 && lam_layer_dim(s, 0, 1) == 4, "shape");
    CHECK(lam_layer_flops(s, 0) == 2 * 3 * 4 * 6 + 12, "%g operations", lam_layer_flops(s, 0));
    CHECK(lam_layer_bytes(s, 0) >= (18 + 12 + 24) * 4.0 && lam_layer_milliseconds(s, 0) >= 0, "%g bytes", lam_layer_bytes(s, 0));
    CHECK(lam_layer_weight(s, 0, 0) == 0 && lam_layer_weight(s, 0, 1) == -1, "weight %d, then %d", lam_layer_weight(s, 0, 0), lam_layer_weight(s, 0, 1));
    lam_session_free(s);
    lam_graph_free(g);
}

/* ---- errors ---- */

typedef lam_value define(lam_graph *g, lam_value x);

static lam_value w2(lam_graph *g, int a, int b) { return lam_weight(g, "w", 2, (int[]){ a, b }); }
static lam_value w4(lam_graph *g, int o, int i, int k) { return lam_weight(g, "w", 4, (int[]){ o, i, k, k }); }

static lam_value bad_channels(lam_graph *g, lam_value x) { return lam_conv2d(g, x, w4(g, 8, 5, 3), LAM_NONE, one, none, one, 1); }
static lam_value bad_groups(lam_graph *g, lam_value x) { return lam_conv2d(g, x, w4(g, 8, 2, 3), LAM_NONE, one, none, one, 3); }
static lam_value bad_kernel(lam_graph *g, lam_value x) { return lam_conv2d(g, x, w4(g, 8, 4, 7), LAM_NONE, one, none, one, 1); }
static lam_value bad_stride(lam_graph *g, lam_value x) { return lam_conv2d(g, x, w4(g, 8, 4, 3), LAM_NONE, (int[]){ 0, 1 }, none, one, 1); }
static lam_value bad_padding(lam_graph *g, lam_value x) { return lam_conv2d(g, x, w4(g, 8, 4, 3), LAM_NONE, one, (int[]){ 0, -1, 0, 0 }, one, 1); }
static lam_value bad_bias(lam_graph *g, lam_value x) {
    return lam_conv2d(g, x, w4(g, 8, 4, 3), lam_weight(g, "b", 1, (int[]){ 7 }), one, none, one, 1);
}
static lam_value bad_computed(lam_graph *g, lam_value x) { return lam_conv2d(g, x, x, LAM_NONE, one, none, one, 1); }
static lam_value bad_conv_rank(lam_graph *g, lam_value x) {
    return lam_conv2d(g, lam_flatten(g, x, 2, 3), w4(g, 8, 4, 3), LAM_NONE, one, none, one, 1);
}
static lam_value bad_linear(lam_graph *g, lam_value x) { return lam_linear(g, x, w2(g, 3, 4), LAM_NONE, 0, 3); }
static lam_value bad_rows(lam_graph *g, lam_value x) { return lam_linear(g, x, w2(g, 3, 5), LAM_NONE, 1, 3); }
static lam_value bad_norm(lam_graph *g, lam_value x) {
    lam_value m = lam_weight(g, "m", 1, (int[]){ 5 });
    return lam_batch_norm(g, x, m, m, LAM_NONE, LAM_NONE, 1e-5f);
}
static lam_value bad_layer_norm(lam_graph *g, lam_value x) { return lam_layer_norm(g, x, lam_weight(g, "m", 1, (int[]){ 6 }), LAM_NONE, 1, 1e-5f); }
static lam_value bad_rms_norm(lam_graph *g, lam_value x) { return lam_rms_norm(g, x, lam_weight(g, "m", 1, (int[]){ 6 }), 1, 1e-5f); }
static lam_value bad_groups_of_channels(lam_graph *g, lam_value x) { return lam_group_norm(g, x, LAM_NONE, LAM_NONE, 3, 1e-5f); }
static lam_value bad_group_weight(lam_graph *g, lam_value x) { return lam_group_norm(g, x, LAM_NONE, lam_weight(g, "m", 1, (int[]){ 6 }), 2, 1e-5f); }
static lam_value bad_group_rank(lam_graph *g, lam_value x) { return lam_group_norm(g, lam_flatten(g, x, 0, 3), LAM_NONE, LAM_NONE, 1, 1e-5f); }
static lam_value bad_beta(lam_graph *g, lam_value x) { return lam_softplus(g, x, 0, 20); }
static lam_value no_mean(lam_graph *g, lam_value x) { return lam_batch_norm(g, x, LAM_NONE, lam_weight(g, "v", 1, (int[]){ 4 }), LAM_NONE, LAM_NONE, 1e-5f); }
static lam_value no_variance(lam_graph *g, lam_value x) { return lam_batch_norm(g, x, lam_weight(g, "m", 1, (int[]){ 4 }), LAM_NONE, LAM_NONE, LAM_NONE, 1e-5f); }

/* Sums and products that do not fit into an int. */
enum { HUGE_SIZE = INT_MAX };
static lam_value huge_dilation(lam_graph *g, lam_value x) { return lam_conv2d(g, x, w4(g, 8, 4, 3), LAM_NONE, one, none, (int[]){ 1, HUGE_SIZE }, 1); }
static lam_value huge_padding(lam_graph *g, lam_value x) {
    return lam_conv2d(g, x, w4(g, 8, 4, 3), LAM_NONE, one, (int[]){ HUGE_SIZE, 0, 9, 0 }, (int[]){ HUGE_SIZE / 2, 1 }, 1);
}
static lam_value huge_groups(lam_graph *g, lam_value x) { return lam_conv2d(g, x, lam_weight(g, "w", 4, (int[]){ 1 << 16, 1 << 16, 1, 1 }), LAM_NONE, one, none, one, 1 << 16); }
static lam_value huge_pool_dilation(lam_graph *g, lam_value x) { return lam_max_pool2d(g, x, (int[]){ 3, 3 }, one, none, (int[]){ HUGE_SIZE, 1 }, 1); }
static lam_value huge_pool(lam_graph *g, lam_value x) {
    return lam_avg_pool2d(g, x, (int[]){ HUGE_SIZE, HUGE_SIZE }, one, (int[]){ HUGE_SIZE / 2, HUGE_SIZE / 2 }, 0, 1, 0);
}
static lam_value huge_reshape(lam_graph *g, lam_value x) { (void)x; return lam_reshape(g, lam_input(g, LAM_F32, 2, (int[]){ 1 << 16, 3 }), 2, (int[]){ 1 << 16, (1 << 16) + 3 }); }
static lam_value huge_flatten(lam_graph *g, lam_value x) { (void)x; return lam_flatten(g, lam_input(g, LAM_F32, 2, (int[]){ 1 << 16, 1 << 16 }), 0, 1); }
static lam_value huge_kept(lam_graph *g, lam_value x) {
    (void)x;
    return lam_reshape(g, lam_input(g, LAM_F32, 3, (int[]){ LAM_ANY, 1 << 16, 1 << 16 }), 3, (int[]){ LAM_KEEP, 1 << 16, (1 << 16) + 1 });
}
static lam_value bad_activation(lam_graph *g, lam_value x) { return lam_activate(g, x, (lam_activation)99); }
static lam_value bad_broadcast(lam_graph *g, lam_value x) { return lam_arithmetic(g, x, lam_weight(g, "m", 1, (int[]){ 6 }), LAM_ADD); }
static lam_value bad_axis(lam_graph *g, lam_value x) { return lam_softmax(g, x, 4); }
static lam_value bad_pool(lam_graph *g, lam_value x) { return lam_max_pool2d(g, x, (int[]){ 9, 9 }, one, (int[]){ 0, 0 }, one, 0); }
static lam_value bad_pool_padding(lam_graph *g, lam_value x) {
    return lam_avg_pool2d(g, x, (int[]){ 2, 2 }, one, (int[]){ 2, 2 }, 0, 1, 0);
}
static lam_value bad_adaptive(lam_graph *g, lam_value x) { return lam_adaptive_avg_pool2d(g, x, (int[]){ 0, 1 }); }
static lam_value bad_reshape(lam_graph *g, lam_value x) { return lam_reshape(g, x, 3, (int[]){ LAM_KEEP, 7, -1 }); }
static lam_value bad_flatten(lam_graph *g, lam_value x) { return lam_flatten(g, x, 3, 1); }
static lam_value bad_unflatten(lam_graph *g, lam_value x) { return lam_unflatten(g, x, 1, 2, (int[]){ 3, -1 }); }
static lam_value bad_permute(lam_graph *g, lam_value x) { return lam_permute(g, x, (int[]){ 0, 1, 1, 2 }); }
static lam_value bad_narrow(lam_graph *g, lam_value x) { return lam_narrow(g, x, 1, 2, 3); }
static lam_value bad_cat(lam_graph *g, lam_value x) { return lam_cat(g, 2, (lam_value[]){ x, lam_narrow(g, x, 1, 0, 2) }, 2); }
static lam_value bad_mean(lam_graph *g, lam_value x) { return lam_mean(g, x, -5, 0); }
static lam_value bad_matmul(lam_graph *g, lam_value x) { return lam_matmul(g, x, x, 0); }
static lam_value bad_attention(lam_graph *g, lam_value x) { return lam_attention(g, x, lam_narrow(g, x, 3, 0, 2), x, LAM_NONE, NAN, NULL, 0); }
static lam_value bad_mask(lam_graph *g, lam_value x) { return lam_attention(g, x, x, x, w2(g, 3, 6), NAN, NULL, 0); }
static lam_value bad_attention_pool(lam_graph *g, lam_value x) {
    lam_value v[11];
    for (int i = 0; i < 11; i++) v[i] = w2(g, 30, 4);
    return lam_attention_pool2d(g, x, v, 2, 1e-5f, 0);
}
static lam_value bad_weight(lam_graph *g, lam_value x) {
    (void)x;
    lam_weight(g, "w", 1, (int[]){ 3 });
    return lam_weight(g, "w", 1, (int[]){ 4 });
}

static lam_value pool_with(lam_graph *g, lam_value x, int which, int rank, const int *dims) {
    lam_value v[11];
    for (int i = 0; i < 11; i++)
        v[i] = i == 0 ? lam_weight(g, "p", 2, (int[]){ 31, 4 }) : i == which ? lam_weight(g, "odd", rank, dims)
             : i == 7 ? lam_weight(g, "c", 2, (int[]){ 3, 4 }) : i == 8 ? lam_weight(g, "cb", 1, (int[]){ 3 })
             : i < 7 && i % 2 ? lam_weight(g, "m", 2, (int[]){ 4, 4 }) : lam_weight(g, "v", 1, (int[]){ 4 });
    return lam_attention_pool2d(g, x, v, which < 0 ? 3 : 2, 1e-5f, 0);
}
static lam_value bad_pool_heads(lam_graph *g, lam_value x) { return pool_with(g, x, -1, 0, NULL); }
static lam_value bad_pool_projection(lam_graph *g, lam_value x) { return pool_with(g, x, 3, 2, (int[]){ 4, 5 }); }
static lam_value bad_pool_output(lam_graph *g, lam_value x) { return pool_with(g, x, 7, 2, (int[]){ 3, 5 }); }
static lam_value bad_pool_norm(lam_graph *g, lam_value x) { return pool_with(g, x, 9, 1, (int[]){ 5 }); }
static lam_value bad_pool_rank(lam_graph *g, lam_value x) { return pool_with(g, lam_flatten(g, x, 2, 3), 0, 2, (int[]){ 31, 4 }); }
static lam_value bad_weight_rank(lam_graph *g, lam_value x) {
    return lam_conv2d(g, x, lam_weight(g, "w", 3, (int[]){ 8, 4, 3 }), LAM_NONE, one, none, one, 1);
}
static lam_value bad_linear_rank(lam_graph *g, lam_value x) { return lam_linear(g, x, lam_weight(g, "w", 1, (int[]){ 5 }), LAM_NONE, 0, 1); }
static lam_value bad_linear_bias(lam_graph *g, lam_value x) {
    return lam_linear(g, x, w2(g, 3, 5), lam_weight(g, "b", 1, (int[]){ 4 }), 0, 3);
}
static lam_value bad_matmul_rank(lam_graph *g, lam_value x) { return lam_matmul(g, x, lam_flatten(g, x, 0, 3), 0); }
static lam_value bad_norm_axes(lam_graph *g, lam_value x) { return lam_layer_norm(g, x, LAM_NONE, LAM_NONE, 5, 1e-5f); }
static lam_value bad_pool2d_rank(lam_graph *g, lam_value x) { return lam_adaptive_avg_pool2d(g, lam_flatten(g, x, 2, 3), one); }
static lam_value bad_pool_stride(lam_graph *g, lam_value x) { return lam_max_pool2d(g, x, one, (int[]){ 0, 1 }, none, one, 0); }
static lam_value bad_keep(lam_graph *g, lam_value x) { return lam_reshape(g, x, 5, (int[]){ 1, 1, 1, -1, LAM_KEEP }); }
static lam_value bad_rank(lam_graph *g, lam_value x) { return lam_reshape(g, x, 7, (int[]){ 1, 1, 1, 1, 1, 1, -1 }); }
static lam_value bad_input(lam_graph *g, lam_value x) { (void)x; return lam_input(g, LAM_F32, 2, (int[]){ 3, -7 }); }
static lam_value bad_type(lam_graph *g, lam_value x) { (void)x; return lam_input(g, LAM_F16, 1, (int[]){ 3 }); }
static lam_value bad_value(lam_graph *g, lam_value x) { (void)x; return lam_activate(g, 12345, LAM_RELU); }
static lam_value bad_cat_count(lam_graph *g, lam_value x) { return lam_cat(g, 0, &x, 0); }

static void test_define_errors(void) {
    static const struct { define *make; const char *text; } cases[] = {
        { bad_channels, "needs 5 input channels, got [?, 4, 6, 5]" }, { bad_groups, "3 groups do not divide 8" },
        { bad_kernel, "reaches over 7" }, { bad_stride, "stride 0" }, { bad_padding, "padding -1" }, { bad_bias, "needs a bias of 8" },
        { bad_computed, "must be weights" }, { bad_conv_rank, "got [?, 4, 30]" }, { bad_linear, "needs inputs of width 4, got [?, 4, 6, 5]" },
        { bad_rows, "rows 1 to 4" }, { bad_norm, "expected 5 channels" }, { bad_layer_norm, "normalises over [6]" },
        { bad_rms_norm, "normalises over [6]" },
        { bad_groups_of_channels, "3 groups do not divide the channels of [?, 4, 6, 5]" }, { bad_group_weight, "weights [6] for the channels of [?, 4" },
        { bad_group_rank, "expected [n, c, ...]" }, { bad_beta, "beta 0" },
        { no_mean, "its mean and variance" }, { no_variance, "its mean and variance" }, { huge_dilation, "reaches over 2147483647" },
        { huge_padding, "is larger than 2147483647" }, { huge_groups, "needs 2147483647 input channels" }, { huge_pool_dilation, "does not fit" },
        { huge_pool, "does not fit" }, { huge_reshape, "cannot become" }, { huge_flatten, "too large for one" }, { huge_kept, "cannot become" },
        { bad_activation, "no kind 99" }, { bad_broadcast, "do not broadcast" }, { bad_axis, "axis 4" }, { bad_pool, "does not fit" },
        { bad_pool_padding, "at most half the kernel" }, { bad_adaptive, "output size 0" }, { bad_reshape, "cannot become" },
        { bad_flatten, "axes 3 to 1" }, { bad_unflatten, "axis 1 of [?, 4, 6, 5] into [3, ?]" }, { bad_permute, "no permutation" },
        { bad_narrow, "start 2, length 3" }, { bad_cat, "on axis 2" }, { bad_mean, "axis -5" }, { bad_matmul, "[?, 4, 6, 5] by" },
        { bad_attention, "k [?, 4, 6, 2]" }, { bad_mask, "mask [3, 6]" }, { bad_attention_pool, "h w + 1 = 30" },
        { bad_weight, "is used as [3] and as [4]" }, { bad_pool_heads, "3 heads do not divide 4" },
        { bad_pool_projection, "expected [4, 4]" }, { bad_pool_output, "c_proj [3, 5]" }, { bad_pool_norm, "layer norm [5]" },
        { bad_pool_rank, "got [?, 4, 30]" }, { bad_weight_rank, "weight [8, 4, 3] should be" }, { bad_linear_rank, "should be [out, in]" },
        { bad_linear_bias, "needs a bias of 3" }, { bad_matmul_rank, "expected rank 2" }, { bad_norm_axes, "5 axes" },
        { bad_pool2d_rank, "expected an image" }, { bad_pool_stride, "stride 0" }, { bad_keep, "should be kept" },
        { bad_rank, "rank 7" }, { bad_input, "dimension 1 is -7" }, { bad_type, "neither f32 nor i32" },
        { bad_value, "not a value of this graph" }, { bad_cat_count, "0 tensors" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t before = lam_memory_used();
        lam_graph *g = lam_graph_new();
        lam_value x = lam_input(g, LAM_F32, 4, (int[]){ LAM_ANY, 4, 6, 5 });
        lam_scope(g, "layer2.0");
        lam_value y = cases[i].make(g, x);
        const char *error = lam_graph_error(g);
        CHECK(y == LAM_BAD && lam_graph_status(g) == LAM_EVALUE, "case %d was accepted", (int)i);
        CHECK(strstr(error, cases[i].text) && !strncmp(error, "layer2.0: ", 10), "case %d: \"%s\" lacks \"%s\"", (int)i, error, cases[i].text);
        char first[512];
        strcpy(first, error);
        CHECK(lam_activate(g, y, LAM_RELU) == LAM_BAD && lam_compile(g) == LAM_EVALUE, "a bad value was taken");
        CHECK(!strcmp(first, lam_graph_error(g)), "the first error is lost: %s", lam_graph_error(g));
        lam_graph_free(g);
        CHECK(lam_memory_used() == before, "case %d leaks", (int)i);
    }
}

/* What can only be found when sizes are known: the same messages, from prepare. */
static void test_session_errors(void) {
    lam_graph *g = compiled_net(9, 0);
    lam_session *s = lam_session_new(g, NULL);
    CHECK(lam_session_prepare(s) == LAM_ESTATE, "prepared without a size");
    lam_session_resize(s, 0, 4, (int[]){ 1, 6, 0, 9 });
    CHECK(lam_session_prepare(s) == LAM_EVALUE, "an empty image passed");
    CHECK(!strncmp(lam_session_error(s), "stem: conv2d: ", 9), "%s", lam_session_error(s));
    CHECK(lam_session_output(s, 0) == NULL, "there is an output without a run");
    lam_session_resize(s, 0, 4, (int[]){ 1, 6, 9, 9 });
    CHECK(lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
    lam_session_free(s);
    lam_graph_free(g);
}

static void test_weights_beyond_any_memory(void) {
    static const int sizes[][3] = { { 1, 65536, 32768 }, { 2, 65536, 65536 }, { INT_MAX, INT_MAX, 2 }, { 65536, 65536, 1 << 30 } };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        lam_graph *g = lam_graph_new();
        CHECK(lam_weight(g, "w", 3, sizes[i]) == LAM_BAD && lam_graph_status(g) == LAM_ENOMEM && strstr(lam_graph_error(g), "out of memory: weight \"w\""),
              "case %d: %s", (int)i, lam_graph_error(g));
        lam_graph_free(g);
    }
}

static void test_load_errors(void) {
    float data[64] = { 0 };
    lam_graph *g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 2, (int[]){ 1, 6 });
    lam_output(g, lam_linear(g, x, w2(g, 8, 6), LAM_NONE, 0, 8));
    CHECK(lam_load(g, 0, LAM_F32, data, 0, 1) == LAM_ESTATE, "loaded before compile");
    lam_graph_free(g);
    const struct { int weight, type, first, rows; } cases[] = { { 1, LAM_F32, 0, 1 }, { -1, LAM_F32, 0, 1 }, { 0, 77, 0, 1 },
        { 0, LAM_F32, -1, 2 }, { 0, LAM_F32, 7, 2 }, { 0, LAM_F32, 0, -1 }, { 0, LAM_F32, 2, 2 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        g = lam_graph_new();
        x = lam_input(g, LAM_F32, 2, (int[]){ 1, 6 });
        lam_output(g, lam_linear(g, x, w2(g, 8, 6), LAM_NONE, 0, 8));
        lam_compile(g);
        CHECK(lam_load(g, 0, LAM_F32, data, 3, 2) == LAM_OK, "%s", lam_graph_error(g));
        CHECK(lam_load(g, cases[i].weight, (lam_type)cases[i].type, data, cases[i].first, cases[i].rows) != LAM_OK, "case %d", (int)i);
        lam_session *s = lam_session_new(g, NULL);
        lam_session_resize(s, 0, 2, (int[]){ 1, 6 });
        CHECK(lam_session_prepare(s) == LAM_ESTATE && strstr(lam_session_error(s), "\"w\" is not loaded: 2 of 8 rows"), "%s",
              lam_session_error(s));
        lam_session_free(s);
        lam_graph_free(g);
    }
}

/* A batch norm that a convolution took in: its weights are no inputs of any layer, and needed all the same. */
static void test_folded_weights_are_needed(void) {
    static const char *const names[] = { "mean", "var", "gain", "shift" };
    const float data[4] = { 1, 2, 3, 4 };
    for (int missing = 0; missing < 5; missing++) {
        lam_graph *g = lam_graph_new();
        lam_value x = lam_input(g, LAM_F32, 2, (int[]){ 1, 1 }), v[4];
        for (int i = 0; i < 4; i++) v[i] = lam_weight(g, names[i], 1, (int[]){ 4 });
        lam_output(g, lam_batch_norm(g, lam_linear(g, x, w2(g, 4, 1), LAM_NONE, 0, 4), v[0], v[1], v[2], v[3], 0));
        lam_compile(g);
        for (int i = 0; i < 5; i++)
            if (i != missing) CHECK(lam_load(g, i, LAM_F32, data, 0, 4) == LAM_OK, "%s", lam_graph_error(g));
        lam_session *s = lam_session_new(g, NULL);
        CHECK(lam_layer_count(s) == 1, "%d layers", lam_layer_count(s));
        lam_session_resize(s, 0, 2, (int[]){ 1, 1 });
        CHECK(lam_session_prepare(s) == LAM_ESTATE && strstr(lam_session_error(s), "is not loaded: 0 of 4 rows"), "without weight %d: %s", missing,
              lam_session_error(s));
        lam_session_free(s);
        lam_graph_free(g);
    }
}

/* Fails allocation after allocation until everything passes; each failure is reported and nothing leaks. */
static void test_every_allocation(void) {
    size_t before = lam_memory_used();
    int passed = 0, failures = 0;
    for (int n = 0; !passed; n++) {
        lam_memory_fail_after(n);
        lam_graph *g = net_record();
        float *y = NULL;
        int count = 0;
        int loaded = g && lam_compile(g) == LAM_OK && net_load(g, 4, 0) == LAM_OK;
        if (loaded) y = net_run(g, NULL, 1, 9, 10, 2, &count);
        lam_memory_fail_after(-1);
        passed = y != NULL;
        failures += !passed;
        CHECK(!g || loaded || (lam_graph_status(g) == LAM_ENOMEM && *lam_graph_error(g)), "allocation %d failed in silence: %s", n, lam_graph_error(g));
        free(y);
        lam_graph_free(g);
        CHECK(lam_memory_used() == before, "failing allocation %d leaks %d bytes", n, (int)(lam_memory_used() - before));
        if (n > 100000) break;
    }
    CHECK(passed && failures > 200, "%d allocations failed, passed %d", failures, passed);
}

/* ---- planner and number formats ---- */

static void test_plan(void) {
    for (int round = 0; round < 300; round++) {
        plan_block blocks[40];
        int order[40], count = 1 + (int)(check_random() % 40);
        size_t together = 0;
        for (int i = 0; i < count; i++) {
            int first = (int)(check_random() % 30);
            blocks[i] = (plan_block){ .floats = check_random() % 500, .first = first, .last = first + (int)(check_random() % 8) };
            together += (blocks[i].floats + 15) / 16 * 16;
        }
        size_t total = plan_arena(blocks, count, order);
        CHECK(total <= together, "the arena is larger than all blocks together");
        for (int i = 0; i < count; i++) {
            CHECK(blocks[i].offset % PLAN_ALIGNMENT == 0 && blocks[i].offset + blocks[i].floats <= total, "block %d is outside", i);
            for (int j = 0; j < i; j++) {
                int meet = blocks[i].first <= blocks[j].last && blocks[j].first <= blocks[i].last;
                int apart = blocks[i].offset + blocks[i].floats <= blocks[j].offset || blocks[j].offset + blocks[j].floats <= blocks[i].offset;
                CHECK(!meet || apart, "blocks %d and %d overlap", i, j);
            }
        }
    }
}

/* Blocks whose best places are known. */
static void test_plan_is_tight(void) {
    int order[8];
    plan_block chain[] = { { 100, 0, 1, 0 }, { 200, 1, 2, 0 }, { 300, 2, 3, 0 } };
    CHECK(plan_arena(chain, 3, order) == 304 + 208, "the first and the last share memory");
    plan_block gaps[] = { { 160, 0, 0, 0 }, { 144, 0, 5, 0 }, { 128, 0, 0, 0 }, { 128, 0, 0, 0 }, { 112, 0, 5, 0 }, { 96, 5, 5, 0 } };
    plan_arena(gaps, 6, order);
    CHECK(gaps[5].offset == gaps[0].offset, "at %zu, not in the smallest gap, %zu", gaps[5].offset, gaps[0].offset);
    plan_block large[] = { { SIZE_MAX / 12, 0, 1, 0 }, { SIZE_MAX / 12, 0, 1, 0 }, { SIZE_MAX / 12, 0, 1, 0 }, { SIZE_MAX / 12, 0, 1, 0 } };
    CHECK(plan_arena(large, 4, order) == SIZE_MAX, "more bytes than can be counted");
    CHECK(plan_arena(large, 2, order) < SIZE_MAX, "as many as can be");
}

static void test_dtypes(void) {
    for (int bits = 0; bits < 65536; bits++) {
        uint16_t half = (uint16_t)bits;
        int exponent = bits >> 10 & 31, fraction = bits & 1023;
        double expected = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
        float got, brain;
        uint32_t brain_bits;
        dtype_to_f32(&got, LAM_F16, &half, 1);
        if (exponent == 31) CHECK(fraction ? isnan(got) : isinf(got) && (got < 0) == (bits >> 15), "half %x is %g", bits, (double)got);
        else CHECK(got == (bits >> 15 ? -expected : expected) && !signbit(got) == !(bits >> 15), "half %x is %g", bits, (double)got);
        dtype_to_f32(&brain, LAM_BF16, &half, 1);
        memcpy(&brain_bits, &brain, 4);
        CHECK(brain_bits == (uint32_t)bits << 16 || isnan(brain), "bfloat %x", bits);
    }
    float y[2];
    dtype_to_f32(y, LAM_F64, (double[]){ 1.0 / 3, -1e300 }, 2);
    CHECK(y[0] == (float)(1.0 / 3) && isinf(y[1]) && y[1] < 0, "doubles are %g %g", (double)y[0], (double)y[1]);
    dtype_to_f32(y, LAM_I64, (int64_t[]){ -5, 1 << 24 }, 2);
    CHECK(y[0] == -5 && y[1] == 1 << 24, "int64");
    dtype_to_f32(y, LAM_I8, (int8_t[]){ -128, 127 }, 2);
    CHECK(y[0] == -128 && y[1] == 127, "int8");
    dtype_to_f32(y, LAM_U8, (uint8_t[]){ 255, 0 }, 2);
    CHECK(y[0] == 255 && y[1] == 0, "uint8");
    dtype_to_f32(y, LAM_BOOL, (uint8_t[]){ 7, 0 }, 2);
    CHECK(y[0] == 1 && y[1] == 0, "bool");
    dtype_to_f32(y, LAM_I16, (int16_t[]){ -32768, 5 }, 2);
    CHECK(y[0] == -32768 && y[1] == 5, "int16");
    dtype_to_f32(y, LAM_I32, (int32_t[]){ -7, 9 }, 2);
    CHECK(y[0] == -7 && y[1] == 9, "int32");
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    test_load_order();
    test_threads();
    test_resize();
    test_steps();
    test_fusion(record_residual, 4, "conv2d+batch_norm+add+relu");
    test_fusion(record_scale, 3, "arithmetic+add+relu");
    test_shared_values();
    test_empty();
    test_profile();
    test_define_errors();
    test_session_errors();
    test_weights_beyond_any_memory();
    test_load_errors();
    test_folded_weights_are_needed();
    test_every_allocation();
    test_plan();
    test_plan_is_tight();
    test_dtypes();
    return check_end("engine");
}
