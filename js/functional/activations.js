/** The pointwise functions that the engine has, lam_activation in the order of its header. */
export const ACTIVATIONS = /** @type {const} */ (['identity', 'relu', 'sigmoid', 'silu', 'tanh', 'gelu', 'gelu_tanh', 'quick_gelu', 'mish', 'softplus']);

/** @typedef {typeof ACTIVATIONS[number]} Activation */
