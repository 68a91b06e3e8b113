/**
 * Sessions: a decoder's attentions over caches, given its tokens in pieces of random lengths and sent back now and then, against the
 * references over the whole sequence, which know no caches.
 */
import { compile } from '../../../js/index.js';
import { difference, list, numbers, Program, report, SEED } from './check.js';
import { hash, Random } from './random.js';
import * as R from './reference/index.js';
import { tensor } from './reference/tensor.js';

/** @import { Spec } from './check.js' */

/**
 * @typedef {object} SessionCase
 * @property {any} args
 * @property {number} width
 * @property {number} tokens In all.
 * @property {{ from: number, to: number }[]} pieces Tokens of each call; where one does not begin at the last one's end, the session goes back.
 * @property {Record<string, Spec>} weights
 * @property {boolean[]} whole Which outputs hold a row for every token or block so far, the others one for each of the call.
 * @property {(f: any, inputs: any[], w: any) => any[]} program
 */

/** @param {Random} r @param {number} tokens */
function pieces(r, tokens) {
  const result = [];
  for (let at = 0, seen = 0, back = r.int(0, 2); at < tokens;) {
    if (seen && back && r.chance(0.3)) {
      at = r.int(0, seen - 1);
      back--;
    }
    const to = Math.min(tokens, at + (r.chance(0.4) ? 1 : r.int(1, tokens)));
    result.push({ from: at, to });
    seen = at = to;
  }
  return result;
}

/** A windowed attention with rotary embedding, a compressing cache, and sparse attention over both. @param {Random} r @returns {SessionCase} */
export function decoder(r) {
  const [heads, d, stride] = [r.int(1, 3), 2 * r.int(1, 5), r.int(1, 4)];
  const [width, block, selection] = [heads * d, stride + r.int(0, 3), stride * r.int(1, 3)];
  const [windowSize, sliding, selected, interleaved] = [r.chance() ? [r.int(0, 9), -1] : -1, r.int(1, 6), r.pick([0, 999]), r.chance()];
  const tokens = r.chance(0.1) ? r.int(50, 150) : r.int(1, 20);
  const square = { shape: [width, width], values: (/** @type {Random} */ q) => q.normal() / Math.sqrt(width) };
  return {
    args: { heads, d, stride, block, selection, windowSize, sliding, selected, interleaved }, width, tokens, pieces: pieces(r, tokens),
    weights: { q: square, k: square, v: square, gate: { shape: [3 * heads, width], values: 'small' }, memory: { shape: [2, heads, r.int(1, 3), d] },
      freqs: { shape: [d / 2], values: Array.from({ length: d / 2 }, (_, j) => 100 ** (-2 * j / d)) } },
    whole: [true, false, true, false],
    program: (f, [x], w) => {
      const table = f.rotaryTable(x, w.freqs, { dim: 1 });
      const turned = (/** @type {any} */ y) => f.flatten(f.rotary(f.unflatten(y, 2, [heads, d]), table, { dim: 1, interleaved }), 2);
      const split = (/** @type {any} */ y) => f.permute(f.unflatten(y, 2, [heads, d]), [0, 2, 1, 3]);
      const [q, k, v] = [w.q, w.k, w.v].map((weight) => f.linear(x, weight));
      const rotated = turned(q);
      const [keys, rotatedKeys, values] = [k, turned(k), v].map((y) => f.cache(y));
      const attended = f.scaledDotProductAttention(split(rotated), split(rotatedKeys), split(values), { isCausal: true, windowSize, align: 'end' });
      const [compressedKey, compressedValue] = [keys, values].map((y) => f.cache(f.flatten(f.permute(f.mean(f.windows(y, heads, block, stride), 3), [0, 2, 1, 3]), 2), { stride }));
      const sparse = f.sparseAttention({ query: q, rotatedQuery: rotated, rotatedKey: rotatedKeys, value: values, compressedKey, compressedValue, memory: w.memory, gates: f.sigmoid(f.linear(x, w.gate)) },
        { heads, slidingWindowSize: sliding, stride, selectionBlockSize: selection, numSelectedBlocks: selected, causal: true });
      return [rotatedKeys, attended, compressedValue, sparse];
    },
  };
}

/**
 * Runs one case; as runCase of check.js.
 * @param {any} draw
 * @param {string} name
 * @param {number} number
 * @param {object} [engine]
 */
export async function runSession(draw, name, number, engine = {}) {
  const r = new Random(hash(`${SEED} ${name} ${number}`));
  /** @type {SessionCase} */
  const drawn = draw(r);
  const { width, tokens, weights, whole } = drawn;
  const stored = Object.fromEntries(Object.entries(weights).map(([key, described]) => [key, numbers(r, described)]));
  const known = Object.fromEntries(Object.entries(stored).map(([key, { reference }]) => [key, reference]));
  const { data } = numbers(r, { shape: [1, tokens, width] }).reference;
  let [failure, model, session] = [/** @type {string | null} */ (null), /** @type {any} */ (null), /** @type {any} */ (null)];
  try {
    model = await compile(new Program(drawn.program, weights), { inputs: [[r.chance() ? 1 : null, null, width]], ...engine,
      weights: Object.fromEntries(Object.entries(stored).map(([key, { given }]) => [key, given])) });
    session = await model.session({ context: tokens + r.int(0, 3), cache: 'f32' });
    for (const { from, to } of drawn.pieces) {
      if (from !== session.position) await session.seek(from);
      const got = list(await session.forward(Float32Array.from(data.subarray(from * width, to * width))));
      const expected = drawn.program(R, [tensor([1, to, width], data.slice(0, to * width))], known)
        .map((y, i) => (whole[i] ? y : R.narrow(y, y.shape.length - 2, from, to - from)));
      const wrong = got.map((y, i) => difference(y, expected[i]));
      const output = wrong.findIndex((message) => message !== null);
      if (output >= 0 && failure === null) failure = `tokens ${from} to ${to}: output ${output} ${wrong[output]}`;
    }
  } catch (error) {
    failure = `throws ${/** @type {Error} */ (error).stack}`;
  } finally {
    session?.dispose();
    model?.dispose();
  }
  const runs = drawn.pieces.length;
  return failure === null ? { runs, size: 0, failure } : { runs, size: tokens * width, failure: report(failure, name, number, model, {
    arguments: JSON.stringify(drawn.args), tokens: drawn.pieces.map(({ from, to }) => `${from}-${to}`).join(' '),
  }) };
}
