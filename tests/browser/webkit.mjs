/**
 * WebKitGTK's MiniBrowser through WebKitWebDriver, over plain W3C WebDriver requests, on a display of its own (Xvfb).
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';

const DRIVER = ['/usr/bin/WebKitWebDriver'];
const XVFB = ['/usr/bin/Xvfb'];
const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf';
const KEYS = { Tab: '\uE004', Enter: '\uE007', Space: ' ', Escape: '\uE00C', ArrowLeft: '\uE012', ArrowUp: '\uE013', ArrowRight: '\uE014', ArrowDown: '\uE015' };
const START_TIMEOUT = 20000; // milliseconds

/** A port that is free now. */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  server.close();
  return port;
}

/** Every place where Debian's architectures put MiniBrowser. */
async function miniBrowserPaths() {
  const folders = await readdir('/usr/lib');
  return folders.map(folder => `/usr/lib/${folder}/webkit2gtk-4.1/MiniBrowser`).filter(file => file.includes('-linux-'));
}

/** Starts an X server without a screen and returns its process and display. */
async function startDisplay(program) {
  const server = spawn(program, ['-displayfd', '3', '-screen', '0', '1600x1400x24', '-nolisten', 'tcp'], { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
  const [number] = await Promise.race([
    once(/** @type {import('node:stream').Readable} */ (server.stdio[3]), 'data'),
    once(server, 'exit').then(([code]) => { throw new Error(`Xvfb ended with code ${code}`); }),
  ]);
  return { server, display: `:${String(number).trim()}` };
}

/** One WebDriver session. */
class Session {
  constructor(base) {
    this.base = base;
  }

  /** @param {string} method @param {string} command path below the session @param {object} [body] */
  async call(method, command, body) {
    const response = await fetch(this.base + command, { method, body: body && JSON.stringify(body) });
    const { value } = await response.json();
    if (value?.error) throw new Error(`WebDriver ${method} ${command}: ${value.error}: ${value.message}`);
    return value;
  }

  async element(selector) {
    return (await this.call('POST', '/element', { using: 'css selector', value: selector }))[ELEMENT];
  }

  /** @param {Function} fn @param {any[]} args */
  async evaluate(fn, args) {
    const script = `const done = arguments[arguments.length - 1];
      new Promise(resolve => resolve((${fn})(...arguments[0]))).then(value => done({ value }), error => done({ error: error.name + ': ' + error.message }));`;
    const { value, error } = await this.call('POST', '/execute/async', { script, args: [args] });
    if (error) throw new Error(error);
    return value;
  }

  pointer(actions) {
    return this.call('POST', '/actions', { actions: [{ type: 'pointer', id: 'mouse', parameters: { pointerType: 'mouse' }, actions }] });
  }
}

/** @param {Session} session @returns {import('./browsers.mjs').Page} */
function pageOf(session) {
  return {
    evaluate: (fn, ...args) => session.evaluate(fn, args),
    async click(selector) {
      await session.call('POST', `/element/${await session.element(selector)}/click`, {});
    },
    async press(key) {
      const value = KEYS[key] ?? key;
      await session.call('POST', '/actions', { actions: [{ type: 'key', id: 'keyboard', actions: [{ type: 'keyDown', value }, { type: 'keyUp', value }] }] });
    },
    async drag([start, ...points]) {
      const move = ([x, y], duration) => ({ type: 'pointerMove', duration, x: Math.round(x), y: Math.round(y), origin: 'viewport' });
      await session.pointer([move(start, 0), { type: 'pointerDown', button: 0 }, ...points.map(point => move(point, 50)), { type: 'pointerUp', button: 0 }]);
    },
    async setFile(selector, file) {
      await session.call('POST', `/element/${await session.element(selector)}/value`, { text: file });
    },
    async screenshot(file) {
      await writeFile(file, await session.call('GET', '/screenshot'), 'base64');
    },
    errors: () => [], // the driver reports none: the page's own recorder does (record-errors.js)
  };
}

/** Waits until the driver answers. */
async function ready(base) {
  for (const end = Date.now() + START_TIMEOUT; ;) {
    try {
      return await (await fetch(`${base}/status`)).json();
    } catch (error) {
      if (Date.now() > end) throw new Error(`WebKitWebDriver does not answer: ${error.message}`);
      await new Promise(resolve => setTimeout(resolve, 50));
    }
  }
}

/**
 * @param {(what: string, paths: string[]) => string} findProgram throws when there is none
 * @param {{ width: number, height: number }} defaultViewport
 * @returns {Promise<import('./browsers.mjs').Browser>}
 */
export async function launchWebKit(findProgram, defaultViewport) {
  const binary = findProgram('WebKitGTK\'s MiniBrowser', await miniBrowserPaths());
  const driverPath = findProgram('WebKitWebDriver', DRIVER);
  const { server, display } = await startDisplay(findProgram('Xvfb', XVFB));
  const home = await mkdtemp(path.join(tmpdir(), 'webkit-home-'));
  const port = await freePort();
  const driver = spawn(driverPath, [`--port=${port}`, '--host=127.0.0.1'], {
    stdio: 'ignore',
    env: { ...process.env, HOME: home, DISPLAY: display, NO_AT_BRIDGE: '1', WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: '1' },
  });
  const close = async () => {
    driver.kill();
    await once(driver, 'exit');
    server.kill();
    await rm(home, { recursive: true, force: true, maxRetries: 5 });
  };

  const base = `http://127.0.0.1:${port}`;
  /** @type {Session} */
  let session;
  try {
    await ready(base);
    const started = await new Session(base).call('POST', '/session', {
      capabilities: { alwaysMatch: { 'webkitgtk:browserOptions': { binary, args: ['--automation'] } } },
    });
    session = new Session(`${base}/session/${started.sessionId}`);
    await session.call('POST', '/timeouts', { script: 120000, pageLoad: 60000 });
  } catch (error) {
    await close();
    throw error;
  }
  return {
    name: 'webkit',
    // One window for all pages: a second session of the driver was seen to hang now and then.
    async open(url, viewport = defaultViewport) {
      await session.call('POST', '/url', { url: 'about:blank' });
      await session.call('POST', '/window/rect', viewport);
      await session.call('POST', '/url', { url });
      return pageOf(session);
    },
    async close() {
      await session.call('DELETE', '').catch(() => {});
      await close();
    },
  };
}
