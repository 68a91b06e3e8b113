/* Weights in halves: rounding, packing, and products that equal those of weights rounded beforehand. */
#include "check.h"
#include "dtype.h"
#include "kernels/gemm.h"
#include "kernels/half.h"
#include "lamella.h"
#include "net.h"
#include "pool.h"
#include "reference.h"

/* The half nearest to x among all of them, the even one of two: by search, without a thought of bits. */
static uint16_t nearest(float x, const float *values) {
    float size = fabsf(x);
    uint16_t low = 0, high = 0x7bff;
    while (low + 1 < high) {
        uint16_t middle = (uint16_t)((low + high) / 2);
        if (values[middle] <= size) low = middle;
        else high = middle;
    }
    double below = (double)size - values[low], above = (double)values[high] - size;
    uint16_t found = above < below || (above == below && !(high & 1)) ? high : low;
    return signbit(x) ? found | 0x8000 : found;
}

static void rounding(const float *values) {
    enum { COUNT = 4000 };
    float *x = check_floats(COUNT);
    for (int i = 0; i < COUNT; i++) {
        float a = values[check_size(0, 0x7bfe)], between = (i & 1 ? a : -a);
        if (i % 7 < 3) between += (float)(i % 7) * 0.25f * (values[1]);                      /* at and beside the ties of subnormal ones */
        if (i % 5 == 0) between = ldexpf(check_uniform(-1, 1), (int)check_size(0, 50) - 32);
        if (i % 5 == 1) {                                                                    /* ties, and the floats next to them */
            size_t at = check_size(0, 0x7bfe);
            between = (values[at] + values[at + 1]) / 2;
            if (i & 4) between = nextafterf(between, i & 8 ? INFINITY : -INFINITY);
        }
        x[i] = between;
    }
    const float special[] = { 0, -0.0f, 65504, 65519, 65520, 1e30f, -INFINITY, 0x1p-24f, 0x1p-25f, 0x1.000002p-25f, 0x1p-149f };
    memcpy(x, special, sizeof special);
    uint16_t halves[COUNT];
    for (size_t n = COUNT - 9; n <= COUNT; n++) {
        memset(halves, 0x55, sizeof halves);
        half_from_f32(halves, x, n);
        for (size_t i = 0; i < n; i++) CHECK(halves[i] == nearest(x[i], values), "%a became %04x, expected %04x", x[i], halves[i], nearest(x[i], values));
        for (size_t i = n; i < COUNT; i++) CHECK(halves[i] == 0x5555, "written past %zu", n);
    }
    const float nan[2] = { NAN, -NAN };
    float back[2];
    half_from_f32(halves, nan, 2);
    dtype_to_f32(back, LAM_F16, halves, 2);
    CHECK(isnan(back[0]) && isnan(back[1]), "NaN became %04x and %04x", halves[0], halves[1]);
    check_free(x);
}

typedef struct sizes { size_t taps, m, n, k; int bias, add, in_place, scaled; lam_activation activation; } sizes;

