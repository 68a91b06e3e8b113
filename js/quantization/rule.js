/** What becomes of which weight. A checkpoint has names and shapes and no layers, so it goes by these. */
import { badArgument, show, showShape } from '../arguments.js';
import { LamellaError } from '../errors.js';

/** @typedef {import('../quantize.js').Stored} Stored */
/** @typedef {{ dtype: string, shape: readonly number[] }} Info */
/** @typedef {{ to: Stored, why: string }} Decision `why`: as a table for people says it, '' where it is what was asked for. */

const FLOATS = ['F32', 'F16', 'BF16', 'F64'];
const STORED = ['q4', 'q8', 'f16', 'f32', 'keep'];
/** Numbers of 4 bits that one word holds: a row is whole words. */
const WORD = 8;
/** The engine keeps what is smaller in f32 (src/ops/product.c): rounding its input would take longer than it saves. */
const LEAST_COLUMNS = 32;
const LEAST_ROWS = 16;

/**
 * @param {string} name
 * @param {Info} info
 * @param {'q4' | 'q8' | 'f16'} precision
 * @param {boolean} tied Whether the table of the tokens is the output layer as well.
 * @returns {Decision}
 */
export function decide(name, { dtype, shape }, precision, tied) {
  const keep = (/** @type {string} */ why) => ({ to: /** @type {Stored} */ ('keep'), why });
  const owner = name.split('.').at(-2) ?? '';
  if (!FLOATS.includes(dtype)) return keep('no floating-point numbers');
  if (shape.length < 2) return keep('norms, biases and the like');
  if (!name.endsWith('weight')) return keep('not a layer\'s weight by its name');
  if (/^(gate|router)$/.test(owner)) return keep('chooses the experts');
  if (precision === 'f16') return { to: 'f16', why: '' };
  if (shape.length === 2 && /emb|^wte$|^wpe$/i.test(owner)) {
    if (tied) return { to: 'q8', why: 'embedding that is the output layer, too' };
    return { to: 'f16', why: 'embedding: the engine keeps halves of it' };
  }
  if (shape[1] < LEAST_COLUMNS || shape[0] < LEAST_ROWS) return keep('small, or depthwise');
  if (precision === 'q8') return { to: 'q8', why: '' };
  if (shape.length > 2) return { to: 'q8', why: 'convolution: few weights suffer more from coarse ones' };
  if (/^(lm_head|output|head|classifier|embed_out)$/.test(owner)) return { to: 'q8', why: 'output layer' };
  if (owner === 'kv_b_proj') return { to: 'q8', why: 'keys and values of latent attention' };
  if (shape[1] % WORD) return { to: 'q8', why: `rows of ${shape[1]}, no multiple of ${WORD}` };
  return { to: precision, why: '' };
}

/**
 * Is the table of a decoder's tokens its output layer? Published checkpoints say so by leaving the output layer out.
 * @param {Iterable<string>} names
 */
export function isTied(names) {
  const all = [...names];
  return all.some((name) => /(^|\.)embed_tokens\.weight$/.test(name)) && !all.some((name) => /(^|\.)lm_head\.weight$/.test(name));
}

/**
 * @param {unknown} overrides
 * @returns {(name: string, info: Info, decision: Decision) => Decision}
 */
export function overriding(overrides) {
  if (overrides === undefined) return (name, info, decision) => decision;
  const isObject = typeof overrides === 'object' && overrides !== null && !Array.isArray(overrides);
  if (!isObject && typeof overrides !== 'function') throw badArgument('quantize: overrides', "an object of names, { 'lm_head.*': 'q4' }, or a function", overrides);
  const patterns = isObject ? Object.entries(/** @type {object} */ (overrides)).map(([pattern, to]) => ({ pattern: matcher(pattern), to: checked(`overrides[${show(pattern)}]`, to) })) : [];
  return (name, info, decision) => {
    const to = typeof overrides === 'function' ? overrides(name, [...info.shape], decision.to) : patterns.find(({ pattern }) => pattern.test(name))?.to;
    return to === undefined || to === null ? decision : { to: possible(name, info, checked(`overrides of ${name}`, to)), why: 'as asked' };
  };
}

/** @param {string} pattern */
const matcher = (pattern) => new RegExp(`^${pattern.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&')).join('.*')}$`);

/**
 * @param {string} what
 * @param {unknown} value
 * @returns {Stored}
 */
function checked(what, value) {
  if (!STORED.includes(/** @type {string} */ (value))) throw badArgument(`quantize: ${what}`, `one of ${STORED.map((name) => `'${name}'`).join(', ')}`, value);
  return /** @type {Stored} */ (value);
}

/**
 * @param {string} name
 * @param {Info} info
 * @param {Stored} to
 */
function possible(name, { dtype, shape }, to) {
  const fail = (/** @type {string} */ needed) => new LamellaError('argument', `quantize: ${name}: ${to} needs ${needed}, got ${dtype} ${showShape(shape)}`, { path: name });
  if (to === 'keep') return to;
  if (!FLOATS.includes(dtype)) throw fail('floating-point numbers');
  if ((to === 'q4' || to === 'q8') && (shape.length < 2 || shape.includes(0))) throw fail('rows');
  if (to === 'q4' && (shape.length !== 2 || shape[1] % WORD)) throw fail(`a matrix with a multiple of ${WORD} columns`);
  return to;
}
