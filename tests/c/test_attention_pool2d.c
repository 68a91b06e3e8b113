/* CLIP's attention pool against the textbook: every token projected, all in double; images, threads, weights that arrive in any pieces. */
#include "check.h"
#include "lamella.h"
#include "pool.h"

enum { POSITION, Q_W, Q_B, K_W, K_B, V_W, V_B, C_W, C_B, LN_W, LN_B, WEIGHTS };

typedef struct sizes { int n, c, heads, out, h, w, twice, norm; } sizes;

/* y [rows, out] = x [rows, c] w^T + b */
static void project(double *y, const double *x, const float *w, const float *b, int rows, int c, int out) {
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < out; o++) {
            double sum = (double)b[o];
            for (int i = 0; i < c; i++) sum += x[r * c + i] * (double)w[o * c + i];
            y[r * out + o] = sum;
        }
}

/* [tokens, c] of one image: the mean of its pixels, then these, with their positions, normalised. */
static void make_tokens(double *t, const sizes *s, const float *x, float *const *w) {
    int pixels = s->h * s->w, c = s->c;
    for (int i = 0; i < c; i++) {
        t[i] = 0;
        for (int p = 0; p < pixels; p++) t[(p + 1) * c + i] = (double)x[i * pixels + p], t[i] += t[(p + 1) * c + i] / pixels;
    }
    for (int r = 0; r <= pixels; r++) {
        double mean = 0, var = 0, *row = t + r * c;
        for (int i = 0; i < c; i++) row[i] += (double)w[POSITION][r * c + i], mean += row[i] / c;
        for (int i = 0; i < c; i++) var += pow(row[i] - mean, 2) / c;
        for (int i = 0; i < c && s->norm; i++) row[i] = (row[i] - mean) / sqrt(var + 1e-5) * (double)w[LN_W][i] + (s->norm == 2 ? (double)w[LN_B][i] : 0);
    }
}

static void textbook(float *y, const sizes *s, const float *x, float *const *w) {
    int tokens = s->h * s->w + 1, c = s->c, d = c / s->heads;
    size_t bytes = (size_t)(tokens * c) * sizeof(double);
    double *t = malloc(bytes), *q = malloc(bytes), *k = malloc(bytes), *v = malloc(bytes), *again = malloc(bytes), *p = malloc((size_t)tokens * sizeof *p);
    double *o = malloc((size_t)c * sizeof *o), *result = malloc((size_t)s->out * sizeof *result);
    make_tokens(t, s, x, w);
    double *const to[] = { q, k, v };
    for (int i = 0; i < 3; i++) {
        project(to[i], t, w[Q_W + 2 * i], w[Q_B + 2 * i], tokens, c, c);
        if (!s->twice) continue;
        project(again, to[i], w[Q_W + 2 * i], w[Q_B + 2 * i], tokens, c, c);
        memcpy(to[i], again, bytes);
    }
    for (int h = 0; h < s->heads; h++) {
        double max = -INFINITY, sum = 0;
        for (int j = 0; j < tokens; j++) {
            p[j] = 0;
            for (int i = h * d; i < (h + 1) * d; i++) p[j] += q[i] * k[j * c + i] / sqrt(d);
            max = fmax(max, p[j]);
        }
        for (int j = 0; j < tokens; j++) sum += p[j] = exp(p[j] - max);
        for (int i = h * d; i < (h + 1) * d; i++) {
            o[i] = 0;
            for (int j = 0; j < tokens; j++) o[i] += p[j] / sum * v[j * c + i];
        }
    }
    project(result, o, w[C_W], w[C_B], 1, c, s->out);
    for (int i = 0; i < s->out; i++) y[i] = (float)result[i];
    free(t), free(q), free(k), free(v), free(again), free(p), free(o), free(result);
}

static void one(sizes s, lam_pool *pool) {
    static const char *const names[] = { "position", "q.w", "q.b", "k.w", "k.b", "v.w", "v.b", "c.w", "c.b", "ln.w", "ln.b" };
    int tokens = s.h * s.w + 1, count = LN_W + s.norm;
    float *w[WEIGHTS] = { 0 };
    lam_graph *g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 4, (int[]){ LAM_ANY, s.c, LAM_ANY, LAM_ANY }), v[WEIGHTS];
    for (int i = 0; i < WEIGHTS; i++) {
        int rows = i == POSITION ? tokens : i == C_W || i == C_B ? s.out : s.c, matrix = i < LN_W && (i == POSITION || i % 2);
        v[i] = i < count ? lam_weight(g, names[i], matrix ? 2 : 1, (int[]){ rows, s.c }) : LAM_NONE;
        w[i] = check_floats((size_t)(rows * (matrix ? s.c : 1)));
        for (int j = 0; matrix && i != POSITION && j < rows * s.c; j++) w[i][j] *= 1.7f / sqrtf((float)s.c);
    }
    lam_output(g, lam_attention_pool2d(g, x, v, s.heads, 1e-5f, s.twice));
    CHECK(lam_compile(g) == LAM_OK, "%s", lam_graph_error(g));
    for (int i = count - 1; i >= 0; i--)
        for (int first = 0, rows, all = lam_weight_dim(g, i, 0); first < all; first += rows) {
            rows = (int)check_size(1, (size_t)(all - first));
            size_t row = i < LN_W && (i == POSITION || i % 2) ? (size_t)s.c : 1;
            CHECK(lam_load(g, i, LAM_F32, w[i] + (size_t)first * row, first, rows) == LAM_OK, "%s", lam_graph_error(g));
        }
    lam_session *session = lam_session_new(g, pool);
    CHECK(lam_session_resize(session, 0, 4, (int[]){ s.n, s.c, s.h, s.w }) == LAM_OK && lam_session_prepare(session) == LAM_OK, "%s", lam_session_error(session));
    size_t floats = (size_t)(s.n * s.c * s.h * s.w);
    float *image = check_floats(floats), *expected = check_floats((size_t)(s.n * s.out));
    memcpy(lam_session_input(session, 0), image, floats * sizeof *image);
    lam_session_run(session);
    CHECK(!memcmp(lam_session_input(session, 0), image, floats * sizeof *image), "working memory reaches into the input");
    for (int i = 0; i < s.n; i++) textbook(expected + i * s.out, &s, image + i * s.c * s.h * s.w, w);
    if (!check_close(lam_session_output(session, 0), expected, (size_t)(s.n * s.out), 1e-5, "attention pool"))
        printf("    n %d c %d heads %d out %d h %d w %d twice %d norm %d\n", s.n, s.c, s.heads, s.out, s.h, s.w, s.twice, s.norm);
    lam_session_free(session);
    lam_graph_free(g);
    check_free(image), check_free(expected);
    for (int i = 0; i < WEIGHTS; i++) check_free(w[i]);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    lam_pool *pool = lam_pool_new(3);
    for (int i = 0; i < 150; i++) {
        int heads = (int)check_size(1, 5);
        one((sizes){ (int)check_size(1, 3), heads * (int)check_size(1, 13), heads, (int)check_size(1, 20), (int)check_size(1, 5), (int)check_size(1, 5), i & 1, i / 2 % 3 }, i % 5 ? NULL : pool);
    }
    one((sizes){ 2, 128, 4, 70, 7, 7, 0, 0 }, pool);
    one((sizes){ 1, 96, 3, 130, 6, 5, 1, 2 }, pool);
    lam_pool_free(pool);
    return check_end("attention pool");
}
