#include "gemm.h"
#include <string.h>
#include "../simd.h"
#include "activation.h"
#include "transpose.h"

/* A block of rows is read once per panel: it should stay in the second cache level beside the panel. */
enum { BLOCK_FLOATS = 128 * 1024, MATRIX_TILES = 32 };

static size_t panel_floats(size_t k_total) { return (k_total + 1) * GEMM_NR; }

/* Columns [first, first + columns) of one panel. */
static void pack_panel(float *panel, size_t first, size_t columns, size_t k, const float *b, size_t k_stride, size_t n_stride) {
    if (k_stride == 1) {
        transpose_f32(panel + first, GEMM_NR, b, n_stride, columns, k);
        return;
    }
    for (size_t kk = 0; kk < k; kk++) {
        float *to = panel + kk * GEMM_NR + first;
        const float *from = b + kk * k_stride;
        if (n_stride == 1 && columns == GEMM_NR) {          /* memcpy of a size not known is a call */
            simd_store(to, simd_load(from));
            simd_store(to + 4, simd_load(from + 4));
        } else if (n_stride == 1) memcpy(to, from, columns * sizeof *to);
        else for (size_t j = 0; j < columns; j++) to[j] = from[j * n_stride];
    }
}

void gemm_pack_f32(float *packed, size_t k_total, size_t k0, size_t k, size_t n0, size_t columns,
                   const float *b, size_t k_stride, size_t n_stride) {
    for (size_t j = 0; j < columns;) {
        size_t first = (n0 + j) % GEMM_NR, here = GEMM_NR - first;
        if (here > columns - j) here = columns - j;
        pack_panel(packed + (n0 + j) / GEMM_NR * panel_floats(k_total) + (k0 + 1) * GEMM_NR, first, here, k,
                   b + j * n_stride, k_stride, n_stride);
        j += here;
    }
}

void gemm_pack_bias(float *packed, size_t k_total, size_t n, const float *bias) {
    size_t padded = (n + GEMM_NR - 1) / GEMM_NR * GEMM_NR;
    for (size_t j = 0; j < padded; j++) {
        float *row = packed + j / GEMM_NR * panel_floats(k_total) + j % GEMM_NR;
        row[0] = bias && j < n ? bias[j] : 0;
        if (j < n) continue;
        for (size_t kk = 1; kk <= k_total; kk++) row[kk * GEMM_NR] = 0;
    }
}

void gemm_scale_columns(float *packed, size_t k_total, size_t n0, size_t columns, const float *scale) {
    packed += n0 / GEMM_NR * panel_floats(k_total);
    for (size_t first = n0 % GEMM_NR, here; columns; columns -= here, scale += here, first = 0) {
        float factors[GEMM_NR] = {1, 1, 1, 1, 1, 1, 1, 1};
        here = GEMM_NR - first < columns ? GEMM_NR - first : columns;
        memcpy(factors + first, scale, here * sizeof *factors);
        v128_t low = simd_load(factors), high = simd_load(factors + 4);
        packed += GEMM_NR;
        for (size_t kk = k_total; kk; kk--, packed += GEMM_NR) {
            simd_store(packed, wasm_f32x4_mul(simd_load(packed), low));
            simd_store(packed + 4, wasm_f32x4_mul(simd_load(packed + 4), high));
        }
    }
}

/* What a tile works on. One pointer in place of eight arguments keeps the calls short. */
typedef struct gemm_job {
    size_t taps, k, c_stride, panel_stride;
    const float *add;      /* of the same element as c, or NULL */
    size_t add_stride;
    int relu;
    size_t at;             /* where in a panel the rows begin that are used */
    const float *bias;     /* [GEMM_NR] for all panels, NULL: each panel's own */
} gemm_job;

/* The columns of a tile [mr, columns] that there are: the last n of a matrix. */
static SIMD_NOINLINE void store_some_columns(const gemm_job *job, float *c, const float *add, const float *sums, size_t mr, size_t columns,
                                             size_t n) {
    for (size_t r = 0; r < mr; r++, c += job->c_stride, sums += columns) {
        for (size_t j = 0; j < n; j++) {
            float sum = add ? sums[j] + add[r * job->add_stride + j] : sums[j];
            c[j] = job->relu && sum < 0 ? 0 : sum;
        }
    }
}

/* mr rows by `vectors` vectors of four columns, all in registers; both are constants where this is inlined. Vectors 2p and 2p + 1
 * belong to panel p. Columns past n are computed (the panel holds zeros there) and not stored. */
