/** The bench's own wasm: built by web/emcc into build/bench/. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../..');
const output = join(root, 'build/bench');
const FLAGS = ['-O3', '-msimd128', '-mbulk-memory', '-std=c11', '--no-entry', '-sSTANDALONE_WASM'];

const modified = file => existsSync(file) ? statSync(file).mtimeMs : 0;

/**
 * @param {string} name of the file, without .wasm
 * @param {{ sources: string[], headers?: string[], flags: string[], emcc?: string }} program headers: what it depends on besides
 * @returns {string} path of the .wasm, built unless it is newer than all of these
 */
function build(name, { sources, headers = [], flags, emcc = join(root, 'web/emcc') }) {
  const wasm = join(output, `${name}.wasm`);
  if (modified(wasm) > Math.max(...[...sources, ...headers, fileURLToPath(import.meta.url)].map(modified))) return wasm;
  mkdirSync(output, { recursive: true });
  execFileSync(emcc, [...FLAGS, ...flags, ...sources, '-o', wasm], { stdio: 'inherit' });
  return wasm;
}

export const buildRoof = () => build('roof', { sources: [join(here, 'roof.c')], flags: ['-mrelaxed-simd', '-sINITIAL_MEMORY=192MB'] });

/** kernels.c with all kernels. @param {'relaxed' | 'simd'} flavour @param {string} [emcc] */
export function buildKernels(flavour, emcc) {
  const kernels = join(root, 'src/kernels');
  const files = readdirSync(kernels).map(name => join(kernels, name));
  const relaxed = flavour === 'relaxed' ? ['-mrelaxed-simd', '-DLAM_RELAXED'] : [];
  return build(`kernels-${flavour}`, {
    sources: [join(here, 'kernels.c'), ...files.filter(file => file.endsWith('.c'))], headers: [...files.filter(file => file.endsWith('.h')), join(root, 'src/simd.h')],
    flags: [...relaxed, '-I', join(root, 'src'), '-sINITIAL_MEMORY=256MB'], emcc,
  });
}
