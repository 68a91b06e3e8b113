#include "check.h"
#include "kernels/attention.h"
#include "reference.h"

/* [rows, columns] with a stride of at least columns */
static float *matrix(size_t rows, size_t columns, size_t *stride) {
    *stride = columns + check_size(0, 5);
    return check_floats(rows ? (rows - 1) * *stride + columns : 0);
}

/* Keys or values as a cache may hold them; `plain` [rows, width] becomes what that means in f32. */
static float *as_kept(kept_rows *rows, float *plain, size_t count) {
    rows->precision = (lam_precision)check_size(LAM_PRECISION_F16, LAM_Q8);
    float *kept = check_floats(count * kept_row_bytes(rows->precision, rows->width) / sizeof(float));
    kept_write(kept, rows->precision, 0, plain, count, rows->width);
    rows->data = kept;
    kept_read(plain, rows->width, &(kept_rows){kept, rows->precision, rows->width, 0}, 0, count, 0, rows->width);
    return kept;
}

/* Causal, causal before cached keys, windows of every width around the tiles' edges, and bands that lie outside all keys. */
static void draw_band(attention_head *h) {
    ptrdiff_t queries = (ptrdiff_t)h->queries, keys = (ptrdiff_t)h->keys, at = check_size(0, 1) ? keys - queries : 0;
    h->banded = (int)check_size(0, 1);
    h->low = check_size(0, 2) ? at - (ptrdiff_t)check_size(0, h->keys + 3) : -queries;
    h->high = check_size(0, 2) ? at + (ptrdiff_t)check_size(0, h->keys + 3) : check_size(0, 1) ? at : keys;
    if (check_size(0, 9) == 0) h->high = h->low - (ptrdiff_t)check_size(0, 2);
    h->low = h->low < -queries ? -queries : h->low < keys ? h->low : keys;
    h->high = h->high < -queries ? -queries : h->high < keys ? h->high : keys;
}

/* kept: 1, keys are rows of a cache; 2, values */
static void one(size_t queries, size_t keys, size_t d, size_t dv, size_t kept) {
    attention_head h = {.queries = queries, .keys = keys, .d = d, .dv = dv, .scale = check_size(0, 9) ? check_uniform(0.1f, 3) : 0};
    h.k.column = kept ? check_size(0, 40) : 0;
    h.v.column = kept ? check_size(0, 40) : 0;
    h.k.width = d + h.k.column + check_size(0, 5);
    h.v.width = dv + h.v.column + check_size(0, 5);
    float *q = matrix(queries, d, &h.q_stride), *k = check_floats(keys * h.k.width), *v = check_floats(keys * h.v.width);
    float *y = matrix(queries, dv, &h.y_stride);
    size_t y_floats = queries ? (queries - 1) * h.y_stride + dv : 0;
    float *expected = check_floats(y_floats), *mask = NULL, *scratch = check_floats(attention_scratch_floats(d, dv));
    h.q = q, h.k.data = k, h.v.data = v, h.y = y;
    draw_band(&h);
    size_t masked = check_size(0, 2);
    if (masked) {
        h.mask_stride = masked == 1 ? keys : 0;
        h.mask = mask = check_floats(masked == 1 ? queries * keys : keys);
        size_t hide = check_size(1, 5);                             /* all keys are hidden from some queries */
        for (size_t i = 0; i < (masked == 1 ? queries * keys : keys); i++) {
            if (check_size(0, 5) < hide || (masked == 1 && i / keys % 7 == 3)) mask[i] = -INFINITY;
        }
    }
    memcpy(expected, y, y_floats * sizeof *y);
    attention_head plain = h;
    float *kept_k = kept & 1 ? as_kept(&h.k, k, keys) : NULL, *kept_v = kept & 2 ? as_kept(&h.v, v, keys) : NULL;
    reference_attention(&plain, expected);
    for (size_t i = 0; i < queries;) {
        size_t count = check_size(1, queries - i);
        attention_f32(&h, i, count, scratch);
        i += count;
    }
    if (!check_close(y, expected, y_floats, 5e-6, "attention")) {
        printf("    queries %zu keys %zu d %zu dv %zu banded %d from %td to %td mask %zu kept %d %d\n", queries, keys, d, dv, h.banded, h.low, h.high, masked,
               (int)h.k.precision, (int)h.v.precision);
    }
    check_free(kept_k); check_free(kept_v);
    check_free(q); check_free(k); check_free(v); check_free(y); check_free(expected); check_free(mask); check_free(scratch);
}

static void not_numbers(void) {
    float q[6 * 4] = {0}, k[6 * 4] = {0}, v[6 * 4] = {0}, y[6 * 4], *scratch = check_floats(attention_scratch_floats(4, 4));
    for (int i = 0; i < 24; i++) q[i] = k[i] = 1;
    q[5] = NAN;
    attention_f32(&(attention_head){.y = y, .q = q, .k = {.data = k, .width = 4}, .v = {.data = v, .width = 4}, .y_stride = 4, .q_stride = 4, .queries = 6, .keys = 6,
                                      .d = 4, .dv = 4, .scale = 1}, 0, 6, scratch);
    CHECK(y[0] == 0 && isnan(y[4]) && y[8] == 0, "a NaN in a query fills its own row only: %g %g %g", y[0], y[4], y[8]);
    check_free(scratch);
}

