/* Experts against plain sums in double: one token and many, few and all experts, threads, weights that arrive row by row. */
#include "check.h"
#include "lamella.h"
#include "net.h"
#include "pool.h"
#include "reference.h"

typedef struct mixture { int in, inter, out, experts; lam_activation activation; } mixture;

static const char *const part_name[] = { "gate", "up", "down" };

/* All weights in this precision but for one, which is to be f32. */
static lam_graph *record_but(const mixture *m, lam_precision precision, int in_f32) {
    lam_graph *g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 3, (int[]){ LAM_ANY, LAM_ANY, m->in });
    lam_value routing = lam_input(g, LAM_F32, 3, (int[]){ LAM_ANY, LAM_ANY, m->experts });
    lam_value *weights = malloc((size_t)m->experts * 3 * sizeof *weights);
    for (int i = 0; i < m->experts * 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "%d.%s", i / 3, part_name[i % 3]);
        weights[i] = lam_weight(g, name, 2, i % 3 == 2 ? (int[]){ m->out, m->inter } : (int[]){ m->inter, m->in });
        weights[i] = lam_weight_precision(g, weights[i], i == in_f32 ? LAM_PRECISION_F32 : precision);
    }
    lam_output(g, lam_experts(g, x, routing, m->activation, m->experts, weights));
    free(weights);
    return g;
}

static lam_graph *record_in(const mixture *m, lam_precision precision) { return record_but(m, precision, -1); }
static lam_graph *record(const mixture *m) { return record_in(m, LAM_PRECISION_F32); }

static double weight(int expert, int part, int i) {
    char name[32];
    snprintf(name, sizeof name, "%d.%s", expert, part_name[part]);
    return net_value(name, i);
}

/* y [rows, out] */
static void reference_experts(float *y, const float *x, const float *routing, int rows, const mixture *m) {
    double *sum = calloc((size_t)(rows * m->out), sizeof *sum), *hidden = malloc((size_t)m->inter * sizeof *hidden);
    for (int t = 0; t < rows; t++) {
        for (int e = 0; e < m->experts; e++) {
            double factor = routing[t * m->experts + e];
            if (factor == 0) continue;
            for (int i = 0; i < m->inter; i++) {
                double gate = 0, up = 0;
                for (int k = 0; k < m->in; k++) {
                    gate += weight(e, 0, i * m->in + k) * x[t * m->in + k];
                    up += weight(e, 1, i * m->in + k) * x[t * m->in + k];
                }
                hidden[i] = reference_activation(gate, m->activation) * up;
            }
            for (int o = 0; o < m->out; o++)
                for (int i = 0; i < m->inter; i++) sum[t * m->out + o] += factor * weight(e, 2, o * m->inter + i) * hidden[i];
        }
    }
    for (int i = 0; i < rows * m->out; i++) y[i] = (float)sum[i];
    free(sum), free(hidden);
}

/* Experts that are outside: what a caller keeps. */
typedef struct outside { lam_graph *g; int slots, turn, asked; char **pages; } outside;

/* Fills slots with the wanted ones, the others' turn by turn, and steps on until the run is over. */
static void run_paged(lam_session *s, outside *o) {
    lam_session_run(s);
    for (int layer; (layer = lam_session_waits(s)) >= 0; lam_session_step(s, 1e9)) {
        const size_t bytes = lam_expert_bytes(o->g, layer);
        CHECK(layer == 0 && ++o->asked < 10000, "layer %d of one, asked %d times", layer, o->asked);
        int filled = 0;
        for (int e = lam_session_wanted(s, 0); e >= 0 && filled < o->slots; e = lam_session_wanted(s, e + 1), filled++) {
            int slot = o->turn++ % o->slots;
            memcpy(lam_expert_slot(o->g, layer, slot), o->pages[e], bytes);
            lam_expert_set(o->g, layer, slot, e);
        }
    }
}

