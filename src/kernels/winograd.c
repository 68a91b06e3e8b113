#include "winograd.h"
#include <string.h>
#include "../simd.h"
#include "activation.h"

/* A block is up to MAX_TILES tiles of the output, fewer where their transformed inputs would not stay in the second cache level.
 * MIN_BLOCKS: where tiles give fewer blocks than this the output channels are divided, too. */
enum { MAX_TILES = 24, MAX_POINTS = 36, MAX_EDGE = 6, CACHE_FLOATS = 128 * 1024, LINE = 16, MIN_BLOCKS = 8, MIN_GROUP_PANELS = 4 };

/* F(4x4, 3x3) evaluates polynomials at 0, a, -a, 1/a, -1/a and infinity. Read from memory: V8 rebuilds constants at every use. */
#define A (2.0 / 3)
#define B (1 / A)
typedef struct winograd_constants {
    float a, b, a2, b2, a3, b3, a2_b2;
} winograd_constants;
static const winograd_constants constants_4 = {
    (float)A, (float)B, (float)(A * A), (float)(B * B), (float)(A * A * A), (float)(B * B * B), (float)(A * A + B * B),
};

/* How a convolution is cut. */
typedef struct cut {
    size_t edge, points;                    /* tile + 2, and its square */
    size_t tiles_w, tiles_image, tiles;     /* tiles in a row, an image, the batch */
    size_t block_tiles, tile_blocks;
    size_t panels, groups, group_panels;    /* panels of GEMM_NR output channels, and groups of them */
    size_t c4;                              /* c rounded up to whole vectors */
    size_t v_point;                         /* floats from one point's transformed inputs to the next, off the powers of two */
    size_t packed_point, packed_panel;
} cut;

static size_t divide_up(size_t a, size_t b) { return (a + b - 1) / b; }

static cut cut_of(const winograd_conv *conv) {
    cut k = {.edge = (size_t)conv->tile + 2};
    k.points = k.edge * k.edge;
    k.tiles_w = divide_up(conv->out_w, (size_t)conv->tile);
    k.tiles_image = k.tiles_w * divide_up(conv->out_h, (size_t)conv->tile);
    k.tiles = k.tiles_image * conv->batch;
    k.c4 = divide_up(conv->c, 4) * 4;
    size_t fit = CACHE_FLOATS / (k.points * (k.c4 ? k.c4 : 4)) / GEMM_MR * GEMM_MR;
    fit = fit > MAX_TILES ? MAX_TILES : fit < GEMM_MR ? GEMM_MR : fit;
    k.tile_blocks = divide_up(k.tiles, fit);
    k.block_tiles = k.tile_blocks ? divide_up(k.tiles, k.tile_blocks) : 0;
    k.v_point = k.block_tiles * k.c4 + LINE;
    k.panels = divide_up(conv->n, GEMM_NR);
    size_t groups = k.tile_blocks ? divide_up(MIN_BLOCKS, k.tile_blocks) : 1, most = divide_up(k.panels, MIN_GROUP_PANELS);
    k.group_panels = divide_up(k.panels, groups < most ? groups : most ? most : 1);
    k.groups = k.group_panels ? divide_up(k.panels, k.group_panels) : 0;
    k.packed_point = (conv->c + 1) * GEMM_NR;
    k.packed_panel = k.points * k.packed_point;
    return k;
}

size_t winograd_blocks(const winograd_conv *conv) {
    cut k = cut_of(conv);
    return k.tile_blocks * k.groups;
}

size_t winograd_scratch_floats(const winograd_conv *conv) {
    cut k = cut_of(conv);
    return k.points * k.v_point + k.points * k.block_tiles * GEMM_NR + k.points * k.c4;
}

/* -- weights: bias [n rounded up], then for each panel and point a bias row of zeros and [c][GEMM_NR], as gemm packs -- */

static size_t padded_columns(size_t n) { return divide_up(n, GEMM_NR) * GEMM_NR; }

size_t winograd_packed_floats(int tile, size_t c, size_t n) {
    size_t edge = (size_t)tile + 2;
    return padded_columns(n) * (1 + edge * edge * (c + 1));
}

