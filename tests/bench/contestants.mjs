/** Who is timed, on what. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GEMMS, GEMVS } from './work.mjs';

const modules = fileURLToPath(new URL('node_modules/', import.meta.url));
const folder = { ort: 'onnxruntime-web/dist/', tfjs: '@tensorflow/tfjs-backend-wasm/dist/', litert: '@litertjs/core/wasm/', wllama: '@wllama/wllama/esm/single-thread/' };
const assets = Object.fromEntries(Object.entries(folder).map(([name, path]) => [name, join(modules, path)]));
/** Folders that a page's server hands out. */
export const ASSETS = Object.values(assets);

/** Of what is installed. */
export const versionOf = name => JSON.parse(readFileSync(join(modules, name, 'package.json'), 'utf8')).version;

const gemms = GEMMS.map(n => `gemm ${n}`);
const gemmLayers = gemms.map(job => `${job}, layer`);
const [gemvLarge, gemvSmall] = GEMVS.map(size => `gemv ${size}`);

export const RELAXED = 'lamella relaxed';
export const SIMD = 'lamella simd';
export const TWO = 'lamella relaxed, 2 threads';
export const ORT = 'onnxruntime-web';
export const TFJS = 'tfjs-wasm';
export const LITERT = 'LiteRT.js';
export const JAX = 'jax-js';
export const WLLAMA = 'wllama';
export const ROOF = 'roof';

/**
 * `runtime`: the file in runtimes/; `versionOf`: a package that does not know its version; `jobs`: what it can do of WORK; `quick`: whether --quick runs it; `place`: the one place where it runs,
 * for the reason `why`; `silent`: its outputs are not those of the others; `note`: what a reader has to know of its setting.
 * @type {{ label: string, runtime: string, options: any, versionOf?: string, jobs: string[], quick?: boolean, place?: 'node' | 'browser', silent?: boolean, why?: string, note?: string }[]}
 */
export const CONTESTANTS = [
  {
    label: RELAXED, runtime: 'lamella', options: { build: 'relaxed', threads: 1 }, quick: true,
    jobs: ['tower', 'trunk', 'tower q8', ...gemms, ...gemmLayers, 'gemm 1024 q8, layer', `${gemvLarge}, layer`, gemvSmall, `${gemvSmall}, layer`,
      'attention, layer', 'softmax, layer', 'layer norm, layer', 'gelu, layer', 'silu, layer', 'small'],
  },
  { label: SIMD, runtime: 'lamella', options: { build: 'simd', threads: 1 }, quick: true, jobs: ['tower', ...gemmLayers] },
  { label: TWO, runtime: 'lamella', options: { build: 'relaxed-threads', threads: 2 }, quick: true, jobs: ['tower', 'small'] },
  { label: ORT, runtime: 'ort', options: { threads: 1, assets: assets.ort }, quick: true, jobs: ['tower', ...gemms, gemvSmall], note: 'all graph optimisations, one thread' },
  { label: `${ORT}, 2 threads`, runtime: 'ort', options: { threads: 2, assets: assets.ort }, jobs: ['tower'] },
  { label: TFJS, runtime: 'tfjs', options: { assets: assets.tfjs }, quick: true, jobs: ['tower', ...gemms], note: 'SIMD build, one thread' },
  { label: LITERT, runtime: 'litert', options: { assets: assets.litert }, versionOf: '@litertjs/core', quick: true, jobs: ['trunk', ...gemms], note: 'relaxed build, one thread; its users have it in pages only' },
  { label: JAX, runtime: 'jax', options: {}, versionOf: '@jax-js/jax', jobs: gemms, note: 'wasm backend, jit, one thread' },
  {
    label: WLLAMA, runtime: 'wllama', options: { assets: assets.wllama }, versionOf: '@wllama/wllama', jobs: [gemvSmall], place: 'browser', silent: true,
    why: 'starts workers from blobs, which Node does not have',
    note: 'the newest version whose wasm has the SIMD kernels of ggml; one token of a decoder that consists of little but this matrix (q4_0), its messages included',
  },
];
/** In a process or page that has run nothing before, in this order: the runs of runtimes/fresh.mjs and the figures that they give. */
export const FRESH = 'fresh';
export const FRESH_RUNS = { start: ['start'], fetch: ['fetching memory'], touch: ['touching as much'], load: ['load', 'peak', 'bytes', 'first', 'steady'], small: ['first, small', 'steady, small'], cosine: ['cosine', 'centred cosine', 'two pictures', 'trained cosine'] };
