#include "check.h"
#include "kernels/depthwise.h"
#include "reference.h"

static void one(void) {
    conv_window v = {.h = check_size(1, 14), .w = check_size(1, 20), .c = check_size(1, 48), .kernel_h = check_size(1, 5), .kernel_w = check_size(1, 5),
                        .stride_h = check_size(1, 3), .stride_w = check_size(1, 3), .pad_h = check_size(0, 4), .pad_w = check_size(0, 4),
                        .dilation_h = check_size(1, 3), .dilation_w = check_size(1, 3)};
    size_t reach_h = (v.kernel_h - 1) * v.dilation_h + 1, reach_w = (v.kernel_w - 1) * v.dilation_w + 1;
    if (v.h + 2 * v.pad_h < reach_h || v.w + 2 * v.pad_w < reach_w) return;
    v.out_h = (v.h + 2 * v.pad_h - reach_h) / v.stride_h + 1;
    v.out_w = (v.w + 2 * v.pad_w - reach_w) / v.stride_w + 1;
    v.out_h += check_size(0, 1) - (v.out_h > 1 ? check_size(0, 1) : 0);    /* more or less padding below and to the right than above */
    v.out_w += check_size(0, 1) - (v.out_w > 1 ? check_size(0, 1) : 0);
    size_t taps = v.kernel_h * v.kernel_w, floats = v.out_h * v.out_w * v.c;
    float *x = check_floats(v.h * v.w * v.c), *weight = check_floats(v.c * taps), *bias = check_floats(v.c);
    float *scale = check_floats(v.c), *shift = check_floats(v.c), *packed = check_floats(depthwise_packed_floats(v.c, taps));
    float *y = check_floats(floats), *expected = check_floats(floats), *add = check_floats(floats);
    int with_bias = (int)check_size(0, 1), with_add = (int)check_size(0, 1), in_place = with_add && check_size(0, 1), scaled = (int)check_size(0, 1);
    gemm_epilogue epilogue = {with_add ? add : NULL, v.c, (lam_activation)check_size(0, LAM_ACTIVATIONS - 1)};

    for (size_t j = 0; j < v.c;) {
        size_t channels = check_size(1, v.c - j);
        depthwise_pack_f32(packed, v.c, taps, j, channels, weight + j * taps);
        j += channels;
    }
    depthwise_pack_bias(packed, v.c, with_bias ? bias : NULL);
    if (scaled) depthwise_scale_channels(packed, v.c, taps, scale, shift);
    for (size_t j = 0; j < v.c; j++) {
        if (!with_bias) bias[j] = 0;
        if (!scaled) continue;
        bias[j] = bias[j] * scale[j] + shift[j];
        for (size_t t = 0; t < taps; t++) weight[j * taps + t] *= scale[j];
    }
    reference_depthwise(expected, x, weight, bias, epilogue.add, &v, epilogue.activation);
    float *to = in_place ? add : y;
    for (size_t row = 0; row < v.out_h;) {
        size_t rows = check_size(1, v.out_h - row);
        depthwise_f32(to, x, packed, &v, row, rows, epilogue.add || epilogue.activation ? &epilogue : NULL);
        row += rows;
    }
    if (!check_close(to, expected, floats, 3e-6, "depthwise")) {
        printf("    %zux%zux%zu kernel %zux%zu stride %zux%zu pad %zux%zu dilation %zux%zu\n", v.h, v.w, v.c, v.kernel_h, v.kernel_w, v.stride_h, v.stride_w,
               v.pad_h, v.pad_w, v.dilation_h, v.dilation_w);
    }
    check_free(x); check_free(weight); check_free(bias); check_free(scale); check_free(shift); check_free(packed);
    check_free(y); check_free(expected); check_free(add);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    for (int i = 0; i < 600; i++) one();
    return check_end("depthwise");
}
