/** Files kept in a folder, in Node: NAME.KEY, until it is whole NAME.KEY.part, and beside it NAME.KEY.json. */
import { nodeModule } from '../platform.js';

/** @typedef {import('./half.js').Drawer} Drawer */
/** @typedef {import('./half.js').Note} Note */
/** @typedef {import('./half.js').Shelf} Shelf */

/** Where programs keep what they can get again. @returns {string} */
export function defaultFolder() {
  const { env, platform } = globalThis.process;
  const home = nodeModule('node:os').homedir();
  const path = nodeModule('node:path');
  if (env.XDG_CACHE_HOME && path.isAbsolute(env.XDG_CACHE_HOME)) return path.join(env.XDG_CACHE_HOME, 'lamella');
  if (platform === 'win32' && env.LOCALAPPDATA) return path.join(env.LOCALAPPDATA, 'lamella', 'cache');
  return platform === 'darwin' ? path.join(home, 'Library', 'Caches', 'lamella') : path.join(home, '.cache', 'lamella');
}

/** What this process has locked. @type {Set<string>} */
const held = new Set();

/** @implements {Shelf} */
export class FolderShelf {
  #fs = nodeModule('node:fs/promises');

  /** @param {string} folder */
  constructor(folder) {
    this.folder = folder;
  }

  async open() {
    await this.#fs.mkdir(this.folder, { recursive: true });
    return this;
  }

  /** @param {string} key @param {string} url */
  #path(key, url) {
    const name = /** @type {string} */ (new URL(url).pathname.split('/').pop()).replace(/[^\w.-]/g, '_').slice(-80) || 'file';
    return nodeModule('node:path').join(this.folder, `${name}.${key}`);
  }

  /** @param {string} key @param {string} url */
  drawer(key, url) {
    return new FolderDrawer(this.#path(key, url));
  }

  async drawers() {
    /** @type {string[]} */
    const names = await this.#fs.readdir(this.folder).catch(() => []);
    return names.filter((name) => /\.[0-9a-f]{24}\.json$/.test(name)).map((name) => new FolderDrawer(nodeModule('node:path').join(this.folder, name.slice(0, -5))));
  }

  /** @param {string} key @param {string} url */
  async lock(key, url) {
    const path = `${this.#path(key, url)}.lock`;
    for (let tries = 0; tries < 2 && !held.has(path); tries++) {
      try {
        await this.#fs.writeFile(path, `${process.pid} ${started()}`, { flag: 'wx' });
        held.add(path);
        return () => {
          held.delete(path);
          nodeModule('node:fs').rmSync(path, { force: true });
        };
      } catch (error) {
        if (/** @type {any} */ (error).code !== 'EEXIST') throw error;
        const [holder, start] = (await this.#fs.readFile(path, 'utf8').catch(() => '')).split(' ').map(Number);
        const isGone = holder ? hasEnded(holder, start) : await this.#isOld(path);   // empty: another is just writing it, or was ended before it could
        if (!isGone) return null;
        await this.#fs.rm(path, { force: true });
      }
    }
    return null;
  }

  /** @param {string} path */
  async #isOld(path) {
    const { mtimeMs } = await this.#fs.stat(path).catch(() => ({ mtimeMs: Infinity }));
    return Date.now() - mtimeMs > 60_000;
  }

  async room() {
    const { bavail, bsize } = await this.#fs.statfs(this.folder);
    return bavail * bsize;
  }
}

/** When this process began, in seconds. */
const started = () => Math.round(Date.now() / 1000 - globalThis.process.uptime());

/**
 * @param {number} pid
 * @param {number} [start]
 */
function hasEnded(pid, start = NaN) {
  // In a container every program may be number 1. A minute, since the clock may be set.
  if (pid === process.pid && Math.abs(start - started()) > 60) return true;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return /** @type {any} */ (error).code === 'ESRCH';
  }
}

/** @implements {Drawer} */
class FolderDrawer {
  #fs = nodeModule('node:fs/promises');
  /** Open, or being opened. @type {Promise<any> | null} */
  #handle = null;
  #path;

  /** @param {string} path */
  constructor(path) {
    this.#path = path;
  }

  /** @returns {Promise<Note | null>} */
  async note() {
    return this.#fs.readFile(`${this.#path}.json`, 'utf8').then(JSON.parse).catch(() => null);
  }

  /** @param {Note} note */
  async setNote(note) {
    const path = `${this.#path}.json`;
    await this.#fs.writeFile(`${path}.${process.pid}`, JSON.stringify(note));
    await this.#fs.rename(`${path}.${process.pid}`, path);
  }

  async bytes() {
    const sizeOf = (/** @type {string} */ path) => this.#fs.stat(path).then((/** @type {any} */ stat) => stat.size, () => null);
    return await sizeOf(this.#path) ?? await sizeOf(`${this.#path}.part`) ?? 0;
  }

  /** @param {number} at @param {Uint8Array} bytes */
  async put(at, bytes) {
    const path = `${this.#path}.part`;
    const handle = await (this.#handle ??= this.#fs.open(path, 'r+').catch(() => this.#fs.open(path, 'w+')));
    if (!at) await handle.truncate(0);
    for (let done = 0; done < bytes.length;) done += (await handle.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
  }

  /** @param {number} begin @param {number} end */
  async get(begin, end) {
    const handle = await (this.#handle ??= this.#fs.open(this.#path).catch(() => this.#fs.open(`${this.#path}.part`, 'r+')));
    const bytes = new Uint8Array(end - begin);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, begin);
    return bytes.subarray(0, bytesRead);
  }

  async idle() {
    const handle = this.#handle;
    this.#handle = null;
    await (await handle)?.close();
  }

  async finish() {
    await this.idle();
    await this.#fs.rename(`${this.#path}.part`, this.#path).catch((/** @type {unknown} */ error) => this.#fs.stat(this.#path).catch(() => { throw error; }));
  }

  async remove() {
    await this.idle().catch(() => {});
    for (const ending of ['.json', '.part', '']) await this.#fs.rm(this.#path + ending, { force: true });
  }
}
