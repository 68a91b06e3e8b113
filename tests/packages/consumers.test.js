/** The packed tarball, as users get it: in a fresh Node project and in a fresh Vite app, in development and built. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { extname, join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';

/** A user's own model with known weights: y = relu(x W^T + b) + x, so that the answer can be written down. */
const program = `
import { compile, generate, image, models, Module, nn, F, safetensors, Tensor, text as texts } from 'lamella';

class Residual extends Module {
  constructor() { super(); this.fc = new nn.Linear(3, 3); this.act = new nn.ReLU(); }
  forward(x) { return F.add(this.act(this.fc(x)), x); }
}
const weights = safetensors.write({
  'fc.weight': { dtype: 'F32', shape: [3, 3], data: Float32Array.of(1, 2, 3, -4, 5, -6, 0.5, 0, 0) },
  'fc.bias': { dtype: 'F32', shape: [3], data: Float32Array.of(1, -100, 0) },
});
const model = await compile(new Residual(), { weights, inputs: [[null, 3]], ...OPTIONS });
const y = await model.forward(Float32Array.of(1, 2, 3));
const tokenizer = await texts.loadTokenizer({
  added_tokens: [], normalizer: null, pre_tokenizer: { type: 'Whitespace' }, post_processor: null, decoder: null,
  model: { type: 'WordPiece', unk_token: 'x', continuing_subword_prefix: '##', vocab: { x: 0, cat: 1, sits: 2 } },
});
// The parts that are fetched on demand: pictures, and text. All logits are 0, so the first token is the likeliest.
const picture = await image.toTensor({ data: new Uint8Array(12), width: 2, height: 2 }, { size: 5 });
const module = new models.LlamaForCausalLM({ vocab_size: 4, hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 8 });
const zeros = [...module.stateDict()].map(([name, { shape }]) => [name, new Tensor(new Float32Array(shape.reduce((a, b) => a * b)), shape)]);
const writer = await compile(module, { weights: Object.fromEntries(zeros), ...OPTIONS });
const written = [];
for await (const token of generate(await writer.session({ context: 8 }), [3], { maxTokens: 2 })) written.push(token);
const text = [...y.data, ...tokenizer.encode('cat sits'), ...picture.shape, ...written].join(',') + ' ' + model.engine.build;
model.dispose();
writer.dispose();
`;
const expected = '16,2,3.5,1,2,1,3,5,5,0,0';

/** @type {string} */ let work;
/** @type {string} */ let tarball;

before(async () => {
  work = await mkdtemp(join(tmpdir(), 'lamella-packages-'));
  const { stdout } = await run(npm, ['pack', '--json', '--ignore-scripts', '--pack-destination', work], { cwd: root });
  tarball = join(work, JSON.parse(stdout)[0].filename);
});
after(() => rm(work, { recursive: true, force: true }));

/** A project that has installed the tarball and nothing else. */
async function project(name, files) {
  const folder = join(work, name);
  await mkdir(folder);
  await writeFile(join(folder, 'package.json'), JSON.stringify({ name, private: true, type: 'module' }));
  for (const [file, text] of Object.entries(files)) await writeFile(join(folder, file), text);
  await run(npm, ['install', '--offline', '--no-audit', '--no-fund', '--no-package-lock', tarball], { cwd: folder });
  return folder;
}

