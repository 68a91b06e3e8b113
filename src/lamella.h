/* lamella: neural-network layers for WebAssembly SIMD.
 *
 * Record a graph once, load its weights, run it many times:
 *
 *     lam_graph *g = lam_graph_new();
 *     lam_value x = lam_input(g, LAM_F32, 2, (int[]){ LAM_ANY, 64 });
 *     lam_value w = lam_weight(g, "fc.weight", 2, (int[]){ 10, 64 });
 *     lam_output(g, lam_linear(g, x, w, LAM_NONE, 0, 10));
 *     lam_compile(g);                                  -- fuses, sizes the packed weights
 *     lam_load(g, 0, LAM_F32, bytes, 0, 10);           -- converts and packs; the bytes may then be dropped
 *     lam_session *s = lam_session_new(g, NULL);
 *     lam_session_resize(s, 0, 2, (int[]){ 3, 64 });
 *     lam_session_prepare(s);                          -- infers shapes, plans memory: all that can fail has now failed
 *     memcpy(lam_session_input(s, 0), ...);  lam_session_run(s);  lam_session_output(s, 0);
 *
 * A layer that cannot be defined returns LAM_BAD; passing LAM_BAD on is silent, and the graph keeps the first message,
 * which names the module path (lam_scope), the layer, what it expected and what it got.
 *
 * Shapes are PyTorch's, images [n, c, h, w]. A dimension that is not known before a session is LAM_ANY.
 * Nothing here prints, aborts or touches a file.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "api.h"
#include "activation.h"

typedef struct lam_graph lam_graph;
typedef struct lam_session lam_session;
typedef struct lam_pool lam_pool;
typedef int lam_value;

enum {
    LAM_BAD = -1,   /* the value of a layer that could not be defined */
    LAM_NONE = -2,  /* an optional argument that is left out */
    LAM_ANY = -1,   /* a dimension that varies between calls */
    LAM_KEEP = -3,  /* in lam_reshape: the input's dimension at the same place */
    LAM_MAX_RANK = 6,
};

typedef enum lam_status {
    LAM_OK = 0,
    LAM_EVALUE = -1,  /* an argument or a shape is wrong; the error text says which */
    LAM_ENOMEM = -2,  /* out of memory */
    LAM_ESTATE = -3,  /* called in the wrong order, or weights are missing */
    LAM_EINPUT = -4,  /* the numbers of an input cannot be used: an id outside its table */
} lam_status;

/* How a weight is kept in memory. */
typedef enum lam_precision {
    LAM_PRECISION_F32,
    LAM_PRECISION_F16,   /* IEEE halves, to nearest, at most 65504; arithmetic is f32 */
    LAM_Q8,   /* 8 bits, one scale for an output; its layer's inputs become whole numbers of 7 bits, one scale for a row */
    LAM_Q4,   /* 4 bits, one scale for 32 weights of an output; inputs likewise */
    LAM_PRECISIONS
} lam_precision;

typedef enum lam_type {
    LAM_F32, LAM_F16, LAM_BF16, LAM_F64, LAM_I64, LAM_I32, LAM_I16, LAM_I8, LAM_U8, LAM_BOOL, LAM_TYPES,
    LAM_CODES_8 = LAM_TYPES, LAM_CODES_4   /* for lam_load alone: rows that are quantised already (kernels/quantized.h: quantized_coded_bytes) */
} lam_type;

typedef enum lam_scoring { LAM_SCORE_SOFTMAX, LAM_SCORE_SIGMOID } lam_scoring;
typedef enum lam_route_method { LAM_GREEDY, LAM_GROUP_LIMITED_GREEDY, LAM_NOAUX_TC } lam_route_method;

typedef enum lam_binary { LAM_ADD, LAM_SUB, LAM_MUL, LAM_DIV, LAM_SECOND } lam_binary;

/* ---- graph ------------------------------------------------------------------------------------------------------ */

