/* Rows of caches: what is read is what was written, as nearly as the format says. */
#include "check.h"
#include "kernels/kept_rows.h"

static float largest(const float *x, size_t n) {
    float most = 0;
    for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    return most;
}

/* How far the number at `i` of a row may be off: half of the last place. */
static float bound(lam_precision precision, const float *row, size_t i, size_t width) {
    if (precision == LAM_PRECISION_F32) return 0;
    if (precision == LAM_PRECISION_F16) return fmaxf(fabsf(row[i]) * 0x1p-11f, fmaxf(largest(row, width) / 65504, 1) * 0x1p-25f);
    size_t first = i / KEPT_BLOCK * KEPT_BLOCK, count = width - first < KEPT_BLOCK ? width - first : KEPT_BLOCK;
    return largest(row + first, count) / 254 * 1.00001f;
}

static void one(lam_precision precision, size_t rows, size_t width, float size) {
    size_t bytes = kept_row_bytes(precision, width), own = check_size(0, 3), stride = width + check_size(0, 4);
    float *x = check_floats(rows * width), *kept = check_floats((rows + own) * bytes / sizeof(float)), *read = check_floats(rows ? (rows - 1) * stride + width : 0);
    for (size_t i = 0; i < rows * width; i++) x[i] *= check_size(0, 9) ? size : 0;
    size_t at = check_size(0, rows);
    kept_write(kept, precision, own, x, at, width);
    kept_write(kept, precision, own + at, x + at * width, rows - at, width);
    const kept_rows whole = {kept, precision, width, 0};
    kept_read(read, stride, &whole, own, rows, 0, width);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < width; i++) {
            float got = read[r * stride + i], wanted = x[r * width + i];
            CHECK(fabsf(got - wanted) <= bound(precision, x + r * width, i, width), "precision %d width %zu, row %zu, %zu: %g instead of %g", (int)precision, width, r, i,
                  (double)got, (double)wanted);
        }
    for (int i = 0; i < 5 && rows; i++) {                            /* parts are parts of the whole */
        size_t column = check_size(0, width - 1), first = check_size(0, width - 1 - column), columns = check_size(1, width - column - first), row = check_size(0, rows - 1);
        float *part = check_floats(columns);
        const kept_rows from = {kept, precision, width, column};
        kept_touch(&from, own + row, 1, width - column);
        kept_read(part, columns, &from, own + row, 1, first, columns);
        CHECK(!memcmp(part, read + row * stride + column + first, columns * sizeof *part), "columns %zu to %zu of %zu", column + first, column + first + columns, width);
        check_free(part);
    }
    check_free(x); check_free(kept); check_free(read);
}

/* A row with what is no number gives none, and its neighbours are as they were. */
static void not_numbers(lam_precision precision, float none) {
    enum { WIDTH = 2 * KEPT_BLOCK + 3 };
    float x[3 * WIDTH], read[3 * WIDTH], *kept = check_floats(3 * kept_row_bytes(precision, WIDTH) / sizeof(float));
    for (size_t i = 0; i < 3 * WIDTH; i++) x[i] = check_uniform(1, 2);
    x[WIDTH + KEPT_BLOCK + 1] = none;
    kept_write(kept, precision, 0, x, 3, WIDTH);
    kept_read(read, WIDTH, &(kept_rows){kept, precision, WIDTH, 0}, 0, 3, 0, WIDTH);
    CHECK(!isfinite(read[WIDTH + KEPT_BLOCK + 1]) && isfinite(read[0]) && isfinite(read[2 * WIDTH]), "%g as precision %d: %g", (double)none, (int)precision,
          (double)read[WIDTH + KEPT_BLOCK + 1]);
    check_free(kept);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    for (lam_precision precision = LAM_PRECISION_F32; precision <= LAM_Q8; precision++) {
        for (size_t width = 1; width < 80; width++) one(precision, check_size(0, 5), width, 1);
        static const float sizes[] = {1e-30f, 1e-6f, 1e-3f, 300, 65504, 65520, 1e6f, 1e9f};
        for (int i = 0; i < 64; i++) one(precision, check_size(1, 5), check_size(1, 300), sizes[i % 8]);
        const float none[] = {NAN, INFINITY, -INFINITY};
        for (int i = 0; i < 3; i++) not_numbers(precision, none[i]);
    }
    return check_end("kept_rows");
}