SIMD_INLINE void tile(size_t mr, size_t vectors, const gemm_job *job, float *c, const float *add, const float *const *rows,
                      const float *panel, size_t n) {
    v128_t acc[GEMM_MR][8];
    const size_t panel_stride = job->panel_stride, start_stride = job->bias ? 0 : panel_stride;
    const float *start = job->bias ? job->bias : panel;
    for (size_t v = 0; v < vectors; v++) {
        v128_t bias = simd_load(start + v / 2 * start_stride + v % 2 * 4);
        for (size_t r = 0; r < mr; r++) acc[r][v] = bias;
    }
    const float *b = panel + job->at;
    for (size_t tap = 0; tap < job->taps; tap++, rows += GEMM_MR) {
        const float *a[GEMM_MR];
        for (size_t r = 0; r < mr; r++) a[r] = rows[r];
        for (size_t kk = job->k; kk; kk--) {
            v128_t bv[8];
            for (size_t v = 0; v < vectors; v++) bv[v] = simd_load(b + v / 2 * panel_stride + v % 2 * 4);
            b += GEMM_NR;
            for (size_t r = 0; r < mr; r++) {
                v128_t av = simd_splat(a[r]++);
                for (size_t v = 0; v < vectors; v++) acc[r][v] = simd_madd(av, bv[v], acc[r][v]);
            }
        }
    }
    if (n < vectors * 4) {
        float sums[GEMM_MR * 8 * 4];
        for (size_t r = 0; r < mr; r++) {
            for (size_t v = 0; v < vectors; v++) simd_store(sums + (r * vectors + v) * 4, acc[r][v]);
        }
        store_some_columns(job, c, add, sums, mr, vectors * 4, n);
        return;
    }
    if (add) {
        for (size_t r = 0; r < mr; r++, add += job->add_stride) {
            for (size_t v = 0; v < vectors; v++) acc[r][v] = wasm_f32x4_add(acc[r][v], simd_load(add + v * 4));
        }
    }
    if (job->relu) {
        for (size_t r = 0; r < mr; r++) {
            for (size_t v = 0; v < vectors; v++) acc[r][v] = simd_max(acc[r][v], simd_zero());
        }
    }
    for (size_t r = 0; r < mr; r++, c += job->c_stride) {
        for (size_t v = 0; v < vectors; v++) simd_store(c + v * 4, acc[r][v]);
    }
}

#define TILE(mr, vectors) \
    static SIMD_NOINLINE void tile_##mr##x##vectors(const gemm_job *job, float *c, const float *add, const float *const *rows, \
                                                    const float *panel, size_t n) { \
        tile(mr, vectors, job, c, add, rows, panel, n); \
    }
TILE(1, 2) TILE(2, 2) TILE(3, 2) TILE(4, 2) TILE(5, 2)
TILE(1, 8) TILE(2, 4)

/* 12 sums, 2 columns and 1 row value are all the registers V8 has on x64. Without a fused multiply-add the product needs
 * another one and the sums spill (28 in place of 43 GFLOP/s), so there a tile is done in halves. */
static SIMD_NOINLINE void tile_6x2(const gemm_job *job, float *c, const float *add, const float *const *rows, const float *panel, size_t n) {
    if (SIMD_MADD_IS_FUSED) {
        tile(6, 2, job, c, add, rows, panel, n);
        return;
    }
    tile_3x2(job, c, add, rows, panel, n);
    tile_3x2(job, c + 3 * job->c_stride, add ? add + 3 * job->add_stride : NULL, rows + 3, panel, n);
}

typedef void tile_function(const gemm_job *, float *, const float *, const float *const *, const float *, size_t);
static tile_function *const tile_of_rows[GEMM_MR + 1] = {0, tile_1x2, tile_2x2, tile_3x2, tile_4x2, tile_5x2, tile_6x2};

/* One or two rows have too few sums of their own to keep the adders busy: several panels side by side. */
static void few_rows(const gemm_job *job, float *c, const float *const *rows, const float *packed, size_t m, size_t n) {
    size_t together = m == 1 ? 4 : 2;
    tile_function *wide = m == 1 ? tile_1x8 : tile_2x4;
    for (size_t j = 0; j < n;) {
        const float *add = job->add ? job->add + j : NULL;
        const float *panel = packed + j / GEMM_NR * job->panel_stride;
        if (n - j > (together - 1) * GEMM_NR) {
            wide(job, c + j, add, rows, panel, n - j);
            j += together * GEMM_NR;
        } else {
            tile_of_rows[m](job, c + j, add, rows, panel, n - j);
            j += GEMM_NR;
        }
    }
}

