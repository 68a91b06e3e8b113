#include "elementwise.h"
#include "../simd.h"
#include "activation.h"

/* One row: what is added, and what a result is limited to, are the same for all of it. */
typedef struct row_job {
    float *y;
    const float *a, *b, *add;
    size_t a_step, b_step;      /* 1, or 0 for one number */
    size_t columns;
    int relu;
} row_job;

SIMD_INLINE v128_t combine(elementwise_op op, v128_t a, v128_t b) {
    switch (op) {
    case ELEMENTWISE_ADD: return wasm_f32x4_add(a, b);
    case ELEMENTWISE_SUB: return wasm_f32x4_sub(a, b);
    case ELEMENTWISE_MUL: return wasm_f32x4_mul(a, b);
    case ELEMENTWISE_DIV: return wasm_f32x4_div(a, b);
    default: return b;
    }
}

SIMD_INLINE void row(elementwise_op op, const row_job *job) {
    float *y = job->y;
    const float *a = job->a, *b = job->b, *add = job->add;
    const size_t a_step = job->a_step, b_step = job->b_step, columns = job->columns;
    const int relu = job->relu;
    size_t j = 0;
    for (; j + 4 <= columns; j += 4) {
        v128_t v = combine(op, a_step ? simd_load(a + j) : simd_splat(a), b_step ? simd_load(b + j) : simd_splat(b));
        if (add) v = wasm_f32x4_add(v, simd_load(add + j));
        if (relu) v = simd_max(v, simd_zero());
        simd_store(y + j, v);
    }
    if (j == columns) return;
    size_t n = columns - j;
    v128_t v = combine(op, a_step ? simd_load_part(a + j, n) : simd_splat(a), b_step ? simd_load_part(b + j, n) : simd_splat(b));
    if (add) v = wasm_f32x4_add(v, simd_load_part(add + j, n));
    if (relu) v = simd_max(v, simd_zero());
    simd_store_part(y + j, v, n);
}

static void row_add(const row_job *job) { row(ELEMENTWISE_ADD, job); }
static void row_sub(const row_job *job) { row(ELEMENTWISE_SUB, job); }
static void row_mul(const row_job *job) { row(ELEMENTWISE_MUL, job); }
static void row_div(const row_job *job) { row(ELEMENTWISE_DIV, job); }
static void row_second(const row_job *job) { row(ELEMENTWISE_SECOND, job); }

/* Rows that follow each other in memory, or one number for all, make one long row. */
static int flat(const elementwise_operand *operand, size_t columns) {
    return operand->column_stride ? operand->row_stride == columns : !operand->row_stride;
}

void elementwise_f32(float *y, size_t y_stride, elementwise_op op, const elementwise_operand *a, const elementwise_operand *b,
                     const float *add, size_t rows, size_t columns, lam_activation activation) {
    static void (*const row_of[])(const row_job *) = {
        [ELEMENTWISE_ADD] = row_add, [ELEMENTWISE_SUB] = row_sub, [ELEMENTWISE_MUL] = row_mul, [ELEMENTWISE_DIV] = row_div,
        [ELEMENTWISE_SECOND] = row_second,
    };
    if (y_stride == columns && flat(a, columns) && flat(b, columns)) {
        columns *= rows;
        rows = rows ? 1 : 0;
    }
    row_job job = {y, a->data, b->data, add, a->column_stride, b->column_stride, columns, activation == LAM_RELU};
    for (size_t i = 0; i < rows; i++) {
        row_of[op](&job);
        if (activation != LAM_IDENTITY && activation != LAM_RELU) activation_f32(job.y, job.y, columns, activation);
        job.y += y_stride;
        job.a += a->row_stride;
        job.b += b->row_stride;
        if (add) job.add += y_stride;
    }
}
