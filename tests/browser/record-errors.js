/**
 * Runs before anything else in a page under test: collects every error, and measures the longest time in which the page could not
 * have answered the user.
 */
globalThis.recorded = { errors: [], ticks: 0, longestPause: 0 };
{
  const { recorded } = globalThis;
  const record = text => recorded.errors.push(text);
  addEventListener('error', event => {
    const { src, href } = /** @type {any} */ (event.target);
    record(event.message || `${src || href || 'something'} did not load`);
  }, true);
  addEventListener('unhandledrejection', event => record(`unhandled: ${event.reason}`));
  addEventListener('securitypolicyviolation', event => record(`${event.violatedDirective} forbids ${event.blockedURI || 'inline'} (${event.sourceFile}:${event.lineNumber})`));
  const consoleError = console.error;
  console.error = (...values) => {
    record(values.join(' '));
    consoleError.apply(console, values);
  };
  let last = performance.now();
  setInterval(() => {
    const now = performance.now();
    recorded.ticks++;
    recorded.longestPause = Math.max(recorded.longestPause, now - last);
    last = now;
  }, 10);
}