LAM_API lam_graph  *lam_graph_new(void);                        /* NULL when out of memory */
LAM_API void        lam_graph_free(lam_graph *g);               /* its sessions must be gone */
LAM_API const char *lam_graph_error(const lam_graph *g);        /* first error, "" when there is none */
LAM_API lam_status  lam_graph_status(const lam_graph *g);
LAM_API void        lam_scope(lam_graph *g, const char *path);  /* module path of the layers that follow, "layer1.0.conv1" */

/* dims [rank], LAM_ANY where a size varies. type LAM_F32 or LAM_I32. */
LAM_API lam_value lam_input(lam_graph *g, lam_type type, int rank, const int *dims);
/* The name is the checkpoint's. A name given twice with the same shape is the same value. */
LAM_API lam_value lam_weight(lam_graph *g, const char *name, int rank, const int *dims);
/* From the layers that follow the weight is kept in this precision by those that can: linear layers and experts; convolutions in 8 bits, also
 * where 4 are asked for, unless they are depthwise or f32 is faster; weights that are too small to gain stay f32. Embeddings keep halves for
 * all but f32. Returns the weight. */
LAM_API lam_value lam_weight_precision(lam_graph *g, lam_value weight, lam_precision precision);
LAM_API lam_status lam_output(lam_graph *g, lam_value x);
LAM_API int lam_rank(const lam_graph *g, lam_value x);
LAM_API int lam_dim(const lam_graph *g, lam_value x, int axis); /* LAM_ANY when it varies */
LAM_API lam_type lam_value_type(const lam_graph *g, lam_value x); /* LAM_F32 or LAM_I32 */

/* ---- layers ----------------------------------------------------------------------------------------------------- */

/* y[n,o,i,j] = bias[o] + sum over c,u,v of w[o,c,u,v] x[n, g(o) C/groups + c, i*stride - pad + u*dilation, ...]
 * x [n, c, h, w]  w [out, c / groups, kh, kw]  bias [out] or LAM_NONE  -> [n, out, oh, ow],
 * oh = (h + padding[0] + padding[2] - dilation[0] (kh - 1) - 1) / stride[0] + 1.
 * stride [2] and dilation [2] are {h, w}; padding [4] is {top, left, bottom, right}, zeros. torch.nn.Conv2d. */
LAM_API lam_value lam_conv2d(lam_graph *g, lam_value x, lam_value w, lam_value bias,
                             const int *stride, const int *padding, const int *dilation, int groups);

/* y = x W[first : first + rows]^T + bias[first : first + rows].  x [..., in]  w [out, in]  bias [out] or LAM_NONE -> [..., rows].
 * The row range lets one packed in_proj_weight serve query, key and value. torch.nn.Linear with first 0, rows out. */
LAM_API lam_value lam_linear(lam_graph *g, lam_value x, lam_value w, lam_value bias, int first, int rows);

/* y = (x - mean) / sqrt(var + eps) * weight + bias per channel (axis 1).  x [n, c, ...], others [c]; weight, bias may be
 * LAM_NONE. Inference form of torch.nn.BatchNorm1d/2d; folded into a convolution or linear layer before it. */
LAM_API lam_value lam_batch_norm(lam_graph *g, lam_value x, lam_value mean, lam_value var, lam_value weight, lam_value bias,
                                 float eps);

/* Over the last `axes` dimensions: y = (x - mean) / sqrt(biased variance + eps) * weight + bias. weight, bias have the shape of
 * those dimensions or are LAM_NONE. torch.nn.LayerNorm. */
