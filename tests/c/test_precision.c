/* Nets whose weights are kept in 8 and 4 bits against the same nets in f32. In two ways: with numbers that the codes can stand for, which must come
 * through as they are, and with any numbers, where the error must be the size that rounding them has. */
#include "check.h"
#include "lamella.h"
#include "memory.h"
#include "pool.h"

typedef struct layer {
    lam_precision precision;
    int k, n, first, matrix;                                    /* of a linear layer: outputs [first, first + n) of n + 2 first */
    int conv, c, kernel[2], stride[2], padding[4], dilation[2], groups, sized;
    int experts, hidden_f32, down_f32;                          /* experts: k in, n inter and out; parts that stay f32 */
    int bias, norm, add;
    lam_activation activation;
} layer;

enum { EXACT_LIMIT = 127, MOST_WEIGHTS = 40 };

static lam_value weight(lam_graph *g, lam_precision precision, const char *name, int rank, const int *dims) {
    return lam_weight_precision(g, lam_weight(g, name, rank, dims), precision);
}

static lam_value record_experts(lam_graph *g, const layer *l, lam_precision precision, lam_value x, lam_value routing) {
    lam_value weights[MOST_WEIGHTS];
    for (int i = 0; i < 3 * l->experts; i++) {
        char name[32];
        snprintf(name, sizeof name, "w%d", i);
        /* Of the first expert one part can stay f32: then all experts' do. */
        int kept = i == 1 ? l->hidden_f32 : i == 2 && l->down_f32;
        weights[i] = weight(g, kept ? LAM_PRECISION_F32 : precision, name, 2, i % 3 == 2 ? (int[]){ l->n + 3, l->n } : (int[]){ l->n, l->k });
    }
    return lam_experts(g, x, routing, l->activation, l->experts, weights);
}

static lam_value record_layer(lam_graph *g, const layer *l, lam_precision precision, lam_value x, lam_value other) {
    if (l->experts) return record_experts(g, l, precision, x, other);
    int out = l->n + 2 * l->first, dims[] = { out };
    lam_value bias = l->bias ? lam_weight(g, "bias", 1, dims) : LAM_NONE, y;
    if (l->conv) {
        lam_value w = weight(g, precision, "w", 4, (int[]){ l->n, l->c / l->groups, l->kernel[0], l->kernel[1] });
        y = lam_conv2d(g, x, w, bias, l->stride, l->padding, l->dilation, l->groups);
    } else if (l->matrix) {
        y = lam_matmul(g, x, weight(g, precision, "w", 2, (int[]){ l->k, l->n }), 0);
    } else {
        y = lam_linear(g, x, weight(g, precision, "w", 2, (int[]){ out, l->k }), bias, l->first, l->n);
    }
    dims[0] = l->n;
    if (l->norm) y = lam_batch_norm(g, y, lam_weight(g, "mean", 1, dims), lam_weight(g, "var", 1, dims), lam_weight(g, "gain", 1, dims),
                                    lam_weight(g, "shift", 1, dims), 1e-5f);
    if (l->add) y = lam_arithmetic(g, y, other, LAM_ADD);
    return l->activation == LAM_IDENTITY ? y : lam_activate(g, y, l->activation);
}

static lam_graph *record(const layer *l, lam_precision precision) {
    lam_graph *g = lam_graph_new();
    int rank = l->conv ? 4 : 2, size = l->sized ? l->sized : LAM_ANY;
    lam_value x = lam_input(g, LAM_F32, rank, l->conv ? (int[]){ LAM_ANY, l->c, size, size } : (int[]){ LAM_ANY, l->k });
    lam_value other = l->conv ? lam_input(g, LAM_F32, 4, (int[]){ LAM_ANY, l->n, LAM_ANY, LAM_ANY })
                              : lam_input(g, LAM_F32, 2, (int[]){ LAM_ANY, l->experts ? l->experts : l->n });
    lam_output(g, record_layer(g, l, precision, x, other));
    CHECK(lam_compile(g) == LAM_OK, "%s", lam_graph_error(g));
    return g;
}

/* ---- numbers ---- */

