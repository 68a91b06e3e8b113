#include "winograd.h"
#include <string.h>
#include "../simd.h"
#include "activation.h"
#include "quantized.h"
#include "winograd_points.h"

/* A block is up to MAX_TILES tiles of the output, fewer where their transformed inputs would not stay in the second cache level,
 * but at least MIN_TILES, since all weights are read again for each block. A unit of work is one panel of output channels of a block. */
enum { CHANNELS = 64, OUTPUT_TILES = 6 };      /* of one pass: its halves fit the first level */
enum { MAX_TILES = 48, MIN_TILES = 36, MAX_POINTS = 36, MAX_EDGE = 6, CACHE_FLOATS = 192 * 1024, LINE = 16 };
/* Filters of so many input channels and of two rows of points, since those of p and -p have most of their terms in common, are transformed at a time.
 * That distance between two points is a constant spares an addition for each number stored. */
enum { FILTERS = 256, ROWS_TOGETHER = 2, POINT_FLOATS = (FILTERS + 1) * GEMM_NR + LINE };

/* How a convolution is cut. */
typedef struct cut {
    size_t edge, points;                    /* tile + 2, and its square */
    size_t tiles_w, tiles_image, tiles;     /* tiles in a row, an image, the batch */
    size_t block_tiles, tile_blocks;
    size_t panels;                          /* of GEMM_NR output channels */
    size_t c4;                              /* c rounded up to whole vectors */
    size_t v_point;                         /* floats from one point's transformed inputs to the next, off the powers of two */
} cut;

static size_t divide_up(size_t a, size_t b) { return (a + b - 1) / b; }
static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

size_t winograd_blocks(size_t tiles, size_t points, size_t c4) {
    size_t fit = CACHE_FLOATS / (points * (c4 ? c4 : 4)) / GEMM_MR * GEMM_MR;
    return divide_up(tiles, fit > MAX_TILES ? MAX_TILES : fit < MIN_TILES ? MIN_TILES : fit);
}

static cut cut_of(const winograd_conv *conv) {
    cut k = {.edge = (size_t)conv->tile + 2};
    k.points = k.edge * k.edge;
    k.tiles_w = divide_up(conv->out_w, (size_t)conv->tile);
    k.tiles_image = k.tiles_w * divide_up(conv->out_h, (size_t)conv->tile);
    k.tiles = k.tiles_image * conv->batch;
    k.c4 = divide_up(conv->c, 4) * 4;
    k.tile_blocks = winograd_blocks(k.tiles, k.points, k.c4);
    k.block_tiles = k.tile_blocks ? divide_up(k.tiles, k.tile_blocks) : 0;
    k.v_point = k.block_tiles * k.c4 + LINE;
    k.panels = divide_up(conv->n, GEMM_NR);
    return k;
}

size_t winograd_units(const winograd_conv *conv) {
    cut k = cut_of(conv);
    return k.tile_blocks * k.panels;
}

size_t winograd_scratch_floats(const winograd_conv *conv) {
    cut k = cut_of(conv);
    return LINE + k.points * (k.v_point + k.block_tiles * GEMM_NR + k.c4 + CHANNELS) + ROWS_TOGETHER * k.edge * POINT_FLOATS +
           (conv->bits == 32 ? 0 : 9 * FILTERS * GEMM_NR);
}

/* -- weights: as gemm packs them, [9 taps][c][GEMM_NR] of a panel, and transformed anew for each block -- */

/* t = G g of the taps in one line: the values of g[0] + g[1] p + g[2] p^2 at p and -p. What they are to be divided by is in A. */
SIMD_INLINE void filter_points(v128_t t[2], const v128_t g[3], v128_t p, v128_t p2) {
    v128_t even = simd_madd(p2, g[2], g[0]);
    t[0] = simd_madd(p, g[1], even);
    t[1] = simd_nmadd(p, g[1], even);
}

