/** The work that is timed: sizes, numbers that go in, and how much there is to compute or to read. */
import { towerFlops, trunkFlops, uniform } from './tower.mjs';

/** Matrices [n, n] that are multiplied. */
export const GEMMS = [256, 512, 1024];
/** Matrices [outputs, inputs] of 4-bit weights that one row is multiplied by: the first fits no cache. */
export const GEMVS = [[16384, 8192], [8192, 2048]];
/** Bytes of a weight in blocks of 32: 4 bits and its share of an f16 scale. */
const Q4_BYTES = 18 / 32;
export const ATTENTION = { heads: 16, length: 2048, size: 64 };
/** Rows and columns of what softmax, layer norm and activations work on. */
export const ROWS = [1024, 1024];
const ELEMENTS = ROWS[0] * ROWS[1];
export const ROOF_STEPS = 1e6;

export const gemmInput = n => uniform('gemm a', n * n);
/** As a Linear keeps it, [n, k]. */
export const gemmWeight = n => uniform('gemm b', n * n);
export const gemvInput = ([, inputs]) => uniform('gemv x', inputs);
export const rowsInput = () => uniform('rows', ELEMENTS, 4);
export const attentionInput = name => uniform(`attention ${name}`, ATTENTION.heads * ATTENTION.length * ATTENTION.size);

/**
 * A matrix that 4 bits hold exactly: codes -8..7 in blocks of 32 columns, each block times a scale (a power of two). The first code of a
 * block is -8, so that whoever looks for the largest value of a block finds the scale.
 * @returns {{ codes: Uint8Array, scales: Float32Array }} codes: 8 more than the weights, [outputs, inputs]; scales: [outputs, inputs / 32]
 */
export function gemvCodes([outputs, inputs]) {
  const codes = new Uint8Array(outputs * inputs);
  let state = 1;
  for (let i = 0; i < codes.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    codes[i] = i % 32 ? state >>> 28 : 0;
  }
  return { codes, scales: Float32Array.from({ length: codes.length / 32 }, (_, i) => 2 ** (i % 3 - 8)) };
}

/** @returns {Float32Array} the weights of gemvCodes */
export function gemvWeight(size) {
  const { codes, scales } = gemvCodes(size);
  const weight = new Float32Array(codes.length); // Float32Array.from would first make a list
  for (let i = 0; i < codes.length; i++) weight[i] = (codes[i] - 8) * scales[i >>> 5];
  return weight;
}

const { heads, length, size } = ATTENTION;
const gemm = n => ({ flops: 2 * n ** 3, warm: 1, runs: { 256: 40, 512: 15 }[n] ?? 5 });
const gemv = ([outputs, inputs]) => ({ bytes: outputs * inputs * Q4_BYTES, flops: 2 * outputs * inputs, warm: 2, runs: 11, tolerance: 0.1 });
const rows = { elements: ELEMENTS, warm: 3, runs: 25 };
const roof = { warm: 3, runs: 15 };

/**
 * `flops` or `bytes` of one run, untimed and timed runs of a turn (the untimed bring caches and clock back), and how far outputs may be from
 * each other. Names that end in ', layer' are the same without what JavaScript copies in and out: the layer's own time.
 */
export const WORK = {
  tower: { title: 'RN50 image tower, 224 x 224', flops: towerFlops(), warm: 1, runs: 2 },
  trunk: { title: 'RN50 without the attention pool', flops: trunkFlops(), warm: 1, runs: 2 },
  'tower q8': { title: 'RN50 image tower, q8', flops: towerFlops(), warm: 1, runs: 2, tolerance: 0.1 },
  small: { warm: 20, runs: 30 },
  ...Object.fromEntries(GEMMS.flatMap(n => [[`gemm ${n}`, { ...gemm(n), title: `GEMM f32 ${n}^3, with its copies in and out` }], [`gemm ${n}, layer`, gemm(n)]])),
  'gemm 1024 q8, layer': gemm(1024),
  ...Object.fromEntries(GEMVS.flatMap(s => [[`gemv ${s}`, { ...gemv(s), title: `GEMV q4 ${s[1]} x ${s[0]}, with its copies in and out` }], [`gemv ${s}, layer`, gemv(s)]])),
  // Half of the keys are not seen.
  'attention, layer': { flops: 2 * heads * size * length * (length + 1), warm: 1, runs: 2 },
  'softmax, layer': rows,
  'layer norm, layer': rows,
  'gelu, layer': rows,
  'silu, layer': rows,
  // Roofs, and copies.
  fma: { title: 'fused multiply-add', flops: ROOF_STEPS * 96, ...roof },
  'mul+add': { title: 'multiply, then add', flops: ROOF_STEPS * 96, ...roof },
  dot: { title: 'dot product of bytes', flops: ROOF_STEPS * 384, ...roof },
  'dot, pairs': { title: 'dot product of bytes, in pairs', flops: ROOF_STEPS * 256, ...roof },
  read: { title: 'read of 128 MiB', bytes: 128 << 20, warm: 1, runs: 7 },
  copy: { title: 'copy of 4 MiB', bytes: 8 << 20, ...roof },
  'copy, bulk': { title: 'copy of 4 MiB, memory.copy', bytes: 8 << 20, ...roof },
};

/**
 * Vector instructions without which a layer cannot be, for four values; a division counts as 6, which is what it keeps the unit busy for.
 * e^x is 13: two limits, two for the whole part, two to subtract it in two pieces, a polynomial of degree 5, two for the power of two.
 */
export const INSTRUCTIONS = {
  'softmax, layer': 1 + 15 + 1, // the largest; difference, e^x, sum; times the reciprocal
  'layer norm, layer': 1 + 2 + 2, // sum; squares; two multiply-adds
  'silu, layer': 13 + 1 + 6 + 1, // x / (1 + e^-x)
  'gelu, layer': 2 + 5 + 1 + 12 + 2 + 2 + 6 + 1, // |x| limited; exponent; its square; 12 coefficients; 2^n; products; division; x - tail
};
/** Milliseconds that these instructions take at the rate of the multiply-adds of the roof. */
export const arithmeticLimit = (job, fmaMilliseconds) => fmaMilliseconds * INSTRUCTIONS[job] * ELEMENTS / 4 / (ROOF_STEPS * 12);

export const ROOFS = ['fma', 'mul+add', 'dot', 'dot, pairs', 'read', 'copy', 'copy, bulk'];