/* n numbers that stand `stride` apart, whole ones times a power of two: from -zero to 127 - zero, both among them. */
static void exact_row(float *x, int n, int stride, int zero) {
    float unit = ldexpf(1, (int)check_size(0, 3) - 2);
    int at = (int)check_size(0, (size_t)n - 1);
    for (int i = 0; i < n; i++) x[i * stride] = unit * (float)((int)check_size(0, EXACT_LIMIT) - zero);
    x[at * stride] = unit * (float)-zero;
    x[(at + n / 2) % n * stride] = unit * (float)(EXACT_LIMIT - zero);
    if (check_size(0, 19) == 0) for (int i = 0; i < n; i++) x[i * stride] = 0;
}

/* What a weight's row of k can be in 8 bits, or in blocks of 32 in 4. */
static void exact_weights(float *w, int k, lam_precision precision) {
    int block = precision == LAM_Q4 ? 32 : k, low = precision == LAM_Q4 ? -8 : -EXACT_LIMIT, high = precision == LAM_Q4 ? 7 : EXACT_LIMIT;
    float unit = ldexpf(1, (int)check_size(0, 3) - 2);
    for (int from = 0; from < k; from += block, unit = precision == LAM_Q4 ? ldexpf(check_size(0, 1) ? 1 : -1, (int)check_size(0, 3)) : unit) {
        int n = k - from < block ? k - from : block;
        for (int i = 0; i < n; i++) w[from + i] = unit * (float)(low + (int)check_size(0, (size_t)(high - low)));
        w[from + (int)check_size(0, (size_t)n - 1)] = unit * (float)low;
    }
}

static int row_elements(const lam_graph *g, int i) {
    int n = 1;
    for (int d = 1; d < lam_weight_rank(g, i); d++) n *= lam_weight_dim(g, i, d);
    return n;
}

static float *make_weight(const lam_graph *g, int i, const layer *l, int exact) {
    int rows = lam_weight_dim(g, i, 0), k = row_elements(g, i), size = rows * k;
    const char *name = lam_weight_name(g, i);
    float *w = check_floats((size_t)size);
    for (int r = 0; r < rows && name[0] == 'w' && exact && k; r++) exact_weights(w + r * k, k, l->conv ? LAM_Q8 : l->precision);
    for (int j = 0; j < size && name[0] == 'v'; j++) w[j] = w[j] * w[j] + 0.5f;
    for (int j = 0; j < size && exact && strchr("bms", name[0]); j++) w[j] *= 3000;   /* bias, mean, shift: as large as the sums */
    return w;
}

static void shuffle(int *order, int n) {
    for (int i = 0; i < n; i++) order[i] = i;
    for (int i = n - 1; i > 0; i--) {
        int j = (int)check_size(0, (size_t)i), at = order[i];
        order[i] = order[j], order[j] = at;
    }
}

/* Rows as a checkpoint of codes has them, of numbers that exact_weights made. Returns malloc'ed memory without a byte to spare. */
static unsigned char *coded_rows_of(const float *w, int rows, int k, lam_precision precision) {
    const int block = precision == LAM_Q4 ? 32 : k, scales = precision == LAM_Q4 ? 2 * ((k + 31) / 32) : 4;
    const size_t bytes = (size_t)(scales + (precision == LAM_Q4 ? (k + 7) / 8 * 4 : k));
    unsigned char *coded = calloc((size_t)rows, bytes);
    for (int r = 0; r < rows; r++) {
        unsigned char *row = coded + (size_t)r * bytes;
        for (int from = 0; from < k; from += block) {
            const int n = k - from < block ? k - from : block;
            const float *values = w + r * k + from;
            float most = 0;
            for (int i = 0; i < n; i++) if (fabsf(values[i]) > fabsf(most)) most = values[i];
            const float scale = precision == LAM_Q4 ? most / -8 : fabsf(most) / EXACT_LIMIT;
            if (precision == LAM_Q4) memcpy(row + from / 32 * 2, (const char *)&scale + 2, 2);
            else memcpy(row, &scale, sizeof scale);
            for (int i = 0; i < n; i++) {
                const int code = scale != 0 ? (int)lrintf(values[i] / scale) : 0, at = from + i;
                if (precision == LAM_Q4) row[scales + at / 2] |= (unsigned char)((code + 8) << at % 2 * 4);
                else row[scales + at] = (unsigned char)code;
            }
        }
    }
    return coded;
}

