// Speed of single kernels, one thread: GFLOP/s and the fraction of the roof measured in the same run.
//   node tests/bench/kernels.mjs relaxed|simd [--only 'gemm 1 x|attention'] [--runs 21]
// Compiles tests/bench/kernels.c with the kernels by web/emcc into build/bench/. The roof is measured before and after
// every case and the larger counts; a case's figure is the median of its runs, the best run is printed beside it;
// pointwise functions take turns with a copy of as much.

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { buildKernels } from './emscripten.mjs';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { only: { type: 'string', default: '' }, runs: { type: 'string', default: '21' }, emcc: { type: 'string' } },
});
const build = positionals[0] ?? 'relaxed';

const MEMORY_FLOATS = 48 << 20;
const RUN_MS = 10;

/** @param {Uint8Array} bytes kernels.c compiled @returns {Promise<any>} its functions */
async function openKernels(bytes) {
  const module = await WebAssembly.compile(bytes);
  const imports = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module)) {
    (imports[from] ??= {})[name] = () => { throw new Error(`${name} was called`); };
  }
  const { exports } = await WebAssembly.instantiate(module, imports);
  exports._initialize?.();
  exports.bench_start(MEMORY_FLOATS);
  return exports;
}

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

function time(work, times) {
  const start = performance.now();
  work(times);
  return (performance.now() - start) / times;
}

/** Milliseconds of one call of each work(times), in turn: as many runs as asked for, each about RUN_MS long. */
function measure(...works) {
  const times = works.map((work) => {
    let count = 1;
    const warm = performance.now();
    while (performance.now() - warm < 150) work(count);
    while (time(work, count) * count < RUN_MS / 2 && count < 1e9) count *= 2;
    return count;
  });
  const runs = works.map(() => []);
  for (let i = 0; i < Number(options.runs); i++) works.forEach((work, j) => runs[j].push(time(work, times[j])));
  return runs;
}

const wasm = await openKernels(readFileSync(buildKernels(build, options.emcc)));
const operands = wasm.bench_operands();

function roof() {
  const name = build === 'relaxed' ? 'bench_roof_madd' : 'bench_roof_mul_add';
  const rounds = 4e5;
  const runs = Array.from({ length: 7 }, () => time(() => wasm[name](rounds, operands), 1));
  return 96 * rounds / Math.min(...runs) / 1e6;
}

// Vector instructions of the inner loops for four numbers in the relaxed build, without loads, stores and moves; a division counts
// as the three multiplications that it keeps out. What the machine does of them: see bench_roof_mix.
const INSTRUCTIONS = { silu: 17, gelu: 27, softmax: 16 };

function mixRate() {
  const rounds = 4e5;
  return 12 * rounds / Math.min(...Array.from({ length: 7 }, () => time(() => wasm.bench_roof_mix(rounds, operands), 1)));
}

const CONVS = [[56, 64, 64], [28, 128, 128], [14, 256, 256], [7, 512, 512], [112, 32, 32], [112, 32, 64], [28, 64, 64], [14, 512, 512], [28, 256, 256],
  [32, 12, 24], [32, 24, 24], [16, 48, 48], [8, 96, 96], [4, 192, 192], [8, 16, 16], [3, 64, 64], [28, 8, 8]];
const GEMMS = [[1024, 1024, 1024], [512, 512, 512], [128, 128, 128], [3136, 64, 64], [3136, 256, 64], [3136, 64, 256], [784, 512, 128], [784, 128, 512],
  [196, 1024, 256], [196, 256, 1024], [49, 2048, 512], [49, 512, 2048], [77, 512, 512], [50, 2048, 2048], [6, 1024, 1024], [1, 1024, 1024],
  [1, 4096, 1024], [2, 1024, 1024], [3, 1024, 1024], [4, 1024, 1024], [5, 1024, 1024]];

const ACTIVATIONS = ['identity', 'relu', 'sigmoid', 'silu', 'tanh', 'gelu', 'gelu_tanh', 'quick_gelu', 'mish', 'softplus'];
const MILLION = 1 << 20;
const QUANTIZED = [[1024, 1024, 1024], [3136, 64, 64], [3136, 256, 64], [196, 1024, 256], [196, 256, 1024], [49, 512, 2048], [1, 2048, 8192], [1, 16384, 8192], [1, 768, 768], [1, 2048, 768], [1, 768, 2048],
  [2, 2048, 8192], [3, 2048, 8192], [4, 2048, 8192]];

const HALVES = [1, 2, 3, 4, 6, 12, 50];

