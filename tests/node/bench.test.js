// The bench's verdicts, from times that are made up: a bar is reached at its figure and missed beyond it.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FRESH, LITERT, ORT, RELAXED, ROOF, TWO } from '../bench/contestants.mjs';
import { verdicts } from '../bench/report.mjs';
import { TABLE } from '../bench/rows.mjs';
import { WORK } from '../bench/work.mjs';

/** The verdict on a row when three rounds gave these milliseconds. */
function verdict(work, bar, times, reasons = {}) {
  const rows = TABLE.filter((row) => row.work === work && row.bar.includes(bar));
  assert.equal(rows.length, 1, `${work}, ${bar}`);
  return verdicts({ place: { kind: 'node', version: 'Node' }, times, reasons }, rows)[0];
}
const rounds = (...milliseconds) => milliseconds.map((ms) => [ms]);

describe('verdicts of the bench', () => {
  it('compare a time with a peer\'s, round by round', () => {
    // The second round was slow for both.
    const times = (ours) => ({ tower: { [RELAXED]: rounds(ours, 3 * ours, ours), [ORT]: rounds(100, 300, 100) } });
    assert.deepEqual([55, 55.1].map((ours) => verdict('RN50 f32', ORT, times(ours)).verdict), ['pass', 'MISS']);
    const { median, q1, q3, shown } = verdict('RN50 f32', ORT, times(50));
    assert.deepEqual([median, q1, q3], [0.5, 0.5, 0.5]);
    assert.equal(shown, '0.500 (0.500..0.500)');
  });

  it('demand more of what is to be faster', () => {
    const times = (two) => ({ tower: { [RELAXED]: rounds(180), [TWO]: rounds(two) } });
    assert.deepEqual([100, 100.1].map((two) => verdict('RN50 f32, 2 threads', '1.8', times(two)).verdict), ['pass', 'MISS']);
  });

  it('take shares of a roof', () => {
    const job = 'gemm 256, layer';
    const rate = (name, gflops) => WORK[name].flops / gflops / 1e6;
    const times = (gflops) => ({ [job]: { [RELAXED]: rounds(rate(job, gflops)) }, fma: { [ROOF]: rounds(rate('fma', 50)) } });
    assert.deepEqual([44.1, 43.9].map((gflops) => verdict('GEMM f32 256^3', 'FMA', times(gflops)).verdict), ['pass', 'MISS']);
  });

  it('allow for the arithmetic where it takes longer than a copy', () => {
    const times = (ours, fma) => ({ 'gelu, layer': { [RELAXED]: rounds(ours) }, copy: { [ROOF]: rounds(0.2) }, 'copy, bulk': { [ROOF]: rounds(0.1) }, fma: { [ROOF]: rounds(fma) } });
    assert.deepEqual([0.149, 0.151].map((ours) => verdict('GELU, 1 M values', '1.5', times(ours, 1e-6)).verdict), ['pass', 'MISS']);
    assert.equal(verdict('GELU, 1 M values', '1.5', times(0.151, 10)).verdict, 'pass');
  });

  it('hold a rate against the least', () => {
    const times = (load) => ({ load: { [FRESH]: rounds(load) }, bytes: { [FRESH]: rounds(153e6) }, 'fetching memory': { [FRESH]: rounds(500) }, 'touching as much': { [FRESH]: rounds(50) } });
    assert.deepEqual([153, 154].map((load) => verdict('load of 153 MB f32', 'GB/s', times(load)).verdict), ['pass', 'MISS']);
  });

  it('stand in brackets where the other place decides', () => {
    const times = { trunk: { [RELAXED]: rounds(1), [LITERT]: rounds(2) } };
    assert.equal(verdict('RN50 f32, no attention pool', LITERT, times).verdict, '(pass)');
  });

  it('give the reason where there is no figure', () => {
    assert.equal(verdict('RN50 q8', ORT, { tower: { [ORT]: rounds(1) } }, { 'tower q8': { [RELAXED]: 'not built' } }).verdict, 'not built');
    assert.equal(verdict('RN50 q8', ORT, {}).verdict, 'not run');
  });
});
