#include "gemm.h"
#include <string.h>
#include "../simd.h"
#include "activation.h"
#include "half.h"
#include "transpose.h"

/* A block of rows is read once per panel: it should stay in the second cache level beside the panel. */
enum { BLOCK_FLOATS = 128 * 1024, MATRIX_TILES = 32 };
/* How many rows of a panel become f32 at a time: 16 kB, half of the first cache level. */
enum { UNPACKED = 512 };

/* Four numbers that lie stride apart. */
SIMD_INLINE v128_t load_apart(const float *from, size_t stride) {
    v128_t some = wasm_v128_load32_lane(from + stride, wasm_v128_load32_zero(from), 1);
    return wasm_v128_load32_lane(from + 3 * stride, wasm_v128_load32_lane(from + 2 * stride, some, 2), 3);
}

/* Columns [first, first + columns) of one panel. */
static SIMD_NOINLINE void pack_panel(float *panel, size_t first, size_t columns, size_t k, const float *b, size_t k_stride, size_t n_stride) {
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
        else if (columns == GEMM_NR) {
            simd_store(to, load_apart(from, n_stride));
            simd_store(to + 4, load_apart(from + 4 * n_stride, n_stride));
        } else for (size_t j = 0; j < columns; j++) to[j] = from[j * n_stride];
    }
}

/* The same in halves, added to zeros. */
static void pack_halves(float *scale, uint16_t *panel, size_t first, size_t columns, size_t k, const float *b, size_t k_stride, size_t n_stride) {
    enum { ROWS = 32 };
    v128_t low = simd_zero(), high = simd_zero();           /* zeros, or NaN */
    for (size_t at = 0, rows; at < k; at += rows) {
        float some[ROWS * GEMM_NR] = {0};
        uint16_t halves[ROWS * GEMM_NR];
        rows = k - at < ROWS ? k - at : ROWS;
        pack_panel(some, first, columns, rows, b + at * k_stride, k_stride, n_stride);
        half_from_f32(halves, some, rows * GEMM_NR);
        for (size_t i = 0; i < rows; i++, panel += GEMM_NR) {
            wasm_v128_store(panel, wasm_v128_or(wasm_v128_load(panel), wasm_v128_load(halves + i * GEMM_NR)));
            low = simd_madd(simd_load(some + i * GEMM_NR), simd_zero(), low);
            high = simd_madd(simd_load(some + i * GEMM_NR + 4), simd_zero(), high);
        }
    }
    float none[GEMM_NR];
    simd_store(none, low);
    simd_store(none + 4, high);
    for (size_t j = first; j < first + columns; j++) scale[j] = (scale[j] == 0 ? 1 : scale[j]) + none[j];
}

void gemm_pack(gemm_format format, float *packed, size_t k_total, size_t k0, size_t k, size_t n0, size_t columns,
               const float *b, size_t k_stride, size_t n_stride) {
    for (size_t j = 0; j < columns;) {
        size_t first = (n0 + j) % GEMM_NR, here = GEMM_NR - first;
        if (here > columns - j) here = columns - j;
        const float *from = b + j * n_stride;
        float *panel = packed + (n0 + j) / GEMM_NR * gemm_panel_floats(format, k_total), *rows = panel + gemm_panel_floats(format, k0);
        if (format == GEMM_F32) pack_panel(rows, first, here, k, from, k_stride, n_stride);
        else pack_halves(panel + GEMM_NR, (uint16_t *)(void *)rows, first, here, k, from, k_stride, n_stride);
        j += here;
    }
}

void gemm_bias(gemm_format format, float *packed, size_t k_total, size_t n, const float *bias) {
    size_t padded = (n + GEMM_NR - 1) / GEMM_NR * GEMM_NR;
    for (size_t j = 0; j < padded; j++) {
        float *row = packed + j / GEMM_NR * gemm_panel_floats(format, k_total) + j % GEMM_NR;
        row[0] = bias && j < n ? bias[j] : 0;
        if (j < n || format == GEMM_F16) continue;
        for (size_t kk = 1; kk <= k_total; kk++) row[kk * GEMM_NR] = 0;
    }
}

