/** A tokenizer.json out of a GGUF file's metadata. */
import { show } from '../arguments.js';
import { LamellaError } from '../errors.js';

/** llama_token_type */
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;

const isolated = (/** @type {string} */ pattern) => ({ type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false });
const bytes = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
const sequence = (/** @type {object[]} */ ...parts) => ({ type: 'Sequence', pretokenizers: parts });
const GPT2 = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
const LLAMA3 = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const CJK = '[一-龥ࠀ-一가-퟿]+';
const DIGITS = { type: 'Digits', individual_digits: true };

/** How text is cut before pairs are merged, by `tokenizer.ggml.pre`: as the tokenizer.json of the models that the names are of. @type {Record<string, object>} */
const PRE = {
  default: GPT2, 'gpt-2': GPT2,
  'llama-bpe': sequence(isolated(LLAMA3), bytes), llama3: sequence(isolated(LLAMA3), bytes), 'llama-v3': sequence(isolated(LLAMA3), bytes),
  smollm: sequence(DIGITS, GPT2),
  // Its letters are those that have cases.
  'deepseek-llm': sequence(isolated('[\\r\\n]'), isolated('\\s?\\p{LC}+'), isolated('\\s?[!-/:-~！-／：-～‘-‟　-。]+'), isolated('\\s+$'), isolated(CJK), DIGITS, bytes),
  'deepseek-coder': sequence(isolated('[\\r\\n]'), isolated('\\s?\\p{L}+'), isolated('\\s?\\p{P}+'), isolated(CJK), DIGITS, bytes),
  'deepseek-v3': sequence(isolated('\\p{N}{1,3}'), isolated('[一-龥぀-ゟ゠-ヿ]+'),
    isolated('[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'), bytes),
};

/**
 * @param {string} name Of the file.
 * @param {Record<string, any>} metadata
 * @returns {Record<string, any>}
 * @throws {LamellaError} 'tokenizer' where the file has none, or one of a kind that is not known.
 */
export function tokenizerOf(name, metadata) {
  const fail = (/** @type {string} */ problem) => new LamellaError('tokenizer', `${name}: ${problem}: pass { tokenizer: 'tokenizer.json' }`, { path: name });
  /** @type {(key: string) => any} */
  const read = (key) => metadata[`tokenizer.ggml.${key}`];
  const tokens = read('tokens');
  const kinds = read('token_type') ?? [];
  if (!Array.isArray(tokens)) throw fail('there is no tokenizer in it');
  const model = read('model');
  const make = { gpt2: byteLevel, llama: sentencePiece }[/** @type {string} */ (model)];
  if (!make) throw fail(`tokenizer.ggml.model: expected "gpt2" or "llama", got ${show(model)}`);
  const added = tokens.flatMap((content, id) => ([UNKNOWN, CONTROL, USER_DEFINED].includes(kinds[id])
    ? [{ id, content, special: kinds[id] !== USER_DEFINED, single_word: false, lstrip: false, rstrip: false, normalized: false }] : []));
  return { version: '1.0', added_tokens: added, post_processor: template(tokens, read, model), ...make(tokens, read, fail) };
}

/**
 * The tokens that are put around a text.
 * @param {string[]} tokens
 * @param {(key: string) => any} read
 * @param {string} model
 */
function template(tokens, read, model) {
  // What the file does not say: a sentencepiece model begins with its token, others with none.
  const wanted = { bos: read('add_bos_token') ?? model === 'llama', eos: read('add_eos_token') ?? false };
  const part = (/** @type {'bos' | 'eos'} */ which) => {
    const id = Number(read(`${which}_token_id`) ?? -1);
    return wanted[which] && tokens[id] !== undefined ? [{ id, token: tokens[id] }] : [];
  };
  const [before, behind] = [part('bos'), part('eos')];
  if (!before.length && !behind.length) return null;
  const special = (/** @type {{ token: string }} */ { token }) => ({ SpecialToken: { id: token, type_id: 0 } });
  const around = (/** @type {object[]} */ ...texts) => [...before.map(special), ...texts, ...behind.map(special)];
  const [a, b] = ['A', 'B'].map((id, i) => ({ Sequence: { id, type_id: i } }));
  return {
    type: 'TemplateProcessing', single: around(a), pair: [...around(a), ...around(b)],
    special_tokens: Object.fromEntries([...before, ...behind].map(({ id, token }) => [token, { id: token, ids: [id], tokens: [token] }])),
  };
}

