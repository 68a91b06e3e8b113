/** Rotary position embedding. */
import { badArgument, boolean, finite, integer } from '../arguments.js';
import { axis, record, symbolic, value } from './record.js';

/** @import { Operand, SymbolicTensor } from '../tensor.js' */
/**
 * Dynamic NTK scaling: over more than `maxPositionEmbeddings` tokens the frequencies become those of a larger base.
 * @typedef {object} DynamicScaling
 * @property {number} factor At least 1.
 * @property {number} maxPositionEmbeddings
 */

/**
 * Cosines and sines for `rotary`: [t, 2, half], t being the size of x along `dim`. Row i holds scale cos(a_j) and scale sin(a_j),
 * a_j = (position + i) freqs[j], where `position` is how many tokens the session has seen before (0 in a plain forward).
 * @param {Operand} x Anything that has the tokens along `dim`; only its size counts.
 * @param {Operand} freqs [half], half the width to rotate: a Parameter or Tensor.
 * @param {object} [options]
 * @param {number} [options.dim] -2
 * @param {number} [options.scale] Factor of cosines and sines, 1; YaRN's is not.
 * @param {DynamicScaling | null} [options.dynamic] With L = position + t > maxPositionEmbeddings the base of the frequencies is
 *   multiplied by (factor L / maxPositionEmbeddings - (factor - 1))^(d / (d - 2)), d = 2 half.
 */
export function rotaryTable(x, freqs, { dim = -2, scale = 1, dynamic = null } = {}) {
  const input = symbolic(x, 'rotaryTable: input');
  const factor = dynamic ? finite('rotaryTable: dynamic.factor', dynamic.factor) : 0;
  if (dynamic && factor < 1) throw badArgument('rotaryTable: dynamic.factor', 'a number of at least 1', factor);
  return record('rotary_table', [input.value, axis('rotaryTable: dim', input, dim), value(freqs, 'rotaryTable: freqs'), finite('rotaryTable: scale', scale),
    factor, dynamic ? integer('rotaryTable: dynamic.maxPositionEmbeddings', dynamic.maxPositionEmbeddings, 1) : 0]);
}

/**
 * Turns pairs of columns of x [..., t, ..., width] by the angles of a table: (a, b) -> (a cos - b sin, b cos + a sin). The pairs lie in
 * columns [first, first + 2 half); the others stay.
 * @param {Operand} x
 * @param {Operand} table [t, 2, half], from `rotaryTable`.
 * @param {object} [options]
 * @param {number} [options.dim] The axis of the tokens, -2.
 * @param {number} [options.first] 0
 * @param {boolean} [options.interleaved] Which columns are a pair: 2j and 2j + 1 (RoFormer, DeepSeek), or j and j + half (the default; Llama
 *   in transformers).
 * @returns {SymbolicTensor}
 */
export function rotary(x, table, { dim = -2, first = 0, interleaved = false } = {}) {
  const input = symbolic(x, 'rotary: input');
  return record('rotary', [input.value, value(table, 'rotary: table'), axis('rotary: dim', input, dim), integer('rotary: first', first, 0),
    Number(boolean('rotary: interleaved', interleaved))]);
}
