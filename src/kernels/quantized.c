#include <math.h>
#include "quantized.h"
#include "../simd.h"
#include "activation.h"

/* Where the products of one tap go, and with what: c = max(product * scale + bias + add, limit). All of it is always there, zeros where need be,
 * so that a tile has no branches behind its sums and these stay in registers. */
typedef struct place {
    float *c;
    const float *add, *bias, *scale;
    size_t c_stride, add_stride;
    float limit;
} place;

quantized_way quantized_way_taken = QUANTIZED_AS_FASTER;

SIMD_INLINE simd_dots no_dots(void) {
    simd_dots sums;
    for (size_t i = 0; i < SIMD_DOT_PARTS; i++) sums.part[i] = simd_zero();
    return sums;
}

/* An instruction for pairs shows itself beyond the range that we keep to: its sums stop at 32767. */
static quantized_way way_here(void) {
    static volatile const uint32_t most = 0x7f7f7f7fu, beyond = 0xffffffffu;
    if (!SIMD_DOT_VARIES) return QUANTIZED_IN_FOURS;
    if (quantized_way_taken != QUANTIZED_AS_FASTER) return quantized_way_taken;
    const simd_dots sums = simd_dot(wasm_i32x4_splat((int)most), wasm_i32x4_splat((int)beyond), no_dots());
    return wasm_i32x4_extract_lane(simd_dot_total(sums), 0) == 2 * 32767 ? QUANTIZED_IN_PAIRS : QUANTIZED_IN_FOURS;
}

/* ---- a tile: rows x panels, both constants where this is inlined ---- */

enum { FEW_ROWS = 2, MOST_ROWS = 6, MOST_VECTORS = 8, TILE_FLOATS = 64 };

typedef struct tile_shape { quantized_way way; quantized_bits bits; size_t rows, panels; } tile_shape;

/* Ways that need one part use the first. */
SIMD_INLINE simd_dots add_dot(tile_shape s, v128_t a, v128_t b, v128_t ones, simd_dots sums) {
    if (s.way == QUANTIZED_IN_FOURS) return simd_dot(a, b, sums);
    sums.part[0] = wasm_i32x4_add(sums.part[0], wasm_i32x4_dot_i16x8(simd_dot_pairs(a, b), ones));
    return sums;
}
SIMD_INLINE v128_t total(tile_shape s, simd_dots sums) { return s.way == QUANTIZED_IN_FOURS ? simd_dot_total(sums) : sums.part[0]; }

/* How many panels' sums there is room for in registers; of the others' weights a piece is read at a time, so that memory is still read in one stream. */
SIMD_INLINE size_t panels_side_by_side(tile_shape s) { return s.way == QUANTIZED_IN_FOURS && SIMD_DOT_PARTS == 2 && s.panels == 4 ? 2 : s.panels; }

/* sums [rows][2 * panels]: of one tap. */
SIMD_INLINE void tap_of_8(tile_shape s, size_t k, const float *const *rows, const float *b, v128_t sums[][MOST_VECTORS]) {
    const v128_t ones = wasm_v128_load(quantized_constants.ones);
    const unsigned char *x[MOST_ROWS];
    v128_t code[MOST_ROWS];
    simd_dots dots[MOST_ROWS][MOST_VECTORS];
    for (size_t r = 0; r < s.rows; r++) {
        x[r] = (const unsigned char *)(rows[r] + QUANTIZED_ROW_HEAD);
        for (size_t v = 0; v < 2 * s.panels; v++) dots[r][v] = no_dots();
    }
    const size_t side = panels_side_by_side(s), piece = side < s.panels ? 64 : k;
    for (size_t from = 0, end; from < k; from = end) {
        end = from + piece < k ? from + piece : k;
        for (size_t v0 = 0; v0 < 2 * s.panels; v0 += 2 * side) {
            const float *w = b + from / 4 * QUANTIZED_NR;
            for (size_t at = from; at < end; at += 4, w += QUANTIZED_NR) {
                for (size_t r = 0; r < s.rows && s.rows <= FEW_ROWS; r++) code[r] = wasm_v128_load32_splat(x[r] + at);
                for (size_t v = v0; v < v0 + 2 * side; v += 2) {
                    const v128_t first = simd_load(w + v * 4), second = simd_load(w + v * 4 + 4);
                    for (size_t r = 0; r < s.rows; r++) {
                        if (s.rows > FEW_ROWS) code[r] = wasm_v128_load32_splat(x[r] + at);
                        dots[r][v] = add_dot(s, first, code[r], ones, dots[r][v]);
                        dots[r][v + 1] = add_dot(s, second, code[r], ones, dots[r][v + 1]);
                    }
                }
            }
        }
    }
    for (size_t r = 0; r < s.rows; r++)
        for (size_t v = 0; v < 2 * s.panels; v++) sums[r][v] = wasm_f32x4_convert_i32x4(total(s, dots[r][v]));
}

