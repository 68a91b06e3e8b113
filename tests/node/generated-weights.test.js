/** open_clip's RN50 image tower at full size, on generated weights, through every build that this Node runs or the one that LAMELLA_BUILD names. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { compile, models, safetensors, Tensor } from '../../js/index.js';
import { buildsHere, error } from './fixtures.js';
import { Parity } from './parity.js';
import { generatedPictures, generatedWeight } from './generated-weights.js';

const FIXTURE = fileURLToPath(new URL('../reference/fixtures/rn50_generated.safetensors', import.meta.url));
const TOLERANCE = 1e-4;
/** @type {import('../../js/models/modified_resnet.js').ModifiedResNetOptions} */
const config = { layers: [3, 4, 6, 3], outputDim: 1024, heads: 32 };
const builds = process.env.LAMELLA_BUILD ? [process.env.LAMELLA_BUILD] : buildsHere();

/** @type {Awaited<ReturnType<typeof safetensors.open>>} */
let fixture;
/** @type {Uint8Array} */
let checkpoint;

before(async () => {
  fixture = await safetensors.open(FIXTURE);
  const weights = Array.from(new models.ModifiedResNet(config).stateDict())
    .filter(([name]) => !name.endsWith('num_batches_tracked'))
    .map(([name, { shape }]) => /** @type {const} */ ([name, { data: generatedWeight(name, shape), shape }]));
  checkpoint = safetensors.write(new Map(weights));
});

after(() => fixture.close());

/** @param {string} name */
const stored = async (name) => (await fixture.tensor(name)).toFloat32();

test('Python and JavaScript generate the same numbers', async () => {
  const shapes = new Map(new models.ModifiedResNet(config).stateDict());
  const names = fixture.names.filter((name) => name.startsWith('check.')).map((name) => name.slice('check.'.length));
  assert.equal(names.length, 7);
  for (const name of names) {
    const all = generatedWeight(name, /** @type {{ shape: readonly number[] }} */ (shapes.get(name)).shape);
    assert.deepEqual([...all.slice(0, 8), ...all.slice(-8)], [...await stored(`check.${name}`)], name);
  }
  assert.deepEqual([...generatedPictures(2).slice(0, 16)], [...await stored('picture')]);
});

for (const build of builds) {
  const parity = new Parity('generated-weights', build);
  after(() => parity.write());
  test(`${build}: RN50 at 224 x 224`, async () => {
    const model = await compile(new models.ModifiedResNet(config), { weights: checkpoint, build, threads: build.endsWith('threads') ? 2 : 1 });
    try {
      const expected = new Tensor(await stored('output'), [2, 1024]);
      const worst = error(await model.forward(new Tensor(generatedPictures(2), [2, 3, 224, 224])), expected);
      parity.add('RN50 of open_clip, 224 x 224', worst, TOLERANCE);
      assert.ok(worst <= TOLERANCE, `${worst} > ${TOLERANCE}`);
    } finally {
      model.dispose();
    }
  });
}