/* The rows of G: what a filter's three taps become at each point. */
static const double filter_2[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
#define NORM_A (2 * A * A * (A * A - B * B))
#define NORM_B (2 * B * B * (B * B - A * A))
static const double filter_4[6][3] = {
    {1, 0, 0},
    {1 / NORM_A, A / NORM_A, A * A / NORM_A}, {1 / NORM_A, -A / NORM_A, A * A / NORM_A},
    {1 / NORM_B, B / NORM_B, B * B / NORM_B}, {1 / NORM_B, -B / NORM_B, B * B / NORM_B},
    {0, 0, 1},
};

/* u[p * u_point] = (G g G^T)[p], g [3][3] */
static void transform_filter(float *u, size_t u_point, const double (*filter)[3], size_t edge, const float *g) {
    double rows[MAX_EDGE][3];
    for (size_t i = 0; i < edge; i++) {
        for (size_t x = 0; x < 3; x++) rows[i][x] = filter[i][0] * g[x] + filter[i][1] * g[3 + x] + filter[i][2] * g[6 + x];
    }
    for (size_t i = 0; i < edge; i++) {
        for (size_t j = 0; j < edge; j++, u += u_point) {
            *u = (float)(filter[j][0] * rows[i][0] + filter[j][1] * rows[i][1] + filter[j][2] * rows[i][2]);
        }
    }
}

void winograd_pack_f32(float *packed, int tile, size_t c, size_t n, size_t n0, size_t columns, const float *weight) {
    size_t edge = (size_t)tile + 2, point = (c + 1) * GEMM_NR, end = n0 + columns;
    float *panels = packed + padded_columns(n);
    for (size_t j = n0; j < end;) {                 /* input channels outside, the columns of one panel inside: each line is touched once */
        size_t stop = (j / GEMM_NR + 1) * GEMM_NR < end ? (j / GEMM_NR + 1) * GEMM_NR : end;
        float *panel = panels + j / GEMM_NR * edge * edge * point;
        for (size_t i = 0; i < c; i++) {
            for (size_t at = j; at < stop; at++) {
                transform_filter(panel + (i + 1) * GEMM_NR + at % GEMM_NR, point, tile == 4 ? filter_4 : filter_2, edge,
                                 weight + ((at - n0) * c + i) * 9);
            }
        }
        j = stop;
    }
}

/* One point of one panel is what gemm calls a packed matrix of GEMM_NR columns. */
static float *packed_point(float *packed, size_t points, size_t c, size_t n, size_t panel, size_t point) {
    return packed + padded_columns(n) + (panel * points + point) * (c + 1) * GEMM_NR;
}

void winograd_pack_bias(float *packed, int tile, size_t c, size_t n, const float *bias) {
    size_t points = (size_t)(tile + 2) * (size_t)(tile + 2);
    for (size_t j = 0; j < padded_columns(n); j++) packed[j] = bias && j < n ? bias[j] : 0;
    for (size_t panel = 0; panel * GEMM_NR < n; panel++) {
        size_t columns = n - panel * GEMM_NR < GEMM_NR ? n - panel * GEMM_NR : GEMM_NR;
        for (size_t p = 0; p < points; p++) gemm_pack_bias(packed_point(packed, points, c, n, panel, p), c, columns, NULL);
    }
}

void winograd_scale_columns(float *packed, int tile, size_t c, size_t n, const float *scale, const float *shift) {
    size_t points = (size_t)(tile + 2) * (size_t)(tile + 2);
    const float zeros[GEMM_NR] = {0};
    for (size_t j = 0; j < n; j++) packed[j] = packed[j] * scale[j] + shift[j];
    for (size_t panel = 0; panel * GEMM_NR < n; panel++) {
        size_t columns = n - panel * GEMM_NR < GEMM_NR ? n - panel * GEMM_NR : GEMM_NR;
        for (size_t p = 0; p < points; p++) {
            gemm_scale_columns(packed_point(packed, points, c, n, panel, p), c, columns, scale + panel * GEMM_NR, zeros);
        }
    }
}

/* -- transforms, one dimension at a time -- */

/* t = B^T d. For F(4, 3) the rows are [1, 0, -(a2 + b2), 0, 1, 0], [0, -+b, -b2, +-a, 1, 0], [0, -+a, -a2, +-b, 1, 0] and
 * [0, 1, 0, -(a2 + b2), 0, 1], with b = 1 / a. */
SIMD_INLINE void input_4(v128_t t[6], const v128_t d[6]) {
    v128_t sum = simd_splat(&constants_4.a2_b2), a = simd_splat(&constants_4.a), b = simd_splat(&constants_4.b);
    v128_t a2 = simd_splat(&constants_4.a2), b2 = simd_splat(&constants_4.b2);
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
    t[3] = wasm_f32x4_sub(d[1], d[3]);
}

/* y = A^T m: row i holds the i-th powers of the points. */
SIMD_INLINE void output_4(v128_t y[4], const v128_t m[6]) {
    v128_t p = wasm_f32x4_add(m[1], m[2]), q = wasm_f32x4_sub(m[1], m[2]);
    v128_t r = wasm_f32x4_add(m[3], m[4]), s = wasm_f32x4_sub(m[3], m[4]);
    y[0] = wasm_f32x4_add(wasm_f32x4_add(m[0], p), r);
    y[1] = simd_madd(simd_splat(&constants_4.a), q, wasm_f32x4_mul(simd_splat(&constants_4.b), s));
    y[2] = simd_madd(simd_splat(&constants_4.a2), p, wasm_f32x4_mul(simd_splat(&constants_4.b2), r));
    y[3] = simd_madd(simd_splat(&constants_4.a3), q, simd_madd(simd_splat(&constants_4.b3), s, m[5]));
}

SIMD_INLINE void output_2(v128_t y[2], const v128_t m[4]) {
    y[0] = wasm_f32x4_add(wasm_f32x4_add(m[0], m[1]), m[2]);
    y[1] = wasm_f32x4_sub(wasm_f32x4_sub(m[1], m[2]), m[3]);
}

/* -- one tile -- */

/* Transforms edge x edge pixels of c4 channels at x into one row of each point's matrix. */
SIMD_INLINE void input_tile(size_t tile, float *v, size_t v_point, const float *x, size_t row, size_t pixel, size_t c4) {
    const size_t edge = tile + 2;
    for (size_t j = 0; j < c4; j += 4) {
        v128_t d[MAX_EDGE], t[MAX_EDGE], half[MAX_EDGE][MAX_EDGE];
        for (size_t i = 0; i < edge; i++) {
            for (size_t r = 0; r < edge; r++) d[r] = simd_load(x + r * row + i * pixel + j);
            if (tile == 4) input_4(t, d);
            else input_2(t, d);
            for (size_t r = 0; r < edge; r++) half[r][i] = t[r];
        }
        for (size_t r = 0; r < edge; r++) {
            if (tile == 4) input_4(t, half[r]);
            else input_2(t, half[r]);
            for (size_t i = 0; i < edge; i++) simd_store(v + (r * edge + i) * v_point + j, t[i]);
        }
    }
}

static SIMD_NOINLINE void input_tile_2(float *v, size_t v_point, const float *x, size_t row, size_t pixel, size_t c4) {
    input_tile(2, v, v_point, x, row, pixel, c4);
}
static SIMD_NOINLINE void input_tile_4(float *v, size_t v_point, const float *x, size_t row, size_t pixel, size_t c4) {
    input_tile(4, v, v_point, x, row, pixel, c4);
}

/* Where a tile's results go. */
typedef struct target {
    float *y;                       /* the first pixel's first column of this panel */
    const float *add;               /* the same element, or NULL */
    size_t y_row, y_pixel, add_row, add_pixel;
    size_t rows, columns, n;        /* pixels of the tile that are in the image, columns of the panel that there are */
    int relu;
} target;

/* tile x tile pixels of GEMM_NR columns at sums into the image, with what comes after the convolution. */
static void store_tile(const target *to, size_t tile, const float *sums) {
    for (size_t r = 0; r < to->rows; r++) {
        for (size_t i = 0; i < to->columns; i++) {
            const float *from = sums + (r * tile + i) * GEMM_NR, *add = to->add ? to->add + r * to->add_row + i * to->add_pixel : NULL;
            float *y = to->y + r * to->y_row + i * to->y_pixel;
            if (to->n < GEMM_NR) {
                for (size_t j = 0; j < to->n; j++) {
                    float sum = add ? from[j] + add[j] : from[j];
                    y[j] = to->relu && sum < 0 ? 0 : sum;
                }
                continue;
            }
            v128_t low = simd_load(from), high = simd_load(from + 4);
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

/* m [point][GEMM_NR], points m_point apart */
SIMD_INLINE void output_tile(size_t tile, const target *to, const float *m, size_t m_point, const float *bias) {
    const size_t edge = tile + 2;
    float sums[4 * 4 * GEMM_NR];
    for (size_t j = 0; j < GEMM_NR; j += 4) {
        v128_t d[MAX_EDGE], t[4], half[4][MAX_EDGE], shift = simd_load(bias + j);
        for (size_t i = 0; i < edge; i++) {
            for (size_t r = 0; r < edge; r++) d[r] = simd_load(m + (r * edge + i) * m_point + j);
            if (tile == 4) output_4(t, d);
            else output_2(t, d);
            for (size_t r = 0; r < tile; r++) half[r][i] = t[r];
        }
        for (size_t r = 0; r < tile; r++) {
            if (tile == 4) output_4(t, half[r]);
            else output_2(t, half[r]);
            for (size_t i = 0; i < tile; i++) simd_store(sums + (r * tile + i) * GEMM_NR + j, wasm_f32x4_add(t[i], shift));
        }
    }
    store_tile(to, tile, sums);
}

static SIMD_NOINLINE void output_tile_2(const target *to, const float *m, size_t m_point, const float *bias) {
    output_tile(2, to, m, m_point, bias);
}
static SIMD_NOINLINE void output_tile_4(const target *to, const float *m, size_t m_point, const float *bias) {
    output_tile(4, to, m, m_point, bias);
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
static void transform_inputs(float *v, float *patch, const float *x, const winograd_conv *conv, const cut *k, size_t first, size_t count) {
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
        if (conv->tile == 4) input_tile_4(v, k->v_point, from, row, pixel, k->c4);
        else input_tile_2(v, k->v_point, from, row, pixel, k->c4);
    }
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* m [point][count][GEMM_NR] of one panel into the image. */
static void transform_outputs(float *y, const float *m, const float *bias, const winograd_conv *conv, const cut *k, size_t first, size_t count,
                              size_t column, const gemm_epilogue *epilogue) {
    target to = {.y_row = conv->out_w * conv->y_stride, .y_pixel = conv->y_stride, .add_row = conv->out_w * epilogue->add_stride,
                 .add_pixel = epilogue->add_stride, .n = smaller(conv->n - column, GEMM_NR), .relu = epilogue->activation == LAM_RELU};
    for (size_t t = 0; t < count; t++) {
        place at = place_of(conv, k, first + t);
        size_t pixel = (at.image * conv->out_h + at.row) * conv->out_w + at.column;
        to.y = y + pixel * conv->y_stride + column;
        to.add = epilogue->add ? epilogue->add + pixel * epilogue->add_stride + column : NULL;
        to.rows = smaller(conv->out_h - at.row, (size_t)conv->tile);
        to.columns = smaller(conv->out_w - at.column, (size_t)conv->tile);
        if (conv->tile == 4) output_tile_4(&to, m + t * GEMM_NR, count * GEMM_NR, bias + column);
        else output_tile_2(&to, m + t * GEMM_NR, count * GEMM_NR, bias + column);
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

/* Panels [panel, panel + panels) of tiles [first, first + count), whose inputs are in v. */
static void multiply(float *y, const float *v, float *m, const float *packed, const winograd_conv *conv, const cut *k, size_t first, size_t count,
                     size_t panel, size_t panels, const gemm_epilogue *epilogue) {
    const float *rows[MAX_POINTS * MAX_TILES];
    for (size_t p = 0; p < k->points; p++) {
        for (size_t t = 0; t < count; t++) rows[p * count + t] = v + p * k->v_point + t * k->c4;
    }
    for (size_t i = panel; i < panel + panels; i++) {
        const float *u = packed + k->panels * GEMM_NR + i * k->packed_panel;
        for (size_t p = 0; p < k->points; p++) {
            gemm_f32(m + p * count * GEMM_NR, GEMM_NR, rows + p * count, 1, u + p * k->packed_point, count, GEMM_NR, conv->c, NULL);
        }
        transform_outputs(y, m, packed, conv, k, first, count, i * GEMM_NR, epilogue);
    }
    if (epilogue->activation != LAM_IDENTITY && epilogue->activation != LAM_RELU) {
        size_t columns = smaller(conv->n - panel * GEMM_NR, panels * GEMM_NR);
        activate(y, conv, k, first, count, panel * GEMM_NR, columns, epilogue->activation);
    }
}

void winograd_f32(float *y, const float *x, const float *packed, const winograd_conv *conv, size_t first, size_t blocks,
                  const gemm_epilogue *epilogue, float *scratch) {
    const gemm_epilogue none = {NULL, 0, LAM_IDENTITY};
    cut k = cut_of(conv);
    float *v = scratch, *m = v + k.points * k.v_point, *patch = m + k.points * k.block_tiles * GEMM_NR;
    size_t transformed = (size_t)-1;
    for (size_t b = first; b < first + blocks; b++) {           /* the groups of one tile block follow each other: one transform serves them */
        size_t tile_block = b / k.groups, panel = b % k.groups * k.group_panels, tile = tile_block * k.block_tiles;
        size_t count = tile < k.tiles ? smaller(k.tiles - tile, k.block_tiles) : 0;
        if (tile_block != transformed) transform_inputs(v, patch, x, conv, &k, tile, count);
        transformed = tile_block;
        multiply(y, v, m, packed, conv, &k, tile, count, panel, smaller(k.panels - panel, k.group_panels), epilogue ? epilogue : &none);
    }
}

int winograd_choose(size_t batch, size_t out_h, size_t out_w, size_t c, size_t n) {
    (void)batch; (void)out_h; (void)out_w; (void)c; (void)n;
    return 0;
}
