/**
 * The loss of a story-teller on text, computed by lamella.
 *
 *   node perplexity.mjs [FOLDER] [PRECISION ...]     of data/chapters.txt and data/book.txt; default ../../models/story f32 q8 q4
 *
 * Every token is predicted from the 256 to 511 tokens before it, or as many as there are.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { compile, models, Tensor, text } from '../../../js/index.js';

const LENGTH = 512;
const STRIDE = 256;
const SEPARATOR = '<|endoftext|>';

/** Documents after separators -> their tokens in a row, each document after the separator's. @param {import('../../../js/text/tokenizer.js').Tokenizer} tokenizer @param {string} written */
export const tokensOf = (tokenizer, written) => written.split(`${SEPARATOR}\n`).slice(1).flatMap((document) => tokenizer.encode(document.trim()));

/**
 * Nats that each token but the first costs.
 * @param {import('../../../js/model.js').Model} model
 * @param {number[]} tokens
 */
export async function nats(model, tokens) {
  const costs = [];
  for (let first = 0; first + 1 < tokens.length; first += first ? STRIDE : LENGTH) {
    const start = Math.max(0, first - STRIDE);
    const end = Math.min(tokens.length - 1, first + (first ? STRIDE : LENGTH));
    const logits = await model.forward(new Tensor(Int32Array.from(tokens.slice(start, end)), [1, end - start]));
    const size = logits.shape[2];
    for (let i = first; i < end; i++) costs.push(cost(logits.data.subarray((i - start) * size, (i - start + 1) * size), tokens[i + 1]));
  }
  return costs;
}

/** @param {Float32Array} logits @param {number} token */
function cost(logits, token) {
  let most = -Infinity;
  for (const logit of logits) most = Math.max(most, logit);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - most);
  return Math.log(sum) + most - logits[token];
}

/** @param {readonly number[]} numbers */
export const mean = (numbers) => numbers.reduce((a, b) => a + b, 0) / numbers.length;

async function main() {
  const [folder = fileURLToPath(new URL('../../models/story', import.meta.url)), ...wanted] = process.argv.slice(2);
  const tokenizer = await text.loadTokenizer(`${folder}/tokenizer.json`);
  const config = await models.DeepseekV2Config.fromPretrained(folder);
  for (const name of ['chapters', 'book']) {
    const written = readFileSync(new URL(`data/${name}.txt`, import.meta.url), 'utf8');
    const tokens = tokensOf(tokenizer, written);
    const bytes = Buffer.byteLength(written.split(`${SEPARATOR}\n`).map((document) => document.trim()).join(''));
    for (const precision of wanted.length ? wanted : ['f32', 'q8', 'q4']) {
      const model = await compile(new models.DeepseekV2ForCausalLM(config), { weights: `${folder}/model.safetensors`, precision: /** @type {any} */ (precision) });
      const costs = await nats(model, tokens);
      model.dispose();
      const loss = mean(costs);
      console.log(`${name}, ${precision}: ${loss.toFixed(4)} nats per token, perplexity ${Math.exp(loss).toFixed(3)}, ${(loss * costs.length / Math.LN2 / bytes).toFixed(4)} bits per byte, ${tokens.length} tokens`);
    }
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main();
