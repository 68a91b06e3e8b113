#include "net.h"
#include <stdlib.h>
#include <string.h>

static const int one[] = { 1, 1 }, two[] = { 2, 2 }, none[] = { 0, 0, 0, 0 }, same[] = { 1, 1, 1, 1 };

static lam_value weight(lam_graph *g, const char *name, int rank, int a, int b, int c, int d) {
    return lam_weight(g, name, rank, (int[]){ a, b, c, d });
}

static lam_value conv_norm(lam_graph *g, lam_value x, const char *name, int in, int out, int kernel, const int *stride, int groups) {
    char names[6][32];
    static const char *const suffix[] = { ".weight", ".mean", ".var", ".gain", ".shift", ".bias" };
    for (int i = 0; i < 6; i++) {
        strcpy(names[i], name);
        strcat(names[i], suffix[i]);
    }
    lam_scope(g, name);
    lam_value y = lam_conv2d(g, x, weight(g, names[0], 4, out, in / groups, kernel, kernel), weight(g, names[5], 1, out, 0, 0, 0), stride,
                             kernel == 3 ? same : none, one, groups);
    return lam_batch_norm(g, y, weight(g, names[1], 1, out, 0, 0, 0), weight(g, names[2], 1, out, 0, 0, 0),
                          weight(g, names[3], 1, out, 0, 0, 0), weight(g, names[4], 1, out, 0, 0, 0), 1e-5f);
}

static lam_value pool_heads(lam_graph *g, lam_value x) {
    lam_value v[11];
    static const char *const names[11] = { "position", "q.weight", "q.bias", "k.weight", "k.bias", "v.weight", "v.bias", "c.weight",
                                           "c.bias", "ln.weight", "ln.bias" };
    for (int i = 0; i < 11; i++)
        v[i] = i == 0 ? weight(g, names[i], 2, 10, 12, 0, 0)
             : i == 7 ? weight(g, names[i], 2, 7, 12, 0, 0)
             : i == 8 ? weight(g, names[i], 1, 7, 0, 0, 0)
             : i < 7 && i % 2 ? weight(g, names[i], 2, 12, 12, 0, 0)
                              : weight(g, names[i], 1, 12, 0, 0, 0);
    return lam_attention_pool2d(g, x, v, 3, 1e-5f, 1);
}

lam_graph *net_record(void) {
    lam_graph *g = lam_graph_new();
    if (!g) return NULL;
    lam_value x = lam_input(g, LAM_F32, 4, (int[]){ LAM_ANY, 6, LAM_ANY, LAM_ANY });
    lam_value y = lam_activate(g, conv_norm(g, x, "stem", 6, 12, 3, two, 1), LAM_RELU);
    lam_value z = conv_norm(g, y, "same", 12, 12, 3, one, 1);
    y = lam_activate(g, lam_arithmetic(g, z, y, LAM_ADD), LAM_RELU);                 /* residual of its own input */
    y = lam_activate(g, conv_norm(g, y, "depthwise", 12, 12, 3, one, 12), LAM_SILU);
    y = lam_cat(g, 2, (lam_value[]){ lam_narrow(g, y, 1, 0, 5), lam_narrow(g, conv_norm(g, y, "grouped", 12, 12, 1, one, 2), 1, -7, -1) }, 1);
    lam_value s = lam_flatten(g, lam_adaptive_avg_pool2d(g, y, one), 1, -1);
    s = lam_activate(g, lam_linear(g, s, weight(g, "se.weight", 2, 12, 12, 0, 0), LAM_NONE, 0, 12), LAM_SIGMOID);
    y = lam_arithmetic(g, y, lam_reshape(g, s, 4, (int[]){ LAM_KEEP, LAM_KEEP, 1, 1 }), LAM_MUL);
    y = lam_group_norm(g, y, weight(g, "group.weight", 1, 12, 0, 0, 0), LAM_NONE, 4, 1e-5f);
    y = lam_max_pool2d(g, y, two, one, (int[]){ 1, 1 }, one, 0);
    lam_value pooled = pool_heads(g, lam_adaptive_avg_pool2d(g, y, (int[]){ 3, 3 }));
    lam_value t = lam_permute(g, lam_flatten(g, lam_avg_pool2d(g, y, two, two, (int[]){ 0, 0 }, 1, 0, 0), 2, 3), (int[]){ 0, 2, 1 });
    t = lam_layer_norm(g, t, weight(g, "norm.weight", 1, 12, 0, 0, 0), LAM_NONE, 1, 1e-5f);
    t = lam_rms_norm(g, t, weight(g, "rms.weight", 1, 12, 0, 0, 0), 1, 1e-5f);
    lam_value heads = lam_permute(g, lam_unflatten(g, t, 2, 2, (int[]){ 2, 6 }), (int[]){ 0, 2, 1, 3 });
    lam_value a = lam_attention(g, heads, heads, heads, LAM_NONE, 0.3f, (int[]){ 4, 2 }, 1);
    lam_value b = lam_matmul(g, lam_softmax(g, lam_matmul(g, heads, heads, 1), 2), heads, 0);
    t = lam_mean(g, lam_mean(g, lam_arithmetic(g, a, b, LAM_SUB), 2, 0), 1, 0);      /* [n, 6] */
    y = lam_cat(g, 2, (lam_value[]){ pooled, t }, 1);                                 /* [n, 13] */
    lam_output(g, lam_linear(g, y, weight(g, "head.weight", 2, 8, 13, 0, 0), weight(g, "head.bias", 1, 8, 0, 0, 0), 2, 5));
    return g;
}