/** @type {{ name: string, flops?: number, bytes?: number, work: (times: number) => void }[]} */
const cases = [
  ...GEMMS.map(([m, n, k]) => ({
    name: `gemm ${m} x ${n} x ${k}`, flops: 2 * m * n * k, bytes: 4 * (m * k + n * k + m * n), work: (t) => wasm.bench_gemm(t, m, n, k),
  })),
  ...[[1024, 1024, 1024], [196, 256, 1024], [3136, 64, 64], ...HALVES.map((m) => [m, 2048, 8192])].map(([m, n, k]) => ({
    name: `halves ${m} x ${n} x ${k}`, flops: 2 * m * n * k, bytes: 2 * n * k, work: (t) => wasm.bench_halves(t, m, n, k),
  })),
  ...HALVES.map((m) => ({
    name: `halves: f32 ${m} x 2048 x 8192`, flops: 2 * m * 2048 * 8192, bytes: 4 * 2048 * 8192, work: (t) => wasm.bench_gemm(t, m, 2048, 8192),
  })),
  ...QUANTIZED.flatMap(([m, n, k]) => [8, 4].flatMap((bits) => [1, 2].map((way) => ({
    name: `quantized ${bits} ${['', 'in fours', 'in pairs'][way]} ${m} x ${n} x ${k}`, flops: 2 * m * n * k,
    bytes: n * k * (bits === 4 ? 9 / 16 : 1), work: (t) => wasm.bench_quantized(t, bits, way, m, n, k),
  })))),
  { name: 'quantized, halves: what reading 75 MB takes', elements: 18874368, bytes: 4 * 18874368, work: (t) => wasm.bench_read(t, 18874368) },
  ...[8, 4].map((bits) => ({
    name: `quantized ${bits}: packing 2048 x 2048`, elements: 2048 * 2048, bytes: 4 * 2048 * 2048, work: (t) => wasm.bench_quantized_pack(t, bits, 2048, 2048),
  })),
  { name: 'quantize rows 3136 x 64', elements: 3136 * 64, work: (t) => wasm.bench_quantize_rows(t, 8, 3136, 64) },
  { name: 'quantize rows 49 x 2048', elements: 49 * 2048, work: (t) => wasm.bench_quantize_rows(t, 8, 49, 2048) },
  ...CONVS.flatMap(([s, c, n]) => [0, 2, 4].map((tile) => ({
    name: `conv 3x3 ${s}x${s} ${c} -> ${n} ${tile ? `winograd ${tile}` : 'indirect'}${wasm.bench_winograd_choice(s, c, n) === tile ? ', chosen' : ''}`, flops: 18 * s * s * c * n,
    work: (t) => (tile ? wasm.bench_winograd(t, tile, s, s, c, n) : wasm.bench_conv(t, s, s, c, n, 3, 1, 1)),
  }))),
  ...[[224, 3, 32, 3, 2, 1], [224, 3, 64, 7, 2, 3], [224, 3, 768, 16, 16, 0], [28, 1, 32, 5, 1, 2]].flatMap(([s, c, n, k, stride, pad]) => {
    const out = Math.floor((s + 2 * pad - k) / stride) + 1;
    return ['bench_conv', 'bench_patches'].map((way) => ({
      name: `first conv ${k}x${k}/${stride} ${s}x${s} ${c} -> ${n} ${way === 'bench_conv' ? 'indirect' : 'patches'}`, flops: 2 * out * out * k * k * c * n,
      work: (t) => (way === 'bench_conv' ? wasm.bench_conv(t, s, s, c, n, k, stride, pad) : wasm.bench_patches(t, s, c, n, k, stride, pad)),
    }));
  }),
  ...[[112, 64, 3], [28, 256, 3], [14, 512, 5]].map(([s, c, k]) => ({
    name: `depthwise ${k}x${k} ${s}x${s}x${c}`, flops: 2 * k * k * s * s * c, work: (t) => wasm.bench_depthwise(t, s, s, c, k),
  })),
  ...[[16, 2048, 2048, 64, 1], [1, 197, 197, 64, 0], [1, 77, 77, 64, 1], [1, 512, 512, 64, 0], [16, 1, 512, 64, 1], [16, 1, 4096, 64, 1]].map(([h, q, k, d, causal]) => ({
    name: `attention ${h} x ${q} x ${k}, d ${d}${causal ? ', causal' : ''}`, flops: 4 * h * d * (causal ? q * (k - (q - 1) / 2) : q * k), bytes: q === 1 ? 8 * h * k * d : undefined,
    work: (t) => wasm.bench_attention(t, h, q, k, d, causal),
  })),
  ...[[12, 1, 512, 64], [12, 1, 2048, 64], [32, 4, 2048, 64]].flatMap(([h, g, k, d]) => ['f32', 'f16', 'q8'].map((cache, precision) => ({
    name: `attention of a step, ${h} heads in groups of ${g}, ${k} x ${d} in ${cache}`, flops: 4 * h * d * k, bytes: 2 * h / g * k * d * [4, 2, 9 / 8][precision],
    work: (t) => wasm.bench_attention_step(t, h, g, k, d, precision),
  }))),
  ...[[4096, 8], [4096, 16], [16384, 16]].map(([keys, stride]) => ({
    name: `sparse attention of 48 rows after ${keys}, stride ${stride}`, flops: 48 * 4 * 64 * (keys / stride + 4 * 16 + 8 + 64 + 2),
    work: (t) => wasm.bench_sparse_attention(t, keys, stride),
  })),
  ...ACTIVATIONS.map((name, i) => ({
    name: `activation ${name}, 4096`, bytes: 8 * 4096, elements: 4096, work: (t) => wasm.bench_activation(t, 4096, i),
  })),
  { name: 'copy of 1 M', elements: MILLION, bytes: 8 * MILLION, work: (t) => wasm.bench_copy(t, MILLION) },
  ...ACTIVATIONS.map((name, i) => ({ name: `${name} of 1 M`, elements: MILLION, work: (t) => wasm.bench_activation(t, MILLION, i), copied: MILLION })),
  { name: 'softmax 1024 x 1024', elements: MILLION, work: (t) => wasm.bench_softmax(t, 1024, 1024), copied: MILLION },
  { name: 'layer norm 1024 x 1024', elements: MILLION, work: (t) => wasm.bench_layer_norm(t, 1024, 1024), copied: MILLION },
  { name: 'rms norm 1024 x 1024', elements: MILLION, work: (t) => wasm.bench_rms_norm(t, 1024, 1024), copied: MILLION },
  { name: 'softmax 77 x 77', elements: 77 * 77, work: (t) => wasm.bench_softmax(t, 77, 77) },
  { name: 'softmax 8 x 1024', elements: 8192, work: (t) => wasm.bench_softmax(t, 8, 1024) },
  { name: 'layer norm 50 x 1024', elements: 51200, work: (t) => wasm.bench_layer_norm(t, 50, 1024) },
  { name: 'average pool 2x2 56x56x256', elements: 56 * 56 * 256, bytes: 5 * 56 * 56 * 256, work: (t) => wasm.bench_avg_pool(t, 56, 56, 256) },
  { name: 'transpose 3 x 50176', elements: 150528, bytes: 8 * 150528, work: (t) => wasm.bench_transpose(t, 3, 50176) },
  { name: 'transpose 256 x 3136', elements: 802816, bytes: 8 * 802816, work: (t) => wasm.bench_transpose(t, 256, 3136) },
];

