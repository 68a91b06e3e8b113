/**
 * Text from small models, in whatever place imports this: Node, a page, a worker of the page's own. The same calls everywhere, so that the answers can be compared.
 */
import { chat, compile, complete, generate, LamellaError, models, Tensor } from '../../js/index.js';

const LETTERS = "été 👩‍🚀, 数\n don't ǅ.";
const bytes = (string) => [...new TextEncoder().encode(string)];

async function all(iterator) {
  const list = [];
  for await (const one of iterator) list.push(one);
  return list;
}

/** What is thrown, in words that travel as JSON. */
async function thrown(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    return { isLamella: error instanceof LamellaError, name: error.name, code: error.code ?? null, message: error.message };
  }
}

/** A hook that makes the model write these tokens, and then end. */
function dictate(tokens, end) {
  let at = 0;
  return (logits) => { logits[tokens[at++] ?? end] = Infinity; };
}

/** What the byte model of tests/node/byte-model.js writes. @param {string} folder Where its files lie, with a slash at the end. */
export async function write(folder, options = {}) {
  const config = await models.DeepseekV2Config.fromPretrained(folder);
  const model = await compile(new models.DeepseekV2ForCausalLM(config), { weights: `${folder}model.safetensors`, ...options });
  const end = config.vocab_size - 7;   // '</s>'
  const open = (context = 256) => model.session({ context });
  const session = await open();
  const answers = {};
  const sampled = { temperature: 1.2, topK: 60, topP: 0.97, minP: 0.001, repetitionPenalty: 1.1, maxTokens: 60 };
  answers.greedy = (await all(complete(session, 'Once', { maxTokens: 40 }))).join('');
  answers.tokens = await all(generate(session, bytes('Once'), { ...sampled, seed: 1 }));
  answers.seeded = [];
  for (const seed of [1, 2, 1]) answers.seeded.push((await all(complete(session, 'Once upon a time', { ...sampled, seed }))).join(''));
  answers.pieces = await all(complete(session, 'Où', { logits: dictate(bytes(LETTERS), end), stop: end }));
  answers.stopped = await all(complete(session, 'x', { logits: dictate(bytes('ab##c##\nUser'), end), stop: ['##\n'] }));
  answers.emoji = await all(complete(session, 'x', { logits: dictate(bytes('a😁b😀c'), end), stop: ['😀', 'zz'] }));
  answers.chat = await all(chat(session, [{ role: 'user', content: 'Hé' }], { logits: dictate(bytes('¡Olé! 👍'), end) }));
  const timings = [];
  await all(complete(session, 'timed', { maxTokens: 5, onTiming: (timing) => timings.push([timing.prefill.tokens, timing.decode.tokens, timing.prefill.milliseconds >= 0]) }));
  answers.timings = timings;
  answers.caches = model.memory.caches > 0;

  const small = await open(16);
  answers.slid = (await all(complete(small, 'A prompt of more than sixteen tokens', { maxTokens: 30, slide: true, keep: 2 }))).join('');
  answers.overflow = [
    await thrown(all(complete(small, 'A prompt of more than sixteen tokens', {}))), await thrown(all(complete(small, 'Fifteen letters', { maxTokens: 9 }))),
    (await all(generate(small, bytes('Fifteen letters'), {}))).length,
  ];
  answers.refused = [
    await thrown(all(chat(session, [{ role: 'sheriff', content: '' }]))), await thrown(all(complete(session, ''))), await thrown(all(complete(session, 'x', { temperature: -1 }))),
    await thrown(all(complete(session, 'x', { tokenizer: { added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, model: { type: 'BPE', vocab: { a: 0 }, merges: [] } } }))),
  ];
  answers.aborted = [];
  for (const moment of ['before', 'soon', 'hook', 'timing', 'piece']) answers.aborted.push([moment, await stop(session, moment, end)]);
  answers.after = (await all(complete(session, 'Once', { maxTokens: 40 }))).join('') === answers.greedy;
  // A loop that is left ends the writing, and the session goes on.
  for await (const piece of complete(session, 'left', { maxTokens: 50 })) if (piece) break;
  answers.left = (await all(complete(session, 'Once', { maxTokens: 40 }))).join('') === answers.greedy;
  session.dispose();
  answers.disposed = await thrown(all(complete(session, 'x')));
  model.dispose();
  answers.gone = await thrown(all(complete(small, 'x')));
  return answers;
}

/** Stops the writing of 'abcdefgh' at a moment: what was thrown, and whether letters came after it. */
async function stop(session, moment, end) {
  const abort = new AbortController();
  const now = () => abort.abort(new Error(moment));
  const logits = dictate(bytes('abcdefgh'), end);
  const got = [];
  let count = 0;
  if (moment === 'before') now();
  const error = await thrown((async () => {
    const pieces = complete(session, 'x', {
      signal: abort.signal, stop: end, onTiming: () => { if (moment === 'timing' && ++count === 3) now(); },
      logits: (row) => { logits(row); if (moment === 'hook' && ++count === 3) now(); },
    });
    if (moment === 'soon') setTimeout(now);
    for await (const piece of pieces) {
      got.push(piece);
      if (moment === 'piece' && got.length === 3) now();
      if (moment === 'soon') await new Promise((resolve) => { setTimeout(resolve, 20); });
    }
  })());
  return { error, early: got.length <= 3 && 'abc'.startsWith(got.join('')) };
}

/** A prompt that takes long is stopped while it is read, and read from the beginning afterwards. */
export async function stopReading(options = {}) {
  const module = new models.LlamaForCausalLM({ vocab_size: 64, hidden_size: 256, intermediate_size: 1024, num_hidden_layers: 6, num_attention_heads: 4, num_key_value_heads: 2, max_position_embeddings: 1024 });
  let state = 1;
  const random = () => { state = (Math.imul(state, 1664525) + 1013904223) | 0; return state / 2 ** 35; };
  const weights = Object.fromEntries([...module.stateDict()].map(([name, { shape }]) => [name, new Tensor(Float32Array.from({ length: shape.reduce((a, b) => a * b) }, random), shape)]));
  const model = await compile(module, { weights, ...options });
  const session = await model.session({ context: 1024 });
  const prompt = Array.from({ length: 1000 }, (_, i) => (i * 7) % 64);
  const abort = new AbortController();
  setTimeout(() => abort.abort(new Error('while reading')), 10);
  const error = await thrown(all(generate(session, prompt, { signal: abort.signal, maxTokens: 3 })));
  const position = session.position;
  const tokens = await all(generate(session, prompt, { maxTokens: 3 }));
  const fresh = await all(generate(await model.session({ context: 1024 }), prompt, { maxTokens: 3 }));
  model.dispose();
  return { error, position, same: tokens.join() === fresh.join() && tokens.length === 3 };
}
