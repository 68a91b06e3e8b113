/** Drawing a token: against loops that sort everything, and by counting what many draws give. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { penalize, randomNumbers, sample } from '../../js/text/sampling.js';

/** Logits of many sizes and spreads, with ties and exclusions. @param {number} n @param {() => number} random */
const anyLogits = (n, random) => {
  const spread = 20 * random();
  return Float32Array.from({ length: n }, () => (random() < 0.1 ? -Infinity : random() < 0.2 ? 1 : (random() - 0.5) * spread));
};

/** Probabilities of all tokens, by the definition. @param {Float32Array} logits @param {{ temperature: number, topK: number, topP: number, minP: number }} options */
function naive(logits, { temperature, topK, topP, minP }) {
  const most = Math.max(...logits);
  const weights = Array.from(logits, (x) => Math.fround(Math.exp((x - most) / temperature)));
  const order = [...weights.keys()].sort((a, b) => weights[b] - weights[a] || a - b);
  const kept = topK ? order.slice(0, topK) : order;
  const total = kept.reduce((sum, i) => sum + weights[i], 0);
  const nucleus = [];
  for (let before = 0, i = 0; i < kept.length && (topP >= 1 || before < topP * total); before += weights[kept[i++]]) nucleus.push(kept[i]);
  const left = nucleus.filter((i) => weights[i] >= minP);
  const mass = left.reduce((sum, i) => sum + weights[i], 0);
  return weights.map((w, i) => (left.includes(i) ? w / mass : 0));
}

describe('a token is drawn', () => {
  it('as the definition says, whatever is cut', () => {
    const random = randomNumbers(1);
    for (let round = 0; round < 400; round++) {
      const n = 1 + Math.floor(random() * 60);
      const logits = anyLogits(n, random);
      logits[Math.floor(random() * n)] = 3;
      const options = { temperature: 0.1 + 2 * random(), topK: random() < 0.5 ? 0 : 1 + Math.floor(random() * 70), topP: random() < 0.4 ? 1 : random() + 1e-3, minP: random() < 0.5 ? 0 : random() };
      const expected = naive(logits, options);
      // Equidistant numbers instead of random ones: each token gets its share of them.
      const draws = 500;
      const counts = new Array(n).fill(0);
      for (let i = 0; i < draws; i++) counts[sample(logits, options, () => (i + 0.5) / draws)]++;
      if (options.topK === 1) assert.equal(counts[logits.indexOf(Math.max(...logits))], draws);
      else counts.forEach((count, i) => assert.ok(Math.abs(count - expected[i] * draws) <= 1.01, `${count} of ${draws} for ${expected[i]} ${JSON.stringify(options)}`));
    }
  });

  it('from a large vocabulary, by chi-squared', () => {
    const random = randomNumbers(7);
    const logits = Float32Array.from({ length: 5000 }, (_, i) => -Math.log(1 + i));
    const options = { temperature: 1, topK: 20, topP: 0.95, minP: 0.06 };
    const expected = naive(logits, options);
    const draws = 8000;
    const counts = new Array(5000).fill(0);
    for (let i = 0; i < draws; i++) counts[sample(logits, options, random)]++;
    const possible = [...expected.keys()].filter((i) => expected[i]);
    assert.equal(possible.length, 16);
    assert.equal(possible.reduce((sum, i) => sum + counts[i], 0), draws);
    const chi2 = possible.reduce((sum, i) => sum + (counts[i] - expected[i] * draws) ** 2 / (expected[i] * draws), 0);
    assert.ok(chi2 < 37.7, `${chi2}: 15 degrees of freedom exceed 37.7 once in a thousand`);
  });

  it('greedily without a temperature, the first of equals', () => {
    const never = () => { throw new Error('asked for'); };
    assert.equal(sample(Float32Array.of(1, 5, NaN, 5, -1), {}, never), 1);
    assert.equal(sample(Float32Array.of(1, 5, 6), { temperature: 2, topK: 1 }, never), 2);
    assert.equal(sample(Float32Array.of(1, Infinity, 6), { temperature: 2 }, never), 1);
    assert.equal(sample(Float32Array.of(-Infinity, -9), { temperature: 1e-30 }), 1);
    assert.equal(sample(Float32Array.of(NaN, 1), { temperature: 1, topP: 0.5 }), 1);
    assert.deepEqual([0.1, 0.9].map((x) => sample(Float32Array.of(3, 0, 3), { temperature: 1, minP: 1 }, () => x)), [0, 2], 'equals of the likeliest are as probable as it is');
    for (const none of [[], [NaN], [-Infinity, -Infinity]]) assert.throws(() => sample(Float32Array.from(none)), { code: 'state', message: /no token is possible/ });
  });

  it('and the logits stay as they are', () => {
    const logits = Float32Array.of(1, 2, 3);
    sample(logits, { temperature: 0.5, topK: 2, topP: 0.9, minP: 0.1 });
    assert.deepEqual(logits, Float32Array.of(1, 2, 3));
  });
});

it('a penalty makes what was there less likely, of either sign', () => {
  const logits = Float32Array.of(2, -2, 0, 4, -Infinity, 0.5);
  penalize(logits, new Set([0, 1, 2, 4, 5]), 2);
  assert.deepEqual(logits, Float32Array.of(1, -4, 0, 4, -Infinity, 0.25));
});

it('numbers of a seed are the same each time and even', () => {
  const draw = (/** @type {number} */ seed) => Array.from({ length: 4000 }, randomNumbers(seed));
  assert.deepEqual(draw(5), draw(5));
  assert.notDeepEqual(draw(5), draw(6));
  for (const seed of [0, 1, -3, 2 ** 31 - 1]) {
    const numbers = draw(seed);
    assert.ok(numbers.every((x) => x >= 0 && x < 1));
    const bins = new Array(16).fill(0);
    const pairs = new Array(16).fill(0);
    numbers.forEach((x, i) => { bins[Math.floor(x * 16)]++; if (i) pairs[Math.floor(x * 4) * 4 + Math.floor(numbers[i - 1] * 4)]++; });
    for (const counts of [bins, pairs]) assert.ok(counts.reduce((sum, count) => sum + (count - 250) ** 2 / 250, 0) < 45, `${counts}`);
  }
});
