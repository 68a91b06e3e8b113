/** The figures that were promised: each row a piece of work, what it has to reach, and how that follows from the times of one round. */
import { FRESH, LITERT, ORT, RELAXED, ROOF, SIMD, TFJS, TWO } from './contestants.mjs';
import { arithmeticLimit, GEMMS, GEMVS, WORK } from './work.mjs';

/**
 * @typedef {(label: string, job: string) => number} Times milliseconds of a round
 * @typedef {object} Row
 * @property {string} work
 * @property {string} bar
 * @property {[label: string, job: string]} ours
 * @property {[label: string, job: string][]} beside what it is compared with
 * @property {(time: Times) => number} value
 * @property {number} [most] that the value may be
 * @property {number} [least]
 * @property {'node' | 'browser'} [decides] the place whose figure counts, where that is only one
 * @property {'ratio' | 'percent' | 'times' | 'ms' | 'GB/s' | 'cosine'} show
 */

/** Time over a peer's. @returns {Row} */
const over = (work, ours, peer, most, job = ours[1]) => ({
  work, bar: `<= ${most} x ${peer}`, ours, beside: [[peer, job]], most, show: 'ratio', value: time => time(...ours) / time(peer, job),
});

/** How many times as fast as something else. @returns {Row} */
const faster = (work, ours, other, least, bar) => ({
  work, bar: `>= ${least} x ${bar}`, ours, beside: [other], least, show: 'times', value: time => time(...other) / time(...ours),
});

/** Share of a roof, or of the highest of several. @returns {Row} */
const share = (work, ours, roofs, least, name, unit = 'flops') => ({
  work, bar: `>= ${100 * least} % of ${name}`, ours, beside: [roofs].flat().map(roof => [ROOF, roof]), least, show: 'percent',
  value: time => WORK[ours[1]][unit] / time(...ours) / Math.max(...[roofs].flat().map(roof => WORK[roof][unit] / time(ROOF, roof))),
});

/** At most 1.5 times a copy's time, or the time of the arithmetic where that is more. @returns {Row} */
const copied = (name, job) => ({
  work: `${name}, 1 M values`, bar: '<= 1.5 x copy or arithmetic', ours: [RELAXED, job], beside: [[ROOF, 'copy'], [ROOF, 'copy, bulk'], [ROOF, 'fma']], most: 1.5, show: 'ratio',
  value: time => time(RELAXED, job) / Math.max(Math.min(time(ROOF, 'copy'), time(ROOF, 'copy, bulk')), arithmeticLimit(job, time(ROOF, 'fma'))),
});

/** What a fresh process measures. @returns {Row} */
const fresh = (work, figure, bar, limit, show, value = get => get(figure), beside = []) => ({
  work, bar, ours: [FRESH, figure], beside: beside.map(name => [FRESH, name]), ...limit, show, value: time => value(name => time(FRESH, name)),
});

const [large, small] = GEMVS.map(size => `gemv ${size}`);

/** @type {Row[]} */
export const TABLE = [
  over('RN50 f32', [RELAXED, 'tower'], ORT, 0.55),
  over('RN50 f32', [RELAXED, 'tower'], TFJS, 0.5),
  { ...over('RN50 f32, no attention pool', [RELAXED, 'trunk'], LITERT, 0.65), decides: 'browser' },
  over('RN50 f32, baseline SIMD', [SIMD, 'tower'], ORT, 0.75),
  over('RN50 q8', [RELAXED, 'tower q8'], ORT, 0.3, 'tower'),
  fresh('RN50 q8, cosine to f32', 'cosine', '>= 0.999, real pictures', { least: 0.999 }, 'cosine', get => get('cosine'), ['centred cosine', 'two pictures']),
  fresh('trained small RN q8, cosine to f32', 'trained cosine', '>= 0.999, real pictures', { least: 0.999 }, 'cosine'),
  faster('RN50 f32, 2 threads', [TWO, 'tower'], [RELAXED, 'tower'], 1.8, 'one thread'),
  { ...over('small network, 2 threads', [TWO, 'small'], RELAXED, 1), bar: '<= 1 x one thread' },
  ...GEMMS.map(n => share(`GEMM f32 ${n}^3`, [RELAXED, `gemm ${n}, layer`], 'fma', 0.88, 'FMA')),
  ...GEMMS.map(n => share(`GEMM f32 ${n}^3, baseline SIMD`, [SIMD, `gemm ${n}, layer`], 'mul+add', 0.9, 'mul+add')),
  share('GEMM int8 1024^3', [RELAXED, 'gemm 1024 q8, layer'], ['dot', 'dot, pairs'], 0.75, 'dot'),
  share(`GEMV q4 ${GEMVS[0][1]} x ${GEMVS[0][0]}`, [RELAXED, `${large}, layer`], 'read', 0.75, 'read', 'bytes'),
  faster(`GEMV q4 ${GEMVS[1][1]} x ${GEMVS[1][0]}`, [RELAXED, small], [ORT, small], 60, 'MatMulNBits'),
  share('causal attention 16 x 64 x 2048', [RELAXED, 'attention, layer'], 'fma', 0.7, 'FMA'),
  copied('softmax', 'softmax, layer'),
  copied('layer norm', 'layer norm, layer'),
  copied('GELU', 'gelu, layer'),
  copied('SiLU', 'silu, layer'),
  fresh('RN50, first forward', 'first', '<= 1.5 x steady', { most: 1.5 }, 'ratio', get => get('first') / get('steady'), ['steady']),
  fresh('small network, first forward', 'first, small', '<= 1.5 x steady', { most: 1.5 }, 'ratio', get => get('first, small') / get('steady, small'), ['steady, small']),
  fresh('load of 153 MB f32', 'load', '>= 1 GB/s', { least: 1 }, 'GB/s', get => get('bytes') / get('load') / 1e6, ['fetching memory', 'touching as much']),
  fresh('load, peak memory', 'peak', '<= 1.1 x packed weights', { most: 1.1 }, 'ratio'),
  fresh('instantiate + first layer', 'start', '<= 30 ms in Node', { most: 30, decides: 'node' }, 'ms'),
];
