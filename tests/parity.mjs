// The table of README.md: each class and function with its worst error over all builds, as the tests of tests/node measured it.
//   node tests/parity.mjs            compares the table with the last `npm test -- node` (a step of npm test)
//   node tests/parity.mjs --write    writes it
// Errors differ a little from machine to machine, so a larger error than the table's, or another number of cases, is only reported. What fails: a class
// without a measurement, a row too many or too few, another tolerance, an error above the tolerance.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { models, Module, nn } from '../js/index.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const RESULTS = join(ROOT, 'build/parity');
const README = join(ROOT, 'README.md');
const [BEGIN, END] = ['<!-- measured: node tests/parity.mjs --write -->', '<!-- /measured -->'];
const BUILDS = ['relaxed', 'relaxed-threads', 'simd', 'simd-threads'];

/** @typedef {{ error: number, tolerance: number, cases: number, builds: Set<string> }} Row */

/** What the tests measured, by name. @returns {Map<string, Row>} */
function measured() {
  /** @type {Map<string, Row>} */
  const rows = new Map();
  /** Cases by name and build. @type {Map<string, number>} */
  const cases = new Map();
  for (const file of existsSync(RESULTS) ? readdirSync(RESULTS) : []) {
    const { build, rows: found } = JSON.parse(readFileSync(join(RESULTS, file), 'utf8'));
    for (const [name, { error, tolerance, cases: count }] of Object.entries(found ?? {})) {
      const row = rows.get(name) ?? { error: 0, tolerance, cases: 0, builds: new Set() };
      rows.set(name, row);
      cases.set(`${name} ${build}`, (cases.get(`${name} ${build}`) ?? 0) + count);
      row.error = Math.max(row.error, error ?? Infinity);   // JSON writes Infinity as null
      row.tolerance = Math.max(row.tolerance, tolerance);
      row.cases = Math.max(row.cases, cases.get(`${name} ${build}`) ?? 0);
      row.builds.add(build);
    }
  }
  if (!rows.size) throw new Error('nothing was measured: run npm test -- node first');
  return rows;
}

/** Two digits, rounded up. @param {number} error */
function rounded(error) {
  if (!error) return '0';
  const unit = 10 ** (Math.floor(Math.log10(error)) - 1);
  return (Math.ceil(error / unit - 1e-9) * unit).toExponential(1);
}

/** Every class that must have been compared: all modules but the base of them, and a list, which computes nothing. @returns {string[]} */
function classes() {
  return Object.entries({ nn, models }).flatMap(([space, exported]) => Object.entries(exported)
    .filter(([, value]) => value.prototype instanceof Module && value !== nn.ModuleList)
    .map(([name]) => `${space}.${name}`));
}

/** @param {Map<string, Row>} rows */
function table(rows) {
  const group = (/** @type {string} */ name) => ['nn.', 'models.', 'F.'].findIndex((start) => name.startsWith(start));
  const names = [...rows.keys()].sort((a, b) => (a.toLowerCase() < b.toLowerCase() ? -1 : 1));
  const lines = (/** @type {string[]} */ shown) => ['| | cases | worst error | tolerance |', '|---|---:|---:|---:|', ...shown.map((name) => {
    const { cases, error, tolerance } = /** @type {Row} */ (rows.get(name));
    return `| ${name} | ${cases} | ${rounded(error)} | ${tolerance.toExponential()} |`;
  })];
  const [own, whole, functions, others] = [0, 1, 2, -1].map((wanted) => names.filter((name) => group(name) === wanted));
  return [BEGIN, ...lines([...own, ...whole, ...others]), '', `<details><summary>${functions.length} functions</summary>`, '', ...lines(functions), '', '</details>', END].join('\n');
}

/** The table as the README has it. @param {string} text @returns {Map<string, { cases: number, error: number, tolerance: number }>} */
function stated(text) {
  return new Map([...text.matchAll(/^\| (.+?) \| (\d+) \| (\S+) \| (\S+) \|$/gm)]
    .map(([, name, cases, error, tolerance]) => [name, { cases: Number(cases), error: Number(error), tolerance: Number(tolerance) }]));
}

/**
 * @param {Map<string, Row>} rows
 * @param {ReturnType<typeof stated>} table
 * @returns {{ wrong: string[], stale: string[] }}
 */
function compare(rows, table) {
  const wrong = classes().filter((name) => !rows.has(name)).map((name) => `${name} was not compared with PyTorch`);
  const stale = [];
  for (const [name, { error, tolerance, cases, builds }] of rows) {
    const row = table.get(name);
    if (!(error <= tolerance)) wrong.push(`${name}: error ${error}, tolerance ${tolerance}`);
    const missing = BUILDS.filter((build) => !builds.has(build));
    if (missing.length) stale.push(`${name} did not run in ${missing.join(', ')}`);
    if (!row) wrong.push(`README.md lacks ${name}`);
    else if (row.tolerance !== tolerance) wrong.push(`${name}: README.md states the tolerance ${row.tolerance}, it is ${tolerance}`);
    else if (row.cases !== cases) stale.push(`${name}: README.md states ${row.cases} cases, there are ${cases}`);
    else if (Number(rounded(error)) > row.error) stale.push(`${name}: README.md states an error of ${row.error}, it was ${error.toExponential(2)}`);
  }
  for (const name of table.keys()) if (!rows.has(name)) wrong.push(`README.md has ${name}, which no test measured`);
  return { wrong, stale };
}

const rows = measured();
const readme = readFileSync(README, 'utf8');
const [start, end] = [readme.indexOf(BEGIN), readme.indexOf(END)];
if (start < 0 || end < start) throw new Error(`README.md has no ${BEGIN} ... ${END}`);
let section = readme.slice(start, end + END.length);
if (process.argv.includes('--write')) {
  const incomplete = [...rows].filter(([, { builds }]) => BUILDS.some((build) => !builds.has(build))).map(([name]) => name);
  if (incomplete.length) throw new Error(`not measured in every build: ${incomplete.join(', ')}; run npm test -- node`);
  section = table(rows);
  writeFileSync(README, readme.slice(0, start) + section + readme.slice(end + END.length));
}
const { wrong, stale } = compare(rows, stated(section));
for (const line of stale) console.log(`note: ${line}`);
for (const line of wrong) console.error(line);
console.log(wrong.length ? 'README.md: the table of errors is wrong; node tests/parity.mjs --write' : `README.md: ${rows.size} rows agree with what was measured`);
process.exitCode = wrong.length ? 1 : 0;
