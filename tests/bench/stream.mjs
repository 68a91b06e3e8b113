/**
 * A checkpoint of several GB in shards, streamed and quantised on the way in: node tests/bench/stream.mjs [GB of bf16] [precision] [--cache]
 * A server makes the bytes as it sends them; a process of its own loads them. Prints the time and the most memory that the process has held, beside the packed weights.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compile, init, nn } from '../../js/index.js';
import { serveFiles, shardFiles } from './synthetic.mjs';

const WIDTH = 4096;
const [command, ...rest] = process.argv.slice(2);

/** Most bytes that were resident. */
const peak = () => Number(/VmHWM:\s*(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;

async function load([url, layers, precision, folder]) {
  const module = new nn.Sequential(...Array.from({ length: Number(layers) }, () => new nn.Linear(WIDTH, WIDTH, { bias: false })));
  await init({ threads: 1 });
  const before = peak();
  const start = performance.now();
  const model = await compile(module, { weights: `${url}model.safetensors.index.json`, precision, inputs: [[1, WIDTH]], ...(folder && { cache: { folder } }) });
  const seconds = (performance.now() - start) / 1000;
  const { weights } = model.memory;
  const [held, extra] = [peak() - before, peak() - before - weights];
  console.log(`${precision}: packed ${(weights / 1e6).toFixed(1)} MB, held at most ${(held / 1e6).toFixed(1)} MB = ${(held / weights).toFixed(3)} x packed (${(extra / 1e6).toFixed(1)} MB more; ${(before / 1e6).toFixed(1)} MB before); ${seconds.toFixed(1)} s`);
}

if (command === 'load') {
  await load(rest);
} else {
  const options = process.argv.slice(2);
  const isKept = options.includes('--cache');
  const [gigabytes = '4', precision = 'q4'] = options.filter((option) => option !== '--cache');
  const layers = Math.round(Number(gigabytes) * 1e9 / (WIDTH * WIDTH * 2));
  const tensors = Array.from({ length: layers }, (_, i) => /** @type {[string, number[]]} */ ([`${i}.weight`, [WIDTH, WIDTH]]));
  const server = await serveFiles(shardFiles(tensors, 1e9));
  const folder = isKept ? mkdtempSync(join(tmpdir(), 'lamella-stream-')) : '';
  try {
    for (let i = 0; i <= Number(isKept); i++) {
      const child = spawn(process.execPath, [fileURLToPath(import.meta.url), 'load', server.url, String(layers), precision, folder], { stdio: 'inherit' });
      await new Promise((resolve) => { child.once('exit', resolve); });
      console.log(`${(server.sent() / 1e9).toFixed(2)} GB came over the network, of ${(layers * WIDTH * WIDTH * 2 / 1e9).toFixed(2)} GB in ${Object.keys(server.asked.reduce((names, { name }) => ({ ...names, [name]: 1 }), {})).length - 1} shards`);
    }
  } finally {
    server.close();
    if (folder) rmSync(folder, { recursive: true });
  }
}
