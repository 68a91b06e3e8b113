/* CLIP's attention pool, by what it needs instead of what it says: only the first token's output is used, so there is one query.
 * Per head h of width d, with T the tokens [1 + h w, c] and q = Wq T_0 + bq:
 *     scores_j = q_h . (Wk_h T_j + bk_h) = (Wk_h^T q_h) . T_j + constant       the constant leaves the softmax as it is
 *     y_h      = sum_j p_j (Wv_h T_j + bv_h) = Wv_h (sum_j p_j T_j) + bv_h     since the p_j add up to 1
 * so two of the three projections act on one vector per head instead of on every pixel: for RN50 21 million products, not 426.
 * Projecting twice (W W x + W b + b) adds Wk^T in front of the scores and another Wv behind the sum. */
#include <string.h>
#include "../kernels/norm.h"
#include "../kernels/pool2d.h"
#include "../kernels/softmax.h"
#include "../text.h"
#include "ops.h"
#include "product.h"

enum { X, POSITION, Q_W, Q_B, K_W, K_B, V_W, V_B, C_W, C_B, LN_W, LN_B, INPUTS };

/* The products: each weight is kept in f32, or in halves where fewer bits are wanted. With Wq, Wv and Wc in 8 bits the demo's tower came to a cosine
 * of 0.99935 with f32, where 0.9995 is asked for, and in 4 bits to 359 of 370 labels. */
enum { QUERY, KEY, VALUE, OUT, PRODUCTS };
typedef struct pool_params { int heads, twice; float eps; lam_precision precision[PRODUCTS]; } pool_params;

/* ---- shape ---- */

static int is_linear(const lam_shape *w, const lam_shape *b, int out, int in) {
    return w->rank == 2 && b->rank == 1 && dim_agrees(w->dims[0], out) && dim_agrees(w->dims[1], in) && b->dims[0] == w->dims[0];
}

static lam_status shape(const lam_node *node, const lam_shape *in, lam_shape *out, char *why) {
    const pool_params *p = node->params;
    const lam_shape *x = &in[X], *position = &in[POSITION];
    if (x->rank != 4) return text_format(why, LAM_TEXT, "expected an image [n, c, h, w], got %v", x), LAM_EVALUE;
    int c = position->rank == 2 ? position->dims[1] : LAM_ANY;
    int tokens = dim_times(x->dims[2], x->dims[3]);
    if (tokens != LAM_ANY) tokens++;
    if (position->rank != 2 || !dim_agrees(x->dims[1], c) || !dim_agrees(position->dims[0], tokens))
        return text_format(why, LAM_TEXT, "positional_embedding %v needs [n, %d, h, w] with h w + 1 = %d, got %v", position, c,
                           position->rank == 2 ? position->dims[0] : 0, x), LAM_EVALUE;
    if (p->heads < 1 || c % p->heads) return text_format(why, LAM_TEXT, "%d heads do not divide %d channels", p->heads, c), LAM_EVALUE;
    for (int i = Q_W; i <= V_W; i += 2)
        if (!is_linear(&in[i], &in[i + 1], c, c))
            return text_format(why, LAM_TEXT, "projection %v with bias %v, expected [%d, %d]", &in[i], &in[i + 1], c, c), LAM_EVALUE;
    if (!is_linear(&in[C_W], &in[C_B], LAM_ANY, c))
        return text_format(why, LAM_TEXT, "c_proj %v with bias %v, expected [out, %d]", &in[C_W], &in[C_B], c), LAM_EVALUE;
    for (int i = LN_W; i <= LN_B; i++)
        if (in[i].rank >= 0 && (in[i].rank != 1 || in[i].dims[0] != c))
            return text_format(why, LAM_TEXT, "layer norm %v, expected [%d]", &in[i], c), LAM_EVALUE;
    *out = (lam_shape){ .rank = 2, .dims = { x->dims[0], in[C_W].dims[0] } };
    return LAM_OK;
}

/* ---- weights ---- */

/* Where the packed matrices lie, and the sizes they follow from. */
typedef struct places {
    size_t c, heads, d, out;
    product query, key, value, project, key_again;   /* key, value: of one head */
    size_t k_floats, v_floats;                        /* of one head */
    size_t q, k, v, last, k_again, total;
} places;