void gemm_scale(gemm_format format, float *packed, size_t k_total, size_t n0, size_t columns, const float *scale) {
    packed += n0 / GEMM_NR * gemm_panel_floats(format, k_total);
    for (size_t first = n0 % GEMM_NR, here; columns; columns -= here, scale += here, first = 0) {
        float factors[GEMM_NR] = {1, 1, 1, 1, 1, 1, 1, 1}, *row = packed + GEMM_NR;
        here = GEMM_NR - first < columns ? GEMM_NR - first : columns;
        memcpy(factors + first, scale, here * sizeof *factors);
        v128_t low = simd_load(factors), high = simd_load(factors + 4);
        for (size_t rows = format == GEMM_F16 ? 1 : k_total; rows; rows--, row += GEMM_NR) {
            simd_store(row, wasm_f32x4_mul(simd_load(row), low));
            simd_store(row + 4, wasm_f32x4_mul(simd_load(row + 4), high));
        }
        packed += gemm_panel_floats(format, k_total);
    }
}

/* What a tile works on. One pointer in place of eight arguments keeps the calls short. */
typedef struct gemm_job {
    size_t taps, k, c_stride, panel_stride;
    size_t first_k, taps_apart;   /* where in a row of A its values begin that are used; taps between tiles of rows */
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

/* mr rows by `vectors` vectors of four columns, all in registers; both and the format are constants where this is inlined. Vectors 2p and
 * 2p + 1 belong to panel p. Columns past n are computed (the panel holds zeros there) and not stored. */
SIMD_INLINE void tile(gemm_format format, size_t mr, size_t vectors, const gemm_job *job, float *c, const float *add, const float *const *rows,
                      const float *panel, size_t n) {
    v128_t acc[GEMM_MR][8];
    const size_t panel_stride = job->panel_stride, start_stride = job->bias ? 0 : panel_stride;
    const float *start = job->bias ? job->bias : panel;
    for (size_t v = 0; v < vectors; v++) {
        v128_t bias = format == GEMM_F16 ? simd_zero() : simd_load(start + v / 2 * start_stride + v % 2 * 4);
        for (size_t r = 0; r < mr; r++) acc[r][v] = bias;
    }
    /* Halves stay 2^-112 of themselves; rows and sums are multiplied by half of that each, one of many for all columns. */
    const v128_t bits = wasm_v128_load(half_constants.bits), factor = simd_load(half_constants.root);
    const float *b = panel + job->at;
    /* Two rows of the panel at a time, where neither addresses nor sums then wait: 44 -> 47 GFLOP/s. */
    const int two = !SIMD_MADD_IS_FUSED && format == GEMM_F32 && vectors == 2 && mr == 4;
    for (size_t tap = 0; tap < job->taps; tap++, rows += GEMM_MR) {
        const float *a[GEMM_MR];
        for (size_t r = 0; r < mr; r++) a[r] = rows[r] + job->first_k;
        size_t kk = 0;
        if (two) {
            SIMD_KEEP_LOOP
            for (; kk + 2 <= job->k; kk += 2) {
                for (size_t i = 0; i < 2; i++) {
                    v128_t b0 = simd_load(b + i * 8), b1 = simd_load(b + i * 8 + 4);
                    for (size_t r = 0; r < mr; r++) {
                        v128_t av = simd_splat(a[r] + kk + i);
                        acc[r][0] = simd_madd(av, b0, acc[r][0]);
                        acc[r][1] = simd_madd(av, b1, acc[r][1]);
                    }
                }
                b += 16;
            }
            for (size_t r = 0; r < mr; r++) a[r] += kk;
        }
        for (kk = job->k - kk; kk; kk--) {
            v128_t bv[8];
            for (size_t v = 0; v < vectors; v++) {
                const float *at = b + v / 2 * panel_stride + v % 2 * (size_t)format / 2;
                bv[v] = format == GEMM_F16 ? half_load(at, bits) : simd_load(at);
            }
            b += format;
            for (size_t r = 0; r < mr; r++) {
                v128_t av = simd_splat(a[r]++);
                if (format == GEMM_F16) av = wasm_f32x4_mul(av, factor);
                for (size_t v = 0; v < vectors; v++) acc[r][v] = simd_madd(av, bv[v], acc[r][v]);
            }
        }
    }
    for (size_t v = 0; v < vectors && format == GEMM_F16; v++) {
        const float *head = panel + v / 2 * panel_stride + v % 2 * 4;
        for (size_t r = 0; r < mr; r++) acc[r][v] = simd_madd(wasm_f32x4_mul(acc[r][v], factor), simd_load(head + GEMM_NR), simd_load(head));
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

#define TILE(name, format, mr, vectors) \
    static SIMD_NOINLINE void name(const gemm_job *job, float *c, const float *add, const float *const *rows, const float *panel, size_t n) { \
        tile(format, mr, vectors, job, c, add, rows, panel, n); \
    }
TILE(tile_1x2, GEMM_F32, 1, 2) TILE(tile_2x2, GEMM_F32, 2, 2) TILE(tile_3x2, GEMM_F32, 3, 2) TILE(tile_4x2, GEMM_F32, 4, 2)
TILE(tile_5x2, GEMM_F32, 5, 2) TILE(tile_1x8, GEMM_F32, 1, 8) TILE(tile_2x4, GEMM_F32, 2, 4)
TILE(halves_1x8, GEMM_F16, 1, 8) TILE(halves_2x4, GEMM_F16, 2, 4)

/* 12 sums, 2 columns and 1 row value are all the registers V8 has on x64. Without a fused multiply-add the product needs
 * another one and the sums spill (28 in place of 43 GFLOP/s), so there a tile is done in halves. Tiles follow each other in one call: with a call
 * for each, 64 products per sum take 121 ns in place of 112, 27 take 59 in place of 50. */
static SIMD_NOINLINE void six_rows(const gemm_job *job, float *c, const float *add, const float *const *rows, const float *panel, size_t n, size_t tiles) {
    for (; tiles; tiles--) {
        if (SIMD_MADD_IS_FUSED) tile(GEMM_F32, 6, 2, job, c, add, rows, panel, n);
        else {
            tile(GEMM_F32, 3, 2, job, c, add, rows, panel, n);
            tile(GEMM_F32, 3, 2, job, c + 3 * job->c_stride, add ? add + 3 * job->add_stride : NULL, rows + 3, panel, n);
        }
        c += GEMM_MR * job->c_stride;
        rows += GEMM_MR * job->taps_apart;
        if (add) add += GEMM_MR * job->add_stride;
    }
}

typedef void tile_function(const gemm_job *, float *, const float *, const float *const *, const float *, size_t);
static tile_function *const tile_of_rows[GEMM_MR] = {0, tile_1x2, tile_2x2, tile_3x2, tile_4x2, tile_5x2};

/* How many of the `left` rows the next tile takes. With one tap rows can be divided anywhere: 7 to 9 in halves, since one to three rows
 * leave adders idle. */
static size_t next_rows(size_t left, size_t taps) {
    if (left <= GEMM_MR) return left;
    if (!SIMD_MADD_IS_FUSED && taps == 1) return 4;     /* 7 and 9: four, and what is left */
    return taps == 1 && left < 10 ? (left + 1) / 2 : GEMM_MR;
}

/* All rows on one panel. */
static SIMD_NOINLINE void panel_tiles(const gemm_job *job, float *c, const float *add, const float *const *rows, const float *panel, size_t m, size_t n) {
    for (size_t i = 0, mr; i < m; i += mr) {
        const float *const *a = rows + i * job->taps_apart;
        float *to = c + i * job->c_stride;
        mr = next_rows(m - i, job->taps_apart);
        if (mr == GEMM_MR) {
            size_t tiles = (m - i - (job->taps_apart == 1 && m - i > GEMM_MR ? 4 : 0)) / GEMM_MR;   /* before next_rows gives fewer */
            six_rows(job, to, add ? add + i * job->add_stride : NULL, a, panel, n, tiles);
            mr = tiles * GEMM_MR;
        } else tile_of_rows[mr](job, to, add ? add + i * job->add_stride : NULL, a, panel, n);
    }
}

/* One or two rows have too few sums of their own to keep the adders busy: several panels side by side. Returns the columns that are done. */
static size_t few_rows(gemm_format format, const gemm_job *job, float *c, const float *const *rows, const float *packed, size_t m, size_t n) {
    tile_function *const one = format == GEMM_F16 ? halves_1x8 : tile_1x8, *const two = format == GEMM_F16 ? halves_2x4 : tile_2x4;
    size_t j = 0;
    for (; j + 3 * GEMM_NR < n; j += 4 * GEMM_NR, packed += 4 * job->panel_stride) {
        for (size_t i = 0; i < m; i += 2) {
            float *to = c + i * job->c_stride + j;
            const float *add = job->add ? job->add + i * job->add_stride + j : NULL;
            if (i + 1 == m) {
                one(job, to, add, rows + i, packed, n - j);
                break;
            }
            two(job, to, add, rows + i, packed, n - j);
            two(job, to + 2 * GEMM_NR, add ? add + 2 * GEMM_NR : NULL, rows + i, packed + 2 * job->panel_stride, n - j - 2 * GEMM_NR);
        }
    }
    return j;
}

SIMD_NOINLINE void gemm_unpack(float *to, const float *panel, size_t k0, size_t k) {
    const v128_t bits = wasm_v128_load(half_constants.bits), factor = simd_load(half_constants.factor);
    const v128_t low = simd_load(panel + GEMM_NR), high = simd_load(panel + GEMM_NR + 4);
    panel += gemm_panel_floats(GEMM_F16, k0);
    SIMD_KEEP_LOOP
    for (; k; k--, panel += GEMM_F16, to += GEMM_NR) {
        simd_store(to, wasm_f32x4_mul(wasm_f32x4_mul(half_load(panel, bits), factor), low));
        simd_store(to + 4, wasm_f32x4_mul(wasm_f32x4_mul(half_load(panel + 2, bits), factor), high));
    }
}

/* Columns [first, n) of weights in halves, a part of their rows at a time: `taps` from `tap` on, of each the values [job->first_k, + job->k). */
static void unpacked_part(const gemm_job *whole, size_t tap, size_t first_k, size_t taps, size_t k, float *c, const float *const *rows, const float *packed,
                          size_t m, size_t first, size_t n) {
    static const float zeros[GEMM_NR];
    float panel[UNPACKED * GEMM_NR];
    const int begins = !tap && !first_k, ends = tap + taps >= whole->taps && first_k + k >= whole->k;
    gemm_job job = *whole;
    job.taps = taps;
    job.k = k;
    job.first_k = first_k;
    job.at = 0;
    job.relu = whole->relu && ends;
    if (!begins) job.add_stride = job.c_stride;
    for (size_t j = first; j < n; j += GEMM_NR) {
        const float *halves = packed + j / GEMM_NR * job.panel_stride, *add = whole->add ? whole->add + j : NULL;
        gemm_unpack(panel, halves, tap * whole->k + first_k, taps * k);
        job.bias = begins ? halves : zeros;
        panel_tiles(&job, c + j, begins ? add : c + j, rows + tap * GEMM_MR, panel, m, n - j);
    }
}

static void unpacked(const gemm_job *job, float *c, const float *const *rows, const float *packed, size_t m, size_t first, size_t n) {
    const size_t most_taps = job->k && job->k < UNPACKED ? UNPACKED / job->k : 1;
    for (size_t tap = 0, taps; tap < job->taps; tap += taps) {
        taps = job->taps - tap < most_taps ? job->taps - tap : most_taps;
        size_t at = 0, k;
        do {
            k = job->k - at < UNPACKED ? job->k - at : UNPACKED;
            unpacked_part(job, tap, at, taps, k, c, rows, packed, m, first, n);
            at += k;
        } while (at < job->k);
    }
}

/* Tiles of one block of rows; more than GEMM_MR or the only rows there are. */
static SIMD_NOINLINE void block(gemm_format format, const gemm_job *job, float *c, const float *const *rows, const float *packed, size_t m, size_t n) {
    size_t j = m > (format == GEMM_F16 ? GEMM_MR : 2) ? 0 : few_rows(format, job, c, rows, packed, m, n);
    if (format == GEMM_F16) {
        if (j < n) unpacked(job, c, rows, packed, m, j, n);
        return;
    }
    for (; j < n; j += GEMM_NR) panel_tiles(job, c + j, job->add ? job->add + j : NULL, rows, packed + j / GEMM_NR * job->panel_stride, m, n - j);
}

void gemm(gemm_format format, float *c, size_t c_stride, const float *const *rows, size_t taps, const float *packed,
          size_t m, size_t n, size_t k, const gemm_epilogue *epilogue) {
    lam_activation activation = epilogue ? epilogue->activation : LAM_IDENTITY;
    gemm_job job = {taps, k, c_stride, gemm_panel_floats(format, taps * k), 0, taps, epilogue ? epilogue->add : NULL,
                    epilogue ? epilogue->add_stride : 0, activation == LAM_RELU, gemm_panel_floats(format, 0), NULL};
    size_t row_floats = taps > 1 ? 2 * k : k;       /* the taps of neighbouring rows are mostly the same pixels */
    if (format == GEMM_F16 && row_floats > UNPACKED) row_floats = UNPACKED;
    size_t together = BLOCK_FLOATS / (row_floats ? row_floats : 1) / GEMM_MR * GEMM_MR;
    if (together < 2 * GEMM_MR) together = 2 * GEMM_MR;
    for (size_t i = 0; i < m; i += together) {
        size_t mb = m - i < together ? m - i : together;
        block(format, &job, c + i * c_stride, rows + i * taps, packed, mb, n);
        if (activation != LAM_IDENTITY && activation != LAM_RELU) activation_tile_f32(c + i * c_stride, c_stride, mb, n, activation);
        if (job.add) job.add += together * job.add_stride;
    }
}

void gemm_matrix(gemm_format format, float *c, size_t c_stride, const float *a, size_t a_stride, const float *packed,
                 size_t m, size_t n, size_t k, const gemm_epilogue *epilogue) {
    const float *rows[MATRIX_TILES * GEMM_MR];
    gemm_epilogue part = epilogue ? *epilogue : (gemm_epilogue){NULL, 0, LAM_IDENTITY};
    for (size_t i = 0; i < m; i += MATRIX_TILES * GEMM_MR) {
        size_t mb = m - i < MATRIX_TILES * GEMM_MR ? m - i : MATRIX_TILES * GEMM_MR;
        for (size_t r = 0; r < mb; r++) rows[r] = a + (i + r) * a_stride;
        gemm(format, c + i * c_stride, c_stride, rows, 1, packed, mb, n, k, &part);
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
        const gemm_job job = {1, k, c_stride, gemm_panel_floats(GEMM_F32, k_total), 0, 1, part, c_stride, 0, gemm_panel_floats(GEMM_F32, k0), zeros};
        block(GEMM_F32, &job, part, rows, packed, mb, n);
    }
}
