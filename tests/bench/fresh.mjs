/** A measurement in a process of its own, of the newest Node: Node 20 has no relaxed SIMD. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { newestNode } from '../newest-node/index.mjs';

/**
 * Runs a script whose last line of output is JSON.
 * @param {string} url import.meta.url of the script
 * @param {string[]} args
 * @returns {any}
 */
export function fresh(url, args) {
  const { status, stdout, error } = spawnSync(newestNode(), [fileURLToPath(url), ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  if (status !== 0) throw new Error(`${fileURLToPath(url)} ${args.join(' ')}: ${error?.message ?? `ended with ${status}`}`);
  return JSON.parse(stdout.trim().split('\n').at(-1));
}

/** Is this module what was started? @param {string} url its import.meta.url */
export const isMain = (url) => process.argv[1] === fileURLToPath(url);
