/* The codes must stand for the numbers as nearly as codes can, and the product must be that of the numbers the codes stand for. */
#include "check.h"
#include "kernels/quantized.h"
#include "reference.h"

typedef struct sizes {
    quantized_bits bits;
    size_t taps, m, n, k, c_extra;
    int bias, add, scaled;
    lam_activation activation;
} sizes;

static size_t blocks_of(size_t k) { return (k + QUANTIZED_BLOCK - 1) / QUANTIZED_BLOCK; }

/* x [k] as its codes have it. */
static void read_row(float *x, const float *row, quantized_bits bits, size_t k) {
    const unsigned char *codes = (const unsigned char *)(row + QUANTIZED_ROW_HEAD + (bits == QUANTIZED_4 ? blocks_of(k) : 0));
    for (size_t i = 0; i < k; i++) {
        CHECK(codes[i] <= 127, "code %d", codes[i]);
        x[i] = row[0] * (float)codes[i] - row[1];
    }
}

static float from_bfloat16(const unsigned char *bytes) {
    uint32_t bits = (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 24;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Weight (tap, kk, column) as its code has it, and the scale of that code. */
static float read_weight(const float *packed, const sizes *s, size_t tap, size_t kk, size_t column, float *scale) {
    size_t lane = column % QUANTIZED_NR, high = lane / 4 % 2, place = lane / 8 * 4 + lane % 4;
    const float *panel = packed + column / QUANTIZED_NR * quantized_panel_floats(s->bits, s->taps, s->k), *head = panel + QUANTIZED_NR + lane;
    size_t tap_floats = (quantized_panel_floats(s->bits, s->taps, s->k) - QUANTIZED_PANEL_HEAD) / s->taps;
    const float *b = panel + QUANTIZED_PANEL_HEAD + tap * tap_floats + QUANTIZED_NR;
    if (s->bits == QUANTIZED_8) {
        *scale = *head;
        return *head * (float)((const signed char *)b)[kk / 4 * 4 * QUANTIZED_NR + lane * 4 + kk % 4];
    }
    const unsigned char *block = (const unsigned char *)(b + kk / QUANTIZED_BLOCK * QUANTIZED_BLOCK_FLOATS);
    int both = block[kk % QUANTIZED_BLOCK / 4 * 64 + place * 4 + kk % 4], code = high ? (both >> 4 ^ 8) - 8 : (both & 15) - 8;
    *scale = from_bfloat16(block + 4 * QUANTIZED_BLOCK_CODES + place * 4 + high * 2) * (high ? 16 : 1);
    CHECK(*head == 1 || s->scaled, "scale of a column of 4 bits %g", *head);
    return *head * *scale * (float)code;
}

/* With 8 bits half a step; with 4 the largest of a block is -8 steps, what lies beyond 7 on the other side is cut, and the scale itself is rounded. */
static void check_weight(float w, float read, float scale, quantized_bits bits) {
    if (fabsf(w) < 1e-37f && read == 0) return;                        /* too near zero for a scale */
    float step = fabsf(scale), most = bits == QUANTIZED_8 ? 0.501f * step : 1.05f * step;
    CHECK(fabsf(read - w) <= most, "weight %g became %g, step %g", w, read, step);
    if (bits == QUANTIZED_4 && fabsf(w) < 6.9f * step) CHECK(fabsf(read - w) <= 0.501f * step, "weight %g became %g, step %g", w, read, step);
}

static const float **tile_rows(const float *a, size_t row_floats, const sizes *s) {
    size_t tiles = (s->m + GEMM_MR - 1) / GEMM_MR;
    const float **rows = malloc(tiles * s->taps * GEMM_MR * sizeof *rows + 1);
    for (size_t i = 0; i < tiles * GEMM_MR; i++) {
        size_t row = i < s->m ? i : s->m - 1;
        for (size_t t = 0; t < s->taps; t++) rows[(i / GEMM_MR * s->taps + t) * GEMM_MR + i % GEMM_MR] = a + (row * s->taps + t) * row_floats;
    }
    return rows;
}

/* Rows of [taps * k]: every tap is quantized by itself, as pixels are. x becomes what the codes stand for. */
static float *quantize_rows(float *x, const sizes *s) {
    size_t floats = quantized_row_floats(s->bits, s->k);
    float *rows = check_floats(s->m * s->taps * floats), *read = check_floats(s->k);
    for (size_t i = 0; i < s->m * s->taps; i++) {
        float *from = x + i * s->k, *to = rows + i * floats;
        if (check_size(0, 2) == 0) for (size_t kk = 0; kk < s->k; kk++) from[kk] = fabsf(from[kk]);   /* as after a ReLU */
        if (check_size(0, 9) == 0) memset(from, 0, s->k * sizeof *from);
        if (check_size(0, 9) == 0) for (size_t kk = 0; kk < s->k; kk++) from[kk] *= 1e-40f;              /* steps whose reciprocal is infinite */
        quantized_row(to, s->bits, from, s->k);
        read_row(read, to, s->bits, s->k);
        for (size_t kk = 0; kk < s->k; kk++)
            CHECK(fabsf(read[kk] - from[kk]) <= 0.501f * to[0] + 1e-37f, "%g became %g, step %g", from[kk], read[kk], to[0]);
        memcpy(from, read, s->k * sizeof *from);
    }
    check_free(read);
    return rows;
}

static void one(const sizes *s) {
    size_t k_total = s->taps * s->k, c_stride = s->n + s->c_extra, c_floats = s->m ? (s->m - 1) * c_stride + s->n : 0;
    float *x = check_floats(s->m * k_total), *w = check_floats(k_total * s->n), *bias = check_floats(s->n), *scale = check_floats(s->n);
    float *c = check_floats(c_floats), *expected = check_floats(c_floats), *add = check_floats(c_floats);
    size_t floats = quantized_packed_floats(s->bits, s->taps, s->k, s->n);
    float *packed = check_floats(floats), *rows = quantize_rows(x, s);
    for (size_t i = 0; i < k_total * s->n; i++) w[i] /= sqrtf((float)(k_total ? k_total : 1));
    if (check_size(0, 9) == 0) for (size_t i = 0; i < k_total * s->n; i += s->n) w[i] *= 1e-40f;        /* a column of them */
    memset(packed, 0, floats * sizeof *packed);
    for (size_t j = 0; j < s->n;) {                                   /* w [taps][k][n], in chunks of any size */
        size_t columns = check_size(1, s->n - j);
        quantized_pack(packed, s->bits, s->taps, s->k, j, columns, w + j, s->k * s->n, s->n, 1);
        j += columns;
    }
    quantized_pack_bias(packed, s->bits, s->taps, s->k, s->n, s->bias ? bias : NULL);
    for (size_t i = 0; i < k_total * s->n; i++) {
        float step, read = read_weight(packed, s, i / s->n / s->k, i / s->n % s->k, i % s->n, &step);
        check_weight(w[i], read, step, s->bits);
    }
    if (s->scaled) quantized_scale_columns(packed, s->bits, s->taps, s->k, 0, s->n, scale);
    for (size_t i = 0; i < k_total * s->n; i++) {
        float step;
        w[i] = read_weight(packed, s, i / s->n / s->k, i / s->n % s->k, i % s->n, &step);
    }
    memcpy(expected, c, c_floats * sizeof *c);
    reference_gemm(expected, c_stride, x, k_total, w, s->bias ? bias : NULL, s->add ? add : NULL, s->m, s->n, k_total, s->activation);
    const gemm_epilogue epilogue = { s->add ? add : NULL, c_stride, s->activation };
    if (s->taps == 1) quantized_gemm_matrix(c, c_stride, rows, s->bits, packed, s->m, s->n, s->k, s->add || s->activation ? &epilogue : NULL);
    else if (s->m) {
        const float **list = tile_rows(rows, quantized_row_floats(s->bits, s->k), s);
        quantized_gemm(c, c_stride, list, s->bits, s->taps, packed, s->m, s->n, s->k, &epilogue);
        free(list);
    }
    /* An offset of up to 127 steps is taken away again: the sums before are larger than what remains. */
    if (!check_close(c, expected, c_floats, 3e-6 + 2e-6 * sqrt((double)s->taps), "quantized"))
        printf("    bits %d way %d taps %zu m %zu n %zu k %zu bias %d add %d scaled %d activation %d\n", s->bits, quantized_way_taken, s->taps, s->m,
               s->n, s->k, s->bias, s->add, s->scaled, s->activation);
    check_free(x); check_free(w); check_free(bias); check_free(scale); check_free(c); check_free(expected); check_free(add);
    check_free(packed); check_free(rows);
}

/* What is packed already packs to itself: codes survive being written as numbers. */
static void again(quantized_bits bits) {
    sizes s = { .bits = bits, .taps = 1, .n = check_size(1, 20), .k = check_size(1, 100) };
    size_t floats = quantized_packed_floats(bits, 1, s.k, s.n);
    float *w = check_floats(s.k * s.n), *packed[2];
    for (int i = 0; i < 2; i++) {
        float step;
        packed[i] = check_floats(floats);
        memset(packed[i], 0, floats * sizeof(float));
        quantized_pack(packed[i], bits, 1, s.k, 0, s.n, w, 0, 1, s.k);
        for (size_t j = 0; j < s.k * s.n; j++) w[j] = read_weight(packed[i], &s, 0, j % s.k, j / s.k, &step);
    }
    CHECK(!memcmp(packed[0], packed[1], floats * sizeof(float)), "bits %d, k %zu n %zu", bits, s.k, s.n);
    check_free(w); check_free(packed[0]); check_free(packed[1]);
}

static void write_code(unsigned char *row, quantized_bits bits, size_t i, size_t elements, float scale, int code) {
    if (bits == QUANTIZED_8) {
        memcpy(row, &scale, sizeof scale);
        row[sizeof scale + i] = (unsigned char)code;
        return;
    }
    uint32_t word;
    memcpy(&word, &scale, sizeof word);
    row[i / QUANTIZED_BLOCK * 2] = (unsigned char)(word >> 16);
    row[i / QUANTIZED_BLOCK * 2 + 1] = (unsigned char)(word >> 24);
    row[2 * blocks_of(elements) + i / 2] |= (unsigned char)((code + 8) << i % 2 * 4);
}

/* Rows of codes pack to what the weights packed to that they are the codes of; element (tap, kk) stands where a convolution has it. */
static void coded(quantized_bits bits) {
    sizes s = { .bits = bits, .taps = bits == QUANTIZED_8 ? check_size(1, 9) : 1, .n = check_size(1, 40), .k = check_size(1, 100) };
    const size_t elements = s.taps * s.k, floats = quantized_packed_floats(bits, s.taps, s.k, s.n), bytes = quantized_coded_bytes(bits, elements);
    float *w = check_floats(elements * s.n), *packed = check_floats(floats), *taken = check_floats(floats), *numbers = check_floats(elements);
    unsigned char *rows = calloc(s.n, bytes);
    if (check_size(0, 4) == 0) for (size_t i = 0; i < elements; i++) w[i] *= 1e-42f;   /* scales whose reciprocal is infinite */
    memset(packed, 0, floats * sizeof *packed);
    memset(taken, 0, floats * sizeof *taken);
    quantized_pack(packed, bits, s.taps, s.k, 0, s.n, w, 1, s.taps, elements);
    for (size_t j = 0; j < s.n; j++) {
        for (size_t tap = 0; tap < s.taps; tap++)
            for (size_t kk = 0; kk < s.k; kk++) {
                float scale, read = read_weight(packed, &s, tap, kk, j, &scale);
                write_code(rows + j * bytes, bits, kk * s.taps + tap, elements, scale, scale != 0 ? (int)lrintf(read / scale) : 0);
            }
        quantized_expand(numbers, bits, rows + j * bytes, elements);
        for (size_t i = 0; i < elements; i++) {
            float scale, read = read_weight(packed, &s, i % s.taps, i / s.taps, j, &scale);
            CHECK(numbers[i] == read, "bits %d: %g, expected %g", bits, numbers[i], read);
        }
    }
    for (size_t j = 0; j < s.n;) {
        size_t columns = check_size(1, s.n - j);
        quantized_pack_coded(taken, bits, s.taps, s.k, j, columns, rows + j * bytes, 1, s.taps);
        j += columns;
    }
    for (size_t i = 0; i < 2; i++) quantized_pack_bias(i ? taken : packed, bits, s.taps, s.k, s.n, NULL);
    CHECK(!memcmp(packed, taken, floats * sizeof(float)), "bits %d, taps %zu k %zu n %zu", bits, s.taps, s.k, s.n);
    free(rows);
    check_free(w); check_free(packed); check_free(taken); check_free(numbers);
}

static void not_finite(quantized_bits bits) {
    enum { K = 40, N = 9 };
    float x[K], w[K * N], c[N];
    float *row = check_floats(quantized_row_floats(bits, K)), *packed = check_floats(quantized_packed_floats(bits, 1, K, N));
    for (int bad = 0; bad < 3; bad++) {
        for (int i = 0; i < K; i++) x[i] = check_uniform(-1, 1);
        for (int i = 0; i < K * N; i++) w[i] = check_uniform(-1, 1);
        x[check_size(0, K - 1)] = bad == 0 ? NAN : bad == 1 ? INFINITY : -INFINITY;
        memset(packed, 0, quantized_packed_floats(bits, 1, K, N) * sizeof(float));
        quantized_pack(packed, bits, 1, K, 0, N, w, 0, N, 1);
        quantized_pack_bias(packed, bits, 1, K, N, NULL);
        quantized_row(row, bits, x, K);
        quantized_gemm_matrix(c, N, row, bits, packed, 1, N, K, NULL);
        for (int j = 0; j < N; j++) CHECK(isnan(c[j]), "case %d gave %g", bad, c[j]);
    }
    check_free(row); check_free(packed);
}

/* Of numbers equally large the first becomes -8, and a scale between two that 16 bits hold becomes the even one. */
static void ties(void) {
    const sizes s = { .bits = QUANTIZED_4, .taps = 1, .n = 1, .k = 2 * QUANTIZED_BLOCK };
    float w[2 * QUANTIZED_BLOCK] = { [3] = 1, [7] = -1, [9] = 0.5f }, *packed = check_floats(quantized_packed_floats(QUANTIZED_4, 1, s.k, 1)), scale;
    for (int i = 0; i < 4; i++) {
        const float even[] = { 1 + 0x1p-8f, 1 + 0x1p-7f + 0x1p-8f, -1 - 0x1p-8f, 1 + 0x1p-8f + 0x1p-23f }, rounded[] = { 1, 1 + 0x1p-6f, -1, 1 + 0x1p-7f };
        w[QUANTIZED_BLOCK + 5] = -8 * even[i];
        memset(packed, 0, quantized_packed_floats(QUANTIZED_4, 1, s.k, 1) * sizeof *packed);
        quantized_pack(packed, QUANTIZED_4, 1, s.k, 0, 1, w, 0, 1, s.k);
        CHECK(read_weight(packed, &s, 0, 3, 0, &scale) == 1 && scale == -0.125f, "the first of two is 1, not %g", read_weight(packed, &s, 0, 3, 0, &scale));
        CHECK(read_weight(packed, &s, 0, 7, 0, &scale) == -0.875f && read_weight(packed, &s, 0, 9, 0, &scale) == 0.5f, "the second is cut");
        read_weight(packed, &s, 0, QUANTIZED_BLOCK + 5, 0, &scale);
        CHECK(scale == rounded[i], "a scale of %a became %a, expected %a", even[i], scale, rounded[i]);
    }
    check_free(packed);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    const quantized_bits bits[] = { QUANTIZED_4, QUANTIZED_8 };
    for (int i = 0; i < 4; i++) {
        quantized_way_taken = i & 2 ? QUANTIZED_IN_FOURS : QUANTIZED_IN_PAIRS;
        for (size_t m = 0; m <= 13; m++)                              /* every edge of a tile */
            for (size_t n = 1; n <= 41; n++)
                one(&(sizes){ bits[i & 1], check_size(1, 2), m, n, check_size(1, 70), check_size(0, 2), check_size(0, 1), check_size(0, 1),
                              check_size(0, 3) == 0, (lam_activation)check_size(0, 1) });
        for (int j = 0; j < 60; j++)
            one(&(sizes){ bits[i & 1], check_size(1, 9), check_size(0, 20), check_size(1, 90), check_size(1, 300), check_size(0, 3), check_size(0, 1),
                          check_size(0, 1), check_size(0, 1), (lam_activation)check_size(0, LAM_ACTIVATIONS - 1) });
        one(&(sizes){ bits[i & 1], 1, 400, 20, 3000, 1, 1, 1, 0, LAM_IDENTITY });   /* more rows than one block, */
        one(&(sizes){ bits[i & 1], 1, 400, 9, 20, 1, 1, 1, 0, LAM_IDENTITY });      /* of short rows more than a block lists, */
        one(&(sizes){ bits[i & 1], 1, 7, 5, 100000, 1, 1, 1, 0, LAM_IDENTITY });    /* of long ones so few that none would be left */
        not_finite(bits[i & 1]);
    }
    for (int i = 0; i < 200; i++) again(bits[i & 1]);
    for (int i = 0; i < 200; i++) coded(bits[i & 1]);
    ties();
    return check_end("quantized");
}