/* Keys outside the window of a block of queries are not looked at: they are NaN, and so would be what saw them. */
static void window_reads_no_more(void) {
    enum { T = 3 * ATTENTION_QUERIES, D = 8 };
    float *q = check_floats(T * D), *k = check_floats(T * D), *v = check_floats(T * D), *y = check_floats(T * D);
    float *scratch = check_floats(attention_scratch_floats(D, D));
    attention_head h = {.y = y, .q = q, .k = {.data = k, .width = D}, .v = {.data = v, .width = D}, .y_stride = D, .q_stride = D, .queries = T, .keys = T,
                        .d = D, .dv = D, .scale = 1, .banded = 1, .low = -5, .high = 2};
    for (size_t j = 0; j < T; j++)
        for (size_t c = 0; c < D; c++)
            if (j < ATTENTION_QUERIES - 5 || j >= 2 * ATTENTION_QUERIES + 2) k[j * D + c] = v[j * D + c] = NAN;
    attention_f32(&h, ATTENTION_QUERIES, ATTENTION_QUERIES, scratch);
    int finite = 1;
    for (size_t i = ATTENTION_QUERIES * D; i < 2 * ATTENTION_QUERIES * D; i++) finite &= isfinite(y[i]);
    CHECK(finite, "a block of queries saw a key outside its window");
    check_free(q); check_free(k); check_free(v); check_free(y); check_free(scratch);
}

/* Heads beside each other in every row, few queries: as each head by itself, and nothing read beyond the last row. */
static void beside(void) {
    size_t count = check_size(1, ATTENTION_BESIDE), group = check_size(1, 3), d = check_size(1, 20), dv = check_size(1, 20), keys = check_size(0, 90);
    size_t queries = check_size(1, ATTENTION_FEW - 1), kv = (count + group - 1) / group, apart = check_size(0, 1);
    size_t k_stride = apart ? d : kv * d, v_stride = apart ? dv : kv * dv;
    float *q = check_floats(queries * count * d), *k = check_floats(keys * kv * d), *v = check_floats(keys * kv * dv), *mask = check_floats(queries * keys);
    float *y = check_floats(queries * count * dv), *expected = check_floats(queries * count * dv), *scratch = check_floats(attention_scratch_floats(d, dv));
    attention_head heads[ATTENTION_BESIDE];
    kept_rows all_k = {k, LAM_PRECISION_F32, k_stride, 0}, all_v = {v, LAM_PRECISION_F32, v_stride, 0};
    float *kept_k = !apart && check_size(0, 1) ? as_kept(&all_k, k, keys) : NULL, *kept_v = kept_k ? as_kept(&all_v, v, keys) : NULL;
    int banded = (int)check_size(0, 1), masked = (int)check_size(0, 1);
    float scale = check_uniform(0.3f, 30);   /* so large that a later tile of keys raises the maximum, which is each head's own */
    for (size_t i = 0; i < count; i++) {
        heads[i] = (attention_head){
            .y = expected + i * dv, .q = q + i * d,
            .k = {k + (apart ? i / group * keys * d : 0), LAM_PRECISION_F32, k_stride, apart ? 0 : i / group * d},
            .v = {v + (apart ? i / group * keys * dv : 0), LAM_PRECISION_F32, v_stride, apart ? 0 : i / group * dv},
            .y_stride = count * dv, .q_stride = count * d, .queries = queries, .keys = keys, .d = d, .dv = dv,
            .scale = scale, .mask = masked ? mask : NULL, .mask_stride = keys, .banded = banded,
            .low = -(ptrdiff_t)queries, .high = (ptrdiff_t)keys - (ptrdiff_t)queries,
        };
        attention_f32(&heads[i], 0, queries, scratch);
        heads[i].y = y + i * dv;
        if (!kept_k) continue;
        all_k.column = heads[i].k.column;
        all_v.column = heads[i].v.column;
        heads[i].k = all_k;
        heads[i].v = all_v;
    }
    attention_beside_f32(heads, count, scratch);
    if (!check_close(y, expected, queries * count * dv, 1e-5, "attention beside"))
        printf("    heads %zu in groups of %zu, d %zu dv %zu keys %zu queries %zu apart %zu banded %d masked %d\n", count, group, d, dv, keys, queries, apart, banded, masked);
    check_free(kept_k); check_free(kept_v);
    check_free(q); check_free(k); check_free(v); check_free(mask); check_free(y); check_free(expected); check_free(scratch);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    for (size_t queries = 0; queries <= 8; queries++) {
        for (size_t keys = 0; keys <= 10; keys++) one(queries, keys, check_size(1, 20), check_size(1, 20), check_size(0, 3));
    }
    for (int i = 0; i < 300; i++) one(check_size(1, 120), check_size(1, 200), check_size(1, 70), check_size(1, 200), check_size(0, 3));
    for (int i = 0; i < 20; i++) one(check_size(200, 400), check_size(200, 400), check_size(1, 20), check_size(1, 20), check_size(0, 3));
    not_numbers();
    window_reads_no_more();
    for (int i = 0; i < 400; i++) beside();
    return check_end("attention");
}