static void one(const sizes *s) {
    size_t k_total = s->taps * s->k, c_stride = s->n + check_size(0, 2), c_floats = s->m ? (s->m - 1) * c_stride + s->n : 0;
    float *a = check_floats(s->m * k_total), *b = check_floats(k_total * s->n), *bias = check_floats(s->n), *scale = check_floats(s->n);
    float *c = check_floats(c_floats), *expected = check_floats(c_floats), *add = check_floats(c_floats);
    float small = check_size(0, 3) ? 1 / sqrtf((float)k_total + 1) : 0x1p-20f;               /* also: nearly all are subnormal */
    for (size_t i = 0; i < k_total * s->n; i++) b[i] *= small;
    if (s->scaled && s->n) scale[0] = 0;
    size_t floats = gemm_packed_floats_in(GEMM_F16, k_total, s->n), in_f32 = gemm_packed_floats(k_total, s->n);
    CHECK(floats <= in_f32 / 2 + (s->n + 7) / 8 * 12, "%zu floats, f32 %zu", floats, in_f32);
    float *packed = check_floats(floats);
    memset(packed, 0, floats * sizeof *packed);
    for (size_t j = 0; j < s->n;) {                                   /* columns are packed in pieces, and scaled as soon as they are */
        size_t columns = check_size(1, s->n - j), k0 = k_total ? check_size(0, k_total) : 0;
        gemm_pack(GEMM_F16, packed, k_total, 0, k0, j, columns, b + j, s->n, 1);
        gemm_pack(GEMM_F16, packed, k_total, k0, k_total - k0, j, columns, b + k0 * s->n + j, s->n, 1);
        if (s->scaled) gemm_scale(GEMM_F16, packed, k_total, j, columns, scale + j);
        j += columns;
    }
    gemm_bias(GEMM_F16, packed, k_total, s->n, s->bias ? bias : NULL);
    for (size_t i = 0; i < k_total * s->n; i++) {
        uint16_t half;
        half_from_f32(&half, &b[i], 1);
        dtype_to_f32(&b[i], LAM_F16, &half, 1);
        if (s->scaled) b[i] *= scale[i % s->n];
    }
    memcpy(expected, s->in_place ? add : c, c_floats * sizeof *c);
    reference_gemm(expected, c_stride, a, k_total, b, s->bias ? bias : NULL, s->add ? add : NULL, s->m, s->n, k_total, s->activation);
    const gemm_epilogue epilogue = { s->add ? add : NULL, c_stride, s->activation };
    float *to = s->in_place ? add : c;
    if (s->m && s->taps > 1) {
        size_t tiles = (s->m + GEMM_MR - 1) / GEMM_MR;
        const float **rows = malloc(tiles * s->taps * GEMM_MR * sizeof *rows);
        for (size_t i = 0; i < tiles * GEMM_MR; i++)
            for (size_t t = 0; t < s->taps; t++)
                rows[(i / GEMM_MR * s->taps + t) * GEMM_MR + i % GEMM_MR] = a + (i < s->m ? i : s->m - 1) * k_total + t * s->k;
        gemm(GEMM_F16, to, c_stride, rows, s->taps, packed, s->m, s->n, s->k, &epilogue);
        free(rows);
    } else gemm_matrix(GEMM_F16, to, c_stride, a, k_total, packed, s->m, s->n, k_total, &epilogue);
    if (!check_close(to, expected, c_floats, 2e-6 + 6e-8 * sqrt((double)k_total), "gemm of halves"))
        printf("    taps %zu m %zu n %zu k %zu bias %d add %d in place %d scaled %d activation %d\n", s->taps, s->m, s->n, s->k, s->bias, s->add,
               s->in_place, s->scaled, s->activation);
    check_free(a); check_free(b); check_free(bias); check_free(scale);
    check_free(c); check_free(expected); check_free(add); check_free(packed);
}

/* A weight that is no number, or infinite, makes its column NaN, whatever else is packed to it, and no other. */
static void not_numbers(void) {
    enum { K = 70, N = 40 };
    for (int i = 0; i < 40; i++) {
        size_t bad = check_size(0, N - 1), at = check_size(0, K - 1), m = check_size(1, 9);
        float *a = check_floats(m * K), *b = check_floats(K * N), *c = check_floats(m * N), *packed = check_floats(gemm_packed_floats_in(GEMM_F16, K, N));
        memset(packed, 0, gemm_packed_floats_in(GEMM_F16, K, N) * sizeof *packed);
        b[at * N + bad] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY;
        for (size_t k0 = 0; k0 < K; k0 += 35) gemm_pack(GEMM_F16, packed, K, k0, 35, 0, N, b + k0 * N, N, 1);
        gemm_bias(GEMM_F16, packed, K, N, NULL);
        gemm_matrix(GEMM_F16, c, N, a, K, packed, m, N, K, NULL);
        for (size_t j = 0; j < m * N; j++) CHECK(!isfinite(c[j]) == (j % N == bad), "column %zu of %zu rows is %g, the bad one is %zu", j % N, m, c[j], bad);
        check_free(a); check_free(b); check_free(c); check_free(packed);
    }
}

/* A network on halves that come in chunks of `step` rows, and the same in f32 on weights rounded beforehand. */
enum { WORDS = 11, WIDTH = 13, TOKENS = 9 };

static lam_graph *record(lam_precision precision) {
    lam_graph *g = lam_graph_new();
    lam_value w[6] = { lam_weight(g, "table", 2, (int[]){ WORDS, WIDTH }), lam_weight(g, "fc", 2, (int[]){ 40, WIDTH }),
                       lam_weight(g, "matrix", 2, (int[]){ 27, 18 }), lam_weight(g, "conv", 4, (int[]){ 20, 9, 3, 1 }), lam_weight(g, "again", 2, (int[]){ WORDS, 18 }) };
    for (int i = 0; i < 5; i++) lam_weight_precision(g, w[i], precision);
    lam_value x = lam_embedding(g, lam_input(g, LAM_I32, 1, (int[]){ LAM_ANY }), w[0]);
    x = lam_matmul(g, lam_linear(g, x, w[1], lam_weight(g, "bias", 1, (int[]){ 40 }), 5, 27), w[2], 0);
    lam_value image = lam_reshape(g, x, 4, (int[]){ 1, -1, 9, 2 });
    image = lam_conv2d(g, lam_permute(g, image, (int[]){ 0, 2, 1, 3 }), w[3], LAM_NONE, (int[]){ 1, 1 }, (int[]){ 1, 0, 1, 0 }, (int[]){ 1, 1 }, 1);
    lam_value v[4];
    for (int i = 0; i < 4; i++) v[i] = lam_weight(g, (const char *[]){ "norm.mean", "norm.var", "norm.gain", "norm.shift" }[i], 1, (int[]){ 20 });
    lam_output(g, lam_batch_norm(g, image, v[0], v[1], v[2], v[3], 1e-5f));
    lam_output(g, lam_linear(g, x, w[4], LAM_NONE, 0, WORDS));
    return g;
}

