/** Where packed experts are kept outside of the engine's memory. */
import { LamellaError } from '../errors.js';
import { nodeModule } from '../platform.js';

/**
 * @typedef {object} Store
 * @property {(at: number, bytes: Uint8Array) => Promise<void>} write
 * @property {() => Promise<void>} written Everything is.
 * @property {(at: number, bytes: number) => Promise<Uint8Array>} read The caller's own.
 * @property {() => Promise<void>} close What was kept is gone.
 */

const NAME = 'lamella-experts';

/**
 * A file in Node or in the origin's private file system, of which nothing remains.
 * @param {number} bytes What it is to hold.
 * @param {string | undefined} folder
 * @returns {Promise<Store | null>} null where there are no files.
 */
export async function openFile(bytes, folder) {
  const fs = nodeModule('node:fs/promises');
  return fs ? openNodeFile(fs, bytes, folder ?? nodeModule('node:os').tmpdir()) : openPrivateFile(bytes);
}

/**
 * @param {any} fs
 * @param {number} bytes
 * @param {string} folder
 * @returns {Promise<Store>}
 */
async function openNodeFile(fs, bytes, folder) {
  await fs.mkdir(folder, { recursive: true });
  const { bavail, bsize } = await fs.statfs(folder);
  checkRoom(bytes, bavail * bsize, folder);
  const path = nodeModule('node:path').join(folder, `${NAME}-${process.pid}-${nodeModule('node:crypto').randomUUID()}`);
  const handle = await fs.open(path, 'wx+', 0o600);
  // Where a file can be open and have no name, it goes with the process.
  const unlinked = await fs.unlink(path).then(() => true, () => false);
  return {
    async write(at, data) {
      for (let done = 0; done < data.length;) done += (await handle.write(data, done, data.length - done, at + done)).bytesWritten;
    },
    async written() {},
    async read(at, count) {
      const data = new Uint8Array(count);
      let done = 0;
      for (let got = 1; done < count && got; done += got) got = (await handle.read(data, done, count - done, at + done)).bytesRead;
      return data.subarray(0, done);
    },
    async close() {
      await handle.close();
      if (!unlinked) await fs.rm(path, { force: true });
    },
  };
}

/** @param {number} bytes @returns {Promise<Store | null>} */
async function openPrivateFile(bytes) {
  const root = await navigator.storage?.getDirectory?.().catch(() => null);
  if (!root || typeof FileSystemFileHandle.prototype.createWritable !== 'function') return null;
  const folder = await root.getDirectoryHandle(NAME, { create: true });
  await sweep(folder);
  const { quota = Infinity, usage = 0 } = await navigator.storage.estimate();
  checkRoom(bytes, quota - usage, "the origin's private files");
  const name = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('');
  const release = await hold(name);
  const handle = await folder.getFileHandle(name, { create: true });
  const writable = await handle.createWritable();
  /** @type {File | null} */
  let file = null;
  return {
    write: (at, data) => writable.write({ type: 'write', position: at, data: /** @type {Uint8Array<ArrayBuffer>} */ (data) }),
    async written() {
      await writable.close();
      file = await handle.getFile();
    },
    read: async (at, count) => new Uint8Array(await /** @type {File} */ (file).slice(at, at + count).arrayBuffer()),
    async close() {
      if (!file) await writable.abort().catch(() => {});
      await folder.removeEntry(name);
      release();
    },
  };
}

/**
 * Holds a lock as long as the page lives: so another knows that the file is in use.
 * @param {string} name
 * @returns {Promise<() => void>}
 */
async function hold(name) {
  if (!navigator.locks) return () => {};
  return new Promise((resolve) => {
    navigator.locks.request(`${NAME}:${name}`, () => new Promise((release) => { resolve(() => release(null)); }));
  });
}

/** Removes what pages have left that were closed. @param {FileSystemDirectoryHandle} folder */
async function sweep(folder) {
  const names = [];
  for await (const name of /** @type {any} */ (folder).keys()) names.push(name);
  for (const name of names) {
    await navigator.locks?.request(`${NAME}:${name}`, { ifAvailable: true }, async (lock) => {
      if (lock) await folder.removeEntry(name).catch(() => {});
    });
  }
}

/**
 * @param {number} bytes
 * @param {number} room
 * @param {string} where
 */
function checkRoom(bytes, room, where) {
  if (bytes <= room) return;
  throw new LamellaError('file', `experts: ${bytes} bytes are to be kept in ${where}, where ${Math.round(room)} are free; experts: { store: 'memory' } keeps them in memory outside of the engine`);
}

/** In memory, but not in the engine's. @returns {Store} */
export function openMemory() {
  /** @type {Map<number, Uint8Array>} */
  const pieces = new Map();
  return {
    async write(at, data) { pieces.set(at, data); },
    async written() {},
    async read(at, count) {
      const data = new Uint8Array(count);
      let done = 0;
      for (let piece; done < count && (piece = pieces.get(at + done)); done += piece.length) data.set(piece, done);
      return data.subarray(0, done);
    },
    async close() { pieces.clear(); },
  };
}