console.log(`${build}, node ${process.version}, roof ${roof().toFixed(1)} GFLOP/s`);
for (const { name, flops, bytes, elements, copied, work } of cases.filter((c) => new RegExp(options.only).test(c.name))) {
  const before = roof();
  const [runs, copies] = copied ? measure(work, (t) => wasm.bench_copy(t, copied)) : measure(work);
  const top = Math.max(before, roof());
  const ms = median(runs);
  const best = Math.min(...runs);
  const rate = flops ? `${(flops / ms / 1e6).toFixed(1)} GFLOP/s ${(100 * flops / ms / 1e6 / top).toFixed(0)} % of ${top.toFixed(1)} (best ${(flops / best / 1e6).toFixed(1)})`
    : `${(elements / ms / 1e6).toFixed(2)} Gelements/s (best ${(elements / best / 1e6).toFixed(2)})`;
  const instructions = copied && build === 'relaxed' && INSTRUCTIONS[name.replace(/ (of|1024).*/, '')];
  const limit = instructions ? `, ${(ms * mixRate() / (instructions * elements / 4)).toFixed(2)} x its arithmetic` : '';
  const beside = copied ? `  ${(ms / median(copies)).toFixed(2)} x a copy's ${median(copies).toFixed(4)} ms${limit}` : '';
  console.log(`${name.padEnd(44)} ${ms.toFixed(4).padStart(9)} ms  ${rate}${bytes ? `  ${(bytes / ms / 1e6).toFixed(1)} GB/s` : ''}${beside}`);
}
