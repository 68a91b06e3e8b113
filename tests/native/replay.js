/**
 * The native library behind the JavaScript wrapper: what a Runner was told (the calls that define its graph, the pieces of its weights)
 * is written to a file, and replay.c, built with the sanitizers, runs it. So every fixture checks the C that the sanitizers see.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { I32, Runner } from '../../web/runner.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FOLDER = join(ROOT, 'build/replay');

/** What a parameter of lamella.h takes out of `argument a[i]`. @param {string} type @param {number} i */
function taken(type, i) {
  if (type.includes('*')) return `a[${i}].bytes`;
  return `(${type})a[${i}].number`;
}

/** A line of C for each function that defines a graph, from its prototype. */
function calls() {
  const header = readFileSync(join(ROOT, 'src/lamella.h'), 'utf8').replace(/\/\*[^]*?\*\//g, '');
  const prototypes = [...header.matchAll(/LAM_API (lam_value|lam_status|void)\s+lam_(\w+)\(lam_graph \*g, ([^)]+)\);/g)];
  return prototypes.filter(([, , name]) => name !== 'load').map(([, result, name, list]) => {
    const values = list.split(',').map((parameter, i) => taken(parameter.replace(/\w+\s*$/, '').trim(), i));
    const call = `lam_${name}(g, ${values.join(', ')})`;
    return `    if (!strcmp(name, "${name}")) ${result === 'void' ? `{ ${call}; return 0; }` : `return (lam_value)${call};`}\n`;
  }).join('');
}

/** Compiles replay.c against the library of the native tests. @returns {string} The program. */
export function buildReplay() {
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(join(FOLDER, 'calls.inc'), calls());
  const program = join(FOLDER, 'replay');
  const flags = ['-std=c11', '-g', '-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all', '--coverage'];
  const { status, stderr } = spawnSync('cc', [...flags, `-I${FOLDER}`, `-I${join(ROOT, 'src')}`, join(ROOT, 'tests/native/replay.c'),
    join(ROOT, 'build/native/liblamella.a'), '-o', program, '-lm', '-lpthread'], { encoding: 'utf8', cwd: FOLDER });
  if (status !== 0) throw new Error(`replay.c: ${stderr}`);
  return program;
}

/** 32-bit words and bytes, one behind the other. */
class Recording {
  /** @type {Buffer[]} */
  parts = [];

  /** @param {...number} numbers */
  words(...numbers) {
    this.parts.push(Buffer.from(Int32Array.from(numbers).buffer));
  }

  /** @param {ArrayBufferView} view */
  bytes(view) {
    this.words(view.byteLength);
    this.parts.push(Buffer.from(view.buffer, view.byteOffset, view.byteLength));
  }

  /** @param {import('../../js/trace.js').CallArgument} argument */
  argument(argument) {
    if (typeof argument === 'string') this.bytes(Buffer.from(`${argument}\0`));
    else if (typeof argument !== 'number') this.bytes(Int32Array.from(argument));
    else {
      this.words(-1);
      this.parts.push(Buffer.from(Float64Array.of(argument).buffer));
    }
  }
}

/** @type {WeakMap<Runner, [number, number, number, number, Uint8Array][]>} */
const loads = new WeakMap();
const { load, forward } = Runner.prototype;
let runs = 0;

/**
 * From now on every model runs natively: the wasm build still records and checks, but the numbers come from `program`.
 * @param {string} program From buildReplay.
 */
export function runNatively(program) {
  Runner.prototype.load = function (weight, type, data, first, rows) {
    const pieces = loads.get(this) ?? [];
    loads.set(this, [...pieces, [weight, type, first, rows, data.slice()]]);
    return load.call(this, weight, type, data, first, rows);
  };
  Runner.prototype.forward = async function (id, inputs, options) {
    const answer = await forward.call(this, id, inputs, options);
    const session = this.opened(id);
    const file = join(FOLDER, `${process.pid}-${runs++ % 8}`);
    writeFileSync(`${file}.in`, recorded(this, session, inputs));
    const { status, signal, stderr } = spawnSync(program, [`${file}.in`, `${file}.out`], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`the native run failed (${status ?? signal}): ${stderr}`);
    return { ...answer, outputs: outputs(readFileSync(`${file}.out`), session.outputs[1]) };
  };
}

/** @param {Runner} runner @param {import('../../web/runner.js').OpenSession} session @param {import('../../web/runner.js').Numbers[]} inputs */
function recorded(runner, session, inputs) {
  const to = new Recording();
  to.words(runner.calls.length);
  for (const [name, args] of runner.calls) {
    to.bytes(Buffer.from(`${name}\0`));
    to.words(args.length);
    for (const argument of args) to.argument(argument);
  }
  const pieces = loads.get(runner) ?? [];
  to.words(pieces.length);
  for (const [weight, type, first, rows, data] of pieces) {
    to.words(weight, type, first, rows);
    to.bytes(data);
  }
  to.words(1, ...session.outputs, ...session.inputs);
  for (const { data, shape } of inputs) {
    to.words(shape.length, ...shape);
    to.bytes(data);
  }
  return Buffer.concat(to.parts);
}

/** @param {Buffer} file @param {number} count */
function outputs(file, count) {
  const words = new Int32Array(file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength));
  let at = 0;
  return Array.from({ length: count }, () => {
    const rank = words[at++];
    const shape = [...words.subarray(at, at + rank)];
    const type = words[at + rank];
    const size = shape.reduce((product, n) => product * n, 1);
    at += rank + 1;
    const numbers = words.slice(at, at + size);
    at += size;
    return { shape, data: type === I32 ? numbers : new Float32Array(numbers.buffer) };
  });
}
