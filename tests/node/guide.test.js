/** js/MODELS.md and README.md: their code as it stands there, outside the package; js/MODELS.md against what PyTorch gave for its Python. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { safetensors } from '../../js/index.js';
import { buildsHere } from './fixtures.js';
import { Parity } from './parity.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const fixtures = join(root, 'tests/reference/fixtures/guide');
const guide = readFileSync(join(root, 'js/MODELS.md'), 'utf8');
const builds = process.env.LAMELLA_BUILD ? [process.env.LAMELLA_BUILD] : buildsHere();
/** Names and texts of the page's pieces of code: the first line is a comment with the file's name. @param {string} language @param {string} comment */
const pieces = (language, comment) => [...guide.matchAll(new RegExp(`^\`\`\`${language}\n${comment} (\\S+)\n(.*?)^\`\`\`$`, 'gms'))].map(([, name, text]) => ({ name, text }));
/** The page's JavaScript by file; a file's pieces follow each other. @type {Map<string, string>} */
const files = new Map();
for (const { name, text } of pieces('js', '//')) files.set(name, (files.get(name) ?? '') + text);
/** @type {string} */
let folder;

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'lamella-guide-'));
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(root, join(folder, 'node_modules/lamella'), 'dir');
  for (const [name, text] of files) writeFileSync(join(folder, name), text);
  for (const name of readdirSync(fixtures)) copyFileSync(join(fixtures, name), join(folder, name));
});
after(() => rmSync(folder, { recursive: true }));

test('every piece of code of the page is a file that is run', () => {
  assert.equal(guide.match(/^```\w/gm)?.length, pieces('js', '//').length + pieces('python', '#').length);
  assert.deepEqual([...files.keys()], ['vit.mjs', 'local_global.mjs', 'compare.mjs', 'check.mjs']);
});

test('the numbers come from the Python of the page (tests/reference/guide.py)', async () => {
  const digest = createHash('sha256').update(pieces('python', '#').map(({ text }) => text).join('')).digest('hex');
  for (const name of readdirSync(fixtures)) {
    const file = await safetensors.open(join(fixtures, name));
    assert.equal(file.metadata.python, digest, name);
    await file.close();
  }
});

test('the vision transformer has less than 60 lines', () => {
  const lines = /** @type {string} */ (files.get('vit.mjs')).trimEnd().split('\n').length;
  assert.ok(lines < 60, `${lines} lines`);
});

test('check.mjs prints what the page says', () => {
  const printed = execFileSync(process.execPath, ['check.mjs'], { cwd: folder, encoding: 'utf8' }).trim().split('\n').map(Number);
  assert.equal(printed.length, 2);
  for (const error of printed) assert.ok(error >= 0 && error < 1e-5, String(error));
});

for (const build of builds) {
  const parity = new Parity('guide', build);
  after(() => parity.write());
  test(`${build}: both models agree with PyTorch`, async () => {
    const load = (/** @type {string} */ name) => import(pathToFileURL(join(folder, name)).href);
    const [{ compare }, { ViT }, { LocalGlobal }] = await Promise.all(['compare.mjs', 'vit.mjs', 'local_global.mjs'].map(load));
    for (const [Class, name] of [[ViT, 'vit.safetensors'], [LocalGlobal, 'local_global.safetensors']]) {
      const error = await compare(new Class(), join(folder, name), { build, threads: build.endsWith('threads') ? 2 : 1 });
      parity.add(`${Class.name} of js/MODELS.md`, error, 1e-5);
      assert.ok(error < 1e-5, `${name}: ${error}`);
    }
    // A weight less, a number off: compare notices.
    class Altered extends LocalGlobal {
      forward(/** @type {any} */ x) { return super.forward(x.add(0.01)); }
    }
    assert.ok(await compare(new Altered(), join(folder, 'local_global.safetensors'), { build }) > 1e-4);
    await assert.rejects(compare(new ViT({ depth: 2 }), join(folder, 'vit.safetensors'), { build }), { code: 'keys' });
  });
}

describe('README.md', () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const code = /** @type {RegExpMatchArray} */ (readme.match(/^```js\n(import [^`]*?class Net extends [^`]*)^```$/m))[1];
  const texts = [...readme.matchAll(/^```text\n(.*?)\n```$/gms)].map(([, text]) => text);

  test('its model runs, and prints what is shown', async () => {
    const [declaration] = code.split('const model');
    writeFileSync(join(folder, 'net.mjs'), `${declaration}export { Net };`);
    const { Net } = await import(pathToFileURL(join(folder, 'net.mjs')).href);
    const weights = new Map([...new Net().stateDict()].map(([name, { shape }]) => [name, { shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.1) }]));
    writeFileSync(join(folder, 'net.safetensors'), safetensors.write(weights));
    const program = `const pixels = new Float32Array(2 * 3 * 64 * 48);\n${code}
console.log(data.length, shape.join(), [...data].every((number) => Math.abs(number - 0.1) < 1e-6));
console.log(String(await model.summary([1, 3, 64, 48])));
console.log(new nn.SEBlock(32, { reduction: 8 }));`;
    writeFileSync(join(folder, 'readme.mjs'), program);
    const printed = execFileSync(process.execPath, ['readme.mjs'], { cwd: folder, encoding: 'utf8' }).trimEnd();
    assert.equal(printed, `20 2,10 true\n${texts[1]}\n${texts[0]}`, 'README.md shows another tree or table');
  });
});
