#include "check.h"
#include "dtype.h"
#include "kernels/half.h"
#include "kernels/quantized.h"
#include "kernels/winograd.h"
#include "reference.h"

typedef struct image_case {
    winograd_conv conv;
    int bias, add, in_place, scaled, whole;
    lam_activation activation;
} image_case;

static void reference(float *y, const float *x, const float *weight, const float *bias, const float *add, const image_case *test) {
    const winograd_conv *v = &test->conv;
    reference_conv one = {v->h, v->w, v->c, v->out_h, v->out_w, v->n, 3, 3, 1, 1, v->pad_h, v->pad_w, 1, 1};
    for (size_t i = 0; i < v->batch; i++) {
        size_t to = i * v->out_h * v->out_w * v->y_stride;
        reference_conv2d(y + to, v->y_stride, x + i * v->h * v->w * v->x_stride, v->x_stride, weight, bias, add ? add + to : NULL, &one, test->activation);
    }
}

static gemm_format format_of(const winograd_conv *v) { return v->bits == 16 ? GEMM_F16 : GEMM_F32; }

static size_t packed_floats(const winograd_conv *v) {
    return v->bits == 8 ? quantized_packed_floats(QUANTIZED_8, 9, v->c, v->n) : gemm_packed_floats_in(format_of(v), 9 * v->c, v->n);
}

/* Numbers that so many bits can stand for. */
static void round_to(const winograd_conv *v, float *weight) {
    for (size_t i = 0; i < v->n * v->c * 9 && v->bits == 16; i++) {
        uint16_t half;
        half_from_f32(&half, &weight[i], 1);
        dtype_to_f32(&weight[i], LAM_F16, &half, 1);
    }
    for (size_t j = 0; j < v->n && v->bits == 8; j++) {
        float *row = weight + j * v->c * 9;
        for (size_t i = 0; i < v->c * 9; i++) row[i] = ldexpf((float)(int)check_size(0, 254) - 127, -11);
        row[check_size(0, v->c * 9 - 1)] = ldexpf(check_size(0, 1) ? 127 : -127, -11);
    }
}

static void pack(float *packed, float *weight, float *bias, const image_case *test) {
    const winograd_conv *v = &test->conv;
    size_t n0 = v->n;
    memset(packed, 0, packed_floats(v) * sizeof *packed);
    while (n0) {                                                     /* chunks from the end, of any size */
        size_t columns = check_size(1, n0);
        n0 -= columns;
        const float *from = weight + n0 * v->c * 9;
        if (v->bits == 8) quantized_pack(packed, QUANTIZED_8, 9, v->c, n0, columns, from, 1, 9, 9 * v->c);
        else for (size_t tap = 0; tap < 9; tap++) gemm_pack(format_of(v), packed, 9 * v->c, tap * v->c, v->c, n0, columns, from + tap, 9, 9 * v->c);
    }
    if (v->bits == 8) quantized_pack_bias(packed, QUANTIZED_8, 9, v->c, v->n, test->bias ? bias : NULL);
    else gemm_bias(format_of(v), packed, 9 * v->c, v->n, test->bias ? bias : NULL);
    for (size_t j = 0; j < v->n && !test->bias; j++) bias[j] = 0;
    if (!test->scaled) return;
    float *scale = check_floats(v->n);
    for (size_t j = 0, here; j < v->n; j += here) {
        here = check_size(1, v->n - j);
        if (v->bits == 8) quantized_scale_columns(packed, QUANTIZED_8, 9, v->c, j, here, scale + j);
        else gemm_scale(format_of(v), packed, 9 * v->c, j, here, scale + j);
    }
    for (size_t j = 0; j < v->n; j++)
        for (size_t i = 0; i < v->c * 9; i++) weight[j * v->c * 9 + i] *= scale[j];
    check_free(scale);
}

static void one(const image_case *test) {
    const winograd_conv *v = &test->conv;
    size_t pixels = v->batch * v->out_h * v->out_w, floats = pixels ? (pixels - 1) * v->y_stride + v->n : 0;
    float *x = check_floats((v->batch * v->h * v->w - 1) * v->x_stride + v->c), *weight = check_floats(v->n * v->c * 9), *bias = check_floats(v->n);
    float *y = check_floats(floats), *expected = check_floats(floats), *add = check_floats(floats);
    float *packed = check_floats(packed_floats(v)), *scratch = check_floats(winograd_scratch_floats(v));
    for (size_t i = 0; i < v->n * v->c * 9; i++) weight[i] /= 3 * sqrtf((float)v->c);
    round_to(v, weight);
    float *to = test->in_place ? add : y;
    pack(packed, weight, bias, test);
    memcpy(expected, to, floats * sizeof *y);
    reference(expected, x, weight, bias, test->add ? add : NULL, test);

    const gemm_epilogue epilogue = {test->add ? add : NULL, v->y_stride, test->activation};
    for (size_t unit = 0, units = winograd_units(v); unit < units;) {
        size_t here = test->whole ? units : check_size(1, units - unit);
        if (!unit || check_size(0, 1)) winograd_forget(scratch);
        winograd_f32(to, x, packed, v, unit, here, test->add || test->activation ? &epilogue : NULL, scratch);
        unit += here;
    }
    if (!check_close(to, expected, floats, v->tile == 4 ? 6e-6 : 3e-6, "winograd")) {
        printf("    tile %d bits %d batch %zu %zux%zux%zu -> %zux%zux%zu pad %zux%zu strides %zu %zu add %d activation %d\n", v->tile, v->bits, v->batch, v->h, v->w, v->c,
               v->out_h, v->out_w, v->n, v->pad_h, v->pad_w, v->x_stride, v->y_stride, test->add, test->activation);
    }
    check_free(x); check_free(weight); check_free(bias); check_free(y); check_free(expected); check_free(add); check_free(packed); check_free(scratch);
}