float net_value(const char *name, int i) {
    unsigned hash = 2166136261u;
    for (const char *c = name; *c; c++) hash = (hash ^ (unsigned)*c) * 16777619u;
    hash = (hash ^ (unsigned)i) * 16777619u;
    hash = (hash ^ hash >> 15) * 2246822519u;
    float value = (float)((hash ^ hash >> 13) >> 8) / 8388608.0f - 1.0f;
    return strstr(name, ".var") ? value * value + 0.5f : value;
}

static lam_status load_rows(lam_graph *g, int weight, int first, int rows, int row_elements) {
    float *data = malloc(((size_t)rows * (size_t)row_elements + 1) * sizeof *data);
    for (int i = 0; i < rows * row_elements; i++) data[i] = net_value(lam_weight_name(g, weight), first * row_elements + i);
    lam_status status = lam_load(g, weight, LAM_F32, data, first, rows);
    free(data);
    return status;
}

lam_status net_load(lam_graph *g, int step, int backwards) {
    for (int i = 0; i < lam_weight_count(g); i++) {
        int weight = backwards ? lam_weight_count(g) - 1 - i : i, rows = lam_weight_dim(g, weight, 0), row_elements = 1;
        for (int d = 1; d < lam_weight_rank(g, weight); d++) row_elements *= lam_weight_dim(g, weight, d);
        int steps = (rows + step - 1) / step;
        for (int k = 0; k < steps; k++) {
            int first = (backwards ? steps - 1 - k : k) * step, count = rows - first < step ? rows - first : step;
            lam_status status = load_rows(g, weight, first, count, row_elements);
            if (status != LAM_OK) return status;
        }
    }
    return LAM_OK;
}

float *net_run(lam_graph *g, lam_pool *pool, int n, int h, int w, unsigned seed, int *count) {
    lam_session *s = lam_session_new(g, pool);
    float *copy = NULL;
    if (s && lam_session_resize(s, 0, 4, (int[]){ n, 6, h, w }) == LAM_OK && lam_session_prepare(s) == LAM_OK) {
        float *in = lam_session_input(s, 0);
        char name[2] = { (char)('a' + seed % 26), 0 };
        for (int i = 0; i < n * 6 * h * w; i++) in[i] = net_value(name, i);
        lam_session_run(s);
        *count = 1;
        for (int i = 0; i < lam_session_output_rank(s, 0); i++) *count *= lam_session_output_dim(s, 0, i);
        copy = malloc((size_t)*count * sizeof *copy);
        memcpy(copy, lam_session_output(s, 0), (size_t)*count * sizeof *copy);
    }
    lam_session_free(s);
    return copy;
}