/* u[j] = row [edge] of G g G^T from row [3] of G g. */
SIMD_INLINE void filter_row(float *u, const v128_t row[3], size_t edge, const float *p) {
    v128_t t[2];
    simd_store(u, row[0]);
    for (size_t i = 1; i + 1 < edge; i += 2) {
        filter_points(t, row, simd_splat(&p[i]), simd_splat(&p[i + 1]));
        simd_store(u + i * POINT_FLOATS, t[0]);
        simd_store(u + (i + 1) * POINT_FLOATS, t[1]);
    }
    simd_store(u + (edge - 1) * POINT_FLOATS, row[2]);
}

/* Rows `first`, and first + 1 where that is of -p, of the points of `count` channels' filters in one panel: u [rows][edge], each a matrix as gemm
 * packs it. w [3][3][c][GEMM_NR] */
SIMD_INLINE void filter_rows(float *u, const float *w, size_t c, size_t count, size_t first, size_t edge, const float *p) {
    const size_t tap = c * GEMM_NR, line = 3 * tap, alone = first == 0 || first + 1 == edge;
    for (size_t j = 0; j < (alone ? 1 : ROWS_TOGETHER) * edge; j++) {
        simd_store(u + j * POINT_FLOATS, simd_zero());
        simd_store(u + j * POINT_FLOATS + 4, simd_zero());
    }
    u += GEMM_NR;
    if (first + 1 == edge) w += 2 * line;
    SIMD_KEEP_LOOP
    for (size_t i = 0; i < count * GEMM_NR; i += 4, w += 4, u += 4) {
        v128_t row[3], opposite[3], t[2];
        for (size_t x = 0; x < 3; x++) {
            if (alone) {
                row[x] = simd_load(w + x * tap);
                continue;
            }
            const v128_t g[3] = {simd_load(w + x * tap), simd_load(w + line + x * tap), simd_load(w + 2 * line + x * tap)};
            filter_points(t, g, simd_splat(&p[first]), simd_splat(&p[first + 1]));
            row[x] = t[0];
            opposite[x] = t[1];
        }
        filter_row(u, row, edge, p);
        if (!alone) filter_row(u + edge * POINT_FLOATS, opposite, edge, p);
    }
}