LAM_API lam_value lam_layer_norm(lam_graph *g, lam_value x, lam_value weight, lam_value bias, int axes, float eps);
/* Over the last `axes` dimensions: y = x / sqrt(mean(x^2) + eps) * weight. weight as above. torch.nn.RMSNorm. */
LAM_API lam_value lam_rms_norm(lam_graph *g, lam_value x, lam_value weight, int axes, float eps);
/* Over the last dimension: y = x / max(sqrt(sum(x^2)), eps). torch.nn.functional.normalize. */
LAM_API lam_value lam_normalize(lam_graph *g, lam_value x, float eps);
/* The channels (axis 1) of x [n, c, ...] in `groups` equal groups: y = (x - mean) / sqrt(biased variance + eps) * weight + bias with the statistics
 * of the group, over all its positions; weight, bias [c] or LAM_NONE. torch.nn.GroupNorm. */
LAM_API lam_value lam_group_norm(lam_graph *g, lam_value x, lam_value weight, lam_value bias, int groups, float eps);

/* Pointwise; formulas in activation.h. */
LAM_API lam_value lam_activate(lam_graph *g, lam_value x, lam_activation kind);

/* log(1 + e^(beta x)) / beta, x itself where beta x > threshold; beta other than 0. torch.nn.Softplus. */
LAM_API lam_value lam_softplus(lam_graph *g, lam_value x, float beta, float threshold);

/* a op b with NumPy's broadcasting; either may be a weight. LAM_SECOND is b itself, repeated to the shape of both. */
LAM_API lam_value lam_arithmetic(lam_graph *g, lam_value a, lam_value b, lam_binary op);

/* exp(x - max) / sum along axis (negative counts from the end). torch.nn.Softmax. */
LAM_API lam_value lam_softmax(lam_graph *g, lam_value x, int axis);

/* x [n, c, h, w] -> [n, c, oh, ow]; kernel, stride, padding, dilation [2] are {h, w}. ceil_mode and count_include_pad as in
 * torch.nn.AvgPool2d; divisor 0: the window's size. */
LAM_API lam_value lam_avg_pool2d(lam_graph *g, lam_value x, const int *kernel, const int *stride, const int *padding,
                                 int ceil_mode, int count_include_pad, int divisor);
LAM_API lam_value lam_max_pool2d(lam_graph *g, lam_value x, const int *kernel, const int *stride, const int *padding,
                                 const int *dilation, int ceil_mode);
/* Window i covers rows floor(i h / oh) .. ceil((i + 1) h / oh). size [2] is {oh, ow}, LAM_KEEP keeps the input's.
 * torch.nn.AdaptiveAvgPool2d. */
LAM_API lam_value lam_adaptive_avg_pool2d(lam_graph *g, lam_value x, const int *size);

/* Views and moves. dims [rank] of reshape: one may be -1 (inferred), LAM_KEEP takes the input's at the same place. */
LAM_API lam_value lam_reshape(lam_graph *g, lam_value x, int rank, const int *dims);
LAM_API lam_value lam_flatten(lam_graph *g, lam_value x, int first, int last);
LAM_API lam_value lam_unflatten(lam_graph *g, lam_value x, int axis, int count, const int *sizes); /* one size may be -1 */
LAM_API lam_value lam_permute(lam_graph *g, lam_value x, const int *order);                         /* order [rank] */
LAM_API lam_value lam_narrow(lam_graph *g, lam_value x, int axis, int start, int length);  /* negative start from the end; length -1: rest */
LAM_API lam_value lam_cat(lam_graph *g, int count, const lam_value *values, int axis);
LAM_API lam_value lam_mean(lam_graph *g, lam_value x, int axis, int keep_axis);

/* a [..., m, k]  b [..., k, n] -> [..., m, n]; leading dimensions broadcast. transpose_b: b is [..., n, k]. torch.matmul for rank >= 2. */
LAM_API lam_value lam_matmul(lam_graph *g, lam_value a, lam_value b, int transpose_b);

/* softmax(scale q k^T + mask) v.  q [..., t, d]  k [..., s, d]  v [..., s, e]  mask broadcastable to [..., t, s], added, or LAM_NONE
 * -> [..., t, e].  scale NAN: 1 / sqrt(d). window [2] or NULL: query i sees keys p - window[0] <= j <= p + window[1], p = i, or
 * p = i + s - t with from_end, where the last query stands at the last key; -1 is unlimited, {-1, 0} causal. A query that sees no key
 * gives zeros. Leading dimensions are equal, or k's and v's last of them divides q's (grouped heads).
 * torch.nn.functional.scaled_dot_product_attention, and flash-attention's window. */
