/** Text from language models: continued, and as the answer in a conversation. */
import { badArgument, show } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { checkSession, generate } from './generate.js';
import { pieces } from './pieces.js';
import { readJson, readText } from '../weights/whole.js';
import { loadTokenizer } from './tokenizer.js';

/** @typedef {import('../session.js').Session} Session */
/** @typedef {import('./tokenizer.js').Tokenizer} Tokenizer */
/** @typedef {import('../generation.js').CompleteOptions} CompleteOptions */
/** @typedef {import('../generation.js').ChatOwnOptions} ChatOwnOptions */

/** complete of the package. @type {typeof import('../generation.js').complete} */
export async function* complete(session, prompt, { tokenizer, ...options } = {}) {
  if (typeof prompt !== 'string') throw badArgument('complete: prompt', 'a string', prompt);
  const own = await tokenizerOf('complete', session, tokenizer, options.signal);
  yield* answer('complete', session, own, own.encode(prompt), options);
}

/** chat of the package. @type {typeof import('../generation.js').chat} */
export async function* chat(session, messages, { tokenizer, template, variables, ...options } = {}) {
  if (!Array.isArray(messages) || !messages.length) throw badArgument('chat: messages', "an array, [{ role: 'user', content: 'Hello' }]", messages);
  const own = await tokenizerOf('chat', session, tokenizer, options.signal);
  const { text, bos_token, eos_token } = await templateOf(session, template, options.signal);
  const { Template } = await import('../../dist/jinja.js');
  let prompt;
  try {
    prompt = new Template(text).render({ messages, add_generation_prompt: true, bos_token, eos_token, ...variables });
  } catch (cause) {
    throw new LamellaError('template', `chat: the template cannot be used with these messages: ${/** @type {any} */ (cause)?.message ?? cause}`, { cause });
  }
  const end = own.idOf(eos_token);
  const stop = [options.stop ?? [], end ?? []].flat();
  yield* answer('chat', session, own, own.encode(prompt, { addSpecialTokens: false }), { ...options, stop });
}

/**
 * @param {string} what
 * @param {Session} session
 * @param {Tokenizer} tokenizer
 * @param {number[]} tokens
 * @param {Omit<CompleteOptions, 'tokenizer'>} options
 */
function answer(what, session, tokenizer, tokens, { stop = [], logits: hook, ...options }) {
  if (!tokens.length) throw new LamellaError('argument', `${what}: expected a text of at least one token, got one that the tokenizer makes none of`);
  const stops = [stop].flat();
  const texts = /** @type {string[]} */ (stops.filter((text) => typeof text === 'string'));
  if (texts.includes('')) throw badArgument('stop', 'texts that are not empty', '');
  if (hook !== undefined && typeof hook !== 'function') throw badArgument('logits', 'a function', hook);
  const written = generate(session, tokens, {
    ...options,
    stop: /** @type {number[]} */ (stops.filter((text) => typeof text !== 'string')),
    logits: (logits, all) => {
      logits.fill(-Infinity, tokenizer.vocabSize);   // rows that only make the vocabulary a round number
      return hook?.(logits, all);
    },
  });
  return pieces(written, tokenizer, texts);
}

/**
 * @param {string} what
 * @param {Session} session
 * @param {import('./tokenizer.js').TokenizerSource | undefined} given
 * @param {AbortSignal | null} [signal]
 */
async function tokenizerOf(what, session, given, signal) {
  checkSession(what, session);
  const { beside } = session;
  const source = given ?? beside.tokenizer ?? beside.neighbour?.('tokenizer.json');
  if (source === undefined) throw new LamellaError('tokenizer', `${what}: there is no tokenizer: pass { tokenizer: 'tokenizer.json' }`);
  const tokenizer = await loadTokenizer(source, { cache: beside.cache, signal });
  // Read once, for all sessions of the model.
  if (!given) beside.tokenizer = tokenizer;
  checkVocabulary(what, tokenizer.vocabSize, beside);
  return tokenizer;
}

/**
 * A vocabulary may have rows that no token has, to make its size a round number, but not more of them than tokens, and not instead of the ending token.
 * @param {string} what
 * @param {number} tokens
 * @param {import('../session.js').Beside} beside
 */
function checkVocabulary(what, tokens, { vocabSize: rows = tokens, ends = [] }) {
  const end = ends.find((id) => id >= tokens && id < rows);
  const problem = tokens > rows || 2 * tokens < rows ? `vocab_size is ${rows}` : end === undefined ? '' : `eos_token_id is ${end}`;
  if (problem) throw new LamellaError('tokenizer', `${what}: the tokenizer has ${tokens} tokens but ${problem}: they are not of one model`);
}

/**
 * @param {Session} session
 * @param {ChatOwnOptions['template']} given
 * @param {AbortSignal | null} [signal]
 * @returns {Promise<{ text: string, bos_token: string, eos_token: string }>}
 */
async function templateOf({ beside: { neighbour, cache } }, given, signal) {
  const options = { cache, signal };
  if (given !== undefined && typeof given !== 'string' && typeof given !== 'object') throw badArgument('chat: template', 'a text in Jinja, or what a tokenizer_config.json holds', given);
  /** @type {any} */
  const found = typeof given === 'object' ? given : await optional(neighbour?.('tokenizer_config.json'), async (path) => (await readJson(path, options, { file: 'tokenizer_config.json', code: 'template' })).json);
  const config = found ?? {};
  let text = typeof given === 'string' ? given : config.chat_template ?? await optional(neighbour?.('chat_template.jinja'), (path) => readText(path, options));
  if (Array.isArray(text)) text = text.find(({ name }) => name === 'default')?.template;
  const advice = "pass { template: '{% for message in messages %}...' }";
  if (typeof text !== 'string') throw new LamellaError('template', `chat: expected a chat_template in tokenizer_config.json, got ${show(text)}: ${advice}`);
  const token = (/** @type {any} */ value) => value?.content ?? value ?? '';
  return { text, bos_token: token(config.bos_token), eos_token: token(config.eos_token) };
}

/**
 * What a file holds; undefined if there is none.
 * @template T
 * @param {string | undefined} path
 * @param {(path: string) => Promise<T>} read
 * @returns {Promise<T | undefined>}
 */
async function optional(path, read) {
  return path === undefined ? undefined : read(path).catch((error) => {
    if (error.code !== 'file' && error.code !== 'http' && error.code !== 'html') throw error;
    return undefined;
  });
}
