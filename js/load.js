/** From a checkpoint into the engine: which weight goes where, and the way there in small pieces. */
import { badArgument, show, showShape } from './arguments.js';
import { LamellaError } from './errors.js';
import { className } from './module.js';
import { PRECISIONS } from './precision.js';
import { Tensor } from './tensor.js';
import * as safetensors from './weights/safetensors.js';

/** @typedef {import('./module.js').Module} Module */
/** @typedef {import('./module.js').Parameter} Parameter */
/** @typedef {import('./trace.js').Trace} Trace */
/** @typedef {import('./tensor.js').TensorData} TensorData */
/** @typedef {{ data: TensorData, shape: readonly number[], dtype?: string }} PlainTensor */
/** @typedef {Record<string, Tensor | PlainTensor> | Map<string, Tensor | PlainTensor>} PlainWeights */
/** @typedef {Parameters<typeof safetensors.open>[0] | safetensors.Weights | import('./gguf/gguf_weights.js').GgufWeights | PlainWeights} WeightsSource */
/**
 * @typedef {object} Progress
 * @property {number} loaded Bytes of the checkpoint so far.
 * @property {number} total
 * @property {string} name The weight that came last.
 * @property {'network' | 'cache'} [from] Where it came from; missing for what lies on this machine.
 */
/**
 * What loading needs of a checkpoint; `Weights` is one.
 * @typedef {object} WeightsReader
 * @property {() => Iterable<string>} keys
 * @property {(name: string) => string | undefined} [neighbour] Where a file beside the checkpoint lies.
 * @property {boolean | import('./cache.js').CacheOptions} [cache] How what is fetched is kept.
 * @property {(name: string) => { dtype: string, shape: readonly number[], bytes: number, precision?: import('./precision.js').Precision } | undefined} get `precision`: what it is kept in where nothing else is asked for.
 * @property {(on: boolean) => void} [asNumbers] Whether codes are wanted as the numbers that they stand for.
 * @property {(names: string[], options: { unit: (name: string) => number, signal?: AbortSignal | null }) => AsyncIterable<Chunk>} chunks
 */
/** @typedef {{ name: string, offset: number, data: Uint8Array, from?: 'network' | 'cache' }} Chunk Bytes of a tensor from `offset` on, whole rows. */

/** lam_type, by the names of safetensors; then rows of codes. */
const TYPES = ['F32', 'F16', 'BF16', 'F64', 'I64', 'I32', 'I16', 'I8', 'U8', 'BOOL', 'Q8', 'Q4'];
/** What is smaller is f32 in any case where codes are asked for (src/ops/product.c). */
const LEAST_COLUMNS = 32;
const LEAST_ROWS = 16;
/** Bytes that go to the engine at once. */
const PIECE = 1 << 20;
/** Rows that the engine packs side by side: it is fastest when they come together. */
const PANEL = 8;

/**
 * Anything that holds weights, as a reader.
 * @param {WeightsSource | undefined} source
 * @param {{ needed: boolean, signal: AbortSignal | null, cache: boolean | import('./cache.js').CacheOptions }} options
 * @returns {Promise<{ weights: WeightsReader, close: () => void | Promise<void> }>} `close` does nothing to what the caller opened.
 */
