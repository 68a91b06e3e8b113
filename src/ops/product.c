#include "product.h"
#include "../kernels/quantized.h"
#include "ops.h"

static int is_quantized(const product *p) { return p->precision > LAM_PRECISION_F16; }
static gemm_format format_of(const product *p) { return p->precision == LAM_PRECISION_F16 ? GEMM_F16 : GEMM_F32; }
static quantized_bits bits_of(const product *p) { return p->precision == LAM_Q4 ? QUANTIZED_4 : QUANTIZED_8; }

/* Fewer columns or shorter rows are soon multiplied, and preparing rows for them takes longer than the products. */
enum { LEAST_K = 32, LEAST_N = 16 };
enum { CHANNELS = 32 };   /* packed at a time */

lam_precision product_precision(const lam_graph *g, lam_value weight, size_t k, size_t n) {
    lam_precision wanted = g->weights[g->values[weight].weight].precision;
    return wanted > LAM_PRECISION_F16 && (k < LEAST_K || n < LEAST_N) ? LAM_PRECISION_F32 : wanted;
}

size_t product_packed_floats(const product *p) {
    if (!is_quantized(p)) return gemm_packed_floats_in(format_of(p), p->taps * p->k, p->n);
    return quantized_packed_floats(bits_of(p), p->taps, p->k, p->n);
}

size_t product_column(const product *p, size_t column) {
    if (!is_quantized(p)) return column / GEMM_NR * gemm_panel_floats(format_of(p), p->taps * p->k);
    return column / QUANTIZED_NR * quantized_panel_floats(bits_of(p), p->taps, p->k);
}

/* The codes of b's columns, if they have come as such, and as this product keeps them. */
static const unsigned char *codes_of(const lam_graph *g, const product *p, const float *b, size_t columns, size_t k_stride, size_t n_stride) {
    const coded_rows *c = g->coded;
    if (!c || c->precision != p->precision || n_stride != c->elements || c->elements != p->taps * p->k) return NULL;
    if (p->precision == LAM_Q4 && (p->taps != 1 || k_stride != 1)) return NULL;
    const size_t at = ((uintptr_t)b - (uintptr_t)g->staging) / sizeof *b, row = at / c->elements;   /* b lies elsewhere if it was computed */
    if (row * c->elements != at || row >= c->count || columns > c->count - row) return NULL;
    return c->rows + row * quantized_coded_bytes(bits_of(p), c->elements);
}

void product_pack(const lam_graph *g, const product *p, float *packed, size_t n0, size_t columns, const float *b, size_t tap_stride,
                  size_t k_stride, size_t n_stride) {
    const unsigned char *codes = codes_of(g, p, b, columns, k_stride, n_stride);
    if (codes) {
        quantized_pack_coded(packed, bits_of(p), p->taps, p->k, n0, columns, codes, tap_stride, k_stride);
        return;
    }
    weights_expand(g);
    if (is_quantized(p)) {
        quantized_pack(packed, bits_of(p), p->taps, p->k, n0, columns, b, tap_stride, k_stride, n_stride);
        return;
    }
    /* All taps of some channels, whose lines of b are then still in the cache. */
    const size_t together = p->taps > 1 ? CHANNELS : p->k;
    for (size_t at = 0, k; at < p->k; at += k) {
        k = p->k - at < together ? p->k - at : together;
        for (size_t tap = 0; tap < p->taps; tap++)
            gemm_pack(format_of(p), packed, p->k * p->taps, tap * p->k + at, k, n0, columns, b + tap * tap_stride + at * k_stride, k_stride, n_stride);
    }
}

void product_scale(const product *p, float *packed, size_t n0, size_t columns, const float *scale) {
    if (!is_quantized(p)) gemm_scale(format_of(p), packed, p->taps * p->k, n0, columns, scale);
    else quantized_scale_columns(packed, bits_of(p), p->taps, p->k, n0, columns, scale);
}

void product_bias(const product *p, float *packed, const float *bias) {
    if (!is_quantized(p)) gemm_bias(format_of(p), packed, p->taps * p->k, p->n, bias);
    else quantized_pack_bias(packed, bits_of(p), p->taps, p->k, p->n, bias);
}

size_t product_row_floats(const product *p) { return is_quantized(p) ? quantized_row_floats(bits_of(p), p->k) : 0; }

typedef struct rows_job {
    const product *p;
    float *to;
    const float *x;
    size_t rows, stride, together;
} rows_job;

static void prepare_rows(void *argument, int index, int thread) {
    (void)thread;
    const rows_job *j = argument;
    const size_t floats = product_row_floats(j->p), first = (size_t)index * j->together;
    const size_t end = j->rows - first < j->together ? j->rows : first + j->together;
    for (size_t i = first; i < end; i++) quantized_row(j->to + i * floats, bits_of(j->p), j->x + i * j->stride, j->p->k);
}

void product_prepare(const product *p, lam_pool *pool, float *to, const float *x, size_t rows, size_t stride) {
    if (!is_quantized(p) || !rows) return;
    /* A value takes about as long as eight multiplications of the product. */
    rows_job j = { p, to, x, rows, stride, 0 };
    size_t tasks = (size_t)task_count(rows * p->k * 8, lam_pool_threads(pool));
    j.together = (rows + tasks - 1) / tasks;
    pool_for(pool, (int)((rows + j.together - 1) / j.together), prepare_rows, &j);
}

void product_multiply(const product *p, float *c, size_t c_stride, const float *const *rows, const float *packed, size_t m, size_t n,
                      const gemm_epilogue *epilogue) {
    if (!is_quantized(p)) gemm(format_of(p), c, c_stride, rows, p->taps, packed, m, n, p->k, epilogue);
    else quantized_gemm(c, c_stride, rows, bits_of(p), p->taps, packed, m, n, p->k, epilogue);
}

void product_multiply_matrix(const product *p, float *c, size_t c_stride, const float *a, size_t stride, const float *packed, size_t m, size_t n,
                             const gemm_epilogue *epilogue) {
    if (!is_quantized(p)) gemm_matrix(format_of(p), c, c_stride, a, stride, packed, m, n, p->k, epilogue);
    else quantized_gemm_matrix(c, c_stride, a, bits_of(p), packed, m, n, p->k, epilogue);
}
