/**
 * What of the demo runs in Node: the server, the job of "npm start", and the sizes of a checkpoint from its shapes.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { cosineSimilarity, inferResNet } from '../../demo/checkpoint.js';
import { probabilities } from '../../demo/classify.js';
import { checkpointAt, checkpointIn } from '../../demo/language-checkpoint.js';
import { formatBytes, formatPercent, formatTime } from '../../demo/format.js';
import { createStaticServer, listen, parseRange } from '../../demo/static-server.mjs';
import { ROOT } from './server.mjs';

describe('the static server', () => {
  const make = options => createStaticServer({ root: ROOT, folders: ['demo', 'js'], home: '/demo/', ...options });
  const servers = [make({}), make({ isolation: false })];
  let url = '';
  let plain = '';
  before(async () => { [url, plain] = await Promise.all(servers.map(server => listen(server, 0))); });
  after(() => servers.forEach(server => server.close() && server.closeAllConnections()));

  it('leads to the page', async () => {
    const response = await fetch(url);
    assert.equal(response.url, `${url}demo/`);
    assert.equal(response.headers.get('content-type'), 'text/html; charset=utf-8');
    assert.match(await response.text(), /<title>lamella/);
  });

  it('isolates pages unless told not to', async () => {
    const { headers } = await fetch(`${url}demo/`);
    assert.equal(headers.get('cross-origin-opener-policy'), 'same-origin');
    assert.equal(headers.get('cross-origin-embedder-policy'), 'require-corp');
    const without = (await fetch(`${plain}demo/`)).headers;
    assert.equal(without.get('cross-origin-opener-policy'), null);
    assert.equal(without.get('cross-origin-embedder-policy'), null);
  });

  it('serves modules, and nothing outside its folders', async () => {
    const module = await fetch(`${url}js/index.js`);
    assert.equal(module.headers.get('content-type'), 'text/javascript; charset=utf-8');
    for (const hidden of ['package.json', '.git/config', 'src/lamella.h', 'demo/..%2fpackage.json', 'demo/%2e%2e/package.json', 'demo/nothing', '%00', '%zz']) {
      const response = await fetch(url + hidden);
      assert.ok([400, 404].includes(response.status), `${hidden}: ${response.status}`);
    }
    assert.equal((await fetch(`${url}demo/`, { method: 'POST' })).status, 405);
  });

  it('answers byte ranges', async () => {
    const file = `${url}demo/style.css`;
    const whole = await (await fetch(file)).text();
    const part = async range => {
      const response = await fetch(file, { headers: { range } });
      return [response.status, await response.text(), response.headers.get('content-range')];
    };
    assert.deepEqual(await part('bytes=0-7'), [206, whole.slice(0, 8), `bytes 0-7/${whole.length}`]);
    assert.deepEqual(await part('bytes=-5'), [206, whole.slice(-5), `bytes ${whole.length - 5}-${whole.length - 1}/${whole.length}`]);
    assert.equal((await part(`bytes=${whole.length}-`))[0], 416);
    assert.equal((await part('bytes=0-1, 4-5'))[0], 200);
    const head = await fetch(file, { method: 'HEAD' });
    assert.equal(Number(head.headers.get('content-length')), whole.length);
  });

  it('reads ranges as HTTP says', () => {
    const cases = { undefined: 'all', 'bytes=': 'all', 'bytes=-': 'all', 'bytes=5-2': 'all', 'bytes=-0': 'none', 'bytes=10-': 'none' };
    for (const [header, range] of Object.entries(cases)) assert.deepEqual(parseRange(header, 10), range, header);
    assert.deepEqual(parseRange('bytes=3-', 10), { first: 3, last: 9 });
    assert.deepEqual(parseRange('bytes=-99', 10), { first: 0, last: 9 });
    assert.deepEqual(parseRange('bytes=0-99', 10), { first: 0, last: 9 });
    assert.equal(parseRange('bytes=0-', 0), 'none');
  });

  it('takes the next port when one is in use', async () => {
    const { port } = new URL(url);
    const other = make({});
    assert.notEqual(new URL(await listen(other, Number(port))).port, port);
    other.close();
  });
});

describe('the job of "npm start"', () => {
  it('prints the address, the labels of a bundled picture with scores and times, and a story', async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [path.join(ROOT, 'demo/serve.mjs'), '--once', '--port', '0']);
    assert.match(stdout, /http:\/\/127\.0\.0\.1:\d+\//);
    const scores = [...stdout.matchAll(/^ +(?:<\s)?([\d.]+)\s% {2}\S+ {2}\S/gmu)].map(match => Number(match[1]));
    assert.equal(scores.length, 5, stdout);
    assert.deepEqual(scores, [...scores].sort((a, b) => b - a));
    assert.match(stdout, /network run in [\d.]+ m?s/);
    assert.match(stdout, /Once upon a time there was a little\s[^]{80,} \.\.\.\n\n {2}\d+ tokens\/s read, \d+ tokens\/s written\n/);
  });
});

describe('sizes of a checkpoint', () => {
  /** The tensors of a tower, as a map from name to shape. */
  const tower = (prefix, { layers = [3, 4, 6, 3], width = 64, side = 7, outputDim = 1024, extra = [] } = {}) => new Map([
    ['conv3.weight', [width, width / 2, 3, 3]],
    ...layers.flatMap((count, i) => Array.from({ length: count }, (_, b) => [`layer${i + 1}.${b}.conv1.weight`, [1, 1, 1, 1]])),
    ['attnpool.positional_embedding', [side * side + 1, width * 32]],
    ['attnpool.c_proj.weight', [outputDim, width * 32]],
    ...extra.map(name => [name, [1]]),
  ].map(([name, shape]) => [prefix + name, { shape }]));

  it('come from the shapes', () => {
    assert.deepEqual(inferResNet(tower('visual.')), {
      prefix: 'visual.',
      options: { layers: [3, 4, 6, 3], outputDim: 1024, heads: 32, imageSize: 224, width: 64, useSe: false, layerNorm: false },
    });
    const x4 = inferResNet(tower('', { layers: [4, 6, 10, 6], width: 80, side: 9, outputDim: 640 }));
    assert.deepEqual(x4.options, { layers: [4, 6, 10, 6], outputDim: 640, heads: 40, imageSize: 288, width: 80, useSe: false, layerNorm: false });
    assert.equal(x4.prefix, '');
  });

  it('see squeeze and excitation, and the LayerNorm of the pool', () => {
    const { options } = inferResNet(tower('a.b.', { extra: ['layer1.0.se.fc.0.weight', 'attnpool.ln.weight'] }));
    assert.deepEqual([options.useSe, options.layerNorm], [true, true]);
  });

  it('are refused where they do not fit', () => {
    assert.throws(() => inferResNet(new Map([['embeddings.weight', { shape: [2, 2] }]])), /none of its 1 tensors .* the first is "embeddings.weight"/);
    assert.throws(() => inferResNet(new Map()), /none of its 0 tensors/);
    const missing = tower('visual.');
    missing.delete('visual.conv3.weight');
    assert.throws(() => inferResNet(missing), /not "visual.conv3.weight"/);
    const misshapen = tower('visual.');
    misshapen.set('visual.attnpool.positional_embedding', { shape: [48, 2048] });
    assert.throws(() => inferResNet(misshapen), /\[48, 2048\]/);
  });
});

