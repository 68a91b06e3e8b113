/** Rotary position embedding as a layer, and the frequencies of its variants. */
import { badArgument, boolean, finite, integer, show } from '../arguments.js';
import { LamellaError } from '../errors.js';
import * as F from '../functional.js';
import { Module, Parameter } from '../module.js';
import { Tensor } from '../tensor.js';

/** @import { DynamicScaling } from '../functional/rotary.js' */
/** @import { Operand, SymbolicTensor } from '../tensor.js' */
/**
 * How the embedding is stretched over longer sequences than the model was trained with. Keys may be spelled as in a model's
 * config.json (`original_max_position_embeddings`), so that its `rope_scaling` can be passed as it is.
 * @typedef {object} RopeScaling
 * @property {'default' | 'linear' | 'dynamic' | 'yarn' | 'llama3'} [type] Also `ropeType`. 'default': nothing is stretched.
 * @property {number} [factor] At least 1.
 * @property {number} [maxPositionEmbeddings] 'dynamic': where the stretching begins.
 * @property {number} [originalMaxPositionEmbeddings] 'yarn', 'llama3': the length of training. 'dynamic': in place of `maxPositionEmbeddings`.
 * @property {number} [lowFreqFactor] 'llama3': frequencies that turn less often over the length of training are divided by factor.
 * @property {number} [highFreqFactor] 'llama3': those that turn more often stay.
 * @property {number} [betaFast] 'yarn': 32
 * @property {number} [betaSlow] 'yarn': 1
 * @property {number} [mscale] 'yarn': 1
 * @property {number} [mscaleAllDim] 'yarn': 0
 * @property {number | null} [attentionFactor] 'yarn': the scale itself, in place of the one from mscale and mscaleAllDim.
 * @property {boolean} [truncate] 'yarn': round the range of the ramp outwards to whole frequencies, true.
 */

/** Which keys each type has, and those it cannot do without. @type {Record<string, { needs: string[], takes: string[] }>} */
const TYPES = {
  default: { needs: [], takes: [] },
  linear: { needs: ['factor'], takes: [] },
  dynamic: { needs: ['factor'], takes: ['maxPositionEmbeddings', 'originalMaxPositionEmbeddings'] },
  llama3: { needs: ['factor', 'lowFreqFactor', 'highFreqFactor', 'originalMaxPositionEmbeddings'], takes: [] },
  yarn: { needs: ['factor', 'originalMaxPositionEmbeddings'], takes: ['betaFast', 'betaSlow', 'mscale', 'mscaleAllDim', 'attentionFactor', 'truncate', 'maxPositionEmbeddings'] },
};

const { fround } = Math;

/**
 * The scaling under its camelCase names, its type checked against the keys that it needs.
 * @param {object | null | undefined} scaling
 * @returns {Record<string, any>}
 */
function readScaling(scaling) {
  /** @type {Record<string, any>} */
  const read = {};
  for (const [key, given] of Object.entries(scaling ?? {})) {
    if (given !== null && given !== undefined) read[key.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())] = given;
  }
  if (read.type !== undefined && read.ropeType !== undefined && read.type !== read.ropeType) {
    throw new LamellaError('argument', `rope scaling: type ${show(read.type)} and rope_type ${show(read.ropeType)} contradict each other`);
  }
  const { type: short, ropeType, ropeTheta, ...keys } = read;
  const type = short ?? ropeType ?? 'default';
  if (!Object.hasOwn(TYPES, type)) throw badArgument('rope scaling: type', Object.keys(TYPES).map(show).join(', '), type);
  const { needs, takes } = TYPES[type];
  const missing = needs.find((key) => keys[key] === undefined);
  if (missing) throw new LamellaError('argument', `rope scaling ${show(type)}: ${missing} is missing`);
  const unknown = Object.keys(keys).find((key) => ![...needs, ...takes].includes(key));
  if (unknown && type !== 'default') throw new LamellaError('argument', `rope scaling ${show(type)}: there is no option "${unknown}"; known: ${[...needs, ...takes].join(', ')}`);
  if (needs.includes('factor') && finite('rope scaling: factor', keys.factor) < 1) throw badArgument('rope scaling: factor', 'a number of at least 1', keys.factor);
  return { ...keys, type, ropeTheta };
}

