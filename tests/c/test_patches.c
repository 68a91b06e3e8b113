#include "check.h"
#include "kernels/patches.h"

/* What a tap of an output pixel is, by the definition. */
static float tap_of(const float *x, const conv_window *v, size_t pixel, size_t c, size_t i, size_t j) {
    size_t image = pixel / (v->out_h * v->out_w), at = pixel % (v->out_h * v->out_w);
    long row = (long)(at / v->out_w * v->stride_h + i * v->dilation_h) - (long)v->pad_h;
    long column = (long)(at % v->out_w * v->stride_w + j * v->dilation_w) - (long)v->pad_w;
    if (row < 0 || column < 0 || row >= (long)v->h || column >= (long)v->w) return 0;
    return x[((image * v->c + c) * v->h + (size_t)row) * v->w + (size_t)column];
}

static size_t out_size(size_t size, size_t kernel, size_t pad, size_t dilation, size_t stride) {
    size_t reach = (kernel - 1) * dilation + 1, padded = size + 2 * pad;
    return padded < reach ? 0 : (padded - reach) / stride + 1 + check_size(0, 1);     /* now and then more padding below and to the right */
}

static void one(void) {
    conv_window v = {.h = check_size(1, 12), .w = check_size(1, 40), .c = check_size(1, 4), .kernel_h = check_size(1, 5), .kernel_w = check_size(1, 17),
                     .stride_h = check_size(1, 4), .stride_w = check_size(1, 5), .pad_h = check_size(0, 3), .pad_w = check_size(0, 9),
                     .dilation_h = check_size(1, 2), .dilation_w = check_size(0, 3) ? 1 : 2};
    v.out_h = out_size(v.h, v.kernel_h, v.pad_h, v.dilation_h, v.stride_h);
    v.out_w = out_size(v.w, v.kernel_w, v.pad_w, v.dilation_w, v.stride_w);
    size_t images = check_size(1, 3), pixels = images * v.out_h * v.out_w, floats = patches_row_floats(&v);
    float *x = check_floats(images * v.c * v.h * v.w);
    int right = 1;
    for (size_t first = 0; first < pixels && right;) {
        size_t count = check_size(1, pixels - first), k = v.c * v.kernel_h * v.kernel_w;
        float *rows = check_floats(count * floats);
        patches_f32(rows, x, &v, first, count);
        for (size_t at = 0; at < count * k; at++) {
            size_t c = at % k / (v.kernel_h * v.kernel_w), i = at % k / v.kernel_w % v.kernel_h, j = at % v.kernel_w;
            if (rows[at / k * floats + at % k] != tap_of(x, &v, first + at / k, c, i, j)) right = 0;
        }
        check_free(rows);
        first += count;
    }
    CHECK(right, "%zux%zux%zu kernel %zux%zu stride %zux%zu pad %zux%zu dilation %zux%zu", v.c, v.h, v.w, v.kernel_h, v.kernel_w, v.stride_h, v.stride_w,
          v.pad_h, v.pad_w, v.dilation_h, v.dilation_w);
    check_free(x);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    for (int i = 0; i < 1500; i++) one();
    return check_end("patches");
}
