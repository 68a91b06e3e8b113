/** What a test measured against PyTorch, kept for the table of README.md (tests/parity.mjs). */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const FOLDER = fileURLToPath(new URL('../../build/parity', import.meta.url));

/** @typedef {{ error: number, tolerance: number, cases: number }} Measured The worst error of so many cases, and what was allowed. */

/** Errors of one suite in one build. */
export class Parity {
  /** @param {string} suite The test file's name. @param {string} build */
  constructor(suite, build) {
    this.suite = suite;
    this.build = build;
    /** @type {Record<string, Measured>} */
    this.rows = {};
  }

  /**
   * @param {string} name 'nn.Linear'
   * @param {number} error
   * @param {number} tolerance
   */
  add(name, error, tolerance) {
    const row = this.rows[name] ??= { error: 0, tolerance, cases: 0 };
    row.error = Math.max(row.error, error);
    row.tolerance = Math.max(row.tolerance, tolerance);
    row.cases++;
  }

  /** Call it when the suite has ended. */
  write() {
    mkdirSync(FOLDER, { recursive: true });
    writeFileSync(join(FOLDER, `${this.suite}.${this.build}.json`), JSON.stringify({ build: this.build, rows: this.rows }, null, 1));
    for (const [name, { error, tolerance, cases }] of Object.entries(this.rows)) {
      console.log(`${this.build.padEnd(16)} ${name.padEnd(32)} ${String(cases).padStart(3)} case${cases === 1 ? ' ' : 's'}  error ${error.toExponential(1)}  tolerance ${tolerance}`);
    }
  }
}
