/** Checkpoints with fewer bits. The code for it is fetched when it is first used. */

/** @import { SourceLike } from './weights/source.js' */
/** @import { Weights } from './weights/safetensors.js' */
/** @import { QuantizedCheckpoint } from './quantization/checkpoint.js' */
/** @typedef {'q4' | 'q8' | 'f16' | 'f32' | 'keep'} Stored How a weight is stored: 'keep', as it is in the source. */
/**
 * @typedef {object} QuantizeOptions
 * @property {'q4' | 'q8' | 'f16'} [precision] Of the layers' weights; default 'q4'. js/MODELS.md says what becomes of which weight.
 * @property {Record<string, Stored> | ((name: string, shape: readonly number[], chosen: Stored) => Stored | undefined | null)} [overrides] What is to be stored otherwise: names, in which
 *   `*` stands for anything, with how to store them, the first that fits counts; or a function, which returns nothing where the choice is right.
 * @property {Record<string, string>} [metadata] Goes into the file's `__metadata__`, beside what the source has there.
 * @property {AbortSignal | null} [signal]
 */

/**
 * Makes a smaller checkpoint, again a safetensors file, that loads without being quantised again. Nothing but the header is read before the result is:
 * it is streamed, one weight at a time.
 *
 *     const small = await quantize('model.safetensors', { precision: 'q4', overrides: { 'lm_head.weight': 'q4' } });
 *     await writeFile('small.safetensors', small);               // node:fs/promises; or: for await (const bytes of small) ...
 *     const model = await compile(module, { weights: 'small.safetensors' });
 *
 * In Node also a command: `npx lamella quantize model.safetensors small.safetensors --precision q4`.
 *
 * @param {SourceLike | readonly SourceLike[] | Weights} source What `safetensors.open` takes, or returns; read in any order, so a stream will not do.
 * @param {QuantizeOptions} [options]
 * @returns {Promise<QuantizedCheckpoint>} Its bytes are iterated over (or `await small.bytes()`); `size`, `sourceSize` and `tensors` say what it is.
 * @throws {LamellaError} 'argument'; what `safetensors.open` throws; while it is read: 'truncated', 'http', 'file', and 'quantize' where a weight has a NaN or an infinity.
 */
export async function quantize(source, options = {}) {
  return (await import('./quantization/checkpoint.js')).quantize(source, options);
}
