#include "reference.h"
#include <math.h>

double reference_activation(double x, lam_activation activation) {
    if (isnan(x)) return x;
    switch (activation) {
    case LAM_RELU: return x > 0 ? x : 0;
    case LAM_SIGMOID: return 1 / (1 + exp(-x));
    case LAM_SILU: return x < -700 ? 0 : x / (1 + exp(-x));
    case LAM_TANH: return tanh(x);
    case LAM_GELU: return isinf(x) ? fmax(x, 0) : 0.5 * x * erfc(-x * sqrt(0.5));
    case LAM_GELU_TANH: {
        double u = 2 * sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
        return u < -700 ? 0 : x / (1 + exp(-u));
    }
    case LAM_QUICK_GELU: return 1.702 * x < -700 ? 0 : x / (1 + exp(-1.702 * x));
    case LAM_MISH: {
        double z = exp(fmin(x, 40)), top = z * (z + 2);
        return x < -700 ? 0 : x * (top / (top + 2));
    }
    case LAM_SOFTPLUS: return fmax(x, 0) + log1p(exp(-fabs(x)));
    default: return x;
    }
}

void reference_gemm(float *c, size_t c_stride, const float *a, size_t a_stride, const float *b, const float *bias, const float *add,
                    size_t m, size_t n, size_t k, lam_activation activation) {
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = bias ? bias[j] : 0;
            for (size_t kk = 0; kk < k; kk++) sum += (double)a[i * a_stride + kk] * b[kk * n + j];
            if (add) sum += add[i * c_stride + j];
            c[i * c_stride + j] = (float)reference_activation(sum, activation);
        }
    }
}

/* The pixel that tap (ky, kx) of output (oy, ox) reads, or NULL where it is padding. */
static const float *tap_pixel(const float *x, size_t x_stride, const reference_conv *v, size_t oy, size_t ox, size_t ky, size_t kx) {
    size_t iy = oy * v->stride_h + ky * v->dilation_h, ix = ox * v->stride_w + kx * v->dilation_w;
    if (iy < v->pad_h || iy - v->pad_h >= v->h || ix < v->pad_w || ix - v->pad_w >= v->w) return NULL;
    return x + ((iy - v->pad_h) * v->w + ix - v->pad_w) * x_stride;
}

static double conv_sum(const float *x, size_t x_stride, const float *weight, const reference_conv *v, size_t oy, size_t ox) {
    double sum = 0;
    for (size_t ky = 0; ky < v->kernel_h; ky++) {
        for (size_t kx = 0; kx < v->kernel_w; kx++) {
            const float *pixel = tap_pixel(x, x_stride, v, oy, ox, ky, kx);
            if (!pixel) continue;
            for (size_t j = 0; j < v->c; j++) sum += (double)pixel[j] * weight[(j * v->kernel_h + ky) * v->kernel_w + kx];
        }
    }
    return sum;
}

void reference_conv2d(float *y, size_t y_stride, const float *x, size_t x_stride, const float *weight, const float *bias, const float *add,
                      const reference_conv *v, lam_activation activation) {
    for (size_t oy = 0; oy < v->out_h; oy++) {
        for (size_t ox = 0; ox < v->out_w; ox++) {
            for (size_t n = 0; n < v->n; n++) {
                size_t at = (oy * v->out_w + ox) * y_stride + n;
                double sum = conv_sum(x, x_stride, weight + n * v->c * v->kernel_h * v->kernel_w, v, oy, ox);
                y[at] = (float)reference_activation(sum + (bias ? bias[n] : 0) + (add ? add[at] : 0), activation);
            }
        }
    }
}

void reference_depthwise(float *y, const float *x, const float *weight, const float *bias, const float *add,
                         const conv_window *d, lam_activation activation) {
    reference_conv one = {d->h, d->w, 1, d->out_h, d->out_w, 1, d->kernel_h, d->kernel_w,
                          d->stride_h, d->stride_w, d->pad_h, d->pad_w, d->dilation_h, d->dilation_w};
    for (size_t j = 0; j < d->c; j++) {
        reference_conv2d(y + j, d->c, x + j, d->c, weight + j * d->kernel_h * d->kernel_w, bias ? bias + j : NULL,
                         add ? add + j : NULL, &one, activation);
    }
}

void reference_max_pool2d(float *y, const float *x, const pool2d *p) {
    reference_conv v = {p->h, p->w, p->c, p->out_h, p->out_w, p->c, p->kernel_h, p->kernel_w,
                        p->stride_h, p->stride_w, p->pad_h, p->pad_w, p->dilation_h, p->dilation_w};
    for (size_t i = 0; i < p->out_h * p->out_w * p->c; i++) {
        float max = -INFINITY;
        for (size_t tap = 0; tap < p->kernel_h * p->kernel_w; tap++) {
            const float *pixel = tap_pixel(x, p->c, &v, i / p->c / p->out_w, i / p->c % p->out_w, tap / p->kernel_w, tap % p->kernel_w);
            if (pixel && (pixel[i % p->c] > max || isnan(pixel[i % p->c]))) max = pixel[i % p->c];
        }
        y[i] = max;
    }
}