static image_case random_case(size_t most) {
    image_case t = {.conv = {.tile = check_size(0, 1) ? 2 : 4, .bits = 8 << check_size(0, 2), .batch = check_size(1, 3), .h = check_size(1, most), .w = check_size(1, most),
                             .c = check_size(0, 9) ? check_size(1, 40) : check_size(250, 530), .n = check_size(1, 40), .pad_h = check_size(0, 2), .pad_w = check_size(0, 2)},
                    .bias = (int)check_size(0, 1), .add = (int)check_size(0, 1), .scaled = (int)check_size(0, 1), .whole = (int)check_size(0, 1),
                    .activation = (lam_activation)check_size(0, LAM_ACTIVATIONS - 1)};
    winograd_conv *v = &t.conv;
    if (v->h + 2 * v->pad_h < 3) v->h = 3;
    if (v->w + 2 * v->pad_w < 3) v->w = 3;
    v->out_h = v->h + 2 * v->pad_h - 2;
    v->out_w = v->w + 2 * v->pad_w - 2;
    v->out_h += check_size(0, 2) - (v->out_h > 1 ? check_size(0, 1) : 0);  /* more or less padding below and to the right than above */
    v->out_w += check_size(0, 2) - (v->out_w > 1 ? check_size(0, 1) : 0);
    v->x_stride = v->c + check_size(0, 3);
    v->y_stride = v->n + check_size(0, 3);
    t.in_place = t.add && check_size(0, 1);
    return t;
}

/* The error against that of the direct form, on sizes of a real network, values as after a ReLU. */
static void accuracy(int tile) {
    image_case t = {.conv = {.tile = tile, .bits = 32, .batch = 1, .h = 14, .w = 14, .c = 256, .n = 16, .out_h = 14, .out_w = 14, .pad_h = 1, .pad_w = 1,
                             .x_stride = 256, .y_stride = 16}, .whole = 1};
    const winograd_conv *v = &t.conv;
    float *x = check_floats(14 * 14 * 256), *weight = check_floats(16 * 256 * 9), *bias = check_floats(16);
    float *y = check_floats(14 * 14 * 16), *expected = check_floats(14 * 14 * 16);
    float *packed = check_floats(gemm_packed_floats(9 * 256, 16)), *scratch = check_floats(winograd_scratch_floats(v));
    for (size_t i = 0; i < 14 * 14 * 256; i++) x[i] = x[i] > 0 ? x[i] : 0;
    pack(packed, weight, bias, &t);
    reference(expected, x, weight, bias, NULL, &t);
    winograd_forget(scratch);
    winograd_f32(y, x, packed, v, 0, winograd_units(v), NULL, scratch);
    double error = 0, size = 0;
    for (size_t i = 0; i < 14 * 14 * 16; i++) {
        error += pow((double)y[i] - expected[i], 2);
        size += pow(expected[i], 2);
    }
    printf("  F(%dx%d, 3x3), 256 channels: relative RMS error %.2e\n", tile, tile, sqrt(error / size));
    CHECK(sqrt(error / size) < 2e-6, "relative RMS error %.2e", sqrt(error / size));
    check_free(x); check_free(weight); check_free(bias); check_free(y); check_free(expected); check_free(packed); check_free(scratch);
}

/* Only what no change of the model should turn round. */
static void choice(void) {
    CHECK(winograd_choose(56, 56, 64, 64) == 4, "large images: the large tile");
    CHECK(winograd_choose(7, 7, 512, 512) == 4, "seven rows: the large tile covers them twice");
    CHECK(winograd_choose(6, 6, 512, 512) == 2, "six rows: the large tile would compute eight");
    CHECK(winograd_choose(56, 56, 3, 64) == 0, "three channels: the transforms cost more than they save");
    CHECK(winograd_choose(1, 1, 64, 64) == 0, "one pixel");
    CHECK(winograd_choose(0, 5, 8, 8) == 0, "no pixel");
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    choice();
    for (int i = 0; i < 250; i++) {
        image_case t = random_case(i % 5 ? 14 : 40);
        one(&t);
    }
    accuracy(2);
    accuracy(4);
    return check_end("winograd");
}
