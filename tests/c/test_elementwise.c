#include "check.h"
#include "kernels/elementwise.h"
#include "reference.h"

/* kind: 0 full matrix, 1 one row for all, 2 one number per row, 3 a scalar */
static elementwise_operand operand(size_t rows, size_t columns, size_t stride, int kind, float **owned) {
    size_t row_stride = kind == 0 ? stride : kind == 2, column_stride = kind < 2;
    size_t floats = rows && columns ? (rows - 1) * row_stride + (columns - 1) * column_stride + 1 : 0;
    *owned = check_floats(floats);
    for (size_t i = 0; i < floats; i++) (*owned)[i] += (*owned)[i] < 0 ? -0.2f : 0.2f;   /* may be divided by */
    return (elementwise_operand){*owned, row_stride, column_stride};
}

static void one(size_t rows, size_t columns, int a_kind, int b_kind, elementwise_op op) {
    size_t stride = columns + (check_size(0, 1) ? check_size(0, 3) : 0), floats = rows && columns ? (rows - 1) * stride + columns : 0;
    lam_activation activation = (lam_activation)(check_size(0, 1) ? check_size(0, LAM_ACTIVATIONS - 1) : 0);
    float *a_data, *b_data, *y = check_floats(floats), *expected = check_floats(floats), *add = check_floats(floats);
    elementwise_operand a = operand(rows, columns, stride, a_kind, &a_data), b = operand(rows, columns, stride, b_kind, &b_data);
    int with_add = (int)check_size(0, 1), in_place = (int)check_size(0, 3);
    float *to = in_place == 1 && a_kind == 0 ? a_data : in_place == 2 && b_kind == 0 ? b_data : in_place == 3 && with_add ? add : y;
    memcpy(expected, to, floats * sizeof *y);
    reference_elementwise(expected, stride, op, &a, &b, with_add ? add : NULL, rows, columns, activation);
    elementwise_f32(to, stride, op, &a, &b, with_add ? add : NULL, rows, columns, activation);
    if (!check_close(to, expected, floats, 2e-6, "elementwise")) {
        printf("    op %d rows %zu columns %zu kinds %d %d add %d in place %d activation %d\n", op, rows, columns, a_kind, b_kind, with_add, in_place, activation);
    }
    check_free(a_data); check_free(b_data); check_free(y); check_free(expected); check_free(add);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    for (int op = 0; op <= ELEMENTWISE_SECOND; op++) {
        for (int kinds = 0; kinds < 16; kinds++) {
            for (size_t columns = 0; columns <= 18; columns++) one(check_size(0, 5), columns, kinds / 4, kinds % 4, (elementwise_op)op);
        }
    }
    return check_end("elementwise");
}