LAM_API lam_value lam_attention(lam_graph *g, lam_value q, lam_value k, lam_value v, lam_value mask, float scale, const int *window,
                                int from_end);

/* Cosines and sines of rotary position embedding, for the tokens along an axis of x [..., t, ...]: with angle a = (position + i) freqs[j],
 * position being the tokens that the session has seen before, y[i, 0, j] = scale cos(a) and y[i, 1, j] = scale sin(a).
 * freqs [half] -> [t, 2, half]. max_positions other than 0: dynamic NTK scaling; where L = position + t > max_positions the frequencies are
 * those of a base that is (factor L / max_positions - (factor - 1))^(d / (d - 2)) times as large, d = 2 half; factor >= 1. */
LAM_API lam_value lam_rotary_table(lam_graph *g, lam_value x, int axis, lam_value freqs, float scale, float factor, int max_positions);

/* Turns columns [first, first + 2 half) of the last axis of x [..., t, ..., width] by the table [t, 2, half], tokens counted along `axis`;
 * the other columns are copied. With (a, b) the columns 2j and 2j + 1 (interleaved), or j and half + j, counted from first:
 * (a, b) -> (a cos - b sin, b cos + a sin). RoFormer's embedding. */
LAM_API lam_value lam_rotary(lam_graph *g, lam_value x, lam_value table, int axis, int first, int interleaved);

/* Rows of a table: ids i32 [...]  table [rows, width] -> [..., width]. lam_session_check refuses ids outside the table; a computed
 * one gives zeros. torch.nn.Embedding. */
LAM_API lam_value lam_embedding(lam_graph *g, lam_value ids, lam_value table);

/* Where the largest number of an axis is, the first of equal ones: f32 or i32 [..., s, ...] -> i32 without the axis. torch.argmax. */
LAM_API lam_value lam_argmax(lam_graph *g, lam_value x, int axis);

/* y[...] = x[..., index[...]]: one row of each matrix.  x [..., t, w]  index i32 [...] -> [..., w]. */
LAM_API lam_value lam_select(lam_graph *g, lam_value x, lam_value index);

/* What a session remembers. x [b, t, w] -> [b, p + t, w]: behind the p rows of earlier runs those of this one. A row stands for `stride`
 * tokens, p = position / stride. Without lam_session_context it is x itself. The batch is 1 in a session with a context, and a graph
 * that has caches has one of stride 1, whose rows count the tokens. */
LAM_API lam_value lam_cache(lam_graph *g, lam_value x, int stride);

/* The gate of a mixture of experts: weights for the top_k experts of each token, 0 for the others.  logits [..., experts] -> the same.
 * Scores s are the softmax over the experts or the sigmoid of each logit; the choice is made by
 *     LAM_GREEDY                s
 *     LAM_GROUP_LIMITED_GREEDY  s within the kept_groups groups of neighbouring experts whose largest s is largest; others compete with `masked`
 *     LAM_NOAUX_TC              s' = s + bias, groups by the sum of their two largest s'; others compete with `masked`. bias [experts] or LAM_NONE
 * and the weights are s of the chosen experts (of a masked expert `masked` in LAM_GROUP_LIMITED_GREEDY), with norm divided by their sum + 1e-20,
 * then times scale. Of equal scores the lowest index is chosen. DeepSeek-V2's and V3's gates, whose masked is 0 or -infinity. */
LAM_API lam_value lam_route(lam_graph *g, lam_value logits, lam_value bias, int top_k, lam_scoring scoring, lam_route_method method, int groups,
                            int kept_groups, float masked, int norm, float scale);

