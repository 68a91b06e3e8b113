#!/usr/bin/env node
/** The command: npx lamella quantize IN OUT. */
import { createWriteStream } from 'node:fs';
import { rename, rm, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import { LamellaError } from './errors.js';
import { quantize } from './quantize.js';

/** @typedef {import('./quantization/checkpoint.js').QuantizedCheckpoint} QuantizedCheckpoint */
/** @typedef {import('./quantization/checkpoint.js').QuantizedTensor} QuantizedTensor */

const HELP = `lamella quantize IN OUT [--precision q4|q8|f16] [--for PATTERN=HOW]... [--list] [--force]

Writes a smaller checkpoint, again a safetensors file, that lamella loads without quantising it again.

  IN                  a .safetensors file, a model.safetensors.index.json, a folder that has one of them, or a URL
  OUT                 the file to write
  --precision HOW     of the layers' weights: q4 (default), q8 or f16
  --for PATTERN=HOW   of the weights of these names, in which * stands for anything: q4, q8, f16, f32 or keep (as it is); the first that fits counts
  --list              say of every tensor what became of it
  --force             overwrite OUT
  --help              this text

Embeddings become f16, the output layer of q4 is q8, convolutions are q8; norms, biases and what is small stay as they are.`;

/** A mistake of whoever calls: the text is enough. */
class Usage extends Error {}

/** @param {string[]} args */
async function main(args) {
  const { values, positionals } = parse(args);
  const [command, from, to, ...rest] = positionals;
  if (values.help || (!command && !args.length)) return console.log(HELP);
  if (command !== 'quantize') throw new Usage(command ? `there is no command ${JSON.stringify(command)}; there is: quantize` : 'a command is missing: quantize');
  if (!from || !to || rest.length) throw new Usage(`quantize: expected two files, IN and OUT, got ${positionals.length - 1}`);
  const source = await sourceOf(from);
  await checkTarget(to, source, values.force === true);
  const checkpoint = await quantize(source, { precision: /** @type {any} */ (values.precision), overrides: overridesOf(values.for) });
  await write(checkpoint, to);
  report(checkpoint, from, to, values.list === true);
}

/** @param {string[]} args */
function parse(args) {
  try {
    return parseArgs({
      args, allowPositionals: true,
      options: {
        precision: { type: 'string', default: 'q4' }, for: { type: 'string', multiple: true, default: [] }, force: { type: 'boolean' }, list: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw new Usage(/** @type {Error} */ (error).message);
  }
}

/** @param {string[]} given */
function overridesOf(given) {
  return Object.fromEntries(given.map((text) => {
    const [, pattern, how] = /^(.+)=([^=]+)$/.exec(text) ?? [];
    if (!pattern) throw new Usage(`--for: expected PATTERN=HOW, got ${JSON.stringify(text)}`);
    return /** @type {[string, any]} */ ([pattern, how]);
  }));
}

/** @param {string} path */
const statOf = (path) => stat(path).catch(() => null);

/** @param {string} from */
async function sourceOf(from) {
  if (!(await statOf(from))?.isDirectory()) return from;
  for (const name of ['model.safetensors.index.json', 'model.safetensors']) {
    if (await statOf(join(from, name))) return join(from, name);
  }
  throw new Usage(`${from}: there is neither a model.safetensors nor a model.safetensors.index.json in this folder`);
}

/**
 * @param {string} to
 * @param {string} source
 * @param {boolean} force
 */
async function checkTarget(to, source, force) {
  const found = await statOf(to);
  if (found?.isDirectory()) throw new Usage(`${to}: expected the name of a file to write, got a folder`);
  if (resolve(to) === resolve(source)) throw new Usage(`${to}: is the file that is read`);
  if (found && !force) throw new Usage(`${to}: is there already; --force overwrites it`);
}

/**
 * A file of that name is there when it is whole, not before.
 * @param {QuantizedCheckpoint} checkpoint
 * @param {string} to
 */
async function write(checkpoint, to) {
  const part = `${to}.${process.pid}.part`;
  try {
    await pipeline(Readable.from(checkpoint), createWriteStream(part));
    await rename(part, to);
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
}

/** @param {number} bytes */
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e6 ? 3 : 1)} MB`;

/**
 * @param {QuantizedCheckpoint} checkpoint
 * @param {string} from
 * @param {string} to
 * @param {boolean} list
 */
function report({ tensors, size, sourceSize }, from, to, list) {
  console.log(`${from} ${megabytes(sourceSize)} -> ${to} ${megabytes(size)}, ${(size / sourceSize * 100).toFixed(1)} %`);
  const line = (/** @type {string} */ what, /** @type {QuantizedTensor[]} */ group, /** @type {string} */ why) => {
    const [before, after] = /** @type {const} */ (['sourceBytes', 'bytes']).map((key) => megabytes(group.reduce((sum, tensor) => sum + tensor[key], 0)));
    console.log(`  ${what.padEnd(5)}${before.padStart(10)} -> ${after.padStart(10)}  ${why}`);
  };
  if (list) {
    for (const tensor of tensors) line(tensor.to.toLowerCase(), [tensor], `${tensor.name} [${tensor.shape.join(', ')}] ${tensor.from}${tensor.why && `: ${tensor.why}`}`);
    return;
  }
  /** @type {Map<string, QuantizedTensor[]>} */
  const groups = new Map();
  for (const tensor of tensors) {
    const key = JSON.stringify([tensor.to.toLowerCase(), tensor.why]);
    groups.set(key, [...(groups.get(key) ?? []), tensor]);
  }
  for (const [key, group] of groups) {
    const [what, why] = JSON.parse(key);
    const names = group.slice(0, 2).map(({ name }) => name).join(', ');
    line(what, group, `${group.length} of ${names}${group.length > 2 ? ', ...' : ''}${why && ` (${why})`}`);
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof Usage || error instanceof LamellaError || /** @type {NodeJS.ErrnoException} */ (error).code)) throw error;
  console.error(`lamella: ${/** @type {Error} */ (error).message}${error instanceof Usage ? '\nlamella --help says more.' : ''}`);
  process.exitCode = 1;
}