/* One block of k, `side` panels from p0 on. whole: 16 times the high halves' products plus the low halves', low: the low halves' products. At most QUANTIZED_BLOCK of
 * those come together, so that pairs of them stay within 16 bits. */
SIMD_INLINE void dot_block(tile_shape s, size_t p0, size_t side, const unsigned char *const *codes, const float *b, v128_t low_halves, v128_t ones, simd_dots whole[][4],
                           simd_dots low[][4]) {
    const unsigned char *x[MOST_ROWS];
    for (size_t r = 0; r < s.rows; r++) {
        x[r] = codes[r];
        for (size_t p = p0; p < p0 + side; p++) whole[r][p] = low[r][p] = no_dots();
    }
    SIMD_KEEP_LOOP
    for (int i = 0; i < QUANTIZED_BLOCK / 4; i++, b += QUANTIZED_NR / 2) {
        v128_t code[MOST_ROWS];
        for (size_t r = 0; r < s.rows; r++, x[r - 1] += 4) code[r] = wasm_v128_load32_splat(x[r]);
        for (size_t p = p0; p < p0 + side; p++) {
            const v128_t both = simd_load(b + p * 4), half = wasm_v128_and(both, low_halves);
            for (size_t r = 0; r < s.rows; r++) {
                if (s.way == QUANTIZED_IN_FOURS) low[r][p] = simd_dot(half, code[r], low[r][p]);
                else low[r][p].part[0] = wasm_i16x8_add(low[r][p].part[0], simd_dot_pairs(half, code[r]));
                whole[r][p] = add_dot(s, both, code[r], ones, whole[r][p]);
            }
        }
    }
}

/* Adds one block's products of panel p, scaled. */
SIMD_INLINE void scale_block(tile_shape s, size_t p, const float *b, const int32_t *const *offsets, size_t block, v128_t ones, simd_dots whole[][4], simd_dots low[][4],
                             v128_t sums[][MOST_VECTORS]) {
    const v128_t scales = simd_load(b + QUANTIZED_BLOCK_CODES + p * 4);
    const v128_t scale_low = wasm_i32x4_shl(scales, 16), scale_high = wasm_v128_and(scales, wasm_v128_load(quantized_constants.high_words));
    for (size_t r = 0; r < s.rows; r++) {
        v128_t l = s.way == QUANTIZED_IN_FOURS ? simd_dot_total(low[r][p]) : wasm_i32x4_dot_i16x8(low[r][p].part[0], ones);
        v128_t h = wasm_i32x4_sub(total(s, whole[r][p]), l);
        l = wasm_i32x4_add(l, wasm_v128_load32_splat(offsets[r] + block));
        sums[r][2 * p] = simd_madd(wasm_f32x4_convert_i32x4(l), scale_low, sums[r][2 * p]);
        sums[r][2 * p + 1] = simd_madd(wasm_f32x4_convert_i32x4(h), scale_high, sums[r][2 * p + 1]);
    }
}

SIMD_INLINE void tap_of_4(tile_shape s, size_t k, const float *const *rows, const float *b, v128_t sums[][MOST_VECTORS]) {
    const v128_t low_halves = wasm_v128_load(quantized_constants.low_halves), ones = wasm_v128_load(quantized_constants.ones);
    const size_t blocks = (k + QUANTIZED_BLOCK - 1) / QUANTIZED_BLOCK, side = panels_side_by_side(s);
    const unsigned char *x[MOST_ROWS];
    const int32_t *offsets[MOST_ROWS];
    simd_dots whole[MOST_ROWS][4], low[MOST_ROWS][4];
    for (size_t r = 0; r < s.rows; r++) {
        offsets[r] = (const int32_t *)(const void *)(rows[r] + QUANTIZED_ROW_HEAD);
        x[r] = (const unsigned char *)(offsets[r] + blocks);
    }
    for (size_t r = 0; r < s.rows; r++)
        for (size_t v = 0; v < 2 * s.panels; v++) sums[r][v] = simd_zero();
    for (size_t block = 0; block < blocks; block++, b += QUANTIZED_BLOCK_FLOATS) {
        for (size_t p0 = 0; p0 < s.panels; p0 += side) {
            dot_block(s, p0, side, x, b, low_halves, ones, whole, low);
            for (size_t p = p0; p < p0 + side; p++) scale_block(s, p, b, offsets, block, ones, whole, low, sums);
        }
        for (size_t r = 0; r < s.rows; r++) x[r] += QUANTIZED_BLOCK;
    }
}

