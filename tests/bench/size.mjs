/** What a page downloads, bundled and minified: what every page fetches, and what is fetched on demand. */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync } from 'node:zlib';
import { build } from 'esbuild';

/** Bytes over the wire that what every page fetches may take: every export that is there at once, and one build of the engine. */
export const WIRE_LIMIT = 150_000;
const BUILDS = ['simd', 'relaxed', 'simd-threads', 'relaxed-threads'];

/** @type {import('esbuild').BuildOptions} */
const options = {
  bundle: true, minify: true, splitting: true, format: 'esm', platform: 'browser', target: 'es2022',
  write: false, outdir: '/', chunkNames: '[name].[hash]', external: ['node:*', 'sharp'], legalComments: 'none', metafile: true,
};
/** Pages that use a part, and which of the chunks that load on demand they ask for. */
const PAGES = {
  'one Linear': { source: 'import { compile, nn } from "./index.js"; compile(new nn.Linear(8, 4), { inputs: [[1, 8]] });', onDemand: [] },
  CLIP: { source: 'import { compile, models, text } from "./index.js"; console.log(compile, models.CLIPModel, text.loadTokenizer);', onDemand: ['tokenizers', 'pictures'] },
};

/**
 * The chunks that esbuild makes, brotli bytes of each by itself as a server sends it.
 * @param {import('esbuild').BuildOptions} entry
 * @returns {Promise<{ core: number, onDemand: Record<string, number> }>} `core`: the entry and what it imports statically; `onDemand`: what is imported
 *   dynamically, with what only that needs, by name. The builds of the engine are among them.
 */
async function chunks(entry) {
  const { outputFiles, metafile } = await build({ ...options, ...entry });
  const bytes = new Map(outputFiles.map(({ path, contents }) => [basename(path), brotliCompressSync(contents).length]));
  const outputs = new Map(Object.entries(metafile.outputs).map(([path, output]) => [basename(path), output]));
  const counted = new Set();
  const sum = (name) => {
    if (counted.has(name)) return 0;
    counted.add(name);
    const needed = outputs.get(name).imports.filter(({ kind, external }) => kind === 'import-statement' && !external);
    return needed.reduce((total, { path }) => total + sum(basename(path)), bytes.get(name));
  };
  const entries = [...outputs.keys()].filter((name) => outputs.get(name).entryPoint);
  const isFirst = (name) => !name.replace(/\.js$/, '').includes('.');   // chunkNames is for all others
  const core = sum(entries.find(isFirst));
  const onDemand = Object.fromEntries(entries.filter((name) => !isFirst(name)).map((name) => [name.split('.')[0], sum(name)]));
  return { core, onDemand };
}

/**
 * Brotli bytes of the scripts that pages fetch, without an engine, as esbuild leaves them: it keeps all of a namespace of which one name is used.
 * @param {string} root the package, built
 * @returns {Promise<Record<string, number>>}
 */
export async function pageSizes(root) {
  const scripts = {};
  for (const [name, { source, onDemand: wanted }] of Object.entries(PAGES)) {
    const { core, onDemand } = await chunks({ stdin: { contents: source, resolveDir: join(root, 'js') } });
    scripts[name] = wanted.reduce((total, chunk) => total + onDemand[chunk], core);
  }
  return scripts;
}

/**
 * Brotli bytes, each file by itself as a server sends it.
 * @param {string} root the package, built
 * @returns {Promise<{ scripts: number, builds: { name: string, embedded: number, wasm: number }[], largest: string, wire: number, onDemand: Record<string, number> }>}
 *   scripts: every export of the package with all that it imports statically, without an engine; embedded: a build as the default entry carries it, in
 *   JavaScript; wasm: the same as a file; wire: scripts and the largest embedded build, which is what every page fetches; onDemand: each part that is fetched
 *   when it is first used (or, `host` and `worker`, with `{ worker: true }`), by name.
 */
export async function sizes(root) {
  const { core: scripts, onDemand: parts } = await chunks({ entryPoints: [join(root, 'js/index.js')] });
  const builds = BUILDS.map((name) => ({
    name,
    embedded: parts[name],
    wasm: brotliCompressSync(readFileSync(join(root, `dist/wasm/${name}.wasm`))).length,
  }));
  const largest = builds.reduce((a, b) => (b.embedded > a.embedded ? b : a));
  const onDemand = Object.fromEntries(Object.entries(parts).filter(([name]) => !BUILDS.includes(name)).sort());
  return { scripts, builds, largest: largest.name, wire: scripts + largest.embedded, onDemand };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  console.log(await sizes(root));
  console.log('scripts of a page with', await pageSizes(root));
}