/* y = sum over experts e of routing[..., e] down_e(activation(gate_e x) * (up_e x)), in the order of the experts.
 * x [..., in]  routing [..., count]  weights [3 count]: gate [inter, in], up [inter, in], down [out, inter] of each expert -> [..., out].
 * An expert whose routing is 0 for a token is not computed for it; one that is 0 for all costs nothing. */
LAM_API lam_value lam_experts(lam_graph *g, lam_value x, lam_value routing, lam_activation activation, int count, const lam_value *weights);

/* DeepSeek-V2's latent attention, causal: query i of t sees keys j <= i + s - t.
 * q [b, t, heads (nope + rope)], a head's last `rope` columns turned  kv [b, s, c + rope]: latents, then the turned part all heads share
 * weight [heads (nope + v), c], of each head the rows W_UK [nope, c] and W_UV [v, c] (kv_b_proj)
 * -> [b, t, heads v]: softmax(scale (q_nope (latent W_UK^T)^T + q_rope k_rope^T)) latent W_UV^T. */
LAM_API lam_value lam_mla(lam_graph *g, lam_value q, lam_value kv, lam_value weight, int heads, int nope, int rope, int v, float scale);

/* CLIP's attention pool. With T = [mean of pixels; pixels] + position [h w + 1, c], optionally layer-normalised (ln_weight, ln_bias [c]
 * or LAM_NONE): y = c_proj(multi-head attention of q_proj(T_0) over k_proj(T), v_proj(T)).
 * x [n, c, h, w]  q, k, v weights [c, c], biases [c]  c_proj weight [out, c], bias [out] -> [n, out].
 * project_twice: q, k, v each pass through their projection a second time (W' = W W, b' = W b + b). `weights` [11] is
 * { position, q.weight, q.bias, k.weight, k.bias, v.weight, v.bias, c.weight, c.bias, ln.weight, ln.bias }. */
LAM_API lam_value lam_attention_pool2d(lam_graph *g, lam_value x, const lam_value *weights, int heads, float eps, int project_twice);

/* Windows of `block` tokens that end every `stride` tokens, with zeros before the first token, and those of a remainder left out:
 * y[b, h, w, s] = x[b, (w + 1) stride - block + s, head h].  x [b, t, heads d] -> [b, heads, floor(t / stride), block, d]. block >= stride.
 * In a session with a context x is a cache, and the windows are those that this run completes. */
LAM_API lam_value lam_windows(lam_graph *g, lam_value x, int heads, int block, int stride);

/* Native sparse attention: for each query and head g[0] compressed + g[1] fine + g[2] sliding, each a softmax(q k^T / sqrt(d)) v.
 * compressed: q over the memory and the compressed blocks, in causal form those that end before the query;
 * fine: rotated q over the `selected` blocks of `selection` keys with the best compressed scores, and in causal form over the query's own
 *   block up to itself. Scores are averaged over the heads that share keys (if `shared`), then over the selection / stride compressed blocks of a
 *   block; in softmax of them and of one more score, -1000, a block's share must be above 1e-10. Not causal with selection > stride: the
 *   query's own block is not among them. Not causal and no whole block: the query's own, zeros to its end.
 * sliding: rotated q over the keys at most `window` tokens before the query, not causal: and after it, zeros up to a multiple of window.
 * values [8]: { q [b, t, heads d], rotated q, rotated k [b, s, kv_heads d], v, compressed k [b, floor(s / stride), kv_heads d], compressed v,
 * memory [2, kv_heads, m, d] (keys, then values), gates [b, t, heads 3] } -> [b, t, heads d]. The queries are the last t of the s tokens; not causal
 * t = s. Query head h belongs to key head h / (heads / kv_heads). SparseAttention of native-sparse-attention-pytorch. */
typedef struct lam_sparse_options { int heads, kv_heads, window, stride, selection, selected, causal, shared; } lam_sparse_options;
LAM_API lam_value lam_sparse_attention(lam_graph *g, const lam_value *values, const lam_sparse_options *options);