/**
 * YaRN's factor of cosines and sines for one mscale: 0.1 mscale ln(factor) + 1. (DeepSeek also multiplies the scale of its attention by the
 * square of this for mscaleAllDim.)
 * @param {number} factor
 * @param {number} [mscale]
 */
export const yarnMscale = (factor, mscale = 1) => (factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1);

/**
 * base^(2j / dim), the reciprocals of the frequencies, each step rounded to f32 as PyTorch does.
 * @param {number} dim
 * @param {number} base
 * @returns {Float32Array}
 */
const wavelengths = (dim, base) => Float32Array.from({ length: dim / 2 }, (_, j) => base ** fround((2 * j) / dim));

/**
 * YaRN: frequencies that turn often over the length of training stay, those that turn seldom are divided by the factor, and a ramp lies
 * between them.
 * @param {number} dim
 * @param {number} base
 * @param {Record<string, any>} scaling
 * @returns {Float32Array}
 */
function yarnFrequencies(dim, base, { factor, originalMaxPositionEmbeddings: length, betaFast = 32, betaSlow = 1, truncate = true }) {
  integer('rope scaling: originalMaxPositionEmbeddings', length, 1);
  // The frequency, counted in pairs, that turns so often over the length.
  const pairOf = (/** @type {number} */ turns) => (dim * Math.log(length / (turns * 2 * Math.PI))) / (2 * Math.log(base));
  const [fast, slow] = [pairOf(finite('rope scaling: betaFast', betaFast)), pairOf(finite('rope scaling: betaSlow', betaSlow))];
  const low = Math.max(boolean('rope scaling: truncate', truncate) ? Math.floor(fast) : fast, 0);
  let high = Math.min(truncate ? Math.ceil(slow) : slow, dim - 1);
  if (low === high) high += 0.001;
  return wavelengths(dim, base).map((wavelength, j) => {
    const ramp = Math.min(Math.max(fround(fround(j - low) / fround(high - low)), 0), 1);
    const keep = fround(1 - ramp);
    const [kept, stretched] = [fround(1 / wavelength), fround(1 / fround(factor * wavelength))];
    return fround(fround(stretched * fround(1 - keep)) + fround(kept * keep));
  });
}

/**
 * The frequencies of rotary position embedding over `dim` columns, one for each pair, and what else a variant needs of `F.rotaryTable`:
 *
 *     default  freqs[j] = base^(-2j / dim)
 *     linear   these, divided by factor
 *     dynamic  these; the table stretches them where a sequence is longer than maxPositionEmbeddings
 *     yarn     base^(-2j / dim) (1 - r_j + r_j / factor) with a ramp r from 0 to 1; scale is yarnMscale(factor, mscale) / yarnMscale(factor,
 *              mscaleAllDim) as in DeepSeek's code, or attentionFactor. (transformers takes mscale 1 unless both are given and not 0.)
 *     llama3   base^(-2j / dim) (k_j + (1 - k_j) / factor), k_j from 0 at lowFreqFactor turns over the length of training to 1 at highFreqFactor
 *
 * @param {number} dim Even.
 * @param {{ base?: number, scaling?: RopeScaling | Record<string, any> | null }} [options] `base`: 10000.
 * @returns {{ freqs: Float32Array, scale: number, dynamic: DynamicScaling | null }}
 */