/* One tap, whose sums and weights begin at b. A panel here is GEMM_NR columns, those from `first` on of one that is four times as wide. */
SIMD_INLINE void tile(tile_shape s, const place *p, size_t k, const float *const *rows, const float *b, size_t first) {
    v128_t sums[MOST_ROWS][MOST_VECTORS];
    if (s.bits == QUANTIZED_4) tap_of_4(s, k, rows, b + QUANTIZED_NR + first / 2, sums);
    else tap_of_8(s, k, rows, b + QUANTIZED_NR + first, sums);
    const v128_t limit = simd_splat(&p->limit);
    const float *add = p->add;
    float *c = p->c;
    for (size_t r = 0; r < s.rows; r++, add += p->add_stride, c += p->c_stride) {
        const v128_t scale = simd_splat(rows[r]), offset = simd_splat(rows[r] + 1);
        for (size_t v = 0; v < 2 * s.panels; v++) {
            v128_t here = simd_nmadd(offset, simd_load(b + first + v * 4), wasm_f32x4_mul(scale, sums[r][v]));
            here = wasm_f32x4_add(simd_madd(here, simd_load(p->scale + v * 4), simd_load(p->bias + v * 4)), simd_load(add + v * 4));
            simd_store(c + v * 4, simd_max(here, limit));
        }
    }
}

typedef void tile_function(const place *, size_t, const float *const *, const float *, size_t);