/* ---- compile and load ------------------------------------------------------------------------------------------- */

/* Fuses the graph and settles how weights are kept; nothing is allocated for them yet. Nothing can be defined any more. */
LAM_API lam_status  lam_plan(lam_graph *g);
/* Of a planned graph: bytes for its packed weights, and for what a session with a context of so many tokens keeps. */
LAM_API double      lam_planned_bytes(const lam_graph *g, int context);
LAM_API lam_status  lam_compile(lam_graph *g);   /* plans it, unless that is done, and makes room for the weights */
LAM_API int         lam_weight_count(const lam_graph *g);
LAM_API const char *lam_weight_name(const lam_graph *g, int weight);
LAM_API int         lam_weight_rank(const lam_graph *g, int weight);
LAM_API int         lam_weight_dim(const lam_graph *g, int weight, int axis);
LAM_API size_t      lam_packed_bytes(const lam_graph *g);   /* of all packed weights, known before the first is loaded */
/* Converts and packs rows [first, first + rows) of a weight (a row is a slice of dimension 0; rank 0 and 1 count elements).
 * data holds rows * (elements of a row) values of `type`, aligned to that type; NULL will do for rows without
 * elements. Rows may come in any order, each once. Rows of codes go as they are into layers that keep the weight in as many bits, and into others as f32. */
LAM_API lam_status  lam_load(lam_graph *g, int weight, lam_type type, const void *data, int first, int rows);
LAM_API int         lam_loaded_rows(const lam_graph *g, int weight);

/* ---- session ---------------------------------------------------------------------------------------------------- */

/* Many sessions may share a graph, one running at a time if they share a pool. pool may be NULL. NULL when out of memory. */
LAM_API lam_session *lam_session_new(lam_graph *g, lam_pool *pool);
LAM_API void         lam_session_free(lam_session *s);
LAM_API const char  *lam_session_error(const lam_session *s);
/* Only these outputs, [first, first + count) of the graph's, are wanted: what nothing of them depends on is neither run nor needs a size. */
LAM_API lam_status   lam_session_select(lam_session *s, int first, int count);
/* Caches with room for so many tokens: what was seen is kept from run to run, which prepare precedes. 0: nothing is kept. Rows are kept in
 * this precision, LAM_PRECISION_F32, LAM_PRECISION_F16 or LAM_Q8 (with a scale for 32 numbers), where nothing but lam_attention and lam_mla reads them;
 * other caches are f32. */
LAM_API lam_status   lam_session_context(lam_session *s, int tokens, lam_precision precision);
/* The next run comes after this many tokens; at most as many as have been seen. */
LAM_API lam_status   lam_session_seek(lam_session *s, int position);
LAM_API int          lam_session_position(const lam_session *s);      /* tokens seen so far */
/* on: the memory of every input is the session's to write over once the last layer that reads it is done, or by that layer itself ("donated", as JAX
 * calls it): less memory, and a layer may write where it reads. Then all inputs that the selected outputs depend on are written anew before each run, and before
 * lam_session_check; what lam_session_input points to holds no particular numbers from a run's first layer on; and outputs are read before an input is
 * written for the next run. An input that is itself an output, or of which an output is a view, keeps its numbers until then. Off at first: inputs keep theirs,
 * and a run may be repeated. Comes before prepare; what caches hold stays. */
LAM_API void         lam_session_donate(lam_session *s, int on);
LAM_API lam_status   lam_session_resize(lam_session *s, int input, int rank, const int *dims);
LAM_API lam_status   lam_session_prepare(lam_session *s);             /* after resize and before run */
LAM_API void        *lam_session_input(lam_session *s, int input);    /* f32 or i32, PyTorch's order; valid until the next prepare. NULL: no
                                                                       * selected output depends on it */
