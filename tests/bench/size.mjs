/** What a page downloads: the package's JavaScript, bundled and minified, and one build of the engine. */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { brotliCompressSync } from 'node:zlib';
import { build } from 'esbuild';

/** Bytes that everything may take over the wire. */
export const WIRE_LIMIT = 150_000;
const BUILDS = ['simd', 'relaxed', 'simd-threads', 'relaxed-threads'];

/**
 * Brotli bytes, each file by itself as a server sends it.
 * @param {string} root the package, built
 * @returns {Promise<{ scripts: number, builds: { name: string, embedded: number, wasm: number }[], largest: string, wire: number }>}
 *   scripts: every export of the package and its worker, without an engine; embedded: a build as the default entry carries it, in JavaScript;
 *   wasm: the same as a file; wire: scripts and the largest embedded build.
 */
export async function sizes(root) {
  const { outputFiles } = await build({
    entryPoints: [join(root, 'js/index.js')], bundle: true, minify: true, splitting: true, format: 'esm', platform: 'browser', target: 'es2022',
    write: false, outdir: '/', chunkNames: '[name].[hash]', external: ['node:*', 'sharp'], legalComments: 'none',
  });
  const chunks = outputFiles.map(file => ({ name: basename(file.path).split('.')[0], bytes: brotliCompressSync(file.contents).length }));
  const builds = BUILDS.map(name => ({
    name,
    embedded: chunks.find(chunk => chunk.name === name).bytes,
    wasm: brotliCompressSync(readFileSync(join(root, `dist/wasm/${name}.wasm`))).length,
  }));
  const scripts = chunks.filter(({ name }) => !BUILDS.includes(name)).reduce((sum, { bytes }) => sum + bytes, 0);
  const largest = builds.reduce((a, b) => b.embedded > a.embedded ? b : a);
  return { scripts, builds, largest: largest.name, wire: scripts + largest.embedded };
}
