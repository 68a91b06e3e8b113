/** Where the code runs. */

/** Node, Deno or Bun: there are files. */
export const isNode = typeof globalThis.process?.getBuiltinModule === 'function' && Boolean(globalThis.process.versions?.node);

/** A browser, or a worker in one: it decodes pictures and has canvases. */
export const hasCanvas = typeof createImageBitmap === 'function' && (typeof OffscreenCanvas === 'function' || typeof document === 'object');

/**
 * A module of Node, by a name that no bundler looks up.
 * @param {string} name 'node:fs/promises'
 * @returns {any} undefined in browsers.
 */
export const nodeModule = (name) => (isNode ? globalThis.process.getBuiltinModule(/** @type {any} */ (name)) : undefined);
