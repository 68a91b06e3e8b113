import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));

/**
 * Path of the newest Node, installed if need be; where there is no package for this system, the one that is running.
 * @returns {string}
 */
export function newestNode() {
  if (process.platform !== 'linux' || !['x64', 'arm64'].includes(process.arch)) return process.execPath;
  const program = `${here}node_modules/node-linux-${process.arch}/bin/node`;
  if (!existsSync(program)) execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: here, stdio: ['ignore', 'ignore', 'inherit'] });
  return program;
}