export async function openWeights(source, { needed, signal, cache }) {
  if (source === undefined || source === null) {
    if (needed) throw badArgument('compile: weights', 'a checkpoint: a URL, a path, a File, bytes, or an object of tensors', source);
    return { weights: new PlainReader(new Map()), close() {} };
  }
  if (source instanceof safetensors.Weights) return { weights: await decoded(source), close() {} };
  const plain = plainWeights(source);
  if (plain) return { weights: await decoded(new PlainReader(plain)), close() {} };
  if (isReader(source)) return { weights: source, close() {} };
  const opened = await openFile(source, { signal, cache });
  try {
    return { weights: await decoded(opened), close: () => opened.close() };
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** @param {any} source @param {import('./weights/source.js').SourceOptions} options @returns {Promise<WeightsReader & { close: () => void | Promise<void> }>} */
async function openFile(source, options) {
  try {
    return await safetensors.open(source, options);
  } catch (error) {
    if (!(/** @type {any} */ (error).isGguf)) throw error;
    return (await import('./gguf/gguf_weights.js')).openGguf(source, options);
  }
}

/** @param {any} source @returns {source is WeightsReader} */
const isReader = (source) => typeof source.chunks === 'function' && typeof source.keys === 'function';

/** Weights that are codes under their own names. @param {WeightsReader} weights */
async function decoded(weights) {
  const names = codedNames(weights);
  return names.length ? (await import('./weights/coded.js')).withCodes(weights, names) : weights;
}

/**
 * Which weights are codes, by what lies beside them: scales and 4-bit codes, or scales where the weight itself is bytes. A name alone says nothing: CLIP has a `logit_scale`.
 * @param {WeightsReader} weights
 */
function codedNames(weights) {
  const scaled = [...weights.keys()].filter((name) => name.endsWith('_scale')).map((name) => name.slice(0, -'_scale'.length));
  return scaled.filter((name) => weights.get(`${name}_packed`) || weights.get(name)?.dtype === 'I8');
}

/**
 * What the file keeps its weights in: codes as they are, and beside codes tables of halves as halves.
 * @param {Trace} trace
 * @param {WeightsReader} weights
 * @param {Map<string, string>} wanted From matchKeys.
 * @returns {boolean} Whether that is anything but f32.
 */
export function keepStored(trace, weights, wanted) {
  const stored = [...wanted].map(([name, own]) => ({ own, .../** @type {NonNullable<ReturnType<WeightsReader['get']>>} */ (weights.get(name)) }));
  const hasCodes = stored.some(({ dtype }) => dtype === 'Q8' || dtype === 'Q4');
  let fewer = false;
  for (const { own, dtype, shape, precision: said } of stored) {
    const isTable = hasCodes && dtype === 'F16' && shape.length === 2 && shape[0] >= LEAST_ROWS && shape[1] >= LEAST_COLUMNS;
    const precision = said ?? (dtype === 'Q8' ? 'q8' : dtype === 'Q4' ? 'q4' : isTable ? 'f16' : undefined);
    if (!precision) continue;
    trace.keep(own, PRECISIONS.indexOf(precision));
    fewer ||= precision !== 'f32';
  }
  return fewer;
}

/**
 * @param {any} source
 * @returns {Map<string, Tensor | PlainTensor> | null} null when it is not an object or Map of tensors.
 */
function plainWeights(source) {
  if (source instanceof Map) return source;
  return Object.getPrototypeOf(source) === Object.prototype || Object.getPrototypeOf(source) === null ? new Map(Object.entries(source)) : null;
}

/** Tensors in memory, read like a checkpoint. */
class PlainReader {
  /** @param {Map<string, Tensor | PlainTensor>} tensors */
  constructor(tensors) {
    /** @type {Map<string, { tensor: Tensor, dtype: string }>} */
    this.tensors = new Map();
    for (const [name, given] of tensors) {
      const data = /** @type {any} */ (given)?.data;
      if (!ArrayBuffer.isView(data) || !Array.isArray(given.shape)) throw badArgument(`compile: weights: "${name}"`, 'a Tensor or { data, shape }', given);
      const tensor = given instanceof Tensor ? given : new Tensor(/** @type {TensorData} */ (data), given.shape, { dtype: given.dtype });
      this.tensors.set(name, { tensor, dtype: tensor.dtype.toUpperCase() });
    }
  }

  keys() {
    return this.tensors.keys();
  }

  /** @param {string} name */
  get(name) {
    const found = this.tensors.get(name);
    return found && { dtype: found.dtype, shape: found.tensor.shape, bytes: found.tensor.data.byteLength };
  }

  /**
   * @param {string[]} names
   * @returns {AsyncGenerator<Chunk>}
   */
  async* chunks(names) {
    for (const name of names) {
      const { data } = /** @type {{ tensor: Tensor }} */ (this.tensors.get(name)).tensor;
      yield { name, offset: 0, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
    }
  }
}

/**
 * Compares the checkpoint with the module.
 * @param {Module} module
 * @param {Trace} trace
 * @param {WeightsReader} weights
 * @param {{ prefix: string, strict: boolean, partial: boolean }} options `partial`: weights that nothing uses may be missing.
 * @returns {Map<string, string>} Name in the checkpoint -> name in the graph, of the weights that forward uses.
 * @throws {LamellaError} 'keys', with everything that does not fit.
 */
export function matchKeys(module, trace, weights, { prefix, strict, partial }) {
  const present = new Set([...weights.keys()].filter((name) => name.startsWith(prefix)));
  const missing = [];
  const misshapen = [];
  /** @type {Map<string, string>} */
  const wanted = new Map();
  for (const [parameter, names] of trace.names) {
    const found = names.map((name) => prefix + name).filter((name) => present.has(name));
    for (const name of found) {
      present.delete(name);
      const { shape } = /** @type {{ shape: readonly number[] }} */ (weights.get(name));
      if (!sameShape(shape, parameter.shape)) misshapen.push({ name, expected: [...parameter.shape], got: [...shape] });
    }
    // A weight that is reached by two paths has two names; files often keep just one.
    if (!found.length && !parameter.optional && (!partial || trace.used.has(names[0]))) missing.push({ name: prefix + names[0], expected: [...parameter.shape] });
    else if (found.length && trace.used.has(names[0])) wanted.set(found[0], names[0]);
  }
  const unexpected = [...present].filter((name) => !isIgnored(module, name.slice(prefix.length))).map((name) => ({ name, got: [...(/** @type {any} */ (weights.get(name))).shape] }));
  if (missing.length || misshapen.length || (strict && unexpected.length)) throw keysError(module, prefix, { missing, unexpected, misshapen });
  for (const name of wanted.keys()) {
    const { dtype } = /** @type {{ dtype: string }} */ (weights.get(name));
    if (!TYPES.includes(dtype)) throw new LamellaError('dtype', `${name}: numbers of type ${dtype} cannot be loaded; known: ${TYPES.join(', ')}`, { path: name });
  }
  return wanted;
}

/**
 * Does a module of the tree know the weight, and not need it?
 * @param {Module} module
 * @param {string} name
 */
function isIgnored(module, name) {
  for (const [path, owner] of module.namedModules()) {
    const start = path && `${path}.`;
    if (name.startsWith(start) && owner.ignoresWeight(name.slice(start.length))) return true;
  }
  return false;
}

/**
 * @param {readonly number[]} got
 * @param {readonly number[]} expected
 */
function sameShape(got, expected) {
  // Old checkpoints keep single numbers as [1]; PyTorch takes them for [] too.
  if (!expected.length && got.length === 1 && got[0] === 1) return true;
  return got.length === expected.length && got.every((size, i) => size === expected[i]);
}

/**
 * @param {Module} module
 * @param {string} prefix
 * @param {{ missing: { name: string, expected: number[] }[], unexpected: { name: string, got: number[] }[], misshapen: { name: string, expected: number[], got: number[] }[] }} report
 * @returns {LamellaError}
 */
function keysError(module, prefix, { missing, unexpected, misshapen }) {
  const lines = [
    ...missing.map(({ name, expected }) => `missing: ${name} ${showShape(expected)}`),
    ...unexpected.map(({ name, got }) => `unexpected: ${name} ${showShape(got)}`),
    ...misshapen.map(({ name, expected, got }) => `wrong shape: ${name}: expected ${showShape(expected)}, got ${showShape(got)}`),
  ];
  const under = prefix ? ` under the prefix ${show(prefix)}` : '';
  const counts = `${missing.length} missing, ${unexpected.length} unexpected, ${misshapen.length} of another shape`;
  const error = new LamellaError('keys', `the checkpoint${under} does not fit ${className(module)}: ${counts}\n  ${lines.join('\n  ')}`);
  return Object.assign(error, { missing: missing.map((entry) => entry.name), unexpected: unexpected.map((entry) => entry.name), misshapen });
}

/**
 * Makes room for the weights, or says how much is wanted.
 * @param {import('./model.js').AnyRunner} runner
 * @param {number} needed Bytes.
 */
async function compileGraph(runner, needed) {
  try {
    return await runner.compile();
  } catch (error) {
    if (!(error instanceof LamellaError) || error.code !== 'memory') throw error;
    throw new LamellaError('memory', `${error.message}; the weights need ${needed} bytes in all`, { path: error.path, cause: error });
  }
}

/**
 * Compiles the graph and fills its weights.
 * @param {import('./model.js').AnyRunner} runner
 * @param {Trace} trace
 * @param {WeightsReader} weights
 * @param {Map<string, string>} wanted From matchKeys.
 * @param {{ needed: number, onProgress?: (progress: Progress) => void, signal: AbortSignal | null }} options `needed`: bytes of the weights.
 */
export async function loadWeights(runner, trace, weights, wanted, { needed, onProgress, signal }) {
  const compiled = await compileGraph(runner, needed);
  const numbers = new Map(compiled.weights.map((name, i) => [name, i]));
  const number = (/** @type {string} */ name) => /** @type {number} */ (numbers.get(name));
  for (const [name, { data, shape }] of trace.constants) {
    await runner.load(number(name), 0, new Uint8Array(data.buffer, data.byteOffset, data.byteLength), 0, shape[0] ?? 1);
  }
  const infos = new Map([...wanted.keys()].map((name) => [name, /** @type {{ dtype: string, shape: readonly number[], bytes: number }} */ (weights.get(name))]));
  const total = [...infos.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  for (const [name, { bytes, shape }] of infos) {   // what has no numbers never arrives
    if (!bytes) await runner.load(number(/** @type {string} */ (wanted.get(name))), 0, new Uint8Array(0), 0, shape[0] ?? 1);
  }
  let loaded = 0;
  for await (const { name, offset, data, from } of weights.chunks([...wanted.keys()], { unit: (n) => unit(rowBytes(infos.get(n))), signal })) {
    signal?.throwIfAborted();
    const { dtype } = /** @type {{ dtype: string }} */ (infos.get(name));
    const row = rowBytes(infos.get(name));
    const step = Math.max(1, Math.floor(PIECE / unit(row))) * unit(row);
    for (let at = 0; at < data.byteLength; at += step) {
      const piece = data.subarray(at, at + step);
      await runner.load(number(/** @type {string} */ (wanted.get(name))), TYPES.indexOf(dtype), piece, (offset + at) / row, piece.byteLength / row);
    }
    loaded += data.byteLength;
    onProgress?.({ loaded, total, name, ...(from && { from }) });
    signal?.throwIfAborted();
  }
}

/**
 * Bytes of a row, a slice of the first axis: what the engine takes whole.
 * @param {{ shape: readonly number[], bytes: number } | undefined} info
 */
const rowBytes = (info) => (info ? info.bytes / (info.shape[0] || 1) : 1);

/**
 * Bytes that are not cut apart: a panel of rows, where that is no more than a piece.
 * @param {number} row
 */
const unit = (row) => (row * PANEL <= PIECE ? row * PANEL : row);
