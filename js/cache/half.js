/** A file that grows at its end, kept in segments: what was written whole survives the page or the process. */

/** Bytes of a segment; a page that is closed in the middle loses less than one. */
export const SEGMENT = 4 << 20;

/**
 * What is known about a file beside its bytes.
 * @typedef {object} Note
 * @property {string} url
 * @property {number} [size] Bytes in all, where the server told.
 * @property {string | null} [etag]
 * @property {string | null} [modified] Last-Modified.
 * @property {string} [sha256] That the bytes were found to have.
 * @property {boolean} complete
 * @property {number} time When it was last written, as Date.now().
 */
/**
 * Where one file's bytes are put: a folder of Node's, the origin's private file system, the Cache API.
 * @typedef {object} Drawer
 * @property {() => Promise<Note | null>} note
 * @property {(note: Note) => Promise<void>} setNote
 * @property {() => Promise<number>} bytes How many lie there.
 * @property {(at: number, bytes: Uint8Array) => Promise<void>} put At a multiple of SEGMENT, at most one of them; what lay from there on is replaced.
 * @property {(begin: number, end: number) => Promise<Uint8Array>} get The caller's own.
 * @property {() => Promise<void>} idle Lets go of what is open.
 * @property {() => Promise<void>} finish All bytes are there.
 * @property {() => Promise<void>} remove
 */
/**
 * Where files are kept.
 * @typedef {object} Shelf
 * @property {(key: string, url: string) => Drawer} drawer
 * @property {() => Promise<Drawer[]>} drawers
 * @property {(key: string, url: string) => Promise<(() => void) | null>} lock Takes the right to write; null where somebody else has it.
 * @property {() => Promise<number | undefined>} room Bytes that are free, where that is known.
 */

export class Half {
  #drawer;
  /** The last segment. */
  #buffer = new Uint8Array(0);
  #base = 0;
  #changed = false;
  /** What is written follows each other. @type {Promise<unknown>} */
  #last = Promise.resolve();

  /**
   * @param {Drawer} drawer
   * @param {number} stored Of its bytes so many are good.
   */
  static async open(drawer, stored) {
    const half = new Half(drawer);
    half.#base = stored - stored % SEGMENT;
    half.stored = half.#base;
    if (stored > half.#base) await half.append(await drawer.get(half.#base, stored));
    half.#changed = false;
    return half;
  }

  /** @param {Drawer} drawer */
  constructor(drawer) {
    this.#drawer = drawer;
    this.stored = 0;
  }

  /** @param {Uint8Array} bytes */
  append(bytes) {
    return this.#enqueue(() => this.#append(bytes));
  }

  /** What was appended outlives the page. */
  flush() {
    return this.#enqueue(async () => {
      if (this.#changed) await this.#drawer.put(this.#base, this.#buffer.subarray(0, this.stored - this.#base));
      this.#changed = false;
    });
  }

  /** @param {() => Promise<void>} task */
  #enqueue(task) {
    const turn = this.#last.then(task);
    this.#last = turn.catch(() => {});
    return turn;
  }

  /** @param {Uint8Array} bytes */
  async #append(bytes) {
    if (!this.#buffer.length) this.#buffer = new Uint8Array(SEGMENT);
    for (let at = 0; at < bytes.length;) {
      const filled = this.stored - this.#base;
      const piece = bytes.subarray(at, at + SEGMENT - filled);
      this.#buffer.set(piece, filled);
      this.#changed = true;
      at += piece.length;
      this.stored += piece.length;
      if (this.stored - this.#base < SEGMENT) continue;
      await this.#drawer.put(this.#base, this.#buffer);
      this.#base = this.stored;
      this.#changed = false;
    }
  }

  /**
   * @param {number} begin
   * @param {number} end At most `stored`.
   * @returns {Promise<Uint8Array>} At least one byte of them, from `begin` on.
   */
  async read(begin, end) {
    if (begin >= this.#base && this.#buffer.length) return this.#buffer.slice(begin - this.#base, end - this.#base);
    return this.#drawer.get(begin, this.#buffer.length ? Math.min(end, this.#base) : end);
  }
}
