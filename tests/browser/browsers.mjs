/**
 * One small interface over three browsers: Chromium (playwright-core), Firefox (puppeteer-core, WebDriver BiDi) and WebKitGTK
 * (its own WebDriver, in webkit.mjs).
 *
 *     const browser = await launch('firefox');
 *     const page = await browser.open('http://127.0.0.1:8080/demo/', { width: 1280, height: 900 });
 *     const title = await page.evaluate(() => document.title);
 *     await browser.close();
 */
import { existsSync } from 'node:fs';
import { launchWebKit } from './webkit.mjs';

/**
 * @typedef {object} Page
 * @property {(fn: Function, ...args: any[]) => Promise<any>} evaluate runs a function in the page; arguments and result are JSON
 * @property {(selector: string) => Promise<void>} click the middle of the element, after scrolling to it
 * @property {(key: string) => Promise<void>} press one key: `'Tab'`, `'Enter'`, `'Space'`, `'ArrowRight'` ...
 * @property {(points: [number, number][]) => Promise<void>} drag presses the pointer at the first point of the viewport, in CSS pixels, and lifts it at the last
 * @property {(selector: string, file: string) => Promise<void>} setFile chooses a file in a file input
 * @property {(file: string) => Promise<void>} screenshot writes a PNG of the viewport
 * @property {() => string[]} errors what the browser itself reported: errors on the console and uncaught ones
 */
/** A browser holds one page at a time: `open` closes the one before. */
/** @typedef {{ name: string, open: (url: string, viewport?: { width: number, height: number }) => Promise<Page>, close: () => Promise<void> }} Browser */

/** The browsers to test: all three, or those that BROWSERS names: `BROWSERS=webkit node --test tests/browser`. */
export const BROWSERS = /** @type {('chromium' | 'firefox' | 'webkit')[]} */ (process.env.BROWSERS?.split(',') ?? ['chromium', 'firefox', 'webkit']);
export const VIEWPORT = { width: 1280, height: 900 };

const HOW_TO_INSTALL = 'Run "npm run setup", or install the Debian packages chromium, firefox-esr, webkit2gtk-driver and xvfb.';
const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
export const FIREFOX = ['/usr/bin/firefox-esr', '/usr/bin/firefox'];
const CHROMIUM_FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
];
const FIREFOX_PREFERENCES = {
  'app.update.auto': false,
  'browser.aboutConfig.showWarning': false,
  'datareporting.healthreport.uploadEnabled': false,
  'media.navigator.permission.disabled': true,
  'media.navigator.streams.fake': true,
  'toolkit.telemetry.enabled': false,
};

/**
 * The first of some paths that exists.
 * @param {string} what
 * @param {string[]} paths
 * @returns {string}
 */
export function findProgram(what, paths) {
  const found = paths.find(path => existsSync(path));
  if (!found) throw new Error(`${what} was not found (looked for ${paths.join(', ')}). ${HOW_TO_INSTALL}`);
  return found;
}

/** Calls a function with JSON arguments, as source text. */
const callText = (fn, args) => `(${fn})(${args.map(arg => JSON.stringify(arg)).join(', ')})`;

/** Presses, moves and lifts a mouse that has playwright's methods; puppeteer's has the same. */
async function dragMouse(mouse, [start, ...points]) {
  await mouse.move(...start);
  await mouse.down();
  for (const point of points) await mouse.move(...point, { steps: 4 });
  await mouse.up();
}

async function launchChromium() {
  const { chromium } = await import('playwright-core');
  const browser = await chromium.launch({ executablePath: findProgram('Chromium', CHROMIUM), args: CHROMIUM_FLAGS });
  let context = null;
  return {
    name: 'chromium',
    async open(url, viewport = VIEWPORT) {
      await context?.close();
      context = await browser.newContext({ viewport });
      const page = await context.newPage();
      const errors = [];
      page.on('console', message => message.type() === 'error' && errors.push(`${message.text()} ${message.location().url}`));
      page.on('pageerror', error => errors.push(String(error)));
      await page.goto(url);
      return {
        evaluate: (fn, ...args) => page.evaluate(callText(fn, args)),
        click: selector => page.click(selector),
        press: key => page.keyboard.press(key),
        drag: points => dragMouse(page.mouse, points),
        setFile: (selector, file) => page.setInputFiles(selector, file),
        screenshot: async file => void await page.screenshot({ path: file }),
        errors: () => errors,
      };
    },
    close: () => browser.close(),
  };
}

async function launchFirefox() {
  const { default: puppeteer } = await import('puppeteer-core');
  const browser = await puppeteer.launch({
    browser: 'firefox', executablePath: findProgram('Firefox', FIREFOX), headless: true, extraPrefsFirefox: FIREFOX_PREFERENCES,
  });
  /** @type {import('puppeteer-core').Page | null} */
  let open = null;
  return {
    name: 'firefox',
    async open(url, viewport = VIEWPORT) {
      const page = await browser.newPage();
      await open?.close();
      open = page;
      const errors = [];
      page.on('console', message => message.type() === 'error' && errors.push(message.text()));
      page.on('pageerror', error => errors.push(String(error)));
      await page.setViewport(viewport);
      await page.goto(url);
      return {
        evaluate: (fn, ...args) => page.evaluate(callText(fn, args)),
        click: selector => page.click(selector),
        press: key => page.keyboard.press(/** @type {any} */ (key === 'Space' ? ' ' : key)),
        drag: points => dragMouse(page.mouse, points),
        setFile: async (selector, file) => (await page.$(selector)).uploadFile(file),
        screenshot: async file => void await page.screenshot({ path: /** @type {any} */ (file) }),
        errors: () => errors,
      };
    },
    close: () => browser.close(),
  };
}

/**
 * Starts a browser without a window. Rejects with a sentence when it is not installed.
 * @param {'chromium' | 'firefox' | 'webkit'} name
 * @returns {Promise<Browser>}
 */
export function launch(name) {
  return { chromium: launchChromium, firefox: launchFirefox, webkit: () => launchWebKit(findProgram, VIEWPORT) }[name]();
}
