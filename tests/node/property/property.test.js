/**
 * Every function of the engine against plain loops, thousands of times: random shapes, options and numbers, one model run with several
 * sizes in turn. See check.js for the seed and for repeating a single case. LAMELLA_BUILD names a build other than the default.
 */
import { describe, it } from 'node:test';
import { check, leftOut } from './check.js';
import * as arithmetic from './draw/arithmetic.js';
import * as attention from './draw/attention.js';
import * as composition from './draw/composition.js';
import * as experts from './draw/experts.js';
import * as layers from './draw/layers.js';
import * as lookup from './draw/lookup.js';
import * as pool from './draw/pool.js';
import * as rotary from './draw/rotary.js';
import * as shape from './draw/shape.js';

const engine = process.env.LAMELLA_BUILD ? { build: process.env.LAMELLA_BUILD } : {};
const CASES = Number(process.env.LAMELLA_CASES ?? 1000);
const properties = { ...arithmetic, ...attention, ...composition, ...experts, ...layers, ...lookup, ...pool, ...rotary, ...shape };

describe('properties', () => {
  for (const [name, draw] of Object.entries(properties)) {
    it(name, { skip: leftOut(name) }, async (t) => {
      const { cases, runs } = await check(name, draw, CASES, engine);
      t.diagnostic(`${cases} cases, ${runs} runs`);
    });
  }
});
