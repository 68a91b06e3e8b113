#include "check.h"
#include "kernels/softmax.h"
#include "reference.h"

static void one(size_t rows, size_t d, float spread) {
    float *x = check_floats(rows * d), *y = check_floats(rows * d), *expected = check_floats(rows * d);
    for (size_t i = 0; i < rows * d; i++) x[i] *= spread;
    if (rows * d > 0 && check_size(0, 3) == 0) x[check_size(0, rows * d - 1)] = (float[]){NAN, INFINITY, -INFINITY}[check_size(0, 2)];
    reference_softmax(expected, x, rows, d);
    softmax_f32(y, x, rows, d);
    check_close(y, expected, rows * d, 2e-6, "softmax");
    softmax_f32(x, x, rows, d);
    check_close(x, expected, rows * d, 2e-6, "softmax in place");
    check_free(x); check_free(y); check_free(expected);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    for (size_t d = 0; d <= 50; d++) {
        for (int i = 0; i < 4; i++) one(check_size(0, 4), d, (float[]){1, 10, 100, 1e4f}[i]);
    }
    for (int i = 0; i < 50; i++) one(check_size(1, 4), check_size(1, 3000), 10);
    float hidden[9], y[9];
    for (int i = 0; i < 9; i++) hidden[i] = -INFINITY;
    softmax_f32(y, hidden, 1, 9);
    CHECK(isnan(y[0]) && isnan(y[8]), "a row of -inf has no softmax");
    return check_end("softmax");
}
