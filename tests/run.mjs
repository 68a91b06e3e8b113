// Every test, after setting up what is missing.  npm test [-- STEP...]
// Steps: build types native node parity browser packages coverage. A step that fails does not stop the others; the exit status tells.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from '../web/build.mjs';
import { setupPackages, setupTests } from '../web/setup.mjs';
import { newestNode } from './newest-node/index.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** Milliseconds that one test may take, on a busy machine too. */
const PATIENCE = 600_000;
const COVERAGE = join(ROOT, 'build/coverage');
const PARITY = join(ROOT, 'build/parity');

/**
 * @param {string} program
 * @param {string[]} args
 * @param {import('node:child_process').SpawnSyncOptions} [options]
 * @returns {boolean} Whether it succeeded.
 */
function run(program, args, options) {
  console.log(`\n$ ${[program, ...args].map(word => (word.startsWith(ROOT) ? relative(ROOT, word) : word)).join(' ')}`);
  const { status, error } = spawnSync(program, args, { cwd: ROOT, stdio: 'inherit', ...options });
  if (error) console.error(error.message);
  return status === 0;
}

/**
 * @param {string} folder
 * @param {RegExp} pattern
 */
function files(folder, pattern) {
  const from = join(ROOT, folder);
  if (!existsSync(from)) return [];
  return readdirSync(from, { recursive: true, encoding: 'utf8' }).filter(name => pattern.test(name) && !name.includes('node_modules')).sort().map(name => join(from, name));
}

/**
 * A folder's *.test.js under one Node.
 * @param {string} folder
 * @param {string} [node]
 * @param {NodeJS.ProcessEnv} [env]
 */
function nodeTests(folder, node = process.execPath, env = {}) {
  const tests = files(folder, /\.test\.js$/);
  return !tests.length || run(node, ['--test', '--test-reporter=spec', `--test-timeout=${PATIENCE}`, ...tests], { env: { ...process.env, ...env } });
}

/**
 * The programs of tests/c, built with sanitizers.
 * @param {string} name
 * @param {string} sanitize
 * @param {string[]} options
 * @param {string[]} [only] Of ctest.
 */
function native(name, sanitize, options, only = []) {
  const folder = join(ROOT, 'build', name);
  for (const file of files(`build/${name}`, /\.gcda$/)) rmSync(file);   // counts of the last run
  return run('cmake', ['-S', ROOT, '-B', folder, '-DLAMELLA_TESTS=ON', `-DLAMELLA_SANITIZE=${sanitize}`, ...options], { stdio: ['ignore', 'ignore', 'inherit'] }) &&
    run('cmake', ['--build', folder, '--parallel', String(availableParallelism())], { stdio: ['ignore', 'ignore', 'inherit'] }) &&
    run('ctest', ['--test-dir', folder, '--output-on-failure', '--no-tests=error', ...only]);
}

/** Executed lines of src/, as gcov saw them. */
function coverageOfC() {
  const counts = files('build/native', /src.*\.gcda$/);
  if (!counts.length) return true;
  const { stdout } = spawnSync('gcov', ['--no-output', '--source-prefix', ROOT.replace(/\/$/, ''), '--relative-only', ...counts], { cwd: ROOT, encoding: 'utf8', maxBuffer: 1 << 28 });
  let lines = 0, executed = 0;
  console.log('\nExecuted lines of src/ (native tests)');
  for (const [, file, percent, count] of stdout.matchAll(/^File '(src\/.*\.c)'\nLines executed:([\d.]+)% of (\d+)/gm)) {
    console.log(`${file.padEnd(36)}${percent.padStart(7)} % of ${count.padStart(4)}`);
    lines += Number(count);
    executed += Number(percent) / 100 * Number(count);
  }
  console.log(`${'src/'.padEnd(36)}${(100 * executed / lines).toFixed(2).padStart(7)} % of ${lines}`);
  return lines > 0;
}

/** @type {Record<string, () => boolean | Promise<boolean>>} */
const steps = {
  build: () => build().then(() => true, error => {
    console.error(error.message);
    return false;
  }),
  types: () => run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'js/tsconfig.json']),
  native: () => [
    native('native', 'address,undefined', ['-DLAMELLA_COVERAGE=ON']),
    nodeTests('tests/native'),
    native('tsan', 'thread', [], ['-R', '^(pool|engine)$']),
  ].every(Boolean),
  node: () => {
    for (const old of [COVERAGE, PARITY]) rmSync(old, { recursive: true, force: true });
    return [...new Set([process.execPath, newestNode()])].map(node => nodeTests('tests/node', node, { NODE_V8_COVERAGE: COVERAGE })).every(Boolean);
  },
  parity: () => run(process.execPath, ['tests/parity.mjs']),
  browser: () => {
    if (nodeTests('tests/browser')) return true;
    // Browsers crash now and then.
    // What is wrong with lamella fails twice.
    console.log('\nThe browser tests once more: did a browser fail, or lamella?');
    return nodeTests('tests/browser');
  },
  packages: () => nodeTests('tests/packages'),
  coverage: () => [
    coverageOfC(),
    !existsSync(COVERAGE) || run(process.execPath, ['node_modules/c8/bin/c8.js', 'report', '--temp-directory', COVERAGE, '--all',
      '--include', 'js/**/*.js', '--include', 'web/*.js', '--reporter', 'text']),
  ].every(Boolean),
};

setupPackages();
setupTests();
const wanted = process.argv.slice(2);
const unknown = wanted.find(name => !(name in steps));
if (unknown) throw new Error(`no step ${unknown}; there are ${Object.keys(steps).join(', ')}`);
const results = [];
for (const [name, step] of Object.entries(steps)) {
  if (wanted.length && !wanted.includes(name)) continue;
  const start = performance.now();
  results.push({ name, passed: await step(), seconds: (performance.now() - start) / 1000 });
}
console.log();
for (const { name, passed, seconds } of results) console.log(`${passed ? 'passed' : 'FAILED'}  ${name.padEnd(10)}${seconds.toFixed(1).padStart(7)} s`);
process.exitCode = results.every(({ passed }) => passed) ? 0 : 1;
