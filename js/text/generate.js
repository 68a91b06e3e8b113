/** Tokens as a language model writes them. */
import { abortSignal, badArgument, boolean, finite, integer, options, probability } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { breathe } from '../../web/breathe.js';
import { penalize, randomNumbers, sample } from './sampling.js';

/** @typedef {import('../session.js').Session} Session */
/** @typedef {import('../generation.js').GenerateOptions} GenerateOptions */
/** @typedef {import('../generation.js').Pace} Pace */

/** What generate assumes of options that are left out. */
const DEFAULTS = {
  maxTokens: Infinity, temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: /** @type {number | null} */ (null), stop: /** @type {any} */ ([]), slide: false, keep: 0,
  logits: /** @type {any} */ (null), onTiming: /** @type {any} */ (null), signal: /** @type {any} */ (null),
};

/** generate of the package. @type {typeof import('../generation.js').generate} */
export async function* generate(session, tokens, given) {
  checkSession('generate', session);
  const ids = Array.from(tokens ?? [], (id, i) => integer(`generate: tokens[${i}]`, Number(id), 0));
  if (!ids.length) throw badArgument('generate: tokens', 'at least one', tokens);
  yield* write(session, ids, checked(given ?? {}, session.context));
}

/** @param {string} what @param {unknown} session */
export function checkSession(what, session) {
  if (typeof (/** @type {any} */ (session)?.sync) !== 'function') throw badArgument(`${what}: session`, 'a session, await model.session({ context: 512 })', session);
}

/** @param {GenerateOptions} given @param {number} context */
function checked(given, context) {
  const wanted = options('generate', [given], DEFAULTS);
  const what = (/** @type {string} */ name) => `generate: ${name}`;
  if (wanted.maxTokens !== Infinity) integer(what('maxTokens'), wanted.maxTokens, 0);
  finite(what('temperature'), wanted.temperature, 0);
  integer(what('topK'), wanted.topK, 0);
  if (!probability(what('topP'), wanted.topP)) throw badArgument(what('topP'), 'a probability above 0', 0);
  probability(what('minP'), wanted.minP);
  if (!finite(what('repetitionPenalty'), wanted.repetitionPenalty, 0)) throw badArgument(what('repetitionPenalty'), 'a number above 0', 0);
  if (wanted.seed !== null) integer(what('seed'), wanted.seed);
  const stop = [wanted.stop].flat().map((id) => {
    if (typeof id === 'string') throw badArgument(what('stop'), 'tokens; texts can end complete() and chat()', id);
    return integer(what('stop'), id, 0);
  });
  boolean(what('slide'), wanted.slide);
  integer(what('keep'), wanted.keep, 0, Math.max(0, context - 2));
  for (const name of /** @type {const} */ (['logits', 'onTiming'])) if (wanted[name] !== null && typeof wanted[name] !== 'function') throw badArgument(what(name), 'a function', wanted[name]);
  return { ...wanted, stop, signal: abortSignal(what('signal'), wanted.signal) };
}

/**
 * @param {Session} session
 * @param {number[]} tokens All so far; grows.
 * @param {ReturnType<typeof checked>} wanted
 * @returns {AsyncGenerator<number, void, void>}
 */
async function* write(session, tokens, wanted) {
  const { maxTokens, repetitionPenalty, signal, onTiming } = wanted;
  const random = wanted.seed === null ? Math.random : randomNumbers(wanted.seed);
  const timing = { prefill: pace(), decode: pace() };
  const seen = new Set(tokens);
  let window = [...tokens];   // what the session is to have seen
  for (let count = 0; count < maxTokens; count++) {
    if (window.length > session.context) {
      // Without maxTokens it ends where the context does, unless there never was room.
      if (!wanted.slide && count && maxTokens === Infinity) return;
      window = slid(window, session.context, wanted);
    }
    const begin = performance.now();
    const fresh = window.length - session.kept(window);
    const logits = await session.sync(window, { signal });
    if (repetitionPenalty !== 1) penalize(logits, seen, repetitionPenalty);
    await wanted.logits?.(logits, tokens);
    const token = sample(logits, wanted, random);
    add(count ? timing.decode : timing.prefill, count ? 1 : fresh, performance.now() - begin);
    onTiming?.(structuredClone(timing));
    if (wanted.stop.includes(token)) return;
    tokens.push(token);
    window.push(token);
    seen.add(token);
    yield token;
    // Input, painting, and whoever wants to abort.
    await breathe();
    signal?.throwIfAborted();
  }
}

/** @returns {Pace} */
const pace = () => ({ tokens: 0, milliseconds: 0, tokensPerSecond: 0 });

/** @param {Pace} to @param {number} tokens @param {number} milliseconds */
function add(to, tokens, milliseconds) {
  to.tokens += tokens;
  to.milliseconds += milliseconds;
  to.tokensPerSecond = to.milliseconds > 0 ? (to.tokens / to.milliseconds) * 1000 : 0;
}

/**
 * The first `keep` tokens and the newest that fit into half of the rest of the context.
 * @param {number[]} window
 * @param {number} context
 * @param {{ slide: boolean, keep: number }} options
 */
function slid(window, context, { slide, keep }) {
  if (!slide) throw new LamellaError('shape', `generate: the context of ${context} tokens is full, with ${window.length} of them; { slide: true } forgets the older half`);
  return [...window.slice(0, keep), ...window.slice(-Math.max(1, (context - keep) >> 1))];
}