test('the tarball holds what a user needs and nothing else', async () => {
  const { stdout } = await run('tar', ['-tzf', tarball]);
  const files = stdout.trim().split('\n').map((file) => file.replace(/^package\//, ''));
  for (const needed of ['package.json', 'README.md', 'LICENSE', 'js/MODELS.md', 'js/index.js', 'web/engine.js', 'dist/wasm/simd.js', 'dist/wasm/relaxed-threads.js', 'dist/lamella.js', 'dist/tokenizers.js', 'dist/tokenizers.LICENSE.txt', 'dist/jinja.js', 'dist/jinja.LICENSE.txt', 'dist/gguf.js', 'dist/gguf.LICENSE.txt']) {
    assert.ok(files.includes(needed), `${needed} is not packed`);
  }
  const foreign = files.filter((file) => /^(tests|demo|src|build|node_modules|\.toolchain)\//.test(file));
  assert.deepEqual(foreign, []);
  const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  assert.equal(manifest.dependencies, undefined);
  for (const script of ['preinstall', 'install', 'postinstall', 'prepare']) assert.equal(manifest.scripts[script], undefined);
});

test('a fresh Node project', async (t) => {
  const main = program.replaceAll('OPTIONS', '{}') + 'console.log(text);\n';
  const inWorker = program.replaceAll('OPTIONS', '{ worker: true }') + 'console.log(text);\n';
  const folder = await project('in-node', { 'main.js': main, 'worker.js': inWorker, 'main.cjs': "const { nn, compile } = require('lamella');\nconsole.log(typeof nn.Conv2d, typeof compile);\n" });
  const packages = (await readdir(join(folder, 'node_modules'))).filter((name) => !name.startsWith('.'));
  assert.deepEqual(packages, ['lamella'], 'installing lamella installs other packages');
  for (const file of ['main.js', 'worker.js']) {
    await t.test(file, async () => {
      const { stdout } = await run(process.execPath, [file], { cwd: folder, timeout: 60000 });
      assert.equal(stdout.trim().split(' ')[0], expected);
    });
  }
  await t.test('require', async () => {
    const { stdout } = await run(process.execPath, ['main.cjs'], { cwd: folder });
    assert.equal(stdout.trim(), 'function function');
  });
});

test('the command', async () => {
  const folder = await project('with-command', {
    'check.js': `import { writeFileSync } from 'node:fs';
import { compile, nn, safetensors } from 'lamella';
const weight = { data: Float32Array.from({ length: 4096 }, (_, i) => Math.sin(i)), shape: [64, 64] };
if (process.argv[2] === 'write') writeFileSync('in.safetensors', safetensors.write({ 'fc.weight': weight }));
else {
  const model = await compile(new nn.Sequential({ fc: new nn.Linear(64, 64, { bias: false }) }), { weights: 'out.safetensors', inputs: [[1, 64]] });
  console.log((await model.summary()).rows[0].layer, (await model.forward(new Float32Array(64).fill(1))).data.length);
}
`,
  });
  await run(process.execPath, ['check.js', 'write'], { cwd: folder });
  const npx = process.platform === 'win32' ? 'npx.cmd' : 'npx';
  const { stdout } = await run(npx, ['--no-install', 'lamella', 'quantize', 'in.safetensors', 'out.safetensors', '--precision', 'q4'], { cwd: folder });
  assert.match(stdout, /^in\.safetensors 0\.016 MB -> out\.safetensors 0\.00\d MB/);
  assert.equal((await run(process.execPath, ['check.js'], { cwd: folder })).stdout, 'q4 linear 64\n');
});

test('TypeScript sees the types', async () => {
  const source = `
import { compile, Module, nn, quantize, Tensor, LamellaError } from 'lamella';
class Net extends Module { fc = new nn.Linear(3, 2); forward(x: any) { return this.fc(x); } }
const model = await compile(new Net(), { weights: new ArrayBuffer(8), inputs: [[null, 3]] });
const y = (await model.forward(new Float32Array(3))) as Tensor;
const data: Float32Array = y.data as Float32Array;
// @ts-expect-error: there is no such option
await compile(new Net(), { wieghts: 'x' });
export const code: string | undefined = new LamellaError('a', 'b').code;
console.log(data);
export const size: number = (await quantize(new ArrayBuffer(8), { precision: 'q8', overrides: { 'head.*': 'keep' } })).size;
`;
  const folder = await project('in-typescript', {
    'main.ts': source,
    'tsconfig.json': JSON.stringify({ compilerOptions: { module: 'nodenext', target: 'es2022', strict: true, noEmit: true, lib: ['es2022', 'dom'], types: [] }, files: ['main.ts'] }),
  });
  const { stdout } = await run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', folder]).catch((error) => error);
  assert.equal(stdout, '');
});

// ---- Vite -----------------------------------------------------------------------------------------------------------

const page = {
  'index.html': '<!doctype html><title>app</title><script type="module" src="/main.js"></script>',
  'main.js': `${program.replaceAll('OPTIONS', "location.hash ? { worker: true } : {}")}\ndocument.title = text;\n`,
};

/** The text that the page puts into its title. */
async function titleOf(url) {
  const { chromium } = await import('playwright-core');
  const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
  assert.ok(executablePath, 'Chromium is missing: node web/setup.mjs --tests installs it');
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'] });
  try {
    const tab = await browser.newPage();
    const problems = [];
    tab.on('pageerror', (error) => problems.push(String(error)));
    tab.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
    await tab.goto(url);
    await tab.waitForFunction("document.title !== 'app' && document.title !== ''", null, { timeout: 60000 })
      .catch(() => assert.fail(`no answer from the page: ${problems.join('\n')}`));
    return await tab.title();
  } finally {
    await browser.close();
  }
}

const types = { '.html': 'text/html', '.js': 'text/javascript', '.wasm': 'application/wasm', '.css': 'text/css' };

/** A plain file server, without isolation headers, as most hosts are. */
async function serve(folder) {
  const server = createServer(async (request, response) => {
    const path = new URL(request.url ?? '/', 'http://localhost').pathname;
    const file = resolve(folder, `.${path === '/' ? '/index.html' : path}`);
    const body = file.startsWith(resolve(folder)) ? await readFile(file).catch(() => null) : null;
    response.writeHead(body ? 200 : 404, { 'content-type': types[extname(file)] ?? 'application/octet-stream' });
    response.end(body ?? 'not found');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}

test('a fresh Vite app', async (t) => {
  const folder = await project('in-vite', page);
  const vite = join(root, 'node_modules/vite/bin/vite.js');
  assert.ok(existsSync(vite), 'vite is missing: npm install');
  await symlink(join(root, 'node_modules/vite'), join(folder, 'node_modules/vite'), 'dir');

  await t.test('built', async () => {
    await run(process.execPath, [vite, 'build', '--logLevel', 'warn'], { cwd: folder });
    const server = await serve(join(folder, 'dist'));
    try {
      for (const hash of ['', '#worker']) assert.equal(await titleOf(server.url + hash), `${expected} relaxed`);
    } finally {
      server.close();
    }
  });

  await t.test('in development', async () => {
    const child = spawn(process.execPath, [vite, '--host', '127.0.0.1', '--port', '0', '--strictPort', 'false'], { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      let output = '';
      const url = await new Promise((found, failed) => {
        child.stdout.on('data', (data) => {
          output += data;
          const address = output.replace(/\x1b\[[0-9;]*m/g, '').match(/http:\/\/127\.0\.0\.1:\d+\//);
          if (address) found(address[0]);
        });
        child.once('exit', () => failed(new Error(`vite ended: ${output}`)));
      });
      for (const hash of ['', '#worker']) assert.equal(await titleOf(url + hash), `${expected} relaxed`);
    } finally {
      child.kill();
      await once(child, 'exit');
    }
  });
});
