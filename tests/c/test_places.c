/* A layer writes its output and its working memory and nothing beside them. All of a session is one piece of memory, so no sanitizer sees that. */
#include "check.h"
#include "lamella.h"
#include "net.h"
#include "pool.h"
#include "session.h"

/* Runs layer by layer and compares what lies outside of the layer's own places. */
static void watched(lam_session *s, const char *what) {
    float *before = malloc((s->arena_floats + 1) * sizeof *before);
    for (int over = 0; !over;) {
        const int layer = s->step;
        memcpy(before, s->arena, s->arena_floats * sizeof *before);
        over = lam_session_step(s, 0);
        const lam_tensor *out = &s->tensors[session_node(s, layer)->out];
        const float *y = out->data, *scratch = s->arena + s->scratch[layer * 3];
        const size_t floats = shape_elements(&out->shape), working = s->blocks[s->block_count - s->layer_count + layer].floats;
        size_t wrong = 0;
        for (size_t i = 0; i < s->arena_floats; i++) {
            const uintptr_t at = (uintptr_t)(s->arena + i);
            if ((at - (uintptr_t)y) / sizeof(float) < floats || (at - (uintptr_t)scratch) / sizeof(float) < working) continue;
            wrong += memcmp(before + i, s->arena + i, sizeof(float)) != 0;
        }
        CHECK(!wrong, "%s, layer %d, %s: %zu numbers of others changed", what, layer, lam_layer_name(s, layer), wrong);
    }
    free(before);
}

static void fill(lam_session *s, int input, const char *name, int count) {
    for (int i = 0; i < count; i++) ((float *)lam_session_input(s, input))[i] = net_value(name, i);
}

static void network(lam_pool *pool) {
    lam_graph *g = net_record();
    CHECK(lam_compile(g) == LAM_OK && net_load(g, 4, 0) == LAM_OK, "%s", lam_graph_error(g));
    lam_session *s = lam_session_new(g, pool);
    for (int i = 0; i < 3; i++) {
        CHECK(lam_session_resize(s, 0, 4, (int[]){ 1 + i, 6, 17 + i, 20 }) == LAM_OK && lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
        fill(s, 0, "x", (1 + i) * 6 * (17 + i) * 20);
        watched(s, "network");
    }
    lam_session_free(s);
    lam_graph_free(g);
}

/* Latent attention over a cache of each precision, in both of its forms: a text, then more of it, then a token. */
static void latent(lam_pool *pool, lam_precision kept) {
    enum { HEADS = 3, NOPE = 8, ROPE = 4, V = 7, C = 200, Q_WIDTH = HEADS * (NOPE + ROPE), KV_WIDTH = C + ROPE, ROWS = HEADS * (NOPE + V) };
    lam_graph *g = lam_graph_new();
    lam_value q = lam_input(g, LAM_F32, 3, (int[]){ 1, LAM_ANY, Q_WIDTH }), kv = lam_cache(g, lam_input(g, LAM_F32, 3, (int[]){ 1, LAM_ANY, KV_WIDTH }), 1);
    lam_output(g, lam_mla(g, q, kv, lam_weight(g, "w", 2, (int[]){ ROWS, C }), HEADS, NOPE, ROPE, V, 0.4f));
    CHECK(lam_compile(g) == LAM_OK && net_load(g, 7, 0) == LAM_OK, "%s", lam_graph_error(g));
    lam_session *s = lam_session_new(g, pool);
    CHECK(lam_session_context(s, 400, kept) == LAM_OK, "%s", lam_session_error(s));
    static const int steps[] = { 250, 70, 1, 3 };
    for (int i = 0; i < 4; i++) {
        lam_session_resize(s, 0, 3, (int[]){ 1, steps[i], Q_WIDTH }), lam_session_resize(s, 1, 3, (int[]){ 1, steps[i], KV_WIDTH });
        CHECK(lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
        fill(s, 0, "q", steps[i] * Q_WIDTH), fill(s, 1, "kv", steps[i] * KV_WIDTH);
        watched(s, "latent attention");
    }
    lam_session_free(s);
    lam_graph_free(g);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    lam_pool *pool = lam_pool_new(3);
    for (int i = 0; i < 2; i++) {
        network(i ? pool : NULL);
        for (lam_precision kept = LAM_PRECISION_F32; kept <= LAM_Q8; kept++) latent(i ? pool : NULL, kept);
    }
    lam_pool_free(pool);
    return check_end("places");
}
