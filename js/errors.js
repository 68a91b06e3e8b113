/**
 * Every error that lamella throws on purpose.
 *
 * `code` is one of a few fixed words for programs, `message` says what was expected and what came, `path` names the module,
 * weight, file or address it is about, and `cause` is the error underneath, if any.
 */
export class LamellaError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{ path?: string, cause?: unknown }} [details]
   */
  constructor(code, message, { path, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'LamellaError';
    /** @type {string} */
    this.code = code;
    /** @type {string | undefined} */
    this.path = path;
  }
}