/**
 * @param {string[]} tokens
 * @param {(key: string) => any} read
 * @param {(problem: string) => LamellaError} fail
 */
function byteLevel(tokens, read, fail) {
  const merges = read('merges');
  const pre = read('pre') ?? 'default';
  if (!Array.isArray(merges)) throw fail('tokenizer.ggml.merges is missing');
  if (!Object.hasOwn(PRE, pre)) throw fail(`tokenizer.ggml.pre: expected one of ${Object.keys(PRE).map(show).join(', ')}, got ${show(pre)}`);
  return {
    normalizer: null, pre_tokenizer: PRE[pre], decoder: { ...GPT2 },
    model: { type: 'BPE', dropout: null, unk_token: null, fuse_unk: false, byte_fallback: false, ignore_merges: /^llama/.test(pre), vocab: vocabulary(tokens), merges: merges.map(pairOf) },
  };
}

/** A pair with the blank between; a token itself may not begin with one in these vocabularies. @param {string} merge */
const pairOf = (merge) => [merge.slice(0, merge.indexOf(' ', 1)), merge.slice(merge.indexOf(' ', 1) + 1)];

/** @param {string[]} tokens */
const vocabulary = (tokens) => Object.fromEntries(tokens.map((token, id) => [token, id]));

/**
 * Pieces with scores: the pair whose joint piece has the best score is merged first, so the merges are all pairs in the order of that score.
 * @param {string[]} tokens
 * @param {(key: string) => any} read
 * @param {(problem: string) => LamellaError} fail
 */
function sentencePiece(tokens, read, fail) {
  const scores = read('scores');
  const kinds = read('token_type') ?? [];
  if (!Array.isArray(scores)) throw fail('tokenizer.ggml.scores is missing');
  const ids = new Map(tokens.map((token, id) => [token, id]));
  /** @type {{ pair: [string, string], score: number, ids: [number, number] }[]} */
  const merges = [];
  for (const [id, token] of tokens.entries()) {
    if (kinds[id] !== undefined && kinds[id] !== 1 && kinds[id] !== USER_DEFINED) continue;
    const characters = Array.from(token);
    for (let i = 1; i < characters.length; i++) {
      /** @type {[string, string]} */
      const pair = [characters.slice(0, i).join(''), characters.slice(i).join('')];
      const [left, right] = pair.map((piece) => ids.get(piece));
      if (left !== undefined && right !== undefined) merges.push({ pair, score: scores[id], ids: [left, right] });
    }
  }
  merges.sort((a, b) => b.score - a.score || a.ids[0] - b.ids[0] || a.ids[1] - b.ids[1]);
  const unknown = tokens[Number(read('unknown_token_id') ?? 0)];
  const prefix = read('add_space_prefix') ?? true;
  const space = '▁';
  return {
    normalizer: { type: 'Sequence', normalizers: [...(prefix ? [{ type: 'Prepend', prepend: space }] : []), { type: 'Replace', pattern: { String: ' ' }, content: space }] },
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence', decoders: [{ type: 'Replace', pattern: { String: space }, content: ' ' }, { type: 'ByteFallback' }, { type: 'Fuse' }, ...(prefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : [])],
    },
    model: { type: 'BPE', dropout: null, unk_token: unknown, fuse_unk: true, byte_fallback: true, vocab: Object.fromEntries(ids), merges: merges.map(({ pair }) => pair) },
  };
}
