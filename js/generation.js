/** Text from language models. The code for it is fetched when the first of these is iterated over. */

/** @typedef {import('./session.js').Session} Session */
/** @typedef {{ tokens: number, milliseconds: number, tokensPerSecond: number }} Pace */
/** @typedef {{ prefill: Pace, decode: Pace }} Timing prefill: the tokens that were given, but for those that the session had kept, and the first answer; decode: all others. */
/**
 * @typedef {object} GenerateOptions
 * @property {number} [maxTokens] How many; left out, as many as the context has room for.
 * @property {number} [temperature] Logits are divided by it before one is drawn. 0 (default): the likeliest each time, so that who asks for nothing gets the same
 *   answer each time.
 * @property {number} [topK] Only so many of the likeliest; 0 (default): all.
 * @property {number} [topP] Of those the fewest likeliest that together have this probability; 1 (default): all.
 * @property {number} [minP] Of those the ones at least this many times as probable as the likeliest; 0 (default): all.
 * @property {number} [repetitionPenalty] Divides the positive logits of tokens that were there and multiplies the negative ones; 1 (default): none.
 * @property {number} [seed] An integer: the same tokens for the same seed. Left out, others each time.
 * @property {number | readonly number[]} [stop] Tokens that end it; they are not given out.
 * @property {boolean} [slide] What happens when the context is full before maxTokens are there: false (default) throws; true forgets the older half of the tokens
 *   behind the first `keep` and computes the rest anew, which takes as long as a prompt of that length.
 * @property {number} [keep] Tokens at the beginning that sliding leaves there; default 0.
 * @property {(logits: Float32Array, tokens: readonly number[]) => unknown} [logits] May change the logits [vocab_size] in place, after the penalty and before
 *   everything else (-Infinity forbids a token); `tokens` are all so far. It is awaited.
 * @property {(timing: Timing) => void} [onTiming] Called for each token, before it is given out.
 * @property {AbortSignal | null} [signal] Ends it within one token, by throwing the signal's reason. The session can be used again.
 */
/**
 * @typedef {object} TextOptions
 * @property {import('./text/tokenizer.js').TokenizerSource} [tokenizer] Default: compile's, or the `tokenizer.json` beside the checkpoint.
 * @property {string | number | readonly (string | number)[]} [stop] Texts and tokens that end it; they are not given out.
 */
/**
 * @typedef {object} ChatOwnOptions
 * @property {string | { chat_template?: unknown, bos_token?: unknown, eos_token?: unknown }} [template] A template in Jinja, or what a `tokenizer_config.json` holds. Default: the
 *   `tokenizer_config.json` beside the checkpoint, or the `chat_template.jinja` there.
 * @property {Record<string, unknown>} [variables] What the template may use besides messages: tools, ...
 */
/** @typedef {Omit<GenerateOptions, 'stop'> & TextOptions} CompleteOptions */
/** @typedef {CompleteOptions & ChatOwnOptions} ChatOptions */

const load = () => import('./text/generation.js');

/**
 * Continues a sequence of tokens, one at a time.
 *
 *     for await (const token of generate(session, prompt, { maxTokens: 100, temperature: 0.8, topP: 0.95, stop: [2] })) console.log(token);
 *
 * What the session has seen of the beginning of `tokens` is not computed again (session.sync), so a conversation is given whole each time.
 *
 * @param {Session} session Of a model that makes logits of tokens.
 * @param {ArrayLike<number>} tokens What is to be continued, at least one.
 * @param {GenerateOptions} [options]
 * @returns {AsyncGenerator<number, void, void>}
 * @throws {LamellaError} While iterating: 'argument'; 'shape', the context is full; 'state', the hook left no token possible; what session.sync throws.
 */
export async function* generate(session, tokens, options) {
  yield* (await load()).generate(session, tokens, options);
}

/**
 * Continues a text.
 *
 *     for await (const piece of complete(session, 'Once upon a time', { temperature: 0.8, maxTokens: 200, stop: '\n\n' })) write(piece);
 *
 * @param {Session} session
 * @param {string} prompt The tokenizer puts in front what it puts before texts.
 * @param {CompleteOptions} [options] And those of generate.
 * @returns {AsyncGenerator<string, void, void>} Pieces of whole characters.
 * @throws {LamellaError} 'tokenizer': there is none, or it is not the model's; what generate throws.
 */
export async function* complete(session, prompt, options) {
  yield* (await load()).complete(session, prompt, options);
}

/**
 * Answers in a conversation.
 *
 *     const messages = [{ role: 'user', content: 'What is a lamella?' }];
 *     for await (const piece of chat(session, messages, { maxTokens: 200 })) write(piece);
 *
 * The whole conversation is given each time; the session computes what is new. It ends at the template's end-of-text token, too.
 *
 * @param {Session} session
 * @param {readonly Record<string, unknown>[]} messages What the template takes: `{ role: 'system' | 'user' | 'assistant', content }`.
 * @param {ChatOptions} [options] And those of generate.
 * @returns {AsyncGenerator<string, void, void>} Pieces of whole characters.
 * @throws {LamellaError} 'template': there is none, or it threw (`error.cause`); 'tokenizer'; what generate throws.
 */
export async function* chat(session, messages, options) {
  yield* (await load()).chat(session, messages, options);
}
