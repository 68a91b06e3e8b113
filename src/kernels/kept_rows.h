/* Rows of numbers as a session keeps them:
 *     f32   the numbers
 *     f16   factor, f32; then IEEE halves, each times factor 2^-112 the number
 *     q8    for each KEPT_BLOCK numbers a scale, f32; then signed bytes, each times its scale the number
 * padded to whole floats. The factor is 2^112, or as much more as keeps the row's largest number below 65504. NaN, an infinity
 * and in f16 a number beyond 2^23 make all that share their factor or scale NaN or infinite. */
#pragma once
#include <stddef.h>
#include "../lamella.h"

enum { KEPT_BLOCK = 32 };

typedef struct kept_rows {
    const void *data;
    lam_precision precision;   /* f32, f16 or q8 */
    size_t width, column;      /* numbers of a row, and which of them comes first */
} kept_rows;

size_t kept_row_bytes(lam_precision precision, size_t width);
/* x [rows, width] becomes the rows from `row` on of data. */
void kept_write(void *data, lam_precision precision, size_t row, const float *x, size_t rows, size_t width);
/* to [rows, columns] with to_stride = columns [from->column + column, + columns) of the rows from `row` on. */
void kept_read(float *to, size_t to_stride, const kept_rows *from, size_t row, size_t rows, size_t column, size_t columns);
/* Reads something of each cache line of `columns` columns, in order. */
void kept_touch(const kept_rows *from, size_t row, size_t rows, size_t columns);

/* Row `row` of halves, and its factor. */
const void *kept_halves(const kept_rows *from, size_t row, const float **factor);
/* Row `row` of f32. */
static inline const float *kept_f32(const kept_rows *from, size_t row) { return (const float *)from->data + row * from->width + from->column; }
