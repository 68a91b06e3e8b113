// src/, web/ and js/ -> dist/.  node web/build.mjs
//   dist/wasm/BUILD.wasm   the four builds
//   dist/wasm/BUILD.js     each as text (LZMA, base64, with what unpacks it), for the default entry
//   dist/wasm/id.js        hash of the sources, which the loader compares with lam_build_id()
//   dist/host.js           the worker's program as text, picture-host.js that of the worker that prepares pictures
//   dist/tokenizers.js     the package @huggingface/tokenizers, imported when a tokenizer is loaded; tokenizers.LICENSE.txt is its licence
//   dist/jinja.js          the package @huggingface/jinja, imported when a chat template is used; jinja.LICENSE.txt is its licence
//   dist/gguf.js           what the package @huggingface/gguf reads headers with, imported when a GGUF file is opened; gguf.LICENSE.txt is its licence
//   dist/lamella.js        all of js/, for CDNs; what it imports, at once or on demand, is beside it in dist/lamella-*.js and in dist/wasm/
// Does at once what has not changed.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { setupPackages, setupToolchain, toolchain } from './setup.mjs';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const DIST = join(ROOT, 'dist');
const BUILDS = ['simd', 'relaxed', 'simd-threads', 'relaxed-threads'];
const IMPORTS = ['memory', ...readFileSync(join(ROOT, 'web/imports.txt'), 'utf8').split('\n').filter(Boolean)];

/**
 * Replaces a file at once, so that whoever reads it meanwhile has the old or the new one.
 * @param {string} path
 * @param {string | Uint8Array} content
 */
function write(path, content) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.${process.pid}`, content);
  renameSync(`${path}.${process.pid}`, path);
}

/** A hash of all that the wasm files are made of. */
function sourceId() {
  const names = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter(name => /\.[ch]$/.test(name)).map(name => join('src', name));
  const hash = createHash('sha256');
  for (const name of ['CMakeLists.txt', 'web/emscripten.cmake', 'web/imports.txt', 'web/unpack.c', ...names.sort()]) {
    hash.update(name).update(readFileSync(join(ROOT, name)));
  }
  return hash.digest('hex').slice(0, 12);
}

/**
 * A module that is one text, and its type: without that, the text would be in the declarations again.
 * @param {string} name
 * @param {string} text
 */
function writeText(name, text) {
  write(join(DIST, `${name}.js`), `export default ${JSON.stringify(text)};\n`);
  write(join(DIST, `${name}.d.ts`), 'declare const text: string;\nexport default text;\n');
}

/** @param {string[]} command */
function run(...command) {
  const [program, args] = toolchain(command);
  const done = spawnSync(program, args, { cwd: ROOT, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (done.status !== 0) throw new Error(`${command.join(' ')} failed\n${done.stdout ?? ''}${done.stderr ?? ''}${done.error?.message ?? ''}`);
}

/** @param {string} id */
function buildWasm(id) {
  setupToolchain();
  process.chdir(ROOT);
  const folder = 'build/wasm';
  const configure = ['cmake', '-G', 'Ninja', '-S', '.', '-B', folder, `-DCMAKE_TOOLCHAIN_FILE=${ROOT}/web/emscripten.cmake`, `-DLAMELLA_BUILD_ID=${id}`];
  if (toolchain(['cmake'])[0] === 'cmake') configure.splice(1, 2);   // one's own CMake chooses its generator
  run(...configure);
  run('cmake', '--build', folder, '--parallel');
  const decoder = readFileSync(join(ROOT, folder, 'unpack.wasm'), 'base64');
  for (const build of BUILDS) {
    const bytes = readFileSync(join(ROOT, folder, `${build}.wasm`));
    if (!build.startsWith('relaxed') || WebAssembly.validate(bytes)) checkImports(build, bytes);
    write(join(DIST, 'wasm', `${build}.wasm`), bytes);
    writeText(`wasm/${build}`, `${decoder} ${bytes.length} ${lzma(folder, build).toString('base64')}`);
  }
  writeText('wasm/id', id);
}

/**
 * A build as a raw LZMA1 stream. As text it is about 16 kB shorter than what gzip gives, and what a server's own compression adds no longer
 * matters: base64 hides the structure of what is inside from it.
 * The program is Python because emcc is: it is wherever emcc runs.
 * @param {string} folder
 * @param {string} build
 */
function lzma(folder, build) {
  const filter = 'id=lzma.FILTER_LZMA1, preset=9 | lzma.PRESET_EXTREME, lc=3, lp=0, pb=2, nice_len=273, depth=1000';
  run('python3', '-c', `import lzma
