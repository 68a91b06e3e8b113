/* Matrix product on weights of 8 or 4 bits: the counterpart of gemm.h, with whole numbers inside.
 *
 * A row of A is turned into codes 0 .. 127 first (quantized_row): x = scale * (code - zero). A weight is
 *     8 bits   scale * code, code -127 .. 127, one scale for a column
 *     4 bits   scale * (code - 8), code 0 .. 15, one scale for QUANTIZED_BLOCK weights that follow each other in a column
 * so that the weights are the signed operand of the dot product and the rows the one that must be 0 .. 127 (simd.h).
 *
 * B [taps * k, n] is packed into panels of QUANTIZED_NR columns, so wide that one row reads memory in one stream. A panel holds
 *     bias    [QUANTIZED_NR]
 *     scale   [QUANTIZED_NR]               of the column; with 4 bits 1 until quantized_scale_columns
 * and for each tap
 *     sum     [QUANTIZED_NR]               of the tap's weights, in units of their codes (8 bits) or themselves (4 bits): times `zero`
 *                                          this is what the rows' offset adds
 *     8 bits  codes [k / 4][QUANTIZED_NR][4]
 *     4 bits  per block of k: codes [8][4][4][4] bytes, of 4 weights each, those of column 8 i + j in the low halves and those of 8 i + j + 4,
 *             minus 8, in the high halves; then scale [4][4][2], bfloat16 of columns 8 i + j and 8 i + j + 4, the latter divided by 16
 * k is rounded up to whole groups of 4, or whole blocks. High halves need not be taken out: a byte as a whole is 16 times the high half plus
 * the low one, so the difference of two dot products has what belongs to the high halves.
 *
 * Rows are given by pointers as in gemm.h, [tiles][taps][GEMM_MR].
 */
#pragma once
#include <stdint.h>
#include "gemm.h"

enum { QUANTIZED_BLOCK = 32 };
enum {
    QUANTIZED_NR = 4 * GEMM_NR,
    QUANTIZED_ROW_HEAD = 2,                  /* scale, scale * zero; then with 4 bits -8 times the sum of each block's codes; then the codes */
    QUANTIZED_PANEL_HEAD = 2 * QUANTIZED_NR,
    QUANTIZED_BLOCK_CODES = QUANTIZED_BLOCK * QUANTIZED_NR / 8,   /* floats of a block's codes, and with its scales */
    QUANTIZED_BLOCK_FLOATS = QUANTIZED_BLOCK_CODES + QUANTIZED_NR / 2,
};
/* What the loops need of memory: V8 rebuilds a constant vector each time it is used. */
extern const struct quantized_constants { short ones[8]; unsigned char low_halves[16]; uint32_t high_words[4]; } quantized_constants;

typedef enum quantized_bits { QUANTIZED_4 = 4, QUANTIZED_8 = 8 } quantized_bits;

/* Floats that a row of k values takes, for one tap. */
size_t quantized_row_floats(quantized_bits bits, size_t k);
/* row = x [k]. A row with a NaN or an infinity gives NaN wherever it is multiplied. */
void quantized_row(float *row, quantized_bits bits, const float *x, size_t k);

/* Floats of a panel, and of the packed form of B. */
size_t quantized_panel_floats(quantized_bits bits, size_t taps, size_t k);
size_t quantized_packed_floats(quantized_bits bits, size_t taps, size_t k, size_t n);
/* Writes the columns [n0, n0 + columns) of B, whole. Element (tap, kk, j) of the source is at b[tap * tap_stride + kk * k_stride + j * n_stride],
 * j counted from n0. What is packed must be zeros before. */
void quantized_pack(float *packed, quantized_bits bits, size_t taps, size_t k, size_t n0, size_t columns, const float *b, size_t tap_stride,
                    size_t k_stride, size_t n_stride);
/* A row of a checkpoint's codes, without padding:
 *     8 bits   scale f32, codes [elements], -127 .. 127
 *     4 bits   scales bfloat16 [ceil(elements / QUANTIZED_BLOCK)], codes [ceil(elements / 8)][4] bytes, each of two, the first in its low half */
size_t quantized_coded_bytes(quantized_bits bits, size_t elements);
/* The same as quantized_pack of `rows` [columns] that hold the codes of a column each, in the order that the strides say; 4 bits: in order, taps 1.
 * As it computes none, what it packs is what the rows say. */
void quantized_pack_coded(float *packed, quantized_bits bits, size_t taps, size_t k, size_t n0, size_t columns, const unsigned char *rows,
                          size_t tap_stride, size_t k_stride);
/* to [elements] = scale times code. */
void quantized_expand(float *to, quantized_bits bits, const unsigned char *row, size_t elements);
/* to [count][GEMM_NR] = scale times code of 8 bits: rows [k0, k0 + count) of a tap, k0 a multiple of 4, and the columns of the gemm panel `panel`. */
void quantized_unpack(float *to, const float *packed, size_t taps, size_t k, size_t panel, size_t tap, size_t k0, size_t count);
/* The biases of those columns. */
const float *quantized_bias(const float *packed, size_t taps, size_t k, size_t panel);
/* bias [n], NULL: zeros. */
void quantized_pack_bias(float *packed, quantized_bits bits, size_t taps, size_t k, size_t n, const float *bias);
/* Columns [n0, n0 + columns), packed, are multiplied by scale [columns], without their biases. */
void quantized_scale_columns(float *packed, quantized_bits bits, size_t taps, size_t k, size_t n0, size_t columns, const float *scale);

/* How products are summed: in fours by one instruction where the processor has it (VNNI on x86, SDOT on ARM); elsewhere the engine would write
 * five for it and three are enough, pairs and then pairs added. Both are exact. Tests set it. */
typedef enum quantized_way { QUANTIZED_AS_FASTER, QUANTIZED_IN_FOURS, QUANTIZED_IN_PAIRS } quantized_way;
extern quantized_way quantized_way_taken;

/* C [m, n] = epilogue(A B + bias) as gemm_f32. rows: of quantized_row. `packed` points at the first panel to use: columns can be divided
 * at multiples of QUANTIZED_NR. */
void quantized_gemm(float *c, size_t c_stride, const float *const *rows, quantized_bits bits, size_t taps, const float *packed,
                    size_t m, size_t n, size_t k, const gemm_epilogue *epilogue);
/* The same for rows [m] of quantized_row that follow each other. */
void quantized_gemm_matrix(float *c, size_t c_stride, const float *rows, quantized_bits bits, const float *packed, size_t m, size_t n,
                           size_t k, const gemm_epilogue *epilogue);
