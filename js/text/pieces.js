/** Text out of tokens as they come: no character in parts, and no beginning of a stop string. */

/** @typedef {import('./tokenizer.js').Tokenizer} Tokenizer */

/** Tokens one by one to text. What a character lacks bytes for is held back. */
export class TextStream {
  #tokenizer;
  /** The last tokens, so many that the next one's text (its leading blank) can be told. @type {number[]} */
  #window = [];
  /** Characters of the window's text that have been given out. */
  #given = 0;

  /** @param {Tokenizer} tokenizer */
  constructor(tokenizer) {
    this.#tokenizer = tokenizer;
  }

  /** @param {number} token @returns {string} */
  push(token) {
    this.#window.push(token);
    const text = this.#tokenizer.decode(this.#window);
    const whole = text.replace(/\ufffd+$/, '');   // bytes of which no character was made may be the first of one
    const piece = whole.slice(this.#given);
    this.#given = Math.max(this.#given, whole.length);
    const alone = whole === text ? this.#tokenizer.decode([token]) : '';
    if (alone && !alone.startsWith('\ufffd')) {
      this.#window = [token];
      this.#given = alone.length;
    }
    return piece;
  }

  /** What was held back. @returns {string} */
  end() {
    return this.#tokenizer.decode(this.#window).slice(this.#given);
  }
}

/**
 * @param {AsyncIterable<number>} tokens
 * @param {Tokenizer} tokenizer
 * @param {readonly string[]} stops Texts that end it; they are not given out.
 * @returns {AsyncGenerator<string, void, void>}
 */
export async function* pieces(tokens, tokenizer, stops) {
  const decoder = new TextStream(tokenizer);
  let held = '';
  for await (const token of tokens) {
    held += decoder.push(token);
    const found = stops.map((stop) => held.indexOf(stop)).filter((at) => at >= 0);
    const safe = found.length ? Math.min(...found) : held.length - beginning(held, stops);
    if (safe) yield held.slice(0, safe);
    if (found.length) return;
    held = held.slice(safe);
  }
  held += decoder.end();
  if (held) yield held;
}

/**
 * Characters at the end of the text that a stop string may begin with.
 * @param {string} text
 * @param {readonly string[]} stops
 */
function beginning(text, stops) {
  let most = 0;
  for (const stop of stops) {
    for (let n = Math.min(stop.length - 1, text.length); n > most; n--) if (text.endsWith(stop.slice(0, n))) most = n;
  }
  return most;
}