/* Weights in any order, and their rows in chunks of any size in any order, now and then as codes of a precision other than f32. */
static lam_status load_in(lam_graph *g, float *const *weights, lam_precision coded) {
    int order[MOST_WEIGHTS], chunks[1024], count = lam_weight_count(g);
    shuffle(order, count);
    for (int i = 0; i < count; i++) {
        int w = order[i], rows = lam_weight_dim(g, w, 0), k = row_elements(g, w), step = (int)check_size(1, 41), steps = (rows + step - 1) / step;
        shuffle(chunks, steps);
        for (int s = 0; s < steps; s++) {
            int first = chunks[s] * step, here = rows - first < step ? rows - first : step;
            unsigned char *codes = coded && k && lam_weight_name(g, w)[0] == 'w' && check_size(0, 1) ? coded_rows_of(weights[w] + first * k, here, k, coded) : NULL;
            lam_status status = codes ? lam_load(g, w, coded == LAM_Q4 ? LAM_CODES_4 : LAM_CODES_8, codes, first, here)
                                      : lam_load(g, w, LAM_F32, weights[w] + first * k, first, here);
            free(codes);
            if (status != LAM_OK) return status;
        }
    }
    return LAM_OK;
}

static lam_status load(lam_graph *g, float *const *weights) { return load_in(g, weights, LAM_PRECISION_F32); }

/* ---- run ---- */

typedef struct extent { int batch, h, w; } extent;
typedef struct inputs { extent at; float *x, *other; int x_dims[4], other_dims[4], rank; } inputs;

static int floats(const int *dims, int rank) {
    int n = 1;
    for (int i = 0; i < rank; i++) n *= dims[i];
    return n;
}

static int out_size(const layer *l, int i, int in) {
    return (in + l->padding[i] + l->padding[2 + i] - l->dilation[i] * (l->kernel[i] - 1) - 1) / l->stride[i] + 1;
}

static inputs make_inputs(const layer *l, int exact) {
    inputs in = { .at = { (int)check_size(0, l->conv ? 3 : 40), l->sized ? l->sized : (int)check_size(9, 20), l->sized ? l->sized : (int)check_size(9, 20) } };
    in.rank = l->conv ? 4 : 2;
    memcpy(in.x_dims, l->conv ? (int[]){ in.at.batch, l->c, in.at.h, in.at.w } : (int[]){ in.at.batch, l->k, 0, 0 }, sizeof in.x_dims);
    int other = l->experts ? l->experts : l->n;
    memcpy(in.other_dims, l->conv ? (int[]){ in.at.batch, l->n, out_size(l, 0, in.at.h), out_size(l, 1, in.at.w) } : (int[]){ in.at.batch, other, 0, 0 },
           sizeof in.other_dims);
    in.x = check_floats((size_t)floats(in.x_dims, in.rank));
    in.other = check_floats((size_t)floats(in.other_dims, in.rank));
    int pixels = l->conv ? in.at.h * in.at.w : 1, width = l->conv ? l->c / l->groups : l->k, groups = l->conv ? l->groups : 1;
    for (int i = 0; i < in.at.batch * groups * pixels && exact; i++) {
        int zero = check_size(0, 1) ? 0 : (int)check_size(0, EXACT_LIMIT);
        exact_row(in.x + i / pixels * width * pixels + i % pixels, width, pixels, zero);
    }
    for (int i = 0; i < in.at.batch * other && l->experts; i++)   /* expert e takes one token of e + 1, the last none */
        if (i % other == other - 1 || i / other % (i % other + 1)) in.other[i] = 0;
    return in;
}