static places places_of(const lam_node *node, const lam_shape *position, const lam_shape *project) {
    const pool_params *p = node->params;
    places s = { .c = (size_t)position->dims[1], .heads = (size_t)p->heads, .out = (size_t)project->dims[0] };
    s.d = s.c / s.heads;
    s.query = (product){ p->precision[QUERY], 1, s.c, s.c };
    s.key = (product){ p->precision[KEY], 1, s.d, s.c };
    s.value = (product){ p->precision[VALUE], 1, s.c, s.d };
    s.project = (product){ p->precision[OUT], 1, s.c, s.out };
    s.key_again = (product){ p->precision[KEY], 1, s.c, s.c };
    s.k_floats = product_packed_floats(&s.key);
    s.v_floats = product_packed_floats(&s.value);
    s.q = 0;
    s.k = s.q + product_packed_floats(&s.query);
    s.v = s.k + s.heads * s.k_floats;
    s.last = s.v + s.heads * s.v_floats;
    s.k_again = s.last + product_packed_floats(&s.project);
    s.total = s.k_again + (p->twice ? product_packed_floats(&s.key_again) : 0);
    return s;
}

static places places_in(const lam_graph *g, const lam_node *node) {
    return places_of(node, graph_shape(g, node->in[POSITION]), graph_shape(g, node->in[C_W]));
}

static size_t packed(const lam_graph *g, lam_node *node) {
    pool_params *p = node->params;
    for (int i = 0; i < PRODUCTS; i++) {
        if (product_precision(g, node->in[Q_W + 2 * i], SIZE_MAX, SIZE_MAX) == LAM_PRECISION_F32) continue;
        p->precision[i] = node->precision = LAM_PRECISION_F16;
    }
    return places_in(g, node).total;
}

/* Rows [row, row + rows) of Wk, all c columns, of a product whose depth they are. */
static void pack_depth(const product *w, float *packed, size_t row, size_t rows, const float *data) {
    gemm_pack(w->precision == LAM_PRECISION_F16 ? GEMM_F16 : GEMM_F32, packed, w->k, row, rows, 0, w->n, data, w->n, 1);
}

/* Rows of Wk or Wv, head by head. */
static void pack_heads(const lam_graph *g, const places *s, float *packed, int is_k, const float *data, size_t row, size_t end) {
    while (row < end) {
        size_t head = row / s->d, at = row % s->d, rows = s->d - at < end - row ? s->d - at : end - row;
        if (is_k) pack_depth(&s->key, packed + s->k + head * s->k_floats, at, rows, data);
        else product_pack(g, &s->value, packed + s->v + head * s->v_floats, at, rows, data, 0, 1, s->c);
        data += rows * s->c;
        row += rows;
    }
}

static void pack(const lam_graph *g, lam_node *node, int in, const float *data, int first, int rows) {
    const pool_params *p = node->params;
    places s = places_in(g, node);
    size_t row = (size_t)first, count = (size_t)rows;
    if (in == K_W || in == V_W) pack_heads(g, &s, node->packed, in == K_W, data, row, row + count);
    if (in == Q_W) product_pack(g, &s.query, node->packed + s.q, row, count, data, 0, 1, s.c);
    if (in == C_W) product_pack(g, &s.project, node->packed + s.last, row, count, data, 0, 1, s.c);
    if (in == K_W && p->twice) pack_depth(&s.key_again, node->packed + s.k_again, row, count, data);
}

static lam_status finish(const lam_graph *g, lam_node *node) {
    const pool_params *p = node->params;
    places s = places_in(g, node);
    float *packed = node->packed;
    product_bias(&s.query, packed + s.q, graph_plain(g, node->in[Q_B]));
    for (size_t h = 0; h < s.heads; h++) {
        product_bias(&s.key, packed + s.k + h * s.k_floats, NULL);
        product_bias(&s.value, packed + s.v + h * s.v_floats, graph_plain(g, node->in[V_B]) + h * s.d);
    }
    product_bias(&s.project, packed + s.last, graph_plain(g, node->in[C_B]));
    if (p->twice) product_bias(&s.key_again, packed + s.k_again, NULL);
    return LAM_OK;
}

/* ---- run ---- */

