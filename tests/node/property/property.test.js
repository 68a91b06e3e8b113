/**
 * Every function of the engine against plain loops, thousands of times: random shapes, options and numbers, one model run with several
 * sizes in turn. See check.js for the seed and for repeating a single case. LAMELLA_BUILD names a build other than the default,
 * LAMELLA_CASES how many cases of each.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { F } from '../../../js/index.js';
import { Trace } from '../../../js/trace.js';
import { check, leftOut, runCase } from './check.js';
import * as arithmetic from './draw/arithmetic.js';
import * as attention from './draw/attention.js';
import * as composition from './draw/composition.js';
import * as experts from './draw/experts.js';
import * as layers from './draw/layers.js';
import * as lookup from './draw/lookup.js';
import * as pool from './draw/pool.js';
import * as rotary from './draw/rotary.js';
import * as shape from './draw/shape.js';
import * as sparseAttention from './draw/sparse_attention.js';
import { decoder, runSession } from './session.js';

const engine = process.env.LAMELLA_BUILD ? { build: process.env.LAMELLA_BUILD } : {};
const properties = { ...arithmetic, ...attention, ...composition, ...experts, ...layers, ...lookup, ...pool, ...rotary, ...shape, ...sparseAttention };
/** What has most paths through the engine. @type {Record<string, number>} */
const MORE = { composition: 2500, conv2d: 2000, linear: 2000, matmul: 2000, scaledDotProductAttention: 2000 };

describe('properties', () => {
  for (const [name, draw] of Object.entries(properties)) {
    it(name, { skip: leftOut(name) }, async (t) => {
      const { cases, runs } = await check(name, draw, Number(process.env.LAMELLA_CASES ?? MORE[name] ?? 1000), engine);
      t.diagnostic(`${cases} cases, ${runs} runs`);
    });
  }
});

it('a session continues what a whole sequence would give', { skip: leftOut('session') }, async (t) => {
  const { cases, runs } = await check('session', decoder, Number(process.env.LAMELLA_CASES ?? 500), engine, runSession);
  t.diagnostic(`${cases} cases, ${runs} runs`);
});

describe('what has a property', () => {
  it('every function of F', () => {
    assert.deepEqual(Object.keys(F).filter((name) => !(name in properties)), [], 'draw them in tests/node/property/draw, compute them in tests/node/property/reference');
  });

  it('every layer of lamella.h is recorded by one', async (t) => {
    const header = readFileSync(new URL('../../../src/lamella.h', import.meta.url), 'utf8');
    const [, section] = /\/\* ---- layers -+ \*\/([^]*?)\/\* ---- compile and load/.exec(header) ?? [];
    const layers = [...(section ?? '').matchAll(/LAM_API lam_value lam_(\w+)\(/g)].map(([, name]) => name);
    assert.ok(layers.length > 20, 'the layers are not where they were in lamella.h');
    /** @type {Set<string>} */
    const recorded = new Set();
    const { define } = Trace.prototype;
    t.mock.method(Trace.prototype, 'define', /** @this {Trace} */ function (/** @type {string} */ name, /** @type {any[]} */ ...args) {
      recorded.add(name);
      return define.call(this, name, ...args);
    });
    for (const [name, draw] of Object.entries(properties)) {
      for (let number = 0; number < 10; number++) await runCase(draw, name, number, engine);
    }
    assert.deepEqual(layers.filter((name) => !recorded.has(name)), []);
  });
});