packed = lzma.compress(open('${folder}/${build}.wasm', 'rb').read(), lzma.FORMAT_RAW, filters=[dict(${filter})])
open('${folder}/${build}.lzma', 'wb').write(packed)`);
  return readFileSync(join(ROOT, folder, `${build}.lzma`));
}

/**
 * The loader supplies what imports.txt lists and nothing else.
 * @param {string} build
 * @param {Uint8Array<ArrayBuffer>} bytes
 */
function checkImports(build, bytes) {
  const more = WebAssembly.Module.imports(new WebAssembly.Module(bytes)).map(({ name }) => name).filter(name => !IMPORTS.includes(name));
  if (more.length) throw new Error(`${build}.wasm imports ${more.join(', ')}, which web/engine.js does not supply`);
}

/** The builds' texts, the tokenizers, the templates and GGUF's headers stay files of their own, imported when needed. @type {import('esbuild').Plugin} */
const buildsApart = {
  name: 'builds-apart',
  setup(esbuild) {
    esbuild.onResolve({ filter: /dist\/(wasm\/(simd|relaxed)(-threads)?|host|picture-host|tokenizers|jinja|gguf)\.js$/ }, ({ path }) => ({
      path: path.replace(/^.*dist\//, './'), external: true,
    }));
    // Tables of the Hub, which the reader of GGUF headers re-exports and does not use.
    esbuild.onResolve({ filter: /^@huggingface\/tasks$/ }, async ({ path, pluginData, ...from }) => (
      pluginData ? undefined : { ...await esbuild.resolve(path, { ...from, pluginData: true }), sideEffects: false }
    ));
  },
};

/**
 * @param {string} entry
 * @param {import('esbuild').BuildOptions} options
 */
async function bundles(entry, options) {
  const esbuild = await import('esbuild');
  const { outputFiles } = await esbuild.build({
    entryPoints: { lamella: join(ROOT, entry) }, bundle: true, minify: true, platform: 'neutral', target: 'es2022', write: false, outdir: DIST,
    external: ['node:*', 'sharp'], plugins: [buildsApart], legalComments: 'none', logLevel: 'error', ...options,
  });
  return outputFiles ?? [];
}

/**
 * @param {string} entry
 * @param {import('esbuild').Format} format
 * @param {string[]} [names] What is wanted of its exports; default: all.
 */
async function bundle(entry, format, names) {
  const some = names && { entryPoints: undefined, stdin: { contents: `export { ${names.join(', ')} } from './${entry}';`, resolveDir: ROOT } };
  const [{ text }] = await bundles(entry, { format, ...some });
  return text;
}

/** dist/lamella.js and its chunks; those of an older build go when all of the new ones are there. */
async function bundleInParts() {
  const files = await bundles('js/index.js', { format: 'esm', splitting: true, chunkNames: 'lamella-[name]-[hash]' });
  const parts = files.map(({ path }) => basename(path));
  for (const { path, contents } of files) if (basename(path) !== 'lamella.js') write(path, contents);
  write(join(DIST, 'lamella.js'), files[parts.indexOf('lamella.js')].contents);   // when what it imports is there
  for (const name of readdirSync(DIST)) if (/^lamella-.*\.js$/.test(name) && !parts.includes(name)) rmSync(join(DIST, name));
}

/**
 * lamella asks for no other package to be installed, so these come along, without their own declarations, which would be looked for where they are not installed.
 * @param {string} name Of @huggingface's.
 * @param {string} entry
 * @param {string} licence
 * @param {string} types
 * @param {string[]} [names] What is wanted of its exports; default: all.
 */
async function bundlePackage(name, entry, licence, types, names) {
  const folder = join(ROOT, 'node_modules/@huggingface', name);
  const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const notice = `/*! @huggingface/${name} ${version}, by Hugging Face, under the ${licence} (${name}.LICENSE.txt); bundled and minified by lamella's build. */`;
  write(join(DIST, `${name}.js`), `${notice}\n${await bundle(`node_modules/@huggingface/${name}/dist/${entry}`, 'esm', names)}`);
  write(join(DIST, `${name}.d.ts`), `${types}\n`);
  write(join(DIST, `${name}.LICENSE.txt`), readFileSync(join(folder, 'LICENSE')));
}

async function bundleScripts() {
  writeText('host', await bundle('web/host-entry.js', 'iife'));
  writeText('picture-host', await bundle('web/picture-entry.js', 'iife'));
  await bundlePackage('tokenizers', 'tokenizers.mjs', 'Apache License 2.0', 'export declare const Tokenizer: new (tokenizer: object, config: object) => any;');
  await bundlePackage('jinja', 'index.js', 'MIT License', 'export declare const Template: new (text: string) => { render(variables: object): string };');
  await bundlePackage('gguf', 'browser/index.mjs', 'MIT License', 'export declare const gguf: (uri: string, options: object) => Promise<any>;', ['gguf']);
  await bundleInParts();
}

/** The files of dist/; what pages fetch of them tells tests/bench/size.mjs. */
function printSizes() {
  const parts = readdirSync(DIST).filter(name => /^lamella-.*\.js$/.test(name));
  const files = ['lamella.js', ...parts, 'tokenizers.js', 'jinja.js', ...BUILDS.flatMap(build => [`wasm/${build}.wasm`, `wasm/${build}.js`])];
  console.log(`${'bytes'.padEnd(28)}${['raw', 'gzip', 'brotli'].map(name => name.padStart(9)).join('')}`);
  for (const name of files.filter(file => existsSync(join(DIST, file)))) {
    const bytes = readFileSync(join(DIST, name));
    const sizes = [bytes.length, gzipSync(bytes).length, brotliCompressSync(bytes).length];
    console.log(`dist/${name.padEnd(23)}${sizes.map(size => String(size).padStart(9)).join('')}`);
  }
}

/**
 * One build at a time in this checkout.
 * @param {() => Promise<void>} work
 */
async function alone(work) {
  const lock = join(ROOT, 'build/lock');
  mkdirSync(dirname(lock), { recursive: true });
  for (;;) {
    try {
      writeFileSync(lock, String(process.pid), { flag: 'wx' });
      break;
    } catch {
      const holder = existsSync(lock) ? Number(readFileSync(lock, 'utf8')) : 0;
      if (holder && !existsSync(`/proc/${holder}`) && existsSync('/proc')) rmSync(lock, { force: true });
      else await new Promise(resolve => { setTimeout(resolve, 200); });
    }
  }
  try {
    await work();
  } finally {
    rmSync(lock, { force: true });
  }
}

export async function build() {
  await alone(async () => {
    const id = sourceId();
    const stamp = join(DIST, 'wasm/id.js');
    const fresh = existsSync(stamp) && readFileSync(stamp, 'utf8').includes(id) && BUILDS.every(name => existsSync(join(DIST, 'wasm', `${name}.js`)));
    if (!fresh) buildWasm(id);
    setupPackages();
    await bundleScripts();
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await build();
    printSizes();
  } catch (error) {
    console.error(`build (${relative(process.cwd(), fileURLToPath(import.meta.url))}): ${error instanceof Error ? error.message : error}`);
    process.exitCode = 1;
  }
}