/* A malloc'ed copy of the output. */
static float *run(lam_session *s, const inputs *in, int *count) {
    CHECK(lam_session_resize(s, 0, in->rank, in->x_dims) == LAM_OK && lam_session_resize(s, 1, in->rank, in->other_dims) == LAM_OK &&
          lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
    memcpy(lam_session_input(s, 0), in->x, (size_t)floats(in->x_dims, in->rank) * sizeof(float));
    if (lam_session_input(s, 1)) memcpy(lam_session_input(s, 1), in->other, (size_t)floats(in->other_dims, in->rank) * sizeof(float));
    *count = 1;
    for (int i = 0; i < lam_session_output_rank(s, 0); i++) *count *= lam_session_output_dim(s, 0, i);
    float *y = malloc((size_t)*count * sizeof *y + 1);
    for (int i = 0; i < *count; i++) lam_session_output(s, 0)[i] = NAN;
    lam_session_run(s);
    memcpy(y, lam_session_output(s, 0), (size_t)*count * sizeof *y);
    return y;
}

static double worst_cosine[LAM_PRECISIONS] = { 1, 1, 1, 1 };   /* as met */

/* Rounding moves a row by at most half a step of 127 and weights by half a step of 254 (q8), or 16 (q4) of their range. Experts and nets take several steps, and
 * hidden rows, products themselves, have few large numbers that make the steps of all others long. */
static void check_rounded(const float *y, const float *expected, int n, lam_precision precision, int steps) {
    static const double error_allowed[LAM_PRECISIONS] = { 2e-5, 0, 0.02, 0.16 }, angle_allowed[LAM_PRECISIONS] = { 1e-9, 0, 1e-4, 6e-3 };
    double dot = 0, a = 0, b = 0;
    for (int i = 0; i < n; i++) dot += (double)y[i] * expected[i], a += (double)y[i] * y[i], b += (double)expected[i] * expected[i];
    check_close(y, expected, (size_t)n, error_allowed[precision] * steps, precision == LAM_Q8 ? "q8" : precision == LAM_Q4 ? "q4" : "f32");
    if (!n || b == 0) return;
    double cosine = dot / sqrt(a * b);
    if (cosine < worst_cosine[precision]) worst_cosine[precision] = cosine;
    CHECK(cosine >= 1 - (steps > 1 ? 2 * steps : 1) * angle_allowed[precision], "cosine %.9g", cosine);
}

static lam_precision precision_named(const char *name) { return !strncmp(name, "q8 ", 3) ? LAM_Q8 : !strncmp(name, "q4 ", 3) ? LAM_Q4 : LAM_PRECISION_F32; }

static lam_precision precision_in(const lam_graph *g, const char *op) {
    lam_session *s = lam_session_new((lam_graph *)g, NULL);
    lam_precision found = LAM_PRECISIONS;
    for (int i = 0; i < lam_layer_count(s); i++) if (strstr(lam_layer_name(s, i), op)) found = precision_named(lam_layer_name(s, i));
    lam_session_free(s);
    return found;
}

static void describe(const layer *l, int exact) {
    printf("    precision %d exact %d k %d n %d first %d matrix %d conv %d c %d kernel %d %d stride %d %d padding %d %d %d %d dilation %d %d groups %d sized %d"
           " experts %d f32 %d %d bias %d norm %d add %d activation %d\n", l->precision, exact, l->k, l->n, l->first, l->matrix, l->conv, l->c, l->kernel[0],
           l->kernel[1], l->stride[0], l->stride[1], l->padding[0], l->padding[1], l->padding[2], l->padding[3], l->dilation[0], l->dilation[1],
           l->groups, l->sized, l->experts, l->hidden_f32, l->down_f32, l->bias, l->norm, l->add, l->activation);
}

/* The precision found, after all comparisons. */
static lam_precision compare(const layer *l, int exact) {
    size_t failures = check_run.failures;
    lam_graph *plain = record(l, LAM_PRECISION_F32), *small = record(l, l->precision);
    float *weights[MOST_WEIGHTS];
    for (int i = 0; i < lam_weight_count(plain); i++) weights[i] = make_weight(plain, i, l, exact);
    lam_precision coded = !exact || l->precision < LAM_Q8 ? LAM_PRECISION_F32 : l->conv ? LAM_Q8 : l->precision;
    CHECK(load_in(plain, weights, coded) == LAM_OK && load_in(small, weights, coded) == LAM_OK, "%s%s", lam_graph_error(plain), lam_graph_error(small));
    lam_precision found = precision_in(small, l->experts ? "experts" : l->conv ? "conv2d" : "linear");
    lam_pool *pool = lam_pool_new((int)check_size(2, 4));
    lam_session *reference = lam_session_new(plain, NULL), *alone = lam_session_new(small, NULL), *together = lam_session_new(small, pool);
    for (int round = 0; round < 3; round++) {
        inputs in = make_inputs(l, exact);
        int n, m;
        float *expected = run(reference, &in, &m), *y = run(alone, &in, &n), *z = run(together, &in, &n);
        CHECK(n == m, "%d numbers, expected %d", n, m);
        if (exact && !l->experts) check_close(y, expected, (size_t)n, 1e-5, "exact");
        else check_rounded(y, expected, n, found, l->experts ? 3 : 1);
        CHECK(!memcmp(y, z, (size_t)n * sizeof *y), "%d threads give something else", lam_pool_threads(pool));
        free(expected), free(y), free(z);
        check_free(in.x), check_free(in.other);
    }
    lam_session_free(reference), lam_session_free(alone), lam_session_free(together);
    lam_pool_free(pool);
    for (int i = 0; i < lam_weight_count(plain); i++) check_free(weights[i]);
    lam_graph_free(plain), lam_graph_free(small);
    if (check_run.failures != failures) describe(l, exact);
    return found;
}

/* ---- what is compared ---- */

static lam_activation some_activation(void) {
    static const lam_activation some[] = { LAM_IDENTITY, LAM_RELU, LAM_SILU, LAM_GELU };
    return some[check_size(0, 3)];
}

static void linear(lam_precision precision, int exact, int k, int n) {
    layer l = { .precision = precision, .k = k, .n = n, .first = check_size(0, 2) ? 0 : (int)check_size(1, 40), .matrix = check_size(0, 9) == 0,
                .bias = (int)check_size(0, 1), .norm = (int)check_size(0, 1), .add = (int)check_size(0, 1), .activation = some_activation() };
    if (l.matrix) l.first = l.bias = 0;
    lam_precision expected = l.matrix || k < 32 || n < 16 ? LAM_PRECISION_F32 : precision, found = compare(&l, exact);
    CHECK(found == expected, "linear [%d, %d] has precision %d, expected %d", n, k, found, expected);
}

static void conv(lam_precision precision, int exact, int c, int n, int groups, int kernel, int sized) {
    layer l = { .precision = precision, .conv = 1, .c = c * groups, .n = n * groups, .groups = groups, .sized = sized, .bias = (int)check_size(0, 1),
                .norm = (int)check_size(0, 1), .add = (int)check_size(0, 1), .activation = some_activation() };
    int plain = kernel == 3 && !(sized && sized <= 13) && check_size(0, 2);
    for (int i = 0; i < 2; i++) {
        l.kernel[i] = kernel ? kernel : 1 + 3 * i;
        l.stride[i] = plain || sized ? 1 : (int)check_size(1, 2);
        l.dilation[i] = plain || sized ? 1 : (int)check_size(1, 2);
        l.padding[i] = sized ? kernel / 2 : (int)check_size(0, 2);
        l.padding[2 + i] = sized ? kernel / 2 : (int)check_size(0, 2);
    }
    /* The patches of few channels are rows of the product, and no row of any of these is made to come through as it is. */
    int patches = groups == 1 && c <= 4 && kernel != 1, k = patches ? c * l.kernel[0] * l.kernel[1] : c;
    lam_precision found = compare(&l, exact && !patches);
    if (k < 32 || n < 16) CHECK(found == LAM_PRECISION_F32, "a small conv2d has precision %d", found);
    else CHECK(found == LAM_Q8, "conv2d has precision %d", found);
}

static void mixture(lam_precision precision, int k, int n, int experts) {
    layer l = { .precision = precision, .k = k, .n = n, .experts = experts, .hidden_f32 = check_size(0, 3) == 0, .down_f32 = check_size(0, 3) == 0,
                .activation = some_activation() };
    lam_precision found = compare(&l, 0);
    int hidden = !l.hidden_f32 && k >= 32 && n >= 16, down = !l.down_f32 && n >= 32 && n + 3 >= 16;
    CHECK(found == (hidden || down ? precision : LAM_PRECISION_F32), "experts have precision %d, of %d", found, precision);
}

static void any(lam_precision precision, int exact) {
    static const int kernels[] = { 1, 3, 5, 0, 2 };
    for (int i = 0; i < 24; i++) linear(precision, exact, (int)check_size(1, 200), (int)check_size(1, 140));
    for (int k = 31; k <= 34; k++)
        for (int n = 15; n <= 17; n++) linear(precision, exact, k, n);
    for (int i = 0; i < 20; i++) conv(precision, exact, (int)check_size(28, 70), (int)check_size(14, 70), (int)check_size(1, 3), kernels[i % 5], 0);
    for (int i = 0; i < 20; i++) conv(precision, exact, (int)check_size(1, 6), (int)check_size(14, 70), 1, kernels[i % 5], i % 4 ? 0 : 11);
    for (int size = 9; size <= 17; size += 2) conv(precision, exact, (int)check_size(32, 50), (int)check_size(16, 40), (int)check_size(1, 2), 3, size);
    conv(precision, exact, 1, 1, 40, 3, 0);   /* depthwise */
}

/* ---- CLIP's attention pool: its weights are kept in halves where fewer bits are asked for ---- */

typedef struct pool_case { int c, heads, out, twice; lam_precision q, k, v, o; } pool_case;

static lam_graph *record_pool(const pool_case *p, int plain) {
    static const char *const names[] = { "position", "wq", "bq", "wk", "bk", "wv", "bv", "wo", "bo" };
    const lam_precision wanted[] = { p->q, p->k, p->v, p->o };
    lam_graph *g = lam_graph_new();
    lam_value x = lam_input(g, LAM_F32, 4, (int[]){ LAM_ANY, p->c, 3, 4 }), v[11];
    for (int i = 0; i < 11; i++) {
        int rows = i == 0 ? 13 : i > 6 ? p->out : p->c;
        v[i] = i > 8 ? LAM_NONE : lam_weight(g, names[i], i && i % 2 == 0 ? 1 : 2, (int[]){ rows, p->c });
        if (i % 2 && i < 9 && !plain) v[i] = lam_weight_precision(g, v[i], wanted[i / 2]);
    }
    lam_output(g, lam_attention_pool2d(g, x, v, p->heads, 1e-5f, p->twice));
    CHECK(lam_compile(g) == LAM_OK, "%s", lam_graph_error(g));
    return g;
}

static float *run_pool(lam_graph *g, lam_pool *pool, const float *x, int images, int c, int out) {
    lam_session *s = lam_session_new(g, pool);
    CHECK(lam_session_resize(s, 0, 4, (int[]){ images, c, 3, 4 }) == LAM_OK && lam_session_prepare(s) == LAM_OK, "%s", lam_session_error(s));
    memcpy(lam_session_input(s, 0), x, (size_t)(images * c * 12) * sizeof *x);
    lam_session_run(s);
    float *y = malloc((size_t)(images * out) * sizeof *y);
    memcpy(y, lam_session_output(s, 0), (size_t)(images * out) * sizeof *y);
    lam_session_free(s);
    return y;
}

static void attention_pool(pool_case p) {
    lam_graph *plain = record_pool(&p, 1), *small = record_pool(&p, 0);
    float *weights[MOST_WEIGHTS], *x = check_floats((size_t)(3 * p.c * 12));
    lam_pool *pool = lam_pool_new(3);
    for (int i = 0; i < lam_weight_count(plain); i++) weights[i] = check_floats((size_t)(lam_weight_dim(plain, i, 0) * row_elements(plain, i)));
    for (int i = 1; i < lam_weight_count(plain); i += 2)   /* as large as those of a model: keys that differ, not a softmax of one token */
        for (int k = 0; k < lam_weight_dim(plain, i, 0) * p.c; k++) weights[i][k] *= 1.5f / sqrtf((float)p.c);
    CHECK(load(plain, weights) == LAM_OK && load(small, weights) == LAM_OK, "%s%s", lam_graph_error(plain), lam_graph_error(small));
    float *expected = run_pool(plain, NULL, x, 3, p.c, p.out), *y = run_pool(small, NULL, x, 3, p.c, p.out), *z = run_pool(small, pool, x, 3, p.c, p.out);
    CHECK(!memcmp(y, z, (size_t)(3 * p.out) * sizeof *y), "3 threads give something else");
    CHECK(memcmp(y, expected, (size_t)(3 * p.out) * sizeof *y), "nothing was rounded");
    check_close(y, expected, (size_t)(3 * p.out), 2e-3, "halves");
    CHECK(lam_packed_bytes(small) < lam_packed_bytes(plain), "%zu bytes, f32 %zu", lam_packed_bytes(small), lam_packed_bytes(plain));
    free(expected), free(y), free(z);
    for (int i = 0; i < lam_weight_count(plain); i++) check_free(weights[i]);
    check_free(x);
    lam_pool_free(pool);
    lam_graph_free(plain), lam_graph_free(small);
}

static void attention_pools(void) {
    for (int twice = 0; twice < 2; twice++) {
        for (lam_precision p = LAM_PRECISION_F16; p < LAM_PRECISIONS; p++) {
            attention_pool((pool_case){ 64, 2, 40, twice, p, p, p, p });
            attention_pool((pool_case){ 96, 12, 20, twice, p, p, p, p });
        }
        attention_pool((pool_case){ 128, 4, 16, twice, LAM_Q4, LAM_PRECISION_F32, LAM_Q8, LAM_PRECISION_F16 });
        attention_pool((pool_case){ 128, 4, 16, twice, LAM_PRECISION_F32, LAM_Q8, LAM_PRECISION_F16, LAM_PRECISION_F32 });
    }
}

/* Two convolutions of one picture, whose zeros around it lie in the same memory, and a residual layer behind them. */
static lam_graph *record_several(lam_precision precision) {
    lam_graph *g = lam_graph_new();
    if (!g) return NULL;
    lam_value x = lam_input(g, LAM_F32, 4, (int[]){ LAM_ANY, 40, LAM_ANY, LAM_ANY });
    lam_value a = lam_conv2d(g, x, weight(g, precision, "wa", 4, (int[]){ 64, 40, 5, 5 }), LAM_NONE, (int[]){ 1, 1 }, (int[]){ 2, 2, 2, 2 }, (int[]){ 1, 1 }, 1);
    lam_value b = lam_conv2d(g, a, weight(g, precision, "wb", 4, (int[]){ 64, 32, 3, 3 }), LAM_NONE, (int[]){ 2, 2 }, (int[]){ 1, 1, 1, 1 }, (int[]){ 1, 1 }, 2);
    lam_value c = lam_flatten(g, lam_adaptive_avg_pool2d(g, lam_activate(g, b, LAM_RELU), (int[]){ 1, 1 }), 1, -1);
    lam_value d = lam_linear(g, c, weight(g, precision, "wd", 2, (int[]){ 64, 64 }), lam_weight(g, "bias", 1, (int[]){ 64 }), 0, 64);
    lam_output(g, lam_arithmetic(g, c, d, LAM_ADD));
    lam_output(g, b);
    return g;
}

enum { SEVERAL = 2 * 64 };   /* outputs of the linear layer, two pictures */

static float *run_several(lam_graph *g, lam_pool *pool, int h, int w, int *count) {
    lam_session *s = lam_session_new(g, pool);
    float *y = NULL;
    if (s && lam_session_resize(s, 0, 4, (int[]){ 2, 40, h, w }) == LAM_OK && lam_session_prepare(s) == LAM_OK) {
        float *x = lam_session_input(s, 0);
        for (int i = 0; i < 80 * h * w; i++) x[i] = sinf((float)i * 0.37f) * 2;
        lam_session_run(s);
        *count = SEVERAL * (1 + ((h + 1) / 2) * ((w + 1) / 2));
        y = malloc((size_t)*count * sizeof *y);
        memcpy(y, lam_session_output(s, 0), SEVERAL * sizeof *y);
        memcpy(y + SEVERAL, lam_session_output(s, 1), (size_t)(*count - SEVERAL) * sizeof *y);
    }
    lam_session_free(s);
    return y;
}

static void several(void) {
    float *weights[MOST_WEIGHTS];
    lam_graph *g[LAM_PRECISIONS];
    lam_pool *pool = lam_pool_new(3);
    for (int p = 0; p < LAM_PRECISIONS; p++) {
        g[p] = record_several((lam_precision)p);
        CHECK(lam_compile(g[p]) == LAM_OK, "%s", lam_graph_error(g[p]));
        for (int i = 0; i < lam_weight_count(g[p]) && !p; i++) weights[i] = make_weight(g[0], i, &(layer){ .conv = 1 }, 0);
        CHECK(load(g[p], weights) == LAM_OK, "%s", lam_graph_error(g[p]));
    }
    CHECK(lam_packed_bytes(g[LAM_Q8]) * 35 < lam_packed_bytes(g[0]) * 10, "8 bits take %zu bytes, f32 %zu", lam_packed_bytes(g[LAM_Q8]), lam_packed_bytes(g[0]));
    for (int size = 5; size < 20; size += 4) {
        int n, m;
        float *expected = run_several(g[0], NULL, size, 24 - size, &n);
        for (int p = LAM_Q8; p <= LAM_Q4; p++) {
            float *y = run_several(g[p], pool, size, 24 - size, &m);
            check_rounded(y + SEVERAL, expected + SEVERAL, m - SEVERAL, LAM_Q8, 3);   /* convolutions have 8 bits at least */
            check_rounded(y, expected, SEVERAL, (lam_precision)p, 3);
            free(y);
        }
        free(expected);
    }
    for (int i = 0; i < lam_weight_count(g[0]); i++) check_free(weights[i]);
    for (int p = 0; p < LAM_PRECISIONS; p++) lam_graph_free(g[p]);
    lam_pool_free(pool);
}

/* Fails allocation after allocation until everything passes. */
static void every_allocation(lam_precision precision) {
    size_t before = lam_memory_used();
    int passed = 0, failures = 0;
    lam_graph *plain = record_several(precision);
    float *weights[MOST_WEIGHTS];
    for (int i = 0; i < lam_weight_count(plain); i++) weights[i] = make_weight(plain, i, &(layer){ .conv = 1 }, 0);
    int count = lam_weight_count(plain), n;
    lam_graph_free(plain);
    for (int after = 0; !passed && after < 10000; after++) {
        lam_memory_fail_after(after);
        lam_graph *g = record_several(precision);
        float *y = NULL;
        if (g && lam_compile(g) == LAM_OK && load(g, weights) == LAM_OK) y = run_several(g, NULL, 6, 5, &n);
        lam_memory_fail_after(-1);
        passed = y != NULL;
        failures += !passed;
        free(y);
        lam_graph_free(g);
        CHECK(lam_memory_used() == before, "failing allocation %d leaks %d bytes", after, (int)(lam_memory_used() - before));
    }
    CHECK(passed && failures > 40, "%d allocations failed, passed %d", failures, passed);
    for (int i = 0; i < count; i++) check_free(weights[i]);
}

static void errors(void) {
    static const char *const messages[] = { "weight_precision: 7 is not a weight", "weight_precision: 0 is not a weight", "weight_precision: there is no precision 4" };
    for (int i = 0; i < 3; i++) {
        lam_graph *g = lam_graph_new();
        lam_value x = lam_input(g, LAM_F32, 2, (int[]){ LAM_ANY, 40 }), w = lam_weight(g, "w", 2, (int[]){ 40, 40 });
        lam_value y = lam_weight_precision(g, i == 0 ? 7 : i == 1 ? x : w, i == 2 ? LAM_PRECISIONS : LAM_Q8);
        CHECK(y == LAM_BAD && !strcmp(lam_graph_error(g), messages[i]), "\"%s\", expected \"%s\"", lam_graph_error(g), messages[i]);
        CHECK(lam_weight_precision(g, LAM_BAD, LAM_Q8) == LAM_BAD, "a bad weight became good");
        lam_graph_free(g);
    }
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    for (lam_precision precision = LAM_Q8; precision <= LAM_Q4; precision++) {
        any(precision, 1);
        any(precision, 0);
        for (int i = 0; i < 16; i++) mixture(precision, (int)check_size(20, 90), (int)check_size(12, 150), (int)check_size(1, 9));
        mixture(precision, 100, 300, 3);
        every_allocation(precision);
    }
    several();
    attention_pools();
    errors();
    printf("least cosine of q8 %.7f, of q4 %.7f\n", worst_cosine[LAM_Q8], worst_cosine[LAM_Q4]);
    return check_end("precision");
}
