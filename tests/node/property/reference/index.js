/** The engine's functions again, under the same names and with the same arguments, in plain f64 loops that share no code with it. */
export * from './arithmetic.js';
export * from './attention.js';
export * from './experts.js';
export * from './layers.js';
export * from './lookup.js';
export * from './pool.js';
export * from './rotary.js';
export * from './shape.js';
export * from './sparse_attention.js';