static void load(lam_graph *g, int step, int round) {
    for (int w = lam_weight_count(g) - 1; w >= 0; w--) {          /* the norm first: it is folded in as filters are packed */
        int rows = lam_weight_dim(g, w, 0), width = 1;
        for (int d = 1; d < lam_weight_rank(g, w); d++) width *= lam_weight_dim(g, w, d);
        for (int first = (rows - 1) / step * step; first >= 0; first -= step) {
            int count = rows - first < step ? rows - first : step;
            float *data = check_floats((size_t)(count * width));
            for (int i = 0; i < count * width; i++) {
                uint16_t half;
                data[i] = net_value(lam_weight_name(g, w), first * width + i);
                if (!round || lam_weight_rank(g, w) == 1) continue;
                half_from_f32(&half, &data[i], 1);
                dtype_to_f32(&data[i], LAM_F16, &half, 1);
            }
            CHECK(lam_load(g, w, LAM_F32, data, first, count) == LAM_OK, "%s", lam_graph_error(g));
            check_free(data);
        }
    }
}

static void run(lam_graph *g, lam_pool *pool, float *y) {
    lam_session *s = lam_session_new(g, pool);
    CHECK(lam_session_resize(s, 0, 1, (int[]){ TOKENS }) == LAM_OK && lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
    for (int i = 0; i < TOKENS; i++) ((int *)lam_session_input(s, 0))[i] = i * 7 % WORDS;
    lam_session_run(s);
    memcpy(y, lam_session_output(s, 0), 20 * TOKENS * 2 * sizeof *y);
    memcpy(y + 20 * TOKENS * 2, lam_session_output(s, 1), WORDS * TOKENS * sizeof *y);
    lam_session_free(s);
}

static void network(void) {
    enum { FLOATS = (20 * 2 + WORDS) * TOKENS };
    static const lam_precision precisions[] = { LAM_PRECISION_F16, LAM_PRECISION_F32 };
    float *y = check_floats(FLOATS), *expected = check_floats(FLOATS);
    lam_pool *pool = lam_pool_new(2);
    for (int step = 1; step <= 20; step++) {
        lam_graph *g[2];
        for (int i = 0; i < 2; i++) {
            g[i] = record(precisions[i]);
            CHECK(lam_compile(g[i]) == LAM_OK, "%s", lam_graph_error(g[i]));
            load(g[i], step, i);
            run(g[i], step % 2 ? pool : NULL, i ? expected : y);
        }
        CHECK(lam_packed_bytes(g[0]) < lam_packed_bytes(g[1]) * 2 / 3, "%zu bytes of %zu", lam_packed_bytes(g[0]), lam_packed_bytes(g[1]));
        check_close(y, expected, FLOATS, 1e-5, "a network on halves");
        for (int i = 0; i < 2; i++) lam_graph_free(g[i]);
    }
    lam_pool_free(pool);
    check_free(y); check_free(expected);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    uint16_t bits[0x7c00];
    static float values[0x7c00];
    for (int i = 0; i < 0x7c00; i++) bits[i] = (uint16_t)i;
    dtype_to_f32(values, LAM_F16, bits, 0x7c00);
    rounding(values);
    uint16_t again[0x7c00];
    half_from_f32(again, values, 0x7c00);
    CHECK(!memcmp(bits, again, sizeof bits), "halves change when they are rounded");
    for (size_t m = 0; m <= 13; m++)                                  /* every edge of a tile */
        for (size_t n = 0; n <= 41; n++)
            for (size_t taps = 1; taps <= 2; taps++)
                one(&(sizes){ taps, m, n, check_size(0, 9), check_size(0, 1), check_size(0, 1), 0, check_size(0, 1), (lam_activation)check_size(0, 1) });
    for (int i = 0; i < 300; i++) {
        sizes s = { check_size(1, 9), check_size(0, 70), check_size(0, 90), check_size(0, 90), check_size(0, 1), check_size(0, 1), 0, check_size(0, 1),
                    (lam_activation)check_size(0, LAM_ACTIVATIONS - 1) };
        if (i % 10 == 0) s.m = check_size(200, 500);
        if (i % 10 < 4 && i % 10) s.k = check_size(200, 1600) , s.taps = check_size(1, 3);   /* more than becomes f32 at a time */
        s.in_place = s.add && check_size(0, 1);
        one(&s);
    }
    not_numbers();
    network();
    return check_end("half");
}
