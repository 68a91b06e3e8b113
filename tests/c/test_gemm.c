#include "check.h"
#include "kernels/gemm.h"
#include "reference.h"

typedef struct sizes {
    size_t taps, m, n, k, a_extra, c_extra;
    int bias, add, in_place;
    lam_activation activation;
} sizes;

/* Row pointers as gemm_f32 wants them: the last tile repeats its last row. */
static const float **tile_rows(const float *a, size_t a_stride, const sizes *s) {
    size_t tiles = (s->m + GEMM_MR - 1) / GEMM_MR;
    const float **rows = malloc(tiles * s->taps * GEMM_MR * sizeof *rows + 1);
    for (size_t i = 0; i < tiles * GEMM_MR; i++) {
        size_t row = i < s->m ? i : s->m - 1;
        for (size_t t = 0; t < s->taps; t++) rows[(i / GEMM_MR * s->taps + t) * GEMM_MR + i % GEMM_MR] = a + row * a_stride + t * s->k;
    }
    return rows;
}

static void one(const sizes *s) {
    size_t k_total = s->taps * s->k, a_stride = k_total + s->a_extra, c_stride = s->n + s->c_extra;
    float *a = check_floats(s->m ? (s->m - 1) * a_stride + k_total : 0), *b = check_floats(k_total * s->n);
    for (size_t i = 0; i < k_total * s->n; i++) b[i] /= sqrtf((float)k_total);   /* results near 1, where functions bend */
    float *bias = check_floats(s->n);
    size_t c_floats = s->m ? (s->m - 1) * c_stride + s->n : 0;
    float *c = check_floats(c_floats), *expected = check_floats(c_floats), *add = check_floats(c_floats);
    float *packed = check_floats(gemm_packed_floats(k_total, s->n));

    memcpy(expected, s->in_place ? add : c, c_floats * sizeof *c);    /* what lies between the rows must stay */
    reference_gemm(expected, c_stride, a, a_stride, b, s->bias ? bias : NULL, s->add ? add : NULL, s->m, s->n, k_total, s->activation);

    for (size_t j = 0; j < s->n;) {                                   /* packed in chunks of any size */
        size_t columns = check_size(1, s->n - j), k0 = k_total ? check_size(0, k_total) : 0;
        gemm_pack_f32(packed, k_total, 0, k0, j, columns, b + j, s->n, 1);
        gemm_pack_f32(packed, k_total, k0, k_total - k0, j, columns, b + k0 * s->n + j, s->n, 1);
        j += columns;
    }
    gemm_pack_bias(packed, k_total, s->n, s->bias ? bias : NULL);
    const gemm_epilogue epilogue = {s->add ? add : NULL, c_stride, s->activation};
    const gemm_epilogue *e = s->add || s->activation ? &epilogue : NULL;
    float *to = s->in_place ? add : c;
    if (s->m && s->taps > 1) {
        const float **rows = tile_rows(a, a_stride, s);
        gemm_f32(to, c_stride, rows, s->taps, packed, s->m, s->n, s->k, e);
        free(rows);
    } else {
        gemm_f32_matrix(to, c_stride, a, a_stride, packed, s->m, s->n, k_total, e);
    }
    double tolerance = 2e-6 + 6e-8 * sqrt((double)k_total);           /* one running sum of k_total products */
    if (!check_close(to, expected, c_floats, tolerance, "gemm")) {
        printf("    taps %zu m %zu n %zu k %zu bias %d add %d in place %d activation %d\n", s->taps, s->m, s->n, s->k, s->bias, s->add, s->in_place, s->activation);
    }
    check_free(a); check_free(b); check_free(bias);
    check_free(c); check_free(expected); check_free(add); check_free(packed);
}