/* How many of the `left` rows the next tile takes. With one tap rows can be divided anywhere: 7 to 9 in halves, since one to three rows
 * leave adders idle. */
static size_t next_rows(size_t left, size_t taps) {
    if (left <= GEMM_MR) return left;
    return taps == 1 && left < 10 ? (left + 1) / 2 : GEMM_MR;
}

/* Tiles of one block of rows; m > 2 or the only rows there are. */
static void block(const gemm_job *job, float *c, const float *const *rows, const float *packed, size_t m, size_t n) {
    if (m <= 2) {
        few_rows(job, c, rows, packed, m, n);
        return;
    }
    for (size_t j = 0; j < n; j += GEMM_NR, packed += job->panel_stride) {
        for (size_t i = 0, mr; i < m; i += mr) {
            mr = next_rows(m - i, job->taps);
            tile_of_rows[mr](job, c + i * job->c_stride + j, job->add ? job->add + i * job->add_stride + j : NULL,
                             rows + i * job->taps, packed, n - j);
        }
    }
}

void gemm_f32(float *c, size_t c_stride, const float *const *rows, size_t taps, const float *packed,
              size_t m, size_t n, size_t k, const gemm_epilogue *epilogue) {
    size_t k_total = taps * k;
    lam_activation activation = epilogue ? epilogue->activation : LAM_IDENTITY;
    gemm_job job = {taps, k, c_stride, panel_floats(k_total), epilogue ? epilogue->add : NULL, epilogue ? epilogue->add_stride : 0,
                    activation == LAM_RELU, GEMM_NR, NULL};
    size_t row_floats = taps > 1 ? 2 * k : k;       /* the taps of neighbouring rows are mostly the same pixels */
    size_t together = BLOCK_FLOATS / (row_floats ? row_floats : 1) / GEMM_MR * GEMM_MR;
    if (together < 2 * GEMM_MR) together = 2 * GEMM_MR;
    for (size_t i = 0; i < m; i += together) {
        size_t mb = m - i < together ? m - i : together;
        block(&job, c + i * c_stride, rows + i * taps, packed, mb, n);
        if (activation != LAM_IDENTITY && activation != LAM_RELU) activation_tile_f32(c + i * c_stride, c_stride, mb, n, activation);
        if (job.add) job.add += together * job.add_stride;
    }
}

void gemm_f32_matrix(float *c, size_t c_stride, const float *a, size_t a_stride, const float *packed,
                     size_t m, size_t n, size_t k, const gemm_epilogue *epilogue) {
    const float *rows[MATRIX_TILES * GEMM_MR];
    gemm_epilogue part = epilogue ? *epilogue : (gemm_epilogue){NULL, 0, LAM_IDENTITY};
    for (size_t i = 0; i < m; i += MATRIX_TILES * GEMM_MR) {
        size_t mb = m - i < MATRIX_TILES * GEMM_MR ? m - i : MATRIX_TILES * GEMM_MR;
        for (size_t r = 0; r < mb; r++) rows[r] = a + (i + r) * a_stride;
        gemm_f32(c + i * c_stride, c_stride, rows, 1, packed, mb, n, k, &part);
        if (part.add) part.add += mb * part.add_stride;
    }
}

void gemm_f32_add_rows(float *c, size_t c_stride, const float *a, size_t a_stride, const float *packed, size_t k_total, size_t k0,
                       size_t m, size_t n, size_t k) {
    static const float zeros[GEMM_NR];
    const float *rows[MATRIX_TILES * GEMM_MR];
    for (size_t i = 0; i < m; i += MATRIX_TILES * GEMM_MR) {
        size_t mb = m - i < MATRIX_TILES * GEMM_MR ? m - i : MATRIX_TILES * GEMM_MR;
        for (size_t r = 0; r < mb; r++) rows[r] = a + (i + r) * a_stride;
        float *part = c + i * c_stride;
        const gemm_job job = {1, k, c_stride, panel_floats(k_total), part, c_stride, 0, (k0 + 1) * GEMM_NR, zeros};
        block(&job, part, rows, packed, mb, n);
    }
}
