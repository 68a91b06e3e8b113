/* Caches in fewer bits: attention over them is attention over what their rows mean in f32. */
#include "check.h"
#include "kernels/kept_rows.h"
#include "lamella.h"
#include "pool.h"

enum { MOST_TOKENS = 300, MOST_INPUTS = 3 };

/* A layer over cached rows: inputs q, then the rows of one or two caches, all [1, t, width]. */
typedef struct net {
    lam_graph *g;
    int inputs, width[MOST_INPUTS];
    float *x[MOST_INPUTS];   /* [tokens, width] */
} net;

static lam_value rows(net *n, int width) {
    n->width[n->inputs] = width;
    n->x[n->inputs++] = check_floats((size_t)(MOST_TOKENS * width));
    return lam_input(n->g, LAM_F32, 3, (int[]){ 1, LAM_ANY, width });
}

static lam_value in_heads(net *n, lam_value x, int heads, int d) {
    return lam_permute(n->g, lam_unflatten(n->g, x, 2, 2, (int[]){ heads, d }), (int[]){ 0, 2, 1, 3 });
}

static net attention_net(int heads, int group, int d, int dv, int window) {
    net n = { .g = lam_graph_new() };
    lam_value q = in_heads(&n, rows(&n, heads * group * d), heads * group, d);
    lam_value k = in_heads(&n, lam_cache(n.g, rows(&n, heads * d), 1), heads, d), v = in_heads(&n, lam_cache(n.g, rows(&n, heads * dv), 1), heads, dv);
    lam_output(n.g, lam_attention(n.g, q, k, v, LAM_NONE, NAN, (int[]){ window, 0 }, 1));
    CHECK(lam_compile(n.g) == LAM_OK, "%s", lam_graph_error(n.g));
    return n;
}

/* Of one head, without dividing or permuting. */
static net one_head(int d) {
    net n = { .g = lam_graph_new() };
    lam_value q = rows(&n, d), k = lam_cache(n.g, rows(&n, d), 1), v = lam_cache(n.g, rows(&n, d), 1);
    lam_output(n.g, lam_attention(n.g, q, k, v, LAM_NONE, NAN, (int[]){ -1, 0 }, 1));
    CHECK(lam_compile(n.g) == LAM_OK, "%s", lam_graph_error(n.g));
    return n;
}

static net latent_net(int heads, int nope, int rope, int v, int c) {
    net n = { .g = lam_graph_new() };
    lam_value q = rows(&n, heads * (nope + rope)), kv = lam_cache(n.g, rows(&n, c + rope), 1);
    lam_output(n.g, lam_mla(n.g, q, kv, lam_weight(n.g, "w", 2, (int[]){ heads * (nope + v), c }), heads, nope, rope, v, 0.4f));
    CHECK(lam_compile(n.g) == LAM_OK, "%s", lam_graph_error(n.g));
    float *w = check_floats((size_t)(heads * (nope + v) * c));
    CHECK(lam_load(n.g, 0, LAM_F32, w, 0, heads * (nope + v)) == LAM_OK, "%s", lam_graph_error(n.g));
    check_free(w);
    return n;
}

static lam_status feed(lam_session *s, const net *n, int first, int count, float *const *from, int from_start) {
    for (int i = 0; i < n->inputs; i++) lam_session_resize(s, i, 3, (int[]){ 1, i && from_start ? first + count : count, n->width[i] });
    lam_status status = lam_session_prepare(s);
    for (int i = 0; i < n->inputs && status == LAM_OK; i++) {
        int at = i && from_start ? 0 : first, tokens = first + count - at;
        memcpy(lam_session_input(s, i), from[i] + at * n->width[i], (size_t)(tokens * n->width[i]) * sizeof(float));
    }
    if (status == LAM_OK) lam_session_run(s);
    return status;
}

