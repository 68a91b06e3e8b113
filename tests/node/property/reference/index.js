/** The engine's functions again, under the same names and with the same arguments, in plain f64 loops that share no code with it. */
export * from './arithmetic.js';
export * from './attention.js';
export * from './layers.js';
export * from './pool.js';
export * from './shape.js';
