/** What a page downloads: the package's JavaScript, bundled and minified, and one build of the engine. */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync } from 'node:zlib';
import { build } from 'esbuild';

/** Bytes that everything may take over the wire. */
export const WIRE_LIMIT = 150_000;
const BUILDS = ['simd', 'relaxed', 'simd-threads', 'relaxed-threads'];

/** @type {import('esbuild').BuildOptions} */
const options = {
  bundle: true, minify: true, splitting: true, format: 'esm', platform: 'browser', target: 'es2022',
  write: false, outdir: '/', chunkNames: '[name].[hash]', external: ['node:*', 'sharp'], legalComments: 'none',
};
/** Pages that use a part: what each imports, and which of the chunks that load on demand it asks for. */
const PAGES = {
  'one Linear': { source: 'import { compile, nn } from "./index.js"; compile(new nn.Linear(8, 4), { inputs: [[1, 8]] });', onDemand: [] },
  CLIP: { source: 'import { compile, models, text } from "./index.js"; console.log(compile, models.CLIPModel, text.loadTokenizer);', onDemand: ['tokenizers'] },
};

/**
 * Brotli bytes of the scripts that pages fetch, without an engine, as esbuild leaves them: it keeps all of a namespace of which one name is used.
 * @param {string} root the package, built
 * @returns {Promise<Record<string, number>>}
 */
export async function pageSizes(root) {
  const scripts = {};
  for (const [name, { source, onDemand }] of Object.entries(PAGES)) {
    const { outputFiles } = await build({ ...options, stdin: { contents: source, resolveDir: join(root, 'js') } });
    const fetched = outputFiles.filter(({ path }) => ![...BUILDS, 'tokenizers', 'jinja', 'host', 'worker'].some(chunk => basename(path).startsWith(`${chunk}.`) && !onDemand.includes(chunk)));
    scripts[name] = fetched.reduce((sum, { contents }) => sum + brotliCompressSync(contents).length, 0);
  }
  return scripts;
}

/**
 * Brotli bytes, each file by itself as a server sends it.
 * @param {string} root the package, built
 * @returns {Promise<{ scripts: number, builds: { name: string, embedded: number, wasm: number }[], largest: string, wire: number }>}
 *   scripts: every export of the package, its worker and the tokenizers, without an engine and without the chat templates' language, which is fetched by who chats; embedded: a build as the default entry carries it, in JavaScript;
 *   wasm: the same as a file; wire: scripts and the largest embedded build.
 */
export async function sizes(root) {
  const { outputFiles } = await build({ ...options, entryPoints: [join(root, 'js/index.js')] });
  const chunks = outputFiles.map(file => ({ name: basename(file.path).split('.')[0], bytes: brotliCompressSync(file.contents).length }));
  const builds = BUILDS.map(name => ({
    name,
    embedded: chunks.find(chunk => chunk.name === name).bytes,
    wasm: brotliCompressSync(readFileSync(join(root, `dist/wasm/${name}.wasm`))).length,
  }));
  const scripts = chunks.filter(({ name }) => ![...BUILDS, 'jinja'].includes(name)).reduce((sum, { bytes }) => sum + bytes, 0);
  const largest = builds.reduce((a, b) => b.embedded > a.embedded ? b : a);
  return { scripts, builds, largest: largest.name, wire: scripts + largest.embedded };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  console.log(await sizes(root));
  console.log('scripts of a page with', await pageSizes(root));
}
