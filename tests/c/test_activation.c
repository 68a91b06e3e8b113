#include "check.h"
#include "kernels/activation.h"
#include "kernels/simd_math.h"
#include "reference.h"

static const char *const names[LAM_ACTIVATIONS] = {"identity", "relu", "sigmoid", "silu", "tanh", "gelu", "gelu_tanh", "quick_gelu", "mish", "softplus"};

/* What an error is measured against. Results below 4e-30 count as if they were that: their gates are denormal, and may be 0. A gate e^z
 * of a rounded argument z is off by |z| roundings. */
static double error_scale(double x, double y, lam_activation f) {
    double scale = fabs(y);
    if ((f == LAM_GELU || f == LAM_GELU_TANH || f == LAM_QUICK_GELU) && x < -1 && y != 0) scale *= 1 + log(x / y);
    return scale > 4e-30 ? scale : 4e-30;
}

/* The largest error over every step-th float there is. */
static void sweep(lam_activation f, uint32_t step, double allowed) {
    enum { N = 4096 };
    float x[N], y[N];
    double worst = 0, at = 0;
    for (uint64_t bits = 0; bits < 0x100000000u;) {
        size_t n = 0;
        for (; n < N && bits < 0x100000000u; bits += step) {
            uint32_t pattern = (uint32_t)bits;
            memcpy(&x[n], &pattern, 4);
            n += !isnan(x[n]);
        }
        activation_f32(y, x, n, f);
        for (size_t i = 0; i < n; i++) {
            double expected = reference_activation(x[i], f), error = fabs(y[i] - expected);
            if (isinf(expected) || fabs(expected) > 3.4e38) error = y[i] == (float)expected ? 0 : INFINITY;
            double scale = error_scale(x[i], expected, f);
            if (error / scale > worst) {
                worst = error / scale;
                at = x[i];
            }
        }
    }
    CHECK(worst <= allowed, "%s: relative error %.3g at %.9g, allowed %.3g", names[f], worst, at, allowed);
    printf("  %-10s largest relative error %.2e at %.9g\n", names[f], worst, at);
}

static void special(void) {
    const float x[4] = {NAN, INFINITY, -INFINITY, 0};
    for (int f = 0; f < LAM_ACTIVATIONS; f++) {
        float y[4];
        activation_f32(y, x, 4, (lam_activation)f);
        CHECK(isnan(y[0]), "%s of NaN is %g", names[f], y[0]);
        for (int i = 1; i < 4; i++) {
            double expected = reference_activation(x[i], (lam_activation)f);
            CHECK(fabs(y[i] - expected) <= 1e-6 || y[i] == expected, "%s of %g is %g, expected %g", names[f], x[i], y[i], expected);
        }
    }
}

static void sizes(void) {
    for (size_t n = 0; n <= 40; n++) {
        for (int f = 0; f < LAM_ACTIVATIONS; f++) {
            float *x = check_floats(n), *y = check_floats(n), *expected = check_floats(n);
            for (size_t i = 0; i < n; i++) expected[i] = (float)reference_activation(x[i], (lam_activation)f);
            activation_f32(y, x, n, (lam_activation)f);
            check_close(y, expected, n, 1e-6, names[f]);
            activation_f32(x, x, n, (lam_activation)f);
            check_close(x, expected, n, 1e-6, "in place");
            check_free(x); check_free(y); check_free(expected);
        }
    }
}

static void tiles(void) {
    for (int i = 0; i < 100; i++) {
        size_t m = check_size(0, 9), n = check_size(0, 20), stride = n + check_size(0, 5), floats = m ? (m - 1) * stride + n : 0;
        float *c = check_floats(floats), *expected = check_floats(floats);
        memcpy(expected, c, floats * sizeof *c);
        for (size_t r = 0; r < m; r++) {
            for (size_t j = 0; j < n; j++) expected[r * stride + j] = (float)reference_activation(c[r * stride + j], LAM_GELU);
        }
        activation_tile_f32(c, stride, m, n, LAM_GELU);
        check_close(c, expected, floats, 1e-6, "tile");
        check_free(c); check_free(expected);
    }
}

static void softplus(void) {
    for (int i = 0; i < 200; i++) {
        size_t n = check_size(0, 40);
        float beta = check_uniform(-3, 3), threshold = check_uniform(-5, 30);
        float *x = check_floats(n), *expected = check_floats(n);
        for (size_t j = 0; j < n; j++) {
            x[j] *= 20;
            double z = (double)(x[j] * beta);   /* rounded, so that it lies on the same side of the threshold */
            expected[j] = (float)(z > threshold ? x[j] : (fmax(z, 0) + log1p(exp(-fabs(z)))) / beta);
        }
        softplus_f32(x, x, n, beta, threshold);
        check_close(x, expected, n, 1e-6, "softplus");
        check_free(x); check_free(expected);
    }
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    special();
    sizes();
    tiles();
    softplus();
    for (int f = 0; f < LAM_ACTIVATIONS; f++) sweep((lam_activation)f, 4099, f == LAM_GELU ? 4e-7 : 3e-7);
    return check_end("activation");
}
