/** The demo's story-teller as shipped: its loss on text that it never saw, in every precision; tests/reference/fixtures/story.json is made by demo/train/story. */
import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { mean, nats } from '../../demo/train/story/perplexity.mjs';
import { chat, compile, complete, models, text } from '../../js/index.js';
import { buildsHere } from './fixtures.js';

const at = (/** @type {string} */ path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const folder = at('demo/models/story');
const excerpts = JSON.parse(readFileSync(at('tests/reference/fixtures/story.json'), 'utf8'));
const weights = `${folder}/model.safetensors`;
const storyTeller = async () => new models.DeepseekV2ForCausalLM(await models.DeepseekV2Config.fromPretrained(folder));
const perplexity = (/** @type {number[]} */ costs) => Math.exp(mean(costs));

/** What each excerpt's tokens cost. */
async function costsOf(model) {
  const tokenizer = await text.loadTokenizer(`${folder}/tokenizer.json`);
  const costs = [];
  for (const excerpt of excerpts) {
    const tokens = tokenizer.encode(excerpt.text);
    assert.equal(tokens.length, excerpt.tokens, 'as many tokens as the training code sees');
    costs.push(await nats(model, tokens));
  }
  return costs;
}

describe('the story-teller', () => {
  it('is at most 12 MB with all that it needs', () => {
    const files = ['model.safetensors', 'config.json', 'tokenizer.json', 'tokenizer_config.json'];
    assert.ok(files.reduce((sum, name) => sum + statSync(`${folder}/${name}`).size, 0) <= 12e6);
  });

  for (const build of buildsHere()) {
    it(`knows held-out text better than n-grams, as well as in PyTorch, and in 8 and 4 bits almost as well, in ${build}`, async () => {
      const of = async (/** @type {any} */ precision) => {
        const model = await compile(await storyTeller(), { weights, build, precision });
        const costs = await costsOf(model);
        model.dispose();
        return costs;
      };
      const [f32, q8, q4] = [await of('f32'), await of('q8'), await of('q4')];
      excerpts.forEach(({ pytorch, ngram }, i) => {
        assert.ok(Math.abs(mean(f32[i]) - pytorch) <= 1e-4 * pytorch, `excerpt ${i}: ${mean(f32[i])} nats, PyTorch ${pytorch}`);
        assert.ok(mean(f32[i]) < ngram, `excerpt ${i}: ${mean(f32[i])} nats, n-grams ${ngram}`);
      });
      const expected = perplexity(f32.flat());
      for (const [name, costs, bound] of /** @type {const} */ ([['q8', q8, 0.01], ['q4', q4, 0.05]])) {
        const got = perplexity(costs.flat());
        assert.notEqual(got, expected, `${name} changes something`);
        assert.ok(Math.abs(got / expected - 1) <= bound, `${name}: perplexity ${got}, f32 ${expected}`);
      }
    });
  }

  it('continues a text, the same for the same seed, from what lies beside its weights', async () => {
    const model = await compile(await storyTeller(), { weights, precision: 'q8' });
    const written = [];
    for (const how of [complete, (session, prompt, options) => chat(session, [{ role: 'user', content: prompt }], options)]) {
      const session = await model.session({ context: 128 });
      let story = '';
      for await (const piece of how(session, 'Once upon a time there was', { maxTokens: 40, temperature: 0.8, topP: 0.9, seed: 3, stop: '<|endoftext|>' })) story += piece;
      written.push(story);
      session.dispose();
    }
    model.dispose();
    assert.equal(written[1], written[0], 'its template only passes the text on');
    const words = written[0].toLowerCase().match(/[a-z]+/g) ?? [];
    const known = new Set(excerpts.flatMap((excerpt) => excerpt.text.toLowerCase().match(/[a-z]+/g)));
    assert.ok(words.length >= 15, written[0]);
    assert.ok(words.filter((word) => known.has(word)).length >= words.length / 2, `English words: ${written[0]}`);
  });
});
