/** GGUF files (version 3), for llama.cpp: of any tensors, and a decoder that consists of little but its last matrix. */

const TYPES = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 };
export const F32 = 0;
const Q4_0 = 2;
const ALIGN = 32;
/** Heads, hidden width of the feed-forward layer: the least that a block of 32 weights allows. */
const SMALL = 32;
const text = new TextEncoder();

class Bytes {
  chunks = [];
  size = 0;

  push(bytes) {
    this.chunks.push(bytes);
    this.size += bytes.length;
    return this;
  }

  number(method, bytes, value) {
    const view = new DataView(new ArrayBuffer(bytes));
    view[method](0, value, true);
    return this.push(new Uint8Array(view.buffer));
  }

  u32(value) {
    return this.number('setUint32', 4, value);
  }

  u64(value) {
    return this.number('setBigUint64', 8, BigInt(value));
  }

  string(value) {
    const bytes = text.encode(value);
    return this.u64(bytes.length).push(bytes);
  }

  pad() {
    return this.push(new Uint8Array(-this.size & ALIGN - 1));
  }

  value(type, value) {
    if (type === 'string') return this.string(value);
    if (type === 'bool') return this.push(Uint8Array.of(Number(value)));
    return type === 'f32' ? this.number('setFloat32', 4, value) : this.u32(value);
  }

  /** A named value; lists as `[type]`. */
  entry(name, type, value) {
    this.string(name);
    if (!Array.isArray(type)) return this.u32(TYPES[type]).value(type, value);
    this.u32(TYPES.array).u32(TYPES[type[0]]).u64(value.length);
    value.forEach(item => this.value(type[0], item));
    return this;
  }
}

/** The bits of a power of two as a half float. */
const half = value => (Math.log2(value) + 15) << 10;

/** Blocks of 32: the scale, then two codes in a byte, the second of which is 16 columns further. */
export function q4Blocks({ codes, scales }) {
  const out = new Uint8Array(scales.length * 18);
  for (let block = 0, at = 0; block < scales.length; block++, at += 18) {
    const bits = half(scales[block]);
    out[at] = bits & 255;
    out[at + 1] = bits >> 8;
    for (let i = 0; i < 16; i++) out[at + 2 + i] = codes[block * 32 + i] | codes[block * 32 + 16 + i] << 4;
  }
  return out;
}

/** The same codes in all blocks. */
const small = (rows, columns) => q4Blocks({ codes: new Uint8Array(rows * columns).fill(9), scales: new Float32Array(rows * columns / 32).fill(2 ** -8) });

/** Tokens are the three special ones, the 256 bytes and a character each. */
function vocabulary(count) {
  const special = ['<unk>', '<s>', '</s>'];
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);
  const characters = Array.from({ length: count - 259 }, (_, i) => String.fromCodePoint(0x4e00 + i));
  return { tokens: [...special, ...bytes, ...characters], kinds: [2, 3, 3, ...bytes.map(() => 6), ...characters.map(() => 1)] };
}

/**
 * Llama with one block of one head of 32; the matrix is the embedding of its tokens and the projection to them.
 * @param {{ codes: Uint8Array, scales: Float32Array }} matrix as work.mjs's gemvCodes makes it
 * @param {[tokens: number, width: number]} size
 * @returns {Uint8Array[]} the file in pieces
 */
export function decoderGguf(matrix, [tokens, width]) {
  const ones = new Uint8Array(new Float32Array(width).fill(1).buffer);
  const tensors = [
    ['token_embd', [width, tokens], q4Blocks(matrix)], ['output_norm', [width], ones], ['blk.0.attn_norm', [width], ones], ['blk.0.ffn_norm', [width], ones],
    ...['attn_q', 'attn_k', 'attn_v', 'ffn_gate', 'ffn_up'].map(name => [`blk.0.${name}`, [width, SMALL], small(SMALL, width)]),
    ...['attn_output', 'ffn_down'].map(name => [`blk.0.${name}`, [SMALL, width], small(width, SMALL)]),
  ];
  const own = Object.entries({
    context_length: 512, embedding_length: width, block_count: 1, feed_forward_length: SMALL, 'rope.dimension_count': SMALL,
    'attention.head_count': 1, 'attention.head_count_kv': 1, 'attention.key_length': SMALL, 'attention.value_length': SMALL,
  }).map(([name, value]) => [name, 'u32', value]);
  return gguf('llama', tokens, [...own, ['attention.layer_norm_rms_epsilon', 'f32', 1e-5]], tensors);
}

/**
 * @param {string} architecture
 * @param {number} tokens of the vocabulary
 * @param {[name: string, type: string, value: any][]} own what the architecture wants to know
 * @param {[name: string, shape: number[], data: Uint8Array, type?: number][]} tensors shapes with the inner size first; matrices are Q4_0 unless `type` is another
 * @returns {Uint8Array[]} the file in pieces
 */
export function gguf(architecture, tokens, own, tensors) {
  const { tokens: names, kinds } = vocabulary(tokens);
  const entries = [
    ['general.architecture', 'string', architecture], ['general.quantization_version', 'u32', 2], ...[['vocab_size', 'u32', tokens], ...own].map(([name, ...rest]) => [`${architecture}.${name}`, ...rest]),
    ['tokenizer.ggml.model', 'string', 'llama'], ['tokenizer.ggml.tokens', ['string'], names], ['tokenizer.ggml.scores', ['f32'], names.map((_, i) => -i)],
    ['tokenizer.ggml.token_type', ['i32'], kinds], ['tokenizer.ggml.bos_token_id', 'u32', 1], ['tokenizer.ggml.eos_token_id', 'u32', 2],
    ['tokenizer.ggml.add_bos_token', 'bool', false], ['tokenizer.ggml.add_space_prefix', 'bool', false],
  ];
  const file = new Bytes().push(text.encode('GGUF')).u32(3).u64(tensors.length).u64(entries.length);
  for (const entry of entries) file.entry(...entry);
  let offset = 0;
  for (const [name, shape, data, type = shape.length > 1 ? Q4_0 : F32] of tensors) {
    file.string(`${name}.weight`).u32(shape.length);
    shape.forEach(size => file.u64(size));
    file.u32(type).u64(offset);
    offset += data.length + (-data.length & ALIGN - 1);
  }
  file.pad();
  for (const [, , data] of tensors) file.push(data).pad();
  return file.chunks;
}