/* Are the numbers in the inputs ones that the layers can use (ids within their tables)? Ask it before a run. */
LAM_API lam_status   lam_session_check(lam_session *s);
LAM_API void         lam_session_run(lam_session *s);
/* Runs layers until `milliseconds` have passed; 1 when the last is done, 0 to be called again (so a caller can stop or breathe), 2 when experts are wanted
 * from outside (below; lam_session_run ends there). */
LAM_API int          lam_session_step(lam_session *s, double milliseconds);
LAM_API int          lam_output_count(const lam_graph *g);
LAM_API lam_type     lam_output_type(const lam_graph *g, int output); /* LAM_F32 or LAM_I32 */
/* Numbers of an output that was selected, valid until the next run or prepare. Those of an i32 output lie there as int32_t. */
LAM_API float       *lam_session_output(lam_session *s, int output);
LAM_API int          lam_session_output_rank(const lam_session *s, int output);
LAM_API int          lam_session_output_dim(const lam_session *s, int output, int axis);
LAM_API size_t       lam_session_bytes(const lam_session *s);         /* arena */
LAM_API size_t       lam_session_state_bytes(const lam_session *s, lam_precision precision);   /* caches that are kept in it */

/* ---- experts that stay outside ------------------------------------------------------------------------------------ */

/* Layers of experts, counted from 0, may have room ("slots") for some of their experts only, while all are kept, packed, by the caller. Between lam_plan and
 * lam_compile they are told so. Then weights are loaded one after another, each whole: when the last row of an expert's weight has come, its packed form lies
 * in slot 0, lam_expert_place bytes behind its beginning, until the next lam_load. Where such a layer comes in a run lam_session_step gives 2: the caller
 * fills slots with what lam_session_wanted names, in that order as many as there are slots, says so with lam_expert_set, and steps on; where more were wanted than
 * there are slots, the layer does those that are here and 2 comes again. */
LAM_API int          lam_expert_layers(const lam_graph *g);
LAM_API int          lam_expert_count(const lam_graph *g, int layer);
LAM_API size_t       lam_expert_bytes(const lam_graph *g, int layer);                    /* of one slot */
LAM_API lam_status   lam_expert_slots(lam_graph *g, int layer, int slots);               /* 1 to the count */
LAM_API char        *lam_expert_slot(const lam_graph *g, int layer, int slot);
LAM_API void         lam_expert_set(lam_graph *g, int layer, int slot, int expert);      /* what the slot holds from now on; -1: nothing */
/* Of a weight: 0 the layer (-1: it is no expert's that is kept outside), 1 the expert, 2 bytes before it in the slot, 3 its bytes. */
LAM_API int          lam_expert_place(const lam_graph *g, int weight, int what);
LAM_API int          lam_session_waits(const lam_session *s);                            /* the layer that wants experts; -1: none */
LAM_API int          lam_session_wanted(const lam_session *s, int from);                 /* the first expert that it wants, `from` or later; -1: none */

/* ---- profile: figures of the last run, per layer after fusion ---------------------------------------------------- */

LAM_API int         lam_layer_count(const lam_session *s);
LAM_API const char *lam_layer_name(const lam_session *s, int layer);    /* "conv2d+batch_norm+relu" */
LAM_API const char *lam_layer_path(const lam_session *s, int layer);    /* "layer1.0.conv1" */
LAM_API int         lam_layer_rank(const lam_session *s, int layer);  /* of its output */
LAM_API int         lam_layer_dim(const lam_session *s, int layer, int axis);
LAM_API void        lam_session_profile(lam_session *s, int on);      /* take times from now on */
LAM_API double      lam_layer_milliseconds(const lam_session *s, int layer);
LAM_API double      lam_layer_flops(const lam_session *s, int layer); /* multiplications + additions of the textbook formula */
LAM_API double      lam_layer_bytes(const lam_session *s, int layer); /* inputs, outputs and weights touched once */
LAM_API int         lam_layer_weight(const lam_session *s, int layer, int i); /* number of the i-th weight it reads; -1: there is none */
