#include "check.h"
#include "kernels/norm.h"
#include "reference.h"

static void one(size_t rows, size_t d, float offset) {
    float *x = check_floats(rows * d), *y = check_floats(rows * d), *expected = check_floats(rows * d);
    float *weight = check_floats(d), *bias = check_floats(d);
    const float *w = check_size(0, 1) ? weight : NULL, *b = check_size(0, 1) ? bias : NULL;
    for (size_t i = 0; i < rows * d; i++) x[i] += offset;
    reference_layer_norm(expected, x, rows, d, w, b, 1e-5f);
    layer_norm_f32(y, x, rows, d, w, b, 1e-5f);
    /* The mean is rounded to the precision of x; what is left of x may be much smaller. */
    check_close(y, expected, rows * d, 3e-6 * (1 + fabsf(offset)), "layer norm");
    reference_rms_norm(expected, x, rows, d, w, 1e-6f);
    rms_norm_f32(y, x, rows, d, w, 1e-6f);
    check_close(y, expected, rows * d, 2e-6, "rms norm");
    for (size_t i = 0; i < rows * d; i++) expected[i] = (float)((double)x[i] * weight[i % d] + bias[i % d]);
    scale_shift_f32(y, x, rows, d, weight, bias);
    check_close(y, expected, rows * d, 2e-6, "scale and shift");
    memcpy(y, x, rows * d * sizeof *y);
    scale_shift_f32(y, y, rows, d, weight, bias);
    check_close(y, expected, rows * d, 2e-6, "scale and shift in place");
    reference_layer_norm(expected, x, rows, d, w, b, 1e-5f);
    layer_norm_f32(x, x, rows, d, w, b, 1e-5f);
    check_close(x, expected, rows * d, 3e-6 * (1 + fabsf(offset)), "layer norm in place");
    check_free(x); check_free(y); check_free(expected); check_free(weight); check_free(bias);
}

/* Scale and shift are the batch norm they stand for. */
static void batch_norm(void) {
    size_t c = check_size(1, 20);
    float *mean = check_floats(c), *var = check_floats(c), *weight = check_floats(c), *bias = check_floats(c);
    float *scale = check_floats(c), *shift = check_floats(c), *expected = check_floats(c), *y = check_floats(c), *x = check_floats(c);
    const float *w = check_size(0, 1) ? weight : NULL, *b = check_size(0, 1) ? bias : NULL;
    for (size_t j = 0; j < c; j++) {
        var[j] = fabsf(var[j]);
        expected[j] = (float)((x[j] - (double)mean[j]) / sqrt(var[j] + 1e-5) * (w ? w[j] : 1) + (b ? b[j] : 0));
    }
    batch_norm_scale_shift(scale, shift, c, mean, var, w, b, 1e-5f);
    scale_shift_f32(y, x, 1, c, scale, shift);
    check_close(y, expected, c, 2e-6, "batch norm");
    check_free(mean); check_free(var); check_free(weight); check_free(bias); check_free(scale); check_free(shift);
    check_free(expected); check_free(y); check_free(x);
}

static void not_numbers(void) {
    float x[20] = {0}, y[20];
    x[7] = NAN;
    layer_norm_f32(y, x, 2, 10, NULL, NULL, 1e-5f);
    CHECK(isnan(y[0]) && isnan(y[9]) && y[10] == 0, "a NaN fills its own row only");
    x[7] = 0;
    layer_norm_f32(y, x, 2, 10, NULL, NULL, 1e-5f);
    CHECK(y[0] == 0, "a constant row becomes zeros");
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    for (size_t d = 1; d <= 40; d++) one(check_size(0, 4), d, 0);
    for (int i = 0; i < 100; i++) {
        one(check_size(1, 5), check_size(1, 800), (float[]){0, 3, -30}[i % 3]);
        batch_norm();
    }
    not_numbers();
    return check_end("norm");
}