#define TILE(way_name, bits, rows, panels) \
    static SIMD_NOINLINE void tile_##way_name##_##bits##_##rows##x##panels(const place *p, size_t k, const float *const *row, const float *b, \
                                                                           size_t first) { \
        tile((tile_shape){ SIMD_DOT_VARIES ? QUANTIZED_IN_##way_name : QUANTIZED_IN_FOURS, QUANTIZED_##bits, rows, panels }, p, k, row, b, first); \
    }
#define TILES(way_name, bits) TILE(way_name, bits, 1, 1) TILE(way_name, bits, 2, 1) TILE(way_name, bits, 3, 1) TILE(way_name, bits, 1, 4)
TILES(FOURS, 8) TILES(FOURS, 4) TILES(PAIRS, 8) TILES(PAIRS, 4)
TILE(FOURS, 8, 2, 2) TILE(PAIRS, 8, 2, 2)
TILE(FOURS, 8, 6, 1)
TILE(FOURS, 4, 6, 1)

/* Tiles by rows, of one panel; that for six is two of three where six have no room in V8's registers, and those of three are of two and one where sums
 * are in two parts. First one row by four panels, last two rows by two where a row of one panel, 32 bytes, would leave half of each cache line. */
enum { BY_FOUR_PANELS = 0, BY_TWO_PANELS = MOST_ROWS + 1, TILE_KINDS };
#define FEW_NAMES(way_name, bits) tile_##way_name##_##bits##_1x4, tile_##way_name##_##bits##_1x1, tile_##way_name##_##bits##_2x1
#define NAMES(way_name, bits, six, two) { FEW_NAMES(way_name, bits), tile_##way_name##_##bits##_3x1, NULL, NULL, six, two }
static tile_function *const tiles[2][2][TILE_KINDS] = {
    { NAMES(FOURS, 4, tile_FOURS_4_6x1, NULL), NAMES(FOURS, 8, tile_FOURS_8_6x1, tile_FOURS_8_2x2) },
    { NAMES(PAIRS, 4, NULL, NULL), NAMES(PAIRS, 8, NULL, tile_PAIRS_8_2x2) },
};
static tile_function *const few_tiles[2][TILE_KINDS] = { { FEW_NAMES(FOURS, 4) }, { FEW_NAMES(FOURS, 8) } };

/* ---- the whole ---- */

static void copy_columns(float *to, size_t to_stride, const float *from, size_t from_stride, size_t rows, size_t columns) {
    for (; rows--; to += to_stride, from += from_stride)
        for (size_t i = 0; i < columns; i++) to[i] = from[i];
}

static size_t next_rows(tile_function *const *by_rows, size_t left) {
    size_t rows = left < MOST_ROWS ? left : MOST_ROWS;
    while (!by_rows[rows]) rows--;
    return rows;
}

/* Rows [mr] by columns [width], of which `here` are wanted. The first tap brings bias and addend; between taps results are in y. */
static void all_taps(tile_function *run, place last, size_t taps, size_t k, const float *const *rows, const float *panel, size_t first, size_t tap_floats,
                     size_t mr, size_t width, size_t here) {
    static const float zeros[QUANTIZED_NR];
    float y[TILE_FLOATS];
    place p = last;
    if (!p.add) p.add = zeros, p.add_stride = 0;
    else if (here < width) {
        copy_columns(y, width, p.add, p.add_stride, mr, here);
        p.add = y, p.add_stride = width;
    }
    const float *b = panel + QUANTIZED_PANEL_HEAD;
    for (size_t tap = 1; tap <= taps; tap++, rows += GEMM_MR, b += tap_floats) {
        const int direct = tap == taps && here == width;
        p.c = direct ? last.c : y;
        p.c_stride = direct ? last.c_stride : width;
        p.limit = tap == taps ? last.limit : -INFINITY;
        run(&p, k, rows, b, first);
        p.add = y, p.add_stride = width, p.bias = zeros;
    }
    if (here < width) copy_columns(last.c, last.c_stride, y, width, mr, here);
}

void quantized_gemm(float *c, size_t c_stride, const float *const *rows, quantized_bits bits, size_t taps, const float *packed,
                    size_t m, size_t n, size_t k, const gemm_epilogue *epilogue) {
    const gemm_epilogue e = epilogue ? *epilogue : (gemm_epilogue){ NULL, 0, LAM_IDENTITY };
    tile_function *const *by_rows = SIMD_DOT_VARIES ? tiles[way_here() == QUANTIZED_IN_PAIRS][bits == QUANTIZED_8] : few_tiles[bits == QUANTIZED_8];
    const size_t panel_floats = quantized_panel_floats(bits, taps, k), tap_floats = (panel_floats - QUANTIZED_PANEL_HEAD) / taps;
    const int by_two = m == 2 && by_rows[BY_TWO_PANELS];
    const size_t width = (m == 1 ? 4 : by_two ? 2 : 1) * GEMM_NR;
    for (size_t column = 0; column < n; column += width) {
        const float *panel = packed + column / QUANTIZED_NR * panel_floats;
        const size_t first = column % QUANTIZED_NR, here = n - column < width ? n - column : width;
        for (size_t row = 0, mr; row < m; row += mr) {
            /* Rows are listed in tiles of GEMM_MR: none may reach over two. */
            mr = m == 1 ? 1 : by_two ? 2 : next_rows(by_rows, m - row);
            const place last = { c + row * c_stride + column, e.add ? e.add + row * e.add_stride + column : NULL, panel + first,
                                 panel + QUANTIZED_NR + first, c_stride, e.add_stride, e.activation == LAM_RELU ? 0 : -INFINITY };
            all_taps(by_rows[m == 1 ? BY_FOUR_PANELS : by_two ? BY_TWO_PANELS : mr], last, taps, k, rows + row / GEMM_MR * GEMM_MR * taps + row % GEMM_MR, panel, first,
                     tap_floats, mr, width, here);
        }
    }
    if (e.activation != LAM_IDENTITY && e.activation != LAM_RELU) activation_tile_f32(c, c_stride, m, n, e.activation);
}

/* As many rows as stay in the second cache level beside a panel. */
enum { BLOCK_BYTES = 512 * 1024, MOST_TOGETHER = 32 * GEMM_MR };

void quantized_gemm_matrix(float *c, size_t c_stride, const float *rows, quantized_bits bits, const float *packed, size_t m, size_t n,
                           size_t k, const gemm_epilogue *epilogue) {
    const size_t row_floats = quantized_row_floats(bits, k);
    size_t together = BLOCK_BYTES / sizeof(float) / row_floats / GEMM_MR * GEMM_MR;
    together = together > MOST_TOGETHER ? MOST_TOGETHER : together < GEMM_MR ? GEMM_MR : together;
    const float *list[MOST_TOGETHER];
    gemm_epilogue part = epilogue ? *epilogue : (gemm_epilogue){ NULL, 0, LAM_IDENTITY };
    for (size_t i = 0; i < m; i += together) {
        size_t mb = m - i < together ? m - i : together;
        for (size_t r = 0; r < mb; r++) list[r] = rows + (i + r) * row_floats;
        quantized_gemm(c + i * c_stride, c_stride, list, bits, 1, packed, mb, n, k, &part);
        if (part.add) part.add += mb * part.add_stride;
    }
}