/* Tokens in pieces of these sizes (the last one again and again), with a step back; each piece as the layer without caches has it. */
static void follow(net *n, lam_precision precision, lam_pool *pool, int tokens, const int *pieces) {
    lam_session *kept = lam_session_new(n->g, pool), *plain = lam_session_new(n->g, NULL);
    float *meant[MOST_INPUTS] = { n->x[0] };
    size_t bytes = 0;
    for (int i = 1; i < n->inputs; i++) {
        size_t width = (size_t)n->width[i], row = kept_row_bytes(precision, width);
        float *data = check_floats((size_t)tokens * row / sizeof(float));
        meant[i] = check_floats((size_t)tokens * width);
        kept_write(data, precision, 0, n->x[i], (size_t)tokens, width);
        kept_read(meant[i], width, &(kept_rows){ data, precision, width, 0 }, 0, (size_t)tokens, 0, width);
        check_free(data);
        bytes += row * (size_t)tokens;
    }
    CHECK(lam_session_context(kept, tokens, precision) == LAM_OK, "%s", lam_session_error(kept));
    int back = tokens / 2;
    for (int at = 0, piece = 0, count; at < tokens; at += count) {
        count = pieces[piece] < tokens - at ? pieces[piece] : tokens - at;
        if (pieces[piece + 1]) piece++;
        CHECK(feed(kept, n, at, count, n->x, 0) == LAM_OK, "%s", lam_session_error(kept));
        CHECK(feed(plain, n, at, count, meant, 1) == LAM_OK, "%s", lam_session_error(plain));
        size_t floats = 1;
        for (int axis = 0; axis < lam_session_output_rank(plain, 0); axis++) floats *= (size_t)lam_session_output_dim(plain, 0, axis);
        if (!check_close(lam_session_output(kept, 0), lam_session_output(plain, 0), floats, 1e-5, "cache"))
            printf("    precision %d, tokens %d to %d, width %d\n", (int)precision, at, at + count, n->width[1]);
        if (back && at + count > back) {
            CHECK(lam_session_seek(kept, back) == LAM_OK, "%s", lam_session_error(kept));
            at = back - count;
            back = 0;
        }
    }
    for (lam_precision p = LAM_PRECISION_F32; p <= LAM_Q8; p++)
        CHECK(lam_session_state_bytes(kept, p) == (p == precision ? bytes : 0), "%zu bytes in precision %d, asked for %d", lam_session_state_bytes(kept, p), (int)p, (int)precision);
    lam_session_free(kept);
    lam_session_free(plain);
    for (int i = 1; i < n->inputs; i++) check_free(meant[i]);
}

static void check_net(net n, lam_pool *pool) {
    static const int pieces[][5] = { { 40, 1, 0 }, { 1, 2, 3, 5, 0 }, { 200, 30, 3, 1, 0 }, { 300, 0 } };
    for (lam_precision p = LAM_PRECISION_F32; p <= LAM_Q8; p++)
        for (int i = 0; i < 4; i++) follow(&n, p, i % 2 ? pool : NULL, i < 2 ? 60 : (int)check_size(150, MOST_TOKENS), pieces[i]);
    for (int i = 0; i < n.inputs; i++) check_free(n.x[i]);
    lam_graph_free(n.g);
}

/* One more reader that takes f32, or the cache itself as an output: then it stays f32. */
static void check_other_readers(void) {
    for (int variant = 0; variant < 3; variant++) {
        lam_graph *g = lam_graph_new();
        lam_value x = lam_input(g, LAM_F32, 3, (int[]){ 1, LAM_ANY, 8 }), all = lam_cache(g, x, 1), heads = lam_unflatten(g, all, 2, 2, (int[]){ 2, 4 });
        lam_value q = lam_permute(g, lam_unflatten(g, x, 2, 2, (int[]){ 2, 4 }), (int[]){ 0, 2, 1, 3 }), k = lam_permute(g, heads, (int[]){ 0, 2, 1, 3 });
        lam_output(g, lam_attention(g, q, k, k, LAM_NONE, NAN, (int[]){ -1, 0 }, 1));
        lam_output(g, variant == 0 ? all : variant == 1 ? lam_mean(g, heads, 1, 0) : lam_mean(g, lam_reshape(g, all, 3, (int[]){ 1, -1, 4 }), 1, 0));
        CHECK(lam_compile(g) == LAM_OK, "%s", lam_graph_error(g));
        for (int both = 0; both < 2; both++) {
            lam_session *s = lam_session_new(g, NULL);
            if (!both) lam_session_select(s, 0, 1);
            CHECK(lam_session_context(s, 5, LAM_PRECISION_F16) == LAM_OK, "%s", lam_session_error(s));
            lam_session_resize(s, 0, 3, (int[]){ 1, 3, 8 });
            CHECK(lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
            CHECK((lam_session_state_bytes(s, LAM_PRECISION_F16) > 0) == !both && (lam_session_state_bytes(s, LAM_PRECISION_F32) > 0) == both,
                  "variant %d, %s", variant, both ? "read as f32 too" : "read by attention alone");
            lam_session_free(s);
        }
        lam_graph_free(g);
    }
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    lam_pool *pool = lam_pool_new(2);
    check_net(attention_net(3, 1, 20, 20, -1), pool);
    check_net(attention_net(2, 4, 16, 8, -1), pool);
    check_net(attention_net(2, 2, 33, 35, 50), pool);
    check_net(one_head(40), pool);
    check_net(latent_net(5, 6, 4, 7, 40), pool);
    check_net(latent_net(2, 4, 2, 5, 37), pool);
    check_other_readers();
    lam_pool_free(pool);
    return check_end("cache");
}
