/** Numbers as people read them. */

/** @param {number} bytes @returns {string} `'12.3 MB'`, in steps of 1000 */
export function formatBytes(bytes) {
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(0)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

/** @param {number} milliseconds @returns {string} `'0.42 ms'`, `'17 ms'`, `'1.25 s'` */
export function formatTime(milliseconds) {
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(2)} s`;
  return `${milliseconds.toFixed(milliseconds < 1 ? 2 : milliseconds < 10 ? 1 : 0)} ms`;
}

/** @param {number} fraction 0 to 1 @returns {string} `'87.1 %'`, `'< 0.1 %'` */
export function formatPercent(fraction) {
  return fraction < 0.0005 ? '<\u00a00.1\u00a0%' : `${(100 * fraction).toFixed(1)}\u00a0%`;
}

/**
 * The build in words.
 * @param {{ build: string, threads: number }} engine what `init` answers
 * @returns {string} `'relaxed SIMD, 2 threads'`
 */
export function formatBuild({ build, threads }) {
  return `${build.startsWith('relaxed') ? 'relaxed SIMD' : 'SIMD'}, ${threads === 1 ? '1 thread' : `${threads} threads`}`;
}

/** What went wrong, in a sentence: a LamellaError's own message, with the tensor or file it names. */
export function describeError(error) {
  const text = error?.message || String(error);
  return error?.path && !text.includes(error.path) ? `${error.path}: ${text}` : text;
}