#define ROWS(name, first, tile) \
    static SIMD_NOINLINE void name(float *u, const float *w, size_t c, size_t count) { \
        filter_rows(u, w, c, count, first, tile + 2, winograd_points_##tile); \
    }
ROWS(rows_4_first, 0, 4) ROWS(rows_4_a, 1, 4) ROWS(rows_4_b, 3, 4) ROWS(rows_4_last, 5, 4)
ROWS(rows_2_first, 0, 2) ROWS(rows_2_one, 1, 2) ROWS(rows_2_last, 3, 2)

typedef void rows_function(float *, const float *, size_t, size_t);
/* By the first row of points. */
static rows_function *const rows_of[2][MAX_EDGE] = {{rows_2_first, rows_2_one, 0, rows_2_last}, {rows_4_first, rows_4_a, 0, rows_4_b, 0, rows_4_last}};

/* -- transforms, one dimension at a time -- */

/* t = B^T d. For F(4, 3) the rows are [1, 0, -(a2 + b2), 0, 1, 0], [0, -+b, -b2, +-a, 1, 0], [0, -+a, -a2, +-b, 1, 0] and
 * [0, 1, 0, -(a2 + b2), 0, 1], with b = 1 / a. */
SIMD_INLINE void input_4(v128_t t[6], const v128_t d[6]) {
    v128_t sum = simd_splat(&winograd_4.a2_b2), a = simd_splat(&winograd_4.a), b = simd_splat(&winograd_4.b);
    v128_t a2 = simd_splat(&winograd_4.a2), b2 = simd_splat(&winograd_4.b2);
    t[0] = wasm_f32x4_add(simd_nmadd(sum, d[2], d[0]), d[4]);
    t[5] = wasm_f32x4_add(simd_nmadd(sum, d[3], d[1]), d[5]);
    v128_t even = simd_nmadd(b2, d[2], d[4]), odd = simd_nmadd(b2, d[1], d[3]);
    t[1] = simd_madd(a, odd, even);
    t[2] = simd_nmadd(a, odd, even);
    even = simd_nmadd(a2, d[2], d[4]);
    odd = simd_nmadd(a2, d[1], d[3]);
    t[3] = simd_madd(b, odd, even);
    t[4] = simd_nmadd(b, odd, even);
}

SIMD_INLINE void input_2(v128_t t[4], const v128_t d[4]) {
    t[0] = wasm_f32x4_sub(d[0], d[2]);
    t[1] = wasm_f32x4_add(d[1], d[2]);
    t[2] = wasm_f32x4_sub(d[2], d[1]);
    t[3] = wasm_f32x4_sub(d[3], d[1]);
}

/* y = A^T m: row i holds the i-th powers of the points, over the products of their distances to the others. */
SIMD_INLINE void output_4(v128_t y[4], const v128_t m[6]) {
    const winograd_constants *w = &winograd_4;
    v128_t p = wasm_f32x4_add(m[1], m[2]), q = wasm_f32x4_sub(m[1], m[2]);
    v128_t r = wasm_f32x4_add(m[3], m[4]), s = wasm_f32x4_sub(m[3], m[4]);
    y[0] = simd_madd(simd_splat(&w->power_a[0]), p, simd_madd(simd_splat(&w->power_b[0]), r, m[0]));
    y[1] = simd_madd(simd_splat(&w->power_a[1]), q, wasm_f32x4_mul(simd_splat(&w->power_b[1]), s));
    y[2] = simd_madd(simd_splat(&w->power_a[2]), p, wasm_f32x4_mul(simd_splat(&w->power_b[2]), r));
    y[3] = simd_madd(simd_splat(&w->power_a[3]), q, simd_madd(simd_splat(&w->power_b[3]), s, m[5]));
}

SIMD_INLINE void output_2(v128_t y[2], const v128_t m[4]) {
    v128_t half = simd_splat(&winograd_half);
    y[0] = simd_madd(half, wasm_f32x4_add(m[1], m[2]), m[0]);
    y[1] = simd_madd(half, wasm_f32x4_sub(m[1], m[2]), m[3]);
}

/* -- passes: one dimension of a run of n numbers, a multiple of 4; what is transformed lies `stride` floats apart -- */

#define PASS(name, transform, in, out) \
    static SIMD_NOINLINE void name(float *to, size_t to_stride, const float *from, size_t from_stride, size_t n) { \
        for (size_t j = 0; j < n; j += 4) { \
            v128_t d[MAX_EDGE], t[MAX_EDGE]; \
            for (size_t i = 0; i < in; i++) d[i] = simd_load(from + i * from_stride + j); \
            transform(t, d); \
            for (size_t i = 0; i < out; i++) simd_store(to + i * to_stride + j, t[i]); \
        } \
    }
PASS(input_pass_4, input_4, 6, 6)
PASS(input_pass_2, input_2, 4, 4)
PASS(output_pass_4, output_4, 6, 4)
PASS(output_pass_2, output_2, 4, 2)

typedef void pass_function(float *, size_t, const float *, size_t, size_t);

/* Transforms edge x edge pixels of c4 channels at x into one row of each point's matrix. half [edge, edge, CHANNELS]. */
static void input_tile(const cut *k, float *v, float *half, const float *x, size_t row, size_t pixel) {
    pass_function *pass = k->edge == 6 ? input_pass_4 : input_pass_2;
    for (size_t j = 0; j < k->c4; j += CHANNELS) {
        size_t n = k->c4 - j < CHANNELS ? k->c4 - j : CHANNELS;
        for (size_t i = 0; i < k->edge; i++) pass(half + i * n, k->edge * n, x + i * pixel + j, row, n);
        for (size_t r = 0; r < k->edge; r++) pass(v + r * k->edge * k->v_point + j, k->v_point, half + r * k->edge * n, n, n);
    }
}

/* Where a tile's results go. */
typedef struct target {
    float *y;                       /* the first pixel's first column of this panel */
    const float *add, *bias;        /* add: the same element, or NULL */
    size_t y_row, y_pixel, add_row, add_pixel;
    size_t rows, columns, n;        /* pixels of the tile that are in the image, columns of the panel that there are */
    int relu;
} target;

/* The pixels of a tile, each GEMM_NR columns, `pixel` floats apart at sums, into the image with what comes after the convolution. */
static void store_tile(const target *to, size_t tile, const float *sums, size_t pixel) {
    v128_t bias_low = simd_load(to->bias), bias_high = simd_load(to->bias + 4);
    for (size_t r = 0; r < to->rows; r++) {
        for (size_t i = 0; i < to->columns; i++) {
            const float *from = sums + (r * tile + i) * pixel, *add = to->add ? to->add + r * to->add_row + i * to->add_pixel : NULL;
            float *y = to->y + r * to->y_row + i * to->y_pixel;
            if (to->n < GEMM_NR) {
                for (size_t j = 0; j < to->n; j++) {
                    float sum = from[j] + to->bias[j] + (add ? add[j] : 0);
                    y[j] = to->relu && sum < 0 ? 0 : sum;
                }
                continue;
            }
            v128_t low = wasm_f32x4_add(simd_load(from), bias_low), high = wasm_f32x4_add(simd_load(from + 4), bias_high);
            if (add) {
                low = wasm_f32x4_add(low, simd_load(add));
                high = wasm_f32x4_add(high, simd_load(add + 4));
            }
            if (to->relu) {
                low = simd_max(low, simd_zero());
                high = simd_max(high, simd_zero());
            }
            simd_store(y, low);
            simd_store(y + 4, high);
        }
    }
}

/* -- blocks -- */

typedef struct place {
    size_t image, row, column;      /* the tile's first output pixel */
} place;

static place place_of(const winograd_conv *conv, const cut *k, size_t at) {
    size_t in_image = at % k->tiles_image, tile = (size_t)conv->tile;
    return (place){at / k->tiles_image, in_image / k->tiles_w * tile, in_image % k->tiles_w * tile};
}

/* Copies a tile's pixels [edge][edge][c4] with zeros for what lies outside the image, and for the channels past c. */
static void gather(float *to, const float *x, const winograd_conv *conv, const cut *k, place at) {
    for (size_t r = 0; r < k->edge; r++) {
        for (size_t i = 0; i < k->edge; i++, to += k->c4) {
            size_t row = at.row + r, column = at.column + i;        /* counted from the first padding */
            if (row < conv->pad_h || row - conv->pad_h >= conv->h || column < conv->pad_w || column - conv->pad_w >= conv->w) {
                memset(to, 0, k->c4 * sizeof *to);
                continue;
            }
            const float *pixel = x + ((at.image * conv->h + row - conv->pad_h) * conv->w + column - conv->pad_w) * conv->x_stride;
            memcpy(to, pixel, conv->c * sizeof *to);
            for (size_t j = conv->c; j < k->c4; j++) to[j] = 0;
        }
    }
}

static int inside(const winograd_conv *conv, const cut *k, place at) {
    return at.row >= conv->pad_h && at.column >= conv->pad_w && at.row + k->edge <= conv->h + conv->pad_h &&
           at.column + k->edge <= conv->w + conv->pad_w && k->c4 == conv->c;
}

/* v [point][tile][c4] of tiles [first, first + count) */
static void transform_inputs(float *v, float *patch, float *half, const float *x, const winograd_conv *conv, const cut *k,
                             size_t first, size_t count) {
    for (size_t t = 0; t < count; t++, v += k->c4) {
        place at = place_of(conv, k, first + t);
        const float *from = patch;
        size_t pixel = k->c4, row = k->edge * k->c4;
        if (inside(conv, k, at)) {
            pixel = conv->x_stride;
            row = conv->w * pixel;
            from = x + (at.image * conv->h + at.row - conv->pad_h) * row + (at.column - conv->pad_w) * pixel;
        } else {
            gather(patch, x, conv, k, at);
        }
        input_tile(k, v, half, from, row, pixel);
    }
}

/* Tiles [first, first + count), at most OUTPUT_TILES, of one panel, m [point][...][GEMM_NR] with points m_point apart, into the image. */
static void transform_outputs(float *y, const float *m, size_t m_point, float *half, const float *bias, const winograd_conv *conv, const cut *k,
                              size_t first, size_t count, size_t column, const gemm_epilogue *epilogue) {
    const size_t tile = (size_t)conv->tile, n = count * GEMM_NR;
    float *sums = half + tile * k->edge * n;                 /* half [tile, edge, n], sums [tile, tile, n] */
    pass_function *pass = tile == 4 ? output_pass_4 : output_pass_2;
    for (size_t i = 0; i < k->edge; i++) pass(half + i * n, k->edge * n, m + i * m_point, k->edge * m_point, n);
    for (size_t r = 0; r < tile; r++) pass(sums + r * tile * n, n, half + r * k->edge * n, n, n);
    target to = {.bias = bias, .y_row = conv->out_w * conv->y_stride, .y_pixel = conv->y_stride,
                 .add_row = conv->out_w * epilogue->add_stride, .add_pixel = epilogue->add_stride, .n = smaller(conv->n - column, GEMM_NR),
                 .relu = epilogue->activation == LAM_RELU};
    for (size_t t = 0; t < count; t++) {
        place at = place_of(conv, k, first + t);
        size_t pixel = (at.image * conv->out_h + at.row) * conv->out_w + at.column;
        to.y = y + pixel * conv->y_stride + column;
        to.add = epilogue->add ? epilogue->add + pixel * epilogue->add_stride + column : NULL;
        to.rows = smaller(conv->out_h - at.row, tile);
        to.columns = smaller(conv->out_w - at.column, tile);
        store_tile(&to, tile, sums + t * GEMM_NR, n);
    }
}

/* The functions that a tile's registers do not take: over what a block has just written. */
static void activate(float *y, const winograd_conv *conv, const cut *k, size_t first, size_t count, size_t column, size_t columns,
                     lam_activation activation) {
    for (size_t t = 0; t < count; t++) {
        place at = place_of(conv, k, first + t);
        size_t rows = smaller(conv->out_h - at.row, (size_t)conv->tile), pixels = smaller(conv->out_w - at.column, (size_t)conv->tile);
        for (size_t r = 0; r < rows; r++) {
            float *to = y + ((at.image * conv->out_h + at.row + r) * conv->out_w + at.column) * conv->y_stride + column;
            activation_tile_f32(to, conv->y_stride, pixels, columns, activation);
        }
    }
}

static const float *bias_of(const float *packed, const winograd_conv *conv, size_t panel) {
    if (conv->bits == 8) return quantized_bias(packed, 9, conv->c, panel);
    return packed + panel * gemm_panel_floats(conv->bits == 16 ? GEMM_F16 : GEMM_F32, 9 * conv->c);
}

/* The filters [9][*apart][GEMM_NR] of channels [at, at + channels) of a panel, in f32: where they lie, or at `to`. */
static const float *filters_of(float *to, const float *packed, const winograd_conv *conv, size_t panel, size_t at, size_t channels, size_t *apart) {
    const float *bias = bias_of(packed, conv, panel);
    *apart = conv->bits == 32 ? conv->c : channels;
    if (conv->bits == 32) return bias + GEMM_NR + at * GEMM_NR;
    for (size_t tap = 0; tap < 9; tap++) {
        float *here = to + tap * channels * GEMM_NR;
        if (conv->bits == 8) quantized_unpack(here, packed, 9, conv->c, panel, tap, at, channels);
        else gemm_unpack(here, bias, tap * conv->c + at, channels);
    }
    return to;
}

/* m [points][count][GEMM_NR] = v [points][count][c] by the filters of a panel. u: what they are transformed to. */
static void multiply_panel(float *m, const float *v, float *u, const float *packed, size_t panel, const winograd_conv *conv, const cut *k, size_t count) {
    const float *rows[MAX_TILES] = {0};
    const size_t sums = count * GEMM_NR;
    for (size_t at = 0, channels; at < conv->c; at += channels) {
        channels = smaller(conv->c - at, FILTERS);
        size_t apart;
        const float *w = filters_of(u + ROWS_TOGETHER * k->edge * POINT_FLOATS, packed, conv, panel, at, channels, &apart);
        for (size_t row = 0, together; row < k->edge; row += together) {
            together = row && row + 1 < k->edge ? ROWS_TOGETHER : 1;
            rows_of[conv->tile == 4][row](u, w, apart, channels);
            for (size_t j = 0; j < together * k->edge; j++) {
                const size_t point = row * k->edge + j;
                for (size_t t = 0; t < count; t++) rows[t] = v + point * k->v_point + t * k->c4 + at;
                const gemm_epilogue before = {m + point * sums, GEMM_NR, LAM_IDENTITY};
                gemm_f32(m + point * sums, GEMM_NR, rows, 1, u + j * POINT_FLOATS, count, GEMM_NR, channels, at ? &before : NULL);
            }
        }
    }
}

/* Panels [panel, panel + panels) of tiles [first, first + count), whose inputs are in v. */
static void multiply(float *y, const float *v, float *m, float *half, float *u, const float *packed, const winograd_conv *conv, const cut *k,
                     size_t first, size_t count, size_t panel, size_t panels, const gemm_epilogue *epilogue) {
    for (size_t i = panel; i < panel + panels; i++) {
        const float *bias = bias_of(packed, conv, i);
        multiply_panel(m, v, u, packed, i, conv, k, count);
        for (size_t t = 0; t < count; t += OUTPUT_TILES) {
            transform_outputs(y, m + t * GEMM_NR, count * GEMM_NR, half, bias, conv, k, first + t, smaller(count - t, OUTPUT_TILES),
                              i * GEMM_NR, epilogue);
        }
    }
    if (epilogue->activation != LAM_IDENTITY && epilogue->activation != LAM_RELU) {
        size_t columns = smaller(conv->n - panel * GEMM_NR, panels * GEMM_NR);
        activate(y, conv, k, first, count, panel * GEMM_NR, columns, epilogue->activation);
    }
}

/* What the transformed inputs in a scratch are of: its first line. */
typedef struct held {
    const float *x;
    size_t block;
} held;

void winograd_forget(float *scratch) { ((held *)(void *)scratch)->x = NULL; }

void winograd_f32(float *y, const float *x, const float *packed, const winograd_conv *conv, size_t first, size_t units,
                  const gemm_epilogue *epilogue, float *scratch) {
    const gemm_epilogue none = {NULL, 0, LAM_IDENTITY};
    cut k = cut_of(conv);
    held *has = (held *)(void *)scratch;
    float *v = scratch + LINE, *m = v + k.points * k.v_point, *patch = m + k.points * k.block_tiles * GEMM_NR, *half = patch + k.points * k.c4, *u = half + k.points * CHANNELS;
    for (size_t end = first + units, here; first < end; first += here) {
        size_t block = first / k.panels, panel = first % k.panels, tile = block * k.block_tiles, count = smaller(k.tiles - tile, k.block_tiles);
        here = smaller(k.panels - panel, end - first);
        if (has->x != x || has->block != block) transform_inputs(v, patch, half, x, conv, &k, tile, count);
        *has = (held){x, block};
        multiply(y, v, m, half, u, packed, conv, &k, tile, count, panel, here, epilogue ? epilogue : &none);
    }
}