/* `chosen` experts for each token, or none for the first; a copy of the output. */
static float *mix_with(lam_graph *g, lam_pool *pool, int a, int b, int chosen, const mixture *m, float *expected, outside *o) {
    int rows = a * b;
    lam_session *s = lam_session_new(g, pool);
    CHECK(lam_session_resize(s, 0, 3, (int[]){ a, b, m->in }) == LAM_OK && lam_session_resize(s, 1, 3, (int[]){ a, b, m->experts }) == LAM_OK &&
          lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
    float *x = lam_session_input(s, 0), *routing = lam_session_input(s, 1), *y = malloc((size_t)(rows * m->out) * sizeof *y);
    for (int i = 0; i < rows * m->in; i++) x[i] = net_value("x", i);
    for (int i = 0; i < rows * m->experts; i++) {
        int turn = (i % m->experts + 3 * (i / m->experts)) % m->experts;   /* how far the expert is from the token's first */
        routing[i] = turn < chosen && (i >= m->experts || rows == 1) ? net_value("routing", i) : 0;
    }
    if (expected) reference_experts(expected, x, routing, rows, m);
    for (int i = 0; i < rows * m->out; i++) lam_session_output(s, 0)[i] = NAN;
    if (o) run_paged(s, o);
    else lam_session_run(s);
    memcpy(y, lam_session_output(s, 0), (size_t)(rows * m->out) * sizeof *y);
    lam_session_free(s);
    return y;
}

static float *mix(lam_graph *g, lam_pool *pool, int a, int b, int chosen, const mixture *m, float *expected) {
    return mix_with(g, pool, a, b, chosen, m, expected, NULL);
}

static void load_weight(lam_graph *g, int weight, int step) {
    int rows = lam_weight_dim(g, weight, 0), elements = lam_weight_dim(g, weight, 1);
    float *data = malloc((size_t)(rows * elements) * sizeof *data);
    for (int i = 0; i < rows * elements; i++) data[i] = net_value(lam_weight_name(g, weight), i);
    for (int r = 0; r < rows; r += step)
        CHECK(lam_load(g, weight, LAM_F32, data + r * elements, r, rows - r < step ? rows - r : step) == LAM_OK, "%s", lam_graph_error(g));
    free(data);
}

/* The same numbers whether experts are here or come in from outside, however few at a time, also when a run is given up in the middle. */
static void paged(const mixture *m, lam_precision precision, int slots, int rows, lam_pool *pool) {
    lam_graph *g[2] = { record_in(m, precision), record_in(m, precision) };
    outside o = { .g = g[1], .slots = slots, .pages = calloc((size_t)m->experts, sizeof *o.pages) };
    for (int i = 0; i < 2; i++)
        CHECK(lam_plan(g[i]) == LAM_OK && lam_expert_layers(g[i]) == 1 && lam_expert_count(g[i], 0) == m->experts, "%s", lam_graph_error(g[i]));
    CHECK(lam_expert_slots(g[1], 0, slots) == LAM_OK && lam_planned_bytes(g[1], 0) < lam_planned_bytes(g[0], 0) + 4.0 * (m->experts + 16), "%s", lam_graph_error(g[1]));
    for (int e = 0; e < m->experts; e++) o.pages[e] = malloc(lam_expert_bytes(g[1], 0));
    for (int i = 0; i < 2; i++) {
        CHECK(lam_compile(g[i]) == LAM_OK, "%s", lam_graph_error(g[i]));
        for (int w = lam_weight_count(g[i]) - 1; w >= 0; w--) {
            load_weight(g[i], w, 5);
            CHECK((lam_expert_place(g[i], w, 0) == 0) == i, "weight %d", w);
            if (!i) continue;
            int expert = lam_expert_place(g[i], w, 1), at = lam_expert_place(g[i], w, 2), bytes = lam_expert_place(g[i], w, 3);
            CHECK(expert == atoi(lam_weight_name(g[i], w)) && (size_t)(at + bytes) <= lam_expert_bytes(g[i], 0), "expert %d, %d bytes at %d", expert, bytes, at);
            memcpy(o.pages[expert] + at, lam_expert_slot(g[i], 0, 0) + at, (size_t)bytes);
        }
    }
    for (int chosen = 1; chosen <= m->experts; chosen += 2) {
        float *here = mix(g[0], NULL, 1, rows, chosen, m, NULL), *there = mix_with(g[1], pool, 1, rows, chosen, m, NULL, &o);
        CHECK(!memcmp(here, there, (size_t)(rows * m->out) * sizeof *here), "precision %d, %d of %d experts in %d slots, %d rows", precision, chosen, m->experts, slots, rows);
        free(here), free(there);
    }
    CHECK(o.asked > 0, "never asked");
    lam_session *s = lam_session_new(g[1], NULL);
    CHECK(lam_session_waits(s) == -1 && lam_session_wanted(s, 0) == -1, "waits before it runs");
    lam_session_free(s);
    for (int e = 0; e < m->experts; e++) free(o.pages[e]);
    free(o.pages);
    lam_graph_free(g[0]), lam_graph_free(g[1]);
}

static void paged_errors(void) {
    const mixture m = { 5, 7, 5, 3, LAM_SILU };
    for (int i = 0; i < 5; i++) {
        lam_graph *g = i == 3 ? lam_graph_new() : record(&m);
        if (i == 3) {
            lam_value gate = lam_weight(g, "gate", 2, (int[]){ 7, 5 }), down = lam_weight(g, "down", 2, (int[]){ 5, 7 });
            lam_output(g, lam_experts(g, lam_input(g, LAM_F32, 2, (int[]){ LAM_ANY, 5 }), lam_input(g, LAM_F32, 2, (int[]){ LAM_ANY, 1 }), LAM_SILU, 1,
                                      (lam_value[]){ gate, gate, down }));
        }
        if (i) lam_plan(g);
        if (i == 4) lam_compile(g);
        lam_status status = lam_expert_slots(g, i == 2, i == 1 ? 4 : 1);
        static const char *const messages[] = {
            "experts: slots are settled between plan and compile", "experts: 4 slots in layer 0", "experts: 1 slots in layer 1",
            ": weight \"gate\" is used twice and cannot be kept outside", "experts: slots are settled between plan and compile",
        };
        CHECK(status != LAM_OK && !strcmp(lam_graph_error(g), messages[i]), "\"%s\", expected \"%s\"", lam_graph_error(g), messages[i]);
        lam_graph_free(g);
    }
}

/* What one expert is not to be kept in, none is: whichever it is. */
static void most_precise(void) {
    const mixture m = { 64, 32, 64, 5, LAM_SILU };
    double bytes[16];
    for (int i = -1; i < 15; i++) {
        lam_graph *g = record_but(&m, LAM_Q8, i);
        CHECK(lam_plan(g) == LAM_OK, "%s", lam_graph_error(g));
        bytes[i + 1] = lam_planned_bytes(g, 0);
        lam_graph_free(g);
    }
    for (int i = 0; i < 15; i++)
        CHECK(bytes[i + 1] == bytes[i % 3 + 1] && bytes[i + 1] > bytes[0], "%s of expert %d in f32: %g bytes, of expert 0 %g, none %g", part_name[i % 3], i / 3, bytes[i + 1],
              bytes[i % 3 + 1], bytes[0]);
}

static void one(const mixture *m, int a, int b, int chosen, lam_pool *pool) {
    size_t n = (size_t)(a * b * m->out);
    float *expected = malloc(n * sizeof *expected);
    lam_graph *g = record(m), *backwards = record(m);
    CHECK(lam_compile(g) == LAM_OK && net_load(g, 3, 0) == LAM_OK, "%s", lam_graph_error(g));
    CHECK(lam_compile(backwards) == LAM_OK && net_load(backwards, 5, 1) == LAM_OK, "%s", lam_graph_error(backwards));
    float *alone = mix(g, NULL, a, b, chosen, m, expected), *shared = mix(g, pool, a, b, chosen, m, NULL), *other = mix(backwards, NULL, a, b, chosen, m, NULL);
    check_close(alone, expected, n, 3e-6, "experts");
    check_close(shared, alone, n, 1e-6, "experts with three threads");
    CHECK(!memcmp(other, alone, n * sizeof *alone), "the order in which rows arrive changes the result");
    free(expected), free(alone), free(shared), free(other);
    lam_graph_free(g), lam_graph_free(backwards);
}

/* Counts are those of the chosen experts, and what was not chosen may hold anything. */
static void flops_and_nan(void) {
    const mixture m = { 5, 7, 5, 4, LAM_SILU };
    lam_graph *g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 2, (int[]){ 3, 5 }), weights[12];
    lam_value logits = lam_linear(g, x, lam_weight(g, "router", 2, (int[]){ 4, 5 }), LAM_NONE, 0, 4);
    for (int i = 0; i < 12; i++) {
        char name[32];
        snprintf(name, sizeof name, "%d.%s", i / 3, part_name[i % 3]);
        weights[i] = lam_weight(g, name, 2, i % 3 == 2 ? (int[]){ 5, 7 } : (int[]){ 7, 5 });
    }
    lam_value routing = lam_route(g, logits, LAM_NONE, 1, LAM_SCORE_SOFTMAX, LAM_GREEDY, 0, 0, 0, 0, 1);
    lam_output(g, lam_experts(g, x, routing, m.activation, 4, weights));
    CHECK(lam_compile(g) == LAM_OK, "%s", lam_graph_error(g));
    for (int i = 0; i < lam_weight_count(g); i++) {
        float data[35];
        int rows = lam_weight_dim(g, i, 0), n = rows * lam_weight_dim(g, i, 1), router = !strcmp(lam_weight_name(g, i), "router");
        /* All inputs are 1, so expert 2 is chosen; the others' weights are not numbers. */
        for (int k = 0; k < n; k++) data[k] = router ? k / 5 == 2 : lam_weight_name(g, i)[0] == '2' ? 0.5f : NAN;
        CHECK(lam_load(g, i, LAM_F32, data, 0, rows) == LAM_OK, "%s", lam_graph_error(g));
    }
    lam_session *s = lam_session_new(g, NULL);
    CHECK(lam_session_resize(s, 0, 2, (int[]){ 3, 5 }) == LAM_OK && lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
    for (int i = 0; i < 15; i++) ((float *)lam_session_input(s, 0))[i] = 1;
    lam_session_run(s);
    double expected = exp(5) / (exp(5) + 3) * 3.5 * 2.5 * 2.5 / (1 + exp(-2.5));
    for (int i = 0; i < 15; i++) CHECK(fabs(lam_session_output(s, 0)[i] - expected) < 1e-5 * expected, "%g, expected %g", lam_session_output(s, 0)[i], expected);
    double flops = lam_layer_flops(s, lam_layer_count(s) - 1);
    CHECK(flops == 3 * 2.0 * 3 * 5 * 7, "%g operations", flops);
    lam_session_free(s);
    lam_graph_free(g);
}

static void errors(void) {
    static const char *const messages[] = {
        "experts: 2 experts need a routing [..., 2] with the axes of [?, 5], got [?, 3]",
        "experts: gate [7, 6] needs inputs of width 6, got [?, 5]",
        "experts: gate [7, 5] and down [5, 8] should be [inter, in] and [out, inter]",
        "experts: expert 1 has gate [7, 5], up [7, 6] and down [5, 7], expected [7, 5], [7, 5] and [5, 7] as in expert 0",
        "experts: gate, up and down of expert 1 must be weights, not computed values",
        "experts: 0 experts, expected 1 to 65536",
        "experts: there is no activation 99",
    };
    for (int i = 0; i < 7; i++) {
        lam_graph *g = lam_graph_new();
        lam_value x = lam_input(g, LAM_F32, 2, (int[]){ LAM_ANY, 5 }), routing = lam_input(g, LAM_F32, 2, (int[]){ LAM_ANY, i == 0 ? 3 : 2 });
        lam_value gate = lam_weight(g, "gate", 2, (int[]){ 7, i == 1 ? 6 : 5 }), down = lam_weight(g, "down", 2, (int[]){ 5, i == 2 ? 8 : 7 });
        lam_value wide = lam_weight(g, "wide", 2, (int[]){ 7, 6 });
        const lam_value weights[] = { gate, gate, down, gate, i == 3 ? wide : gate, i == 4 ? x : down };
        lam_value y = lam_experts(g, x, routing, i == 6 ? (lam_activation)99 : LAM_SILU, i == 5 ? 0 : 2, weights);
        CHECK(y == LAM_BAD && !strcmp(lam_graph_error(g), messages[i]), "\"%s\", expected \"%s\"", lam_graph_error(g), messages[i]);
        lam_graph_free(g);
    }
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    lam_pool *pool = lam_pool_new(3);
    static const mixture mixtures[] = {
        { 5, 7, 5, 3, LAM_SILU }, { 33, 70, 33, 4, LAM_GELU }, { 16, 130, 20, 2, LAM_RELU }, { 1, 1, 1, 1, LAM_IDENTITY },
        { 12, 9, 12, 40, LAM_SILU },   /* 122 inputs */
    };
    for (int i = 0; i < 5; i++)
        for (int rows = 1; rows <= 101; rows += 20) one(&mixtures[i], 1 + i % 2, rows, 1 + (int)check_size(0, (size_t)mixtures[i].experts - 1), pool);
    one(&(mixture){ 4, 6, 3, 2, LAM_SILU }, 3, 400, 2, pool);   /* more tokens than an expert takes at a time */
    one(&(mixture){ 6200, 3, 4, 2, LAM_SILU }, 1, 50, 1, pool);  /* rows longer than a block */
    for (int precision = 0; precision < LAM_PRECISIONS; precision++)
        for (int slots = 1; slots <= 4; slots++) {
            paged(&mixtures[1], (lam_precision)precision, slots, slots % 2 ? 1 : 30, pool);
            paged(&(mixture){ 64, 32, 64, 5, LAM_SILU }, (lam_precision)precision, slots, slots % 2 ? 530 : 3, slots % 2 ? pool : NULL);
        }
    lam_pool_free(pool);
    most_precise();
    paged_errors();
    flops_and_nan();
    errors();
    return check_end("experts");
}