void reference_avg_pool2d(float *y, const float *x, const pool2d *p) {
    reference_conv v = {p->h, p->w, p->c, p->out_h, p->out_w, p->c, p->kernel_h, p->kernel_w,
                        p->stride_h, p->stride_w, p->pad_h, p->pad_w, 1, 1};
    for (size_t i = 0; i < p->out_h * p->out_w * p->c; i++) {
        size_t oy = i / p->c / p->out_w, ox = i / p->c % p->out_w, inside = 0, padded = 0;
        double sum = 0;
        for (size_t ky = 0; ky < p->kernel_h; ky++) {
            for (size_t kx = 0; kx < p->kernel_w; kx++) {
                const float *pixel = tap_pixel(x, p->c, &v, oy, ox, ky, kx);
                padded += oy * p->stride_h + ky < p->h + 2 * p->pad_h && ox * p->stride_w + kx < p->w + 2 * p->pad_w;
                inside += pixel != NULL;
                if (pixel) sum += pixel[i % p->c];
            }
        }
        y[i] = (float)(sum / (double)(p->divisor_override ? p->divisor_override : p->count_include_pad ? padded : inside));
    }
}

void reference_adaptive_avg_pool2d(float *y, const float *x, const pool2d *p) {
    for (size_t i = 0; i < p->out_h * p->out_w * p->c; i++) {
        size_t oy = i / p->c / p->out_w, ox = i / p->c % p->out_w, count = 0;
        double sum = 0;
        for (size_t iy = oy * p->h / p->out_h; iy * p->out_h < (oy + 1) * p->h; iy++) {
            for (size_t ix = ox * p->w / p->out_w; ix * p->out_w < (ox + 1) * p->w; ix++, count++) sum += x[(iy * p->w + ix) * p->c + i % p->c];
        }
        y[i] = (float)(sum / (double)count);
    }
}

void reference_mean_rows(float *y, const float *x, size_t x_stride, size_t rows, size_t c) {
    for (size_t j = 0; j < c; j++) {
        double sum = 0;
        for (size_t i = 0; i < rows; i++) sum += x[i * x_stride + j];
        y[j] = (float)(sum / (double)rows);
    }
}

static void norm_row(float *y, const float *x, size_t d, double mean, const float *weight, const float *bias, float eps) {
    double square = 0;
    for (size_t j = 0; j < d; j++) square += (x[j] - mean) * (x[j] - mean);
    double factor = 1 / sqrt(square / (double)d + eps);
    for (size_t j = 0; j < d; j++) y[j] = (float)((x[j] - mean) * factor * (weight ? weight[j] : 1) + (bias ? bias[j] : 0));
}

void reference_layer_norm(float *y, const float *x, size_t rows, size_t d, const float *weight, const float *bias, float eps) {
    for (size_t i = 0; i < rows; i++) {
        double sum = 0;
        for (size_t j = 0; j < d; j++) sum += x[i * d + j];
        norm_row(y + i * d, x + i * d, d, sum / (double)d, weight, bias, eps);
    }
}

void reference_rms_norm(float *y, const float *x, size_t rows, size_t d, const float *weight, float eps) {
    for (size_t i = 0; i < rows; i++) norm_row(y + i * d, x + i * d, d, 0, weight, NULL, eps);
}

void reference_softmax(float *y, const float *x, size_t rows, size_t d) {
    for (size_t i = 0; i < rows; i++, x += d, y += d) {
        double max = -INFINITY, sum = 0;
        for (size_t j = 0; j < d; j++) max = x[j] > max || isnan(x[j]) ? x[j] : max;
        for (size_t j = 0; j < d; j++) sum += exp(x[j] - max);
        for (size_t j = 0; j < d; j++) y[j] = (float)(exp(x[j] - max) / sum);
    }
}

void reference_elementwise(float *y, size_t y_stride, elementwise_op op, const elementwise_operand *a, const elementwise_operand *b,
                           const float *add, size_t rows, size_t columns, lam_activation activation) {
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < columns; j++) {
            double p = a->data[i * a->row_stride + j * a->column_stride], q = b->data[i * b->row_stride + j * b->column_stride];
            double v = op == ELEMENTWISE_ADD ? p + q : op == ELEMENTWISE_SUB ? p - q : op == ELEMENTWISE_MUL ? p * q : op == ELEMENTWISE_DIV ? p / q : q;
            y[i * y_stride + j] = (float)reference_activation(v + (add ? add[i * y_stride + j] : 0), activation);
        }
    }
}

void reference_permute(float *y, const float *x, size_t rank, const size_t *dims, const size_t *strides) {
    size_t count = 1;
    for (size_t i = 0; i < rank; i++) count *= dims[i];
    for (size_t at = 0; at < count; at++) {
        size_t rest = at, from = 0;
        for (size_t i = rank; i-- > 0; rest /= dims[i]) from += rest % dims[i] * strides[i];
        y[at] = x[from];
    }
}

static double score(const attention_head *h, size_t i, size_t j) {
    if (h->banded && ((ptrdiff_t)j < (ptrdiff_t)i + h->low || (ptrdiff_t)j > (ptrdiff_t)i + h->high)) return -INFINITY;
    double sum = 0;
    for (size_t x = 0; x < h->d; x++) sum += (double)h->q[i * h->q_stride + x] * kept_f32(&h->k, j)[x];
    return sum * h->scale + (h->mask ? h->mask[i * h->mask_stride + j] : 0);
}

void reference_attention(const attention_head *h, float *y) {
    for (size_t i = 0; i < h->queries; i++) {
        double max = -INFINITY, sum = 0;
        for (size_t j = 0; j < h->keys; j++) max = fmax(max, score(h, i, j));
        if (max == -INFINITY) max = 0;
        for (size_t j = 0; j < h->keys; j++) sum += exp(score(h, i, j) - max);
        for (size_t x = 0; x < h->dv; x++) {
            double total = 0;
            for (size_t j = 0; j < h->keys; j++) total += exp(score(h, i, j) - max) * kept_f32(&h->v, j)[x];
            y[i * h->y_stride + x] = sum == 0 ? 0 : (float)(total / sum);
        }
    }
}