/* The three forms in which weights lie in memory pack to the same panels, and scaling columns is scaling weights. */
static void packing(void) {
    size_t k = check_size(1, 40), n = check_size(1, 40);
    float *b = check_floats(k * n), *turned = check_floats(k * n), *spread = check_floats(2 * k * n), *bias = check_floats(n);
    float *scale = check_floats(n), *packed[3];
    for (size_t i = 0; i < k; i++) {
        for (size_t j = 0; j < n; j++) turned[j * k + i] = spread[2 * (j * k + i)] = b[i * n + j];
    }
    for (int p = 0; p < 3; p++) {
        packed[p] = check_floats(gemm_packed_floats(k, n));
        gemm_pack_bias(packed[p], k, n, bias);
    }
    gemm_pack_f32(packed[0], k, 0, k, 0, n, b, n, 1);
    gemm_pack_f32(packed[1], k, 0, k, 0, n, turned, 1, k);
    gemm_pack_f32(packed[2], k, 0, k, 0, n, spread, 2, 2 * k);
    size_t bytes = gemm_packed_floats(k, n) * sizeof(float);
    CHECK(!memcmp(packed[0], packed[1], bytes), "transposed weights, k %zu n %zu", k, n);
    CHECK(!memcmp(packed[0], packed[2], bytes), "strided weights, k %zu n %zu", k, n);
    for (size_t j = 0, here; j < n; j += here) {
        here = check_size(1, n - j);
        gemm_scale_columns(packed[0], k, j, here, scale + j);
    }
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; i < k; i++) b[i * n + j] *= scale[j];
    gemm_pack_bias(packed[1], k, n, bias);
    gemm_pack_f32(packed[1], k, 0, k, 0, n, b, n, 1);
    CHECK(!memcmp(packed[0], packed[1], bytes), "scaled columns, k %zu n %zu", k, n);
    for (int p = 0; p < 3; p++) check_free(packed[p]);
    check_free(b); check_free(turned); check_free(spread); check_free(bias); check_free(scale);
}

/* Some rows of B alone, added to what is there; the bias is not. */
static void add_rows(void) {
    size_t m = check_size(0, 30), n = check_size(0, 40), k_total = check_size(0, 40), k0 = check_size(0, k_total), k = check_size(0, k_total - k0);
    size_t a_stride = k + check_size(0, 3), c_stride = n + check_size(0, 3), c_floats = m ? (m - 1) * c_stride + n : 0;
    if (check_size(0, 9) == 0) m = check_size(0, 400), c_floats = m ? (m - 1) * c_stride + n : 0;     /* more rows than are taken together */
    float *a = check_floats(m ? (m - 1) * a_stride + k : 0), *b = check_floats(k_total * n), *bias = check_floats(n);
    float *c = check_floats(c_floats), *expected = check_floats(c_floats), *packed = check_floats(gemm_packed_floats(k_total, n));
    gemm_pack_f32(packed, k_total, 0, k_total, 0, n, b, n, 1);
    gemm_pack_bias(packed, k_total, n, bias);
    memcpy(expected, c, c_floats * sizeof *c);
    reference_gemm(expected, c_stride, a, a_stride, b + k0 * n, NULL, c, m, n, k, LAM_IDENTITY);
    gemm_f32_add_rows(c, c_stride, a, a_stride, packed, k_total, k0, m, n, k);
    if (!check_close(c, expected, c_floats, 2e-6, "rows of b")) printf("    m %zu n %zu k %zu of %zu from %zu\n", m, n, k, k_total, k0);
    check_free(a); check_free(b); check_free(bias);
    check_free(c); check_free(expected); check_free(packed);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    for (size_t m = 0; m <= 13; m++) {                                /* every edge of a tile */
        for (size_t n = 0; n <= 41; n++) {
            for (size_t taps = 1; taps <= 2; taps++) {
                one(&(sizes){taps, m, n, check_size(0, 9), check_size(0, 2), check_size(0, 2), check_size(0, 1), check_size(0, 1), 0,
                             (lam_activation)check_size(0, 1)});
            }
        }
    }
    for (int i = 0; i < 300; i++) {
        sizes s = {check_size(1, 9), check_size(0, 70), check_size(0, 90), check_size(0, 40), check_size(0, 3), check_size(0, 3),
                   check_size(0, 1), check_size(0, 1), 0, (lam_activation)check_size(0, LAM_ACTIVATIONS - 1)};
        if (i % 10 == 0) s.m = check_size(200, 500);                  /* more rows than one block */
        if (i % 10 == 1) s.k = check_size(200, 900);
        s.in_place = s.add && check_size(0, 1);
        one(&s);
    }
    for (int i = 0; i < 100; i++) packing();
    for (int i = 0; i < 300; i++) add_rows();
    return check_end("gemm");
}