typedef struct job {
    const lam_run *run;
    places s;
    size_t n, pixels, tokens;
    float *t, *q, *u, *m, *o, *spare;   /* T [n, tokens, c]  q, o [n, c]  u, m [n, heads, c]  spare as large as u */
    /* one product, shared out by columns or by heads */
    const product *w;
    float *y; const float *a, *b;
    size_t y_stride, a_stride, rows, width;
    tile_grid grid;
} job;

static job job_of(const lam_run *r) {
    const int *x = r->in[X].shape.dims;
    job j = { .run = r, .s = places_of(r->node, &r->in[POSITION].shape, &r->in[C_W].shape), .n = (size_t)x[0],
              .pixels = (size_t)x[2] * (size_t)x[3] };
    j.tokens = j.pixels + 1;
    j.t = r->shared;
    j.q = j.t + j.n * j.tokens * j.s.c;
    j.o = j.q + j.n * j.s.c;
    j.u = j.o + j.n * j.s.c;
    j.m = j.u + j.n * j.s.heads * j.s.c;
    j.spare = j.m + j.n * j.s.heads * j.s.c;
    return j;
}

static void scratch(const lam_run *r, size_t *per_thread, size_t *shared) {
    job j = job_of(r);
    *shared = scratch_times(j.n * j.s.c, j.tokens + 2 + 3 * j.s.heads);
    *per_thread = gemm_packed_floats(j.s.c, j.tokens) + gemm_packed_floats(j.tokens, j.s.c) + j.s.heads * j.tokens;
}

static void make_tokens(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    const lam_run *r = j->run;
    const pool_params *p = r->node->params;
    size_t c = j->s.c, image = (size_t)index;
    float *t = j->t + image * j->tokens * c;
    memcpy(t + c, r->in[X].data + image * j->pixels * c, j->pixels * c * sizeof *t);
    mean_rows_f32(t, t + c, c, j->pixels, c);
    const float *position = r->in[POSITION].data;
    for (size_t i = 0; i < j->tokens * c; i++) t[i] += position[i];
    if (r->in[LN_W].data) layer_norm_f32(t, t, j->tokens, c, r->in[LN_W].data, r->in[LN_B].data, p->eps);
}

static void multiply_columns(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    tile t = tile_at(&j->grid, index);
    product_multiply_matrix(j->w, j->y + t.row * j->y_stride + t.column, j->y_stride, j->a + t.row * j->a_stride, j->a_stride,
                            j->b + product_column(j->w, t.column), t.rows, t.columns, NULL);
}

/* y [rows, w->n] = a [rows, w->k] b + bias */
static void multiply(job *j, const product *w, float *y, const float *a, size_t a_stride, const float *b, size_t rows) {
    j->w = w, j->y = y, j->a = a, j->b = b;
    j->y_stride = w->n, j->a_stride = a_stride;
    j->grid = tile_grid_of(rows, w->n, w->k, rows + GEMM_MR, lam_pool_threads(j->run->pool));
    pool_for(j->run->pool, tile_count(&j->grid), multiply_columns, j);
}

/* u_h = Wk_h^T q_h for every image. */
static void head_queries(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    size_t h = (size_t)index, c = j->s.c;
    product_multiply_matrix(&j->s.key, j->u + h * c, j->s.heads * c, j->q + h * j->s.d, c, j->run->node->packed + j->s.k + h * j->s.k_floats, j->n, c, NULL);
}

/* The head's columns of Wv: of one row per image, or of all rows when projecting twice. */
static void head_values(void *argument, int index, int thread) {
    (void)thread;
    const job *j = argument;
    size_t h = (size_t)index;
    product_multiply_matrix(&j->s.value, j->y + h * j->s.d, j->y_stride, j->a + h * j->width, j->a_stride,
                            j->run->node->packed + j->s.v + h * j->s.v_floats, j->rows, j->s.d, NULL);
}

