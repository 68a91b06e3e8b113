/* The pointwise functions that can follow another layer in the same pass over memory. */
#pragma once

typedef enum lam_activation {
    LAM_IDENTITY,
    LAM_RELU,        /* max(x, 0) */
    LAM_SIGMOID,     /* 1 / (1 + e^-x) */
    LAM_SILU,        /* x sigmoid(x), PyTorch's SiLU and the Swish of the literature */
    LAM_TANH,
    LAM_GELU,        /* x Phi(x), by erf */
    LAM_GELU_TANH,   /* PyTorch's approximate='tanh' */
    LAM_QUICK_GELU,  /* x sigmoid(1.702 x), CLIP */
    LAM_MISH,        /* x tanh(softplus(x)) */
    LAM_SOFTPLUS,    /* log(1 + e^x), linear above 20 as in PyTorch */
    LAM_ACTIVATIONS
} lam_activation;
