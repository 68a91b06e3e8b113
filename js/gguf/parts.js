/** A model in several GGUF files, as llama.cpp's gguf-split and gguf-py write them: NAME-00001-of-00003.gguf has the metadata, all have tensors. */
import { show } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { baseName } from '../weights/index-file.js';
import { openSource } from '../weights/source.js';
import { readHeader } from './header.js';

/** @typedef {import('../weights/source.js').SourceLike} SourceLike */
/** @typedef {import('../weights/source.js').SourceOptions} SourceOptions */
/** @typedef {{ source: import('../weights/bytes.js').Source, metadata: Record<string, any>, tensors: import('./header.js').Stored[] }} FilePart */

const ENDING = /-(\d{5})-of-(\d{5})\.gguf$/;

/** @param {FilePart} part @param {string} problem */
const fail = ({ source }, problem) => new LamellaError('gguf', `${source.name}: ${problem}`, { path: source.name });

/**
 * @param {readonly SourceLike[]} list
 * @param {SourceOptions} options
 * @returns {Promise<FilePart[]>} All parts, in their order.
 * @throws {LamellaError} 'gguf' when one is missing, or they are not of one model.
 */
export async function openParts(list, options) {
  /** @type {FilePart[]} */
  const parts = [];
  try {
    for (const like of list) parts.push(await openPart(like, options));
    // One after the other: a header that names parts which are not there costs one request.
    if (list.length === 1) for (const like of others(parts[0])) parts.push(await openPart(like, options));
    return inOrder(parts);
  } catch (error) {
    await closeParts(parts);
    throw error;
  }
}

/** @param {FilePart[]} parts */
export async function closeParts(parts) {
  await Promise.all(parts.map(({ source }) => source.close()));
}

/**
 * @param {SourceLike} like
 * @param {SourceOptions} options
 * @returns {Promise<FilePart>}
 */
async function openPart(like, options) {
  const source = await openSource(like, options);
  try {
    if (!source.random) throw new LamellaError('gguf', `${source.name}: a GGUF file cannot be read from a stream: pass a URL of a server that answers range requests, a path, a File or bytes`, { path: source.name });
    return { source, ...await readHeader(source, options.signal ?? null) };
  } catch (error) {
    const { code } = /** @type {any} */ (error);
    if (code === 'gguf' || code === 'truncated') await source.discard?.();
    await source.close();
    throw error;
  }
}

/** Where the other parts lie. @param {FilePart} part @returns {string[]} */
function others(part) {
  const { source } = part;
  const { no, count } = placeOf(part);
  if (count === 1) return [];
  const name = baseName(source.name);
  const { neighbour } = source;
  if (!neighbour || Number(ENDING.exec(name)?.[2]) !== count) {
    throw fail(part, `part ${no + 1} of ${count}: expected a list of all of them, or an address or path that ends in ${ending(no, count)}, beside which the others lie`);
  }
  return Array.from({ length: count }, (_, i) => i).filter((i) => i !== no).map((i) => neighbour.call(source, name.replace(ENDING, ending(i, count))));
}

/** @param {number} no From 0. @param {number} count */
const ending = (no, count) => `-${String(no + 1).padStart(5, '0')}-of-${String(count).padStart(5, '0')}.gguf`;

/** @param {FilePart} part @returns {{ no: number, count: number }} */
function placeOf(part) {
  const { 'split.no': no = 0, 'split.count': count = 1 } = part.metadata;
  if (!Number.isInteger(no) || !Number.isInteger(count) || no < 0 || no >= Math.max(count, 1)) throw fail(part, `expected split.no below split.count, got ${show(no)} and ${show(count)}`);
  return { no, count: Math.max(count, 1) };
}

/** @param {FilePart[]} parts @returns {FilePart[]} */
function inOrder(parts) {
  /** @type {FilePart[]} */
  const sorted = [];
  for (const part of parts) {
    const { no, count } = placeOf(part);
    if (count !== parts.length) throw fail(part, `it is one of ${count} files, but there are ${parts.length}`);
    if (sorted[no]) throw fail(part, `part ${no + 1} of ${count} is there twice: ${sorted[no].source.name} is it, too`);
    sorted[no] = part;
  }
  const tensors = sorted.flatMap((part) => part.tensors);
  const { 'split.tensors.count': expected = tensors.length } = sorted[0].metadata;
  if (expected !== tensors.length) throw fail(sorted[0], `split.tensors.count is ${show(expected)}, but there are ${tensors.length} in ${parts.length} files: they are not of one model`);
  const names = new Set();
  for (const part of sorted) {
    for (const { name } of part.tensors) {
      if (names.has(name)) throw fail(part, `tensor ${show(name)} is there twice`);
      names.add(name);
    }
  }
  return sorted;
}
