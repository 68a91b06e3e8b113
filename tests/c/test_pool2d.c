#include "check.h"
#include "kernels/pool2d.h"
#include "reference.h"

static size_t out_size(size_t size, size_t kernel, size_t stride, size_t pad, size_t dilation, int ceil_mode) {
    size_t reach = dilation * (kernel - 1) + 1;
    size_t out = (size + 2 * pad - reach + (ceil_mode ? stride - 1 : 0)) / stride + 1;
    return ceil_mode && (out - 1) * stride >= size + pad ? out - 1 : out;
}

/* A random pooling, as PyTorch allows it; 0 when the window does not fit. */
static int random_pool(pool2d *p, size_t dilation) {
    *p = (pool2d){.h = check_size(1, 12), .w = check_size(1, 12), .c = check_size(1, 37), .kernel_h = check_size(1, 5), .kernel_w = check_size(1, 5),
                  .stride_h = check_size(1, 4), .stride_w = check_size(1, 4), .dilation_h = check_size(1, dilation), .dilation_w = check_size(1, dilation)};
    p->pad_h = check_size(0, p->kernel_h / 2);
    p->pad_w = check_size(0, p->kernel_w / 2);
    p->count_include_pad = (int)check_size(0, 1);
    p->divisor_override = check_size(0, 3) ? 0 : check_size(1, 5);
    if (p->h + 2 * p->pad_h < p->dilation_h * (p->kernel_h - 1) + 1 || p->w + 2 * p->pad_w < p->dilation_w * (p->kernel_w - 1) + 1) return 0;
    int ceil_mode = (int)check_size(0, 1);
    p->out_h = out_size(p->h, p->kernel_h, p->stride_h, p->pad_h, p->dilation_h, ceil_mode);
    p->out_w = out_size(p->w, p->kernel_w, p->stride_w, p->pad_w, p->dilation_w, ceil_mode);
    return 1;
}

typedef void pool_kernel(float *, const float *, const pool2d *, size_t, size_t);
typedef void pool_reference(float *, const float *, const pool2d *);

static void one(const pool2d *p, pool_kernel *kernel, pool_reference *reference, const char *what, int with_nan) {
    size_t floats = p->out_h * p->out_w * p->c;
    float *x = check_floats(p->h * p->w * p->c), *y = check_floats(floats), *expected = check_floats(floats);
    if (with_nan) x[check_size(0, p->h * p->w * p->c - 1)] = NAN;
    reference(expected, x, p);
    for (size_t row = 0; row < p->out_h;) {                        /* in ranges of rows, as threads do */
        size_t rows = check_size(1, p->out_h - row);
        kernel(y, x, p, row, rows);
        row += rows;
    }
    if (!check_close(y, expected, floats, 1e-6, what)) {
        printf("    %zux%zux%zu -> %zux%zu kernel %zux%zu stride %zux%zu pad %zux%zu dilation %zux%zu include %d divisor %zu\n", p->h, p->w, p->c,
               p->out_h, p->out_w, p->kernel_h, p->kernel_w, p->stride_h, p->stride_w, p->pad_h, p->pad_w, p->dilation_h, p->dilation_w,
               p->count_include_pad, p->divisor_override);
    }
    check_free(x); check_free(y); check_free(expected);
}

static void means(void) {
    size_t rows = check_size(1, 150), c = check_size(0, 140), stride = c + check_size(0, 5);
    float *x = check_floats((rows - 1) * stride + c), *y = check_floats(c), *expected = check_floats(c);
    for (size_t i = 0; i < rows && c; i++) x[i * stride] += 1;       /* one channel that does not cancel to almost nothing */
    reference_mean_rows(expected, x, stride, rows, c);
    mean_rows_f32(y, x, stride, rows, c);
    check_close(y, expected, c, 2e-6, "mean of rows");
    check_free(x); check_free(y); check_free(expected);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    pool2d p;
    for (int i = 0; i < 600; i++) {
        if (random_pool(&p, 3)) one(&p, max_pool2d_f32, reference_max_pool2d, "max pool", i % 4 == 0);
        if (random_pool(&p, 1)) one(&p, avg_pool2d_f32, reference_avg_pool2d, "average pool", i % 8 == 0);
        p = (pool2d){.h = check_size(1, 15), .w = check_size(1, 15), .c = check_size(1, 37), .out_h = check_size(1, 9), .out_w = check_size(1, 9)};
        one(&p, adaptive_avg_pool2d_f32, reference_adaptive_avg_pool2d, "adaptive average pool", i % 8 == 0);
        means();
    }
    return check_end("pool2d");
}
