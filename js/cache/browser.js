/** Files kept by a browser: in the origin's private file system, or by the Cache API where that cannot be written. */
import { SEGMENT } from './half.js';

/** @typedef {import('./half.js').Drawer} Drawer */
/** @typedef {import('./half.js').Note} Note */
/** @typedef {import('./half.js').Shelf} Shelf */
/**
 * Small blobs by name, in a folder of their own for each file.
 * @typedef {object} Box
 * @property {(key: string, name: string) => Promise<Blob | null>} get
 * @property {(key: string, name: string, bytes: Uint8Array<ArrayBuffer>) => Promise<void>} put
 * @property {(key: string) => Promise<string[]>} names
 * @property {(key: string, name: string) => Promise<void>} remove
 * @property {() => Promise<string[]>} keys
 */

const NAME = 'lamella';
/** What this page has locked, where there are no locks between pages. @type {Set<string>} */
const held = new Set();

/** @returns {Promise<BrowserShelf>} */
export async function openBrowserShelf() {
  return new BrowserShelf(await openFiles().catch(() => null) ?? await openCaches());
}

/** @implements {Shelf} */
class BrowserShelf {
  /** @param {Box} box */
  constructor(box) {
    this.box = box;
  }

  /** @param {string} key */
  drawer(key) {
    return new BoxDrawer(this.box, key);
  }

  async drawers() {
    return (await this.box.keys()).map((key) => this.drawer(key));
  }

  /** @param {string} key @returns {Promise<(() => void) | null>} */
  async lock(key) {
    if (held.has(key)) return null;
    held.add(key);
    const forget = () => { held.delete(key); };
    if (!navigator.locks) return forget;
    return new Promise((resolve, reject) => {
      navigator.locks.request(`${NAME}:${key}`, { ifAvailable: true }, (lock) => {
        if (lock) return new Promise((release) => { resolve(() => { forget(); release(null); }); });
        forget();
        return resolve(null);
      }).catch((cause) => { forget(); reject(cause); });
    });
  }

  async room() {
    const { quota, usage = 0 } = await navigator.storage?.estimate?.() ?? {};
    return quota === undefined ? undefined : quota - usage;
  }
}

/** @implements {Drawer} */
class BoxDrawer {
  /** Segments that were opened. @type {Map<number, Blob | null>} */
  #opened = new Map();

  /** @param {Box} box @param {string} key */
  constructor(box, key) {
    this.box = box;
    this.key = key;
  }

  /** @returns {Promise<Note | null>} */
  async note() {
    const blob = await this.box.get(this.key, 'note').catch(() => null);
    return blob ? blob.text().then(JSON.parse).catch(() => null) : null;
  }

  /** @param {Note} note */
  async setNote(note) {
    await this.box.put(this.key, 'note', new TextEncoder().encode(JSON.stringify(note)));
  }

  async bytes() {
    for (let i = 0; ; i++) {
      const size = (await this.#segment(i))?.size ?? 0;
      if (size < SEGMENT) return i * SEGMENT + size;
    }
  }

  /** @param {number} i */
  async #segment(i) {
    if (!this.#opened.has(i)) this.#opened.set(i, await this.box.get(this.key, String(i)).catch(() => null));
    return /** @type {Blob | null} */ (this.#opened.get(i));
  }

  /** @param {number} at @param {Uint8Array} bytes */
  async put(at, bytes) {
    const i = at / SEGMENT;
    this.#opened.delete(i);
    await this.box.put(this.key, String(i), bytes.slice());
    if (at) return;
    this.#opened.clear();
    for (const name of await this.box.names(this.key)) if (Number(name) > 0) await this.box.remove(this.key, name);
  }

  /** @param {number} begin @param {number} end */
  async get(begin, end) {
    const i = Math.floor(begin / SEGMENT);
    const blob = await this.#segment(i);
    return new Uint8Array(await (blob ?? new Blob()).slice(begin - i * SEGMENT, end - i * SEGMENT).arrayBuffer());
  }

  async idle() {
    this.#opened.clear();
  }

  async finish() {}

  async remove() {
    this.#opened.clear();
    // The note first: bytes without one are nobody's.
    for (const name of (await this.box.names(this.key)).sort().reverse()) await this.box.remove(this.key, name);
  }
}

/** The origin's private file system. @returns {Promise<Box | null>} null where a page cannot write to it. */
async function openFiles() {
  const root = await navigator.storage?.getDirectory?.();
  if (!root || typeof FileSystemFileHandle.prototype.createWritable !== 'function') return null;
  const top = await root.getDirectoryHandle(NAME, { create: true });
  const folder = (/** @type {string} */ key) => top.getDirectoryHandle(key, { create: true });
  return {
    get: async (key, name) => (await top.getDirectoryHandle(key)).getFileHandle(name).then((file) => file.getFile()),
    async put(key, name, bytes) {
      const writable = await (await (await folder(key)).getFileHandle(name, { create: true })).createWritable();
      try {
        await writable.write(bytes);
        await writable.close();
      } catch (error) {
        await writable.abort().catch(() => {});
        throw error;
      }
    },
    names: async (key) => list(await folder(key)),
    async remove(key, name) {
      const own = await folder(key);
      await own.removeEntry(name);
      if (!(await list(own)).length) await top.removeEntry(key);
    },
    keys: () => list(top),
  };
}

/** @param {FileSystemDirectoryHandle} folder @returns {Promise<string[]>} */
async function list(folder) {
  const names = [];
  for await (const name of /** @type {any} */ (folder).keys()) names.push(name);
  return names;
}

/** @returns {Promise<Box>} */
async function openCaches() {
  const store = await caches.open(NAME);
  const address = (/** @type {string} */ key, /** @type {string} */ name) => `https://${NAME}.invalid/${key}/${name}`;
  const parts = async () => (await store.keys()).map(({ url }) => url.split('/').slice(3));
  return {
    get: async (key, name) => await (await store.match(address(key, name)))?.blob() ?? null,
    put: (key, name, bytes) => store.put(address(key, name), new Response(bytes)),
    names: async (key) => (await parts()).filter(([own]) => own === key).map(([, name]) => name),
    async remove(key, name) { await store.delete(address(key, name)); },
    keys: async () => [...new Set((await parts()).map(([key]) => key))],
  };
}
