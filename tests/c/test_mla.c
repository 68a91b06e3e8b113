/* Latent attention in both its forms against the textbook: keys and values per head, then softmax. */
#include "check.h"
#include "lamella.h"
#include "pool.h"

typedef struct sizes { int b, t, s, c, heads, nope, rope, v; } sizes;

static void load(lam_graph *g, const float *w, int rows, int c, int step) {
    for (int r = 0; r < rows; r += step) lam_load(g, 0, LAM_F32, w + r * c, r, r + step < rows ? step : rows - r);
}

/* y [v] of query i, head h of one sequence. */
static void naive(const sizes *n, const float *q, const float *kv, const float *w, float scale, int i, int h, double *y) {
    int wide = n->c + n->rope, own = n->nope + n->rope, seen = i + n->s - n->t + 1;
    const float *query = q + (i * n->heads + h) * own, *rows = w + h * (n->nope + n->v) * n->c;
    double *p = malloc((size_t)seen * sizeof *p), max = -INFINITY, sum = 0;
    for (int j = 0; j < seen; j++) {
        const float *latent = kv + j * wide;
        double score = 0;
        for (int k = 0; k < n->nope; k++) {
            double key = 0;
            for (int e = 0; e < n->c; e++) key += (double)rows[k * n->c + e] * (double)latent[e];
            score += key * (double)query[k];
        }
        for (int k = 0; k < n->rope; k++) score += (double)query[n->nope + k] * (double)latent[n->c + k];
        p[j] = score * (double)scale;
        max = fmax(max, p[j]);
    }
    for (int j = 0; j < seen; j++) sum += p[j] = exp(p[j] - max);
    for (int k = 0; k < n->v; k++) {
        y[k] = 0;
        for (int j = 0; j < seen; j++) {
            double value = 0;
            for (int e = 0; e < n->c; e++) value += (double)rows[(n->nope + k) * n->c + e] * (double)kv[j * wide + e];
            y[k] += p[j] / sum * value;
        }
    }
    free(p);
}

/* Weights in f32, or asked for in fewer bits: then in halves. */
static void check_kept(sizes n, lam_pool *pool, lam_precision precision) {
    int wide = n.c + n.rope, rows = n.heads * (n.nope + n.v), q_width = n.heads * (n.nope + n.rope), y_width = n.heads * n.v;
    size_t q_floats = (size_t)(n.b * n.t * q_width), kv_floats = (size_t)(n.b * n.s * wide);
    float *q = check_floats(q_floats), *kv = check_floats(kv_floats), *w = check_floats((size_t)(rows * n.c)), scale = 0.7f;
    lam_graph *g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 3, (int[]){ LAM_ANY, LAM_ANY, q_width }), l = lam_input(g, LAM_F32, 3, (int[]){ LAM_ANY, LAM_ANY, wide });
    lam_output(g, lam_mla(g, x, l, lam_weight_precision(g, lam_weight(g, "kv_b", 2, (int[]){ rows, n.c }), precision), n.heads, n.nope, n.rope, n.v, scale));
    CHECK(lam_compile(g) == LAM_OK, "%s", lam_graph_error(g));
    load(g, w, rows, n.c, (int)check_size(1, (size_t)rows));
    lam_session *s = lam_session_new(g, pool);
    lam_session_resize(s, 0, 3, (int[]){ n.b, n.t, q_width });
    lam_session_resize(s, 1, 3, (int[]){ n.b, n.s, wide });
    CHECK(lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
    memcpy(lam_session_input(s, 0), q, q_floats * sizeof(float));
    memcpy(lam_session_input(s, 1), kv, kv_floats * sizeof(float));
    lam_session_run(s);
    CHECK(!strncmp(lam_layer_name(s, 0), "f16 ", 4) == (precision != LAM_PRECISION_F32), "a layer is %s", lam_layer_name(s, 0));
    double *y = malloc((size_t)n.v * sizeof *y), worst = 0, largest = 0;
    for (int b = 0; b < n.b; b++)
        for (int i = 0; i < n.t; i++)
            for (int h = 0; h < n.heads; h++) {
                naive(&n, q + b * n.t * q_width, kv + b * n.s * wide, w, scale, i, h, y);
                for (int k = 0; k < n.v; k++) {
                    worst = fmax(worst, fabs(y[k] - (double)lam_session_output(s, 0)[(b * n.t + i) * y_width + h * n.v + k]));
                    largest = fmax(largest, fabs(y[k]));
                }
            }
    CHECK(worst <= (precision == LAM_PRECISION_F32 ? 1e-5 : 2e-3) * largest, "b %d t %d s %d c %d heads %d nope %d rope %d v %d: %g of %g", n.b, n.t, n.s, n.c, n.heads, n.nope, n.rope, n.v,
          worst, largest);
    free(y);
    lam_session_free(s);
    lam_graph_free(g);
    check_free(q);
    check_free(kv);
    check_free(w);
}

static void check_sizes(sizes n, lam_pool *pool) {
    check_kept(n, pool, LAM_PRECISION_F32);
    check_kept(n, pool, (lam_precision)check_size(LAM_PRECISION_F16, LAM_Q4));
}

static void check_refusal(int q_width, int kv_width, int rows, const char *expected) {
    lam_graph *g = lam_graph_new();
    lam_value q = lam_input(g, LAM_F32, 3, (int[]){ 1, 4, q_width }), kv = lam_input(g, LAM_F32, 3, (int[]){ 1, 4, kv_width });
    CHECK(lam_mla(g, q, kv, lam_weight(g, "w", 2, (int[]){ rows, 10 }), 2, 5, 4, 3, 1) == LAM_BAD && strstr(lam_graph_error(g), expected), "%s",
          lam_graph_error(g));
    lam_graph_free(g);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    lam_pool *pool = lam_pool_new(2);
    for (int i = 0; i < 40; i++) {
        sizes n = { (int)check_size(1, 2), (int)check_size(1, i % 4 ? 60 : 4), 0, (int)check_size(1, 24), (int)check_size(1, 4), (int)check_size(1, 9),
                    (int)check_size(0, 3) * 2, (int)check_size(1, 9) };
        n.s = n.t + (int)check_size(0, i % 2 ? 150 : 0);
        check_sizes(n, i % 3 ? NULL : pool);
    }
    check_sizes((sizes){ 1, 1, 300, 40, 3, 8, 4, 7 }, NULL);      /* a token of a long text: absorbed */
    check_sizes((sizes){ 1, 130, 130, 40, 2, 4, 2, 5 }, NULL);    /* a long text at once: expanded */
    for (int b = 1; b <= 2; b++) check_sizes((sizes){ b, 70, 90, 8, 2, 64, 2, 64 }, b == 1 ? NULL : pool);   /* absorbed, and more queries than are carried together */
    check_refusal(17, 14, 16, "q [1, 4, 17] should be 18 wide: 2 heads of 5 + 4");
    check_refusal(18, 15, 16, "kv [1, 4, 15] should be 14 wide");
    check_refusal(18, 14, 15, "should have 16 rows: 2 heads of 5 + 3");
    lam_pool_free(pool);
    return check_end("mla");
}
