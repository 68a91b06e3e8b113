#include "check.h"
#include "kernels/transpose.h"
#include "reference.h"

static void matrix(size_t rows, size_t columns) {
    size_t x_stride = columns + check_size(0, 3), y_stride = rows + check_size(0, 3);
    size_t y_floats = rows && columns ? (columns - 1) * y_stride + rows : 0;
    float *x = check_floats(rows && columns ? (rows - 1) * x_stride + columns : 0), *y = check_floats(y_floats), *expected = check_floats(y_floats);
    memcpy(expected, y, y_floats * sizeof *y);
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < columns; j++) expected[j * y_stride + i] = x[i * x_stride + j];
    }
    transpose_f32(y, y_stride, x, x_stride, rows, columns);
    CHECK(!memcmp(y, expected, y_floats * sizeof *y), "transpose of [%zu, %zu]", rows, columns);
    check_free(x); check_free(y); check_free(expected);
}

/* A dense array seen through a random order of its axes, some of them broadcast. */
static void permute(void) {
    size_t rank = check_size(1, PERMUTE_MAX_RANK), order[PERMUTE_MAX_RANK], dims[PERMUTE_MAX_RANK], strides[PERMUTE_MAX_RANK], count = 1;
    for (size_t i = 0; i < rank; i++) order[i] = i;
    for (size_t i = rank; i-- > 1;) {
        size_t j = check_size(0, i), o = order[i];
        order[i] = order[j];
        order[j] = o;
    }
    for (size_t i = 0, stride = 1; i < rank; i++) {
        size_t broadcast = check_size(0, 9) == 0;
        dims[order[i]] = check_size(check_size(0, 30) ? 1 : 0, 6);
        strides[order[i]] = broadcast ? 0 : stride;
        if (!broadcast) stride *= dims[order[i]];
        count *= dims[order[i]];
    }
    float *x = check_floats(6 * 6 * 6 * 6 * 6 * 6), *y = check_floats(count), *expected = check_floats(count);
    reference_permute(expected, x, rank, dims, strides);
    permute_f32(y, x, rank, dims, strides);
    CHECK(!memcmp(y, expected, count * sizeof *y), "permute of rank %zu: dims %zu %zu ..., strides %zu %zu ...", rank, dims[0], rank > 1 ? dims[1] : 0,
          strides[0], rank > 1 ? strides[1] : 0);
    check_free(x); check_free(y); check_free(expected);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    for (size_t rows = 0; rows <= 9; rows++) {
        for (size_t columns = 0; columns <= 35; columns++) matrix(rows, columns);
    }
    for (int i = 0; i < 60; i++) matrix(check_size(1, 90), check_size(1, 90));
    for (int i = 0; i < 500; i++) permute();
    return check_end("transpose");
}
