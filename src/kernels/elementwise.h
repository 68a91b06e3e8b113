/* y[i][j] = activation(a[i][j] op b[i][j] + add[i][j]) for matrices [rows, columns], either operand broadcast along rows or columns.
 * y may be any operand that is not broadcast and has y's strides. */
#pragma once
#include <stddef.h>
#include "../activation.h"

typedef enum elementwise_op { ELEMENTWISE_ADD, ELEMENTWISE_SUB, ELEMENTWISE_MUL, ELEMENTWISE_DIV, ELEMENTWISE_SECOND } elementwise_op;

/* Element (i, j) is data[i * row_stride + j * column_stride]; column_stride is 1, or 0 for one number per row.
 * row_stride 0 repeats one row: (0, 1) a vector added to each row, (1, 0) a number for each row, (0, 0) a scalar. */
typedef struct elementwise_operand {
    const float *data;
    size_t row_stride, column_stride;
} elementwise_operand;

/* add [rows, columns] has y's row stride; NULL: none. Plain arrays of n numbers: rows = 1, columns = n. */
void elementwise_f32(float *y, size_t y_stride, elementwise_op op, const elementwise_operand *a, const elementwise_operand *b,
                     const float *add, size_t rows, size_t columns, lam_activation activation);
