#include "check.h"
#include "kernels/group_norm.h"
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

/* One channel j of the group's `width` at position i, where channels lie apart and where they lie side by side. */
static size_t place(int planes, size_t i, size_t j, size_t rows, size_t stride) { return planes ? j * rows + i : i * stride + j; }

static void reference_group(float *y, const float *x, int planes, size_t rows, size_t stride, size_t width, const float *weight, const float *bias,
                            float eps) {
    double sum = 0, squares = 0, size = (double)rows * (double)width;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < width; j++) sum += x[place(planes, i, j, rows, stride)];
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < width; j++) squares += pow(x[place(planes, i, j, rows, stride)] - sum / size, 2);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < width; j++) {
            size_t at = place(planes, i, j, rows, stride);
            y[at] = (float)((x[at] - sum / size) / sqrt(squares / size + eps) * (weight ? weight[j] : 1) + (bias ? bias[j] : 0));
        }
}

static void groups(float offset) {
    size_t groups = check_size(1, 5), width = check_size(1, 9), rows = check_size(1, 200), n = groups * width, stride = n + check_size(0, 4);
    size_t floats = (rows - 1) * stride + n;
    float *x = check_floats(floats), *y = check_floats(floats), *expected = check_floats(floats), *weight = check_floats(n), *bias = check_floats(n);
    float *scratch = check_floats(2 * n);
    const float *w = check_size(0, 1) ? weight : NULL, *b = check_size(0, 1) ? bias : NULL;
    for (size_t i = 0; i < floats; i++) x[i] += offset;
    memcpy(y, x, floats * sizeof *y);
    memcpy(expected, x, floats * sizeof *y);
    for (size_t g = 0; g < groups; g++)
        reference_group(expected + g * width, x + g * width, 0, rows, stride, width, w ? w + g * width : NULL, b ? b + g * width : NULL, 1e-5f);
    group_norm_columns_f32(y, x, rows, stride, groups, width, w, b, 1e-5f, scratch);
    check_close(y, expected, floats, 3e-6 * (1 + fabsf(offset)), "group norm of columns");
    group_norm_columns_f32(x, x, rows, stride, groups, width, w, b, 1e-5f, scratch);
    check_close(x, expected, floats, 3e-6 * (1 + fabsf(offset)), "group norm of columns in place");
    for (size_t i = 0; i < rows * width; i++) x[i] = check_uniform(-1, 1) + offset;
    reference_group(expected, x, 1, rows, 0, width, w, b, 1e-5f);
    group_norm_planes_f32(y, x, width, rows, w, b, 1e-5f);
    check_close(y, expected, rows * width, 3e-6 * (1 + fabsf(offset)), "group norm of planes");
    group_norm_planes_f32(x, x, width, rows, w, b, 1e-5f);
    check_close(x, expected, rows * width, 3e-6 * (1 + fabsf(offset)), "group norm of planes in place");
    check_free(x); check_free(y); check_free(expected); check_free(weight); check_free(bias); check_free(scratch);
}

static void lengths(float scale) {
    size_t rows = check_size(0, 4), d = check_size(1, 70);
    float *x = check_floats(rows * d), *expected = check_floats(rows * d);
    for (size_t i = 0; i < rows * d; i++) x[i] *= scale;
    for (size_t i = 0; i < rows; i++) {
        double sum = 0;
        for (size_t j = 0; j < d; j++) sum += (double)x[i * d + j] * x[i * d + j];
        for (size_t j = 0; j < d; j++) expected[i * d + j] = (float)(x[i * d + j] / fmax(sqrt(sum), 1e-6));
    }
    normalize_f32(x, x, rows, d, 1e-6f);
    check_close(x, expected, rows * d, 1e-6, "normalize");
    check_free(x); check_free(expected);
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

/* Rows whose mean is large beside what they vary by, or that one value makes so. The mean is a number of 24 bits: half of its last one is what a row
 * may be beside its place, counted in what the row varies by. */
static void far_from_zero(int kind) {
    size_t d = (size_t[]){check_size(2, 40), check_size(40, 3000), check_size(4000, 20000)}[kind % 3];
    float *x = check_floats(2 * d), *y = check_floats(2 * d), *expected = check_floats(2 * d), *weight = check_floats(d), *bias = check_floats(d);
    float mean = (float[]){1, -1, 1.7f, 100, -3e4f, 1e6f}[check_size(0, 5)], width = (float[]){1, 1.03f, 0.97f, 0.01f}[check_size(0, 3)] * sqrtf(3);
    for (size_t i = 0; i < 2 * d; i++) {
        x[i] = mean + width * x[i];                                                     /* squares of the mean near those of the rest, or far above */
        if (kind / 3 == 1) x[i] = mean * (1 + (float)(i % d) / (float)d);               /* a slope */
        if (kind / 3 == 2 && i % d == d / 2) x[i] = mean * 1000;                        /* one of the values that a guess of the mean may be made from */
        if (kind / 3 == 3) x[i] = i % 2 ? mean : nextafterf(mean, 2e6f);                /* two neighbours */
    }
    reference_layer_norm(expected, x, 2, d, weight, bias, 1e-12f);
    layer_norm_f32(y, x, 2, d, weight, bias, 1e-12f);
    for (size_t r = 0; r < 2; r++) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < d; i++) sum += x[r * d + i];
        for (size_t i = 0; i < d; i++) squares += pow(x[r * d + i] - sum / (double)d, 2);
        double last_bit = 0x1p-24 * fabs(sum) / (double)d / sqrt(squares / (double)d + 1e-12);
        check_close(y + r * d, expected + r * d, d, 4e-6 + 3 * last_bit, "layer norm of a row far from zero");
    }
    check_free(x); check_free(y); check_free(expected); check_free(weight); check_free(bias);
}

/* What must come out exactly, and squares that are no numbers any more. */
static void edges_of_rows(void) {
    size_t d = check_size(1, 5000);
    float *x = check_floats(d), *y = check_floats(d), mean, factor;
    for (size_t i = 0; i < d; i++) x[i] = 0.1f;
    layer_norm_f32(y, x, 1, d, NULL, NULL, 1e-5f);
    for (size_t i = 0; i < d; i++) CHECK(y[i] == 0, "a constant row becomes zeros");
    for (size_t i = 0; i < d; i++) x[i] = 1e19f;
    row_statistics(x, d, 1e-5f, &mean, &factor);
    CHECK(mean == 1e19f && factor > 0, "the mean of numbers whose squares are none");
    check_free(x); check_free(y);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    for (size_t d = 1; d <= 40; d++) one(check_size(0, 4), d, 0);
    for (int i = 0; i < 100; i++) {
        one(check_size(1, 5), check_size(1, 800), (float[]){0, 3, -30}[i % 3]);
        batch_norm();
        groups((float[]){0, 3, -30}[i % 3]);
        lengths((float[]){1, 1e-7f, 1e6f}[i % 3]);
    }
    for (int i = 0; i < 240; i++) {
        far_from_zero(i % 12);
        edges_of_rows();
    }
    not_numbers();
    return check_end("norm");
}