export function rotaryFrequencies(dim, { base, scaling = null } = {}) {
  if (integer('rotary embedding: dim', dim, 2) % 2) throw badArgument('rotary embedding: dim', 'an even number', dim);
  const read = readScaling(scaling);
  if (base !== undefined && read.ropeTheta !== undefined && base !== read.ropeTheta) {
    throw new LamellaError('argument', `rotary embedding: base ${show(base)} and the scaling's rope_theta ${show(read.ropeTheta)} contradict each other`);
  }
  const theta = finite('rotary embedding: base', base ?? read.ropeTheta ?? 10000);
  if (theta <= 1) throw badArgument('rotary embedding: base', 'a number above 1', theta);
  const plain = wavelengths(dim, theta).map((wavelength) => 1 / wavelength);
  switch (read.type) {
    case 'linear': return { freqs: plain.map((freq) => freq / read.factor), scale: 1, dynamic: null };
    case 'dynamic': {
      const maxPositionEmbeddings = read.maxPositionEmbeddings ?? read.originalMaxPositionEmbeddings;
      if (maxPositionEmbeddings === undefined) throw new LamellaError('argument', 'rope scaling "dynamic": maxPositionEmbeddings is missing');
      return { freqs: plain, scale: 1, dynamic: { factor: read.factor, maxPositionEmbeddings: integer('rope scaling: maxPositionEmbeddings', maxPositionEmbeddings, 1) } };
    }
    case 'llama3': {
      const { factor, lowFreqFactor: low, highFreqFactor: high, originalMaxPositionEmbeddings: length } = read;
      for (const name of ['lowFreqFactor', 'highFreqFactor', 'originalMaxPositionEmbeddings']) finite(`rope scaling: ${name}`, read[name], 0);
      if (high <= low) throw badArgument('rope scaling: highFreqFactor', `more than lowFreqFactor ${low}`, high);
      const freqs = plain.map((freq) => {
        const keep = Math.min(Math.max(((length * freq) / (2 * Math.PI) - low) / (high - low), 0), 1);
        return ((1 - keep) * freq) / factor + keep * freq;
      });
      return { freqs, scale: 1, dynamic: null };
    }
    case 'yarn': {
      const [mscale, all] = [read.mscale ?? 1, read.mscaleAllDim ?? 0].map((scale) => finite('rope scaling: mscale', scale));
      const scale = finite('rope scaling: attentionFactor', read.attentionFactor ?? yarnMscale(read.factor, mscale) / yarnMscale(read.factor, all));
      return { freqs: yarnFrequencies(dim, theta, read), scale, dynamic: null };
    }
    default: return { freqs: plain, scale: 1, dynamic: null };
  }
}

/**
 * Rotary position embedding: queries and keys x [..., t, width] are turned, pair of columns by pair, by angles that grow with their
 * position, so that their products depend on distances only.
 *
 *     this.rotary = new nn.RotaryEmbedding(64);
 *     ...
 *     const table = this.rotary.table(q);                    // once for all that has the same tokens
 *     [q, k] = [this.rotary(q, table), this.rotary(k, table)];
 */
export class RotaryEmbedding extends Module {
  /**
   * @param {number} dim How many columns are turned; even.
   * @param {object} [options]
   * @param {number} [options.base] 10000
   * @param {boolean} [options.interleaved] Columns 2j and 2j + 1 are a pair, as in rotary-embedding-torch; false: j and j + dim / 2, as in
   *   transformers.
   * @param {RopeScaling | Record<string, any> | null} [options.scaling] How longer sequences are treated.
   * @param {boolean} [options.learnedFreq] The frequencies are a weight, `freqs` [dim / 2], as in checkpoints of rotary-embedding-torch.
   * @param {number} [options.first] The first column that is turned, 0.
   */
  constructor(dim, { base, interleaved = false, scaling = null, learnedFreq = false, first = 0 } = {}) {
    super();
    this.dim = dim;
    this.interleaved = boolean('RotaryEmbedding: interleaved', interleaved);
    this.first = integer('RotaryEmbedding: first', first, 0);
    const { freqs, scale, dynamic } = rotaryFrequencies(dim, { base, scaling });
    this.freqs = boolean('RotaryEmbedding: learnedFreq', learnedFreq) ? new Parameter([dim / 2]) : new Tensor(freqs);
    this.scale = scale;
    this.dynamic = dynamic;
  }

  /**
   * Cosines and sines for the tokens of x.
   * @param {Operand} x
   * @param {number} [dim] The axis of the tokens.
   * @returns {SymbolicTensor} [t, 2, dim / 2]
   */
  table(x, dim = -2) {
    return F.rotaryTable(x, this.freqs, { dim, scale: this.scale, dynamic: this.dynamic });
  }

  /**
   * @param {Operand} x [..., t, width]
   * @param {Operand | null} [table] From `table`; made anew when it is left out.
   * @param {number} [dim] The axis of the tokens.
   */
  forward(x, table = null, dim = -2) {
    return F.rotary(x, table ?? this.table(x, dim), { dim, first: this.first, interleaved: this.interleaved });
  }

  extraRepr() {
    return [this.dim, this.interleaved ? 'interleaved=true' : '', this.first ? `first=${this.first}` : '', this.scale === 1 ? '' : `scale=${this.scale}`].filter(Boolean).join(', ');
  }
}