/* m_h = sum_j softmax_j(u_h . T_j) T_j for the heads of one image. */
static void attend(void *argument, int index, int thread) {
    const job *j = argument;
    const lam_run *r = j->run;
    size_t c = j->s.c, heads = j->s.heads, image = (size_t)index;
    const float *t = j->t + image * j->tokens * c;
    float *across = r->scratch + (size_t)thread * r->scratch_floats;
    float *down = across + gemm_packed_floats(c, j->tokens), *scores = down + gemm_packed_floats(j->tokens, c);
    gemm_epilogue epilogue = { .activation = LAM_IDENTITY };
    gemm_pack_bias(across, c, j->tokens, NULL);
    gemm_pack_f32(across, c, 0, c, 0, j->tokens, t, 1, c);
    gemm_f32_matrix(scores, j->tokens, j->u + image * heads * c, c, across, heads, j->tokens, c, &epilogue);
    softmax_f32(scores, scores, heads, j->tokens);
    gemm_pack_bias(down, j->tokens, c, NULL);
    gemm_pack_f32(down, j->tokens, 0, j->tokens, 0, c, t, c, 1);
    gemm_f32_matrix(j->m + image * heads * c, c, scores, j->tokens, down, heads, c, j->tokens, &epilogue);
}

/* y [rows, c] by the heads' columns of Wv of a [n, heads, c]: of the rows of one head, or of all of them. */
static void values(job *j, float *y, const float *a, int all) {
    size_t c = j->s.c, heads = j->s.heads;
    j->y = y, j->y_stride = c, j->a = a;
    j->a_stride = all ? c : heads * c, j->width = all ? 0 : c, j->rows = all ? j->n * heads : j->n;
    pool_for(j->run->pool, (int)heads, head_values, j);
}

static void run(const lam_run *r) {
    const pool_params *p = r->node->params;
    job j = job_of(r);
    const places *s = &j.s;
    const float *packed = r->node->packed;
    size_t c = s->c, heads = s->heads;
    pool_for(r->pool, (int)j.n, make_tokens, &j);
    multiply(&j, &s->query, j.q, j.t, j.tokens * c, packed + s->q, j.n);
    if (p->twice) {
        multiply(&j, &s->query, j.o, j.q, c, packed + s->q, j.n);
        memcpy(j.q, j.o, j.n * c * sizeof *j.q);
    }
    float scale = 1.0f / __builtin_sqrtf((float)s->d);
    for (size_t i = 0; i < j.n * c; i++) j.q[i] *= scale;
    pool_for(r->pool, (int)heads, head_queries, &j);
    if (p->twice) {
        multiply(&j, &s->key_again, j.spare, j.u, c, packed + s->k_again, j.n * heads);
        memcpy(j.u, j.spare, j.n * heads * c * sizeof *j.u);
    }
    pool_for(r->pool, (int)j.n, attend, &j);
    if (p->twice) values(&j, j.spare, j.m, 1);
    values(&j, j.o, p->twice ? j.spare : j.m, 0);
    multiply(&j, &s->project, r->out.data, j.o, c, packed + s->last, j.n);
}

/* Of the textbook form, every token projected. */
static double flops(const lam_run *r) {
    job j = job_of(r);
    double n = (double)j.n, tokens = (double)j.tokens, c = (double)j.s.c;
    return 2 * n * (3 * tokens * c * c + 2 * tokens * c + c * (double)j.s.out);
}

static const lam_op op_attention_pool2d = {
    .name = "attention_pool2d", .packs = 1u << Q_W | 1u << K_W | 1u << V_W | 1u << C_W,
    .shape = shape, .packed = packed, .pack = pack, .finish = finish, .scratch = scratch, .run = run, .flops = flops,
};

lam_value lam_attention_pool2d(lam_graph *g, lam_value x, const lam_value *weights, int heads, float eps, int project_twice) {
    lam_value in[INPUTS] = { graph_in_layout(g, x, LAYOUT_CHANNELS_LAST) };
    for (int i = POSITION; i < INPUTS; i++) {
        in[i] = weights[i - POSITION];
        if (!graph_is_weight(g, in[i]) || (i < LN_W && in[i] == LAM_NONE))
            return graph_fail(g, LAM_EVALUE, "attention_pool2d: its %s must be a weight", i == POSITION ? "positional_embedding" : "projection");
    }
    return graph_add(g, &op_attention_pool2d, INPUTS, in, &(pool_params){ .heads = heads, .twice = project_twice, .eps = eps }, sizeof(pool_params),
                     LAYOUT_PLAIN);
}