describe('numbers of the page', () => {
  it('probabilities are a softmax of scaled cosines', () => {
    const scores = probabilities(Float32Array.of(3, 4), Float32Array.of(1, 0, 0, 1), 10);
    assert.ok(Math.abs(scores[0] - 1 / (1 + Math.exp(2))) < 1e-6);
    assert.ok(Math.abs(scores[0] + scores[1] - 1) < 1e-6);
  });

  it('cosine similarity', () => {
    assert.equal(cosineSimilarity([1, 2, 3], [2, 4, 6]), 1);
    assert.equal(cosineSimilarity([1, 0], [0, 5]), 0);
  });

  it('are written for people', () => {
    assert.deepEqual([512, 13426402, 2.49e9].map(formatBytes), ['1 kB', '13.4 MB', '2.49 GB']);
    assert.deepEqual([0.416, 4.25, 17.2, 1250].map(formatTime), ['0.42 ms', '4.3 ms', '17 ms', '1.25 s']);
    assert.deepEqual([0.8714, 0.0001].map(formatPercent), ['87.1\u00a0%', '<\u00a00.1\u00a0%']);
  });
});

describe("a language model's checkpoint", () => {
  /** What a browser gives of a chosen folder. */
  const chosen = (...paths) => paths.map(webkitRelativePath => ({ name: webkitRelativePath.split('/').pop(), webkitRelativePath, text: async () => '{"chat_template": "x"}' }));
  const names = weights => weights.map(({ name }) => name);

  it('is found in a folder, with its shards, and once where it is there twice', async () => {
    const { name, config, weights, tokenizer, template } = checkpointIn(chosen('m/sub/config.json', 'm/config.json', 'm/tokenizer.json', 'm/model.safetensors', 'm/consolidated.safetensors', 'm/sub/model.safetensors'));
    assert.deepEqual([name, config.webkitRelativePath, names(weights), tokenizer.name, await template()], ['m', 'm/config.json', ['model.safetensors'], 'tokenizer.json', null]);
    const sharded = checkpointIn(chosen('m/config.json', 'm/tokenizer.json', 'm/tokenizer_config.json', 'm/model.safetensors.index.json', 'm/model-00001-of-00002.safetensors', 'm/model-00002-of-00002.safetensors', 'm/consolidated.safetensors'));
    assert.deepEqual(names(sharded.weights), ['model.safetensors.index.json', 'model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']);
    assert.deepEqual(await sharded.template(), { chat_template: 'x' });
  });

  it('is one GGUF file, or its parts', async () => {
    assert.deepEqual([checkpointIn(chosen('m/config.json', 'm/x.gguf')).gguf.name, (await checkpointAt('http://a.b/c/d.gguf?k=1')).gguf.href], ['x.gguf', 'http://a.b/c/d.gguf?k=1']);
    assert.throws(() => checkpointIn(chosen('m/x.gguf', 'm/y.gguf')), /Choose one GGUF file of x\.gguf, y\.gguf\./);
    const parts = ['m/x-00002-of-00002.gguf', 'm/x-00001-of-00002.gguf'];
    const { name, gguf } = checkpointIn(chosen(...parts));
    assert.deepEqual([name, gguf.map(file => file.webkitRelativePath)], ['x', parts]);
    assert.throws(() => checkpointIn(chosen(...parts, 'm/y-00001-of-00002.gguf')), /Choose one GGUF file/);
  });

  it('that is not whole is refused with what is missing', () => {
    assert.throws(() => checkpointIn([]), /There is no config\.json and no tokenizer\.json and no model\.safetensors in what was chosen\./);
    assert.throws(() => checkpointIn(chosen('m/config.json', 'm/tokenizer.json', 'm/readme.md')), /There is no model\.safetensors in what was chosen, only config\.json, tokenizer\.json, readme\.md\./);
  });

  it('has an address: of a folder, of a file, of a repository', async () => {
    const { fetch } = globalThis;
    const asked = [];
    globalThis.fetch = async (url, { method } = {}) => {
      asked.push(`${method} ${url}`);
      return new Response(null, { status: String(url).includes('sharded') ? 404 : 200 });
    };
    try {
      const where = async address => {
        const { name, config, weights, tokenizer } = await checkpointAt(address);
        return [name, config.href, weights.href, tokenizer.href].join(' ');
      };
      const hub = 'https://huggingface.co/some/one/resolve/main/';
      assert.equal(await where('https://huggingface.co/some/one'), `one ${hub}config.json ${hub}model.safetensors ${hub}tokenizer.json`);
      assert.equal(await where('https://huggingface.co/some/one/tree/main'), `one ${hub}config.json ${hub}model.safetensors ${hub}tokenizer.json`);
      assert.equal(await where('https://huggingface.co/some/one/blob/main/other.safetensors'), `one ${hub}config.json ${hub}other.safetensors ${hub}tokenizer.json`);
      assert.equal(await where('http://a.b/c?key=1'), 'c http://a.b/c/config.json?key=1 http://a.b/c/model.safetensors?key=1 http://a.b/c/tokenizer.json?key=1');
      assert.equal(await where('http://a.b/sharded/config.json'), 'sharded http://a.b/sharded/config.json http://a.b/sharded/model.safetensors.index.json http://a.b/sharded/tokenizer.json');
      assert.ok(asked.every(question => question.startsWith('HEAD ')));
    } finally {
      globalThis.fetch = fetch;
    }
  });
});
