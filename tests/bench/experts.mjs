/**
 * Mixtures of experts: node tests/bench/experts.mjs [relaxed|simd] [--threads N] [--runs N]
 * A prefill of 512 tokens and single tokens, widths 2048 and 1408, 16 experts of which each token has 4, or all; beside the same products
 * as a gated layer of linear layers that all tokens pass. Prints the median and the best of `runs`; with one thread in the processor's time, which
 * other work on the machine does not add to.
 */
import { parseArgs } from 'node:util';
import { compile, F, Module, Parameter, Tensor } from '../../js/index.js';

const { values, positionals } = parseArgs({ allowPositionals: true, options: { threads: { type: 'string', default: '1' }, runs: { type: 'string', default: '5' } } });
const [build = 'relaxed'] = positionals;
const [threads, runs] = [Number(values.threads), Number(values.runs)];
const [WIDTH, INTER, EXPERTS] = [2048, 1408, 16];

class Mixture extends Module {
  constructor() {
    super();
    // One set of weights for all experts: each still has packed weights of its own, which is what is read.
    [this.gate, this.up, this.down] = [new Parameter([INTER, WIDTH]), new Parameter([INTER, WIDTH]), new Parameter([WIDTH, INTER])];
  }

  forward(x, routing) {
    return F.experts(x, routing, Array.from({ length: EXPERTS }, () => [this.gate, this.up, this.down]));
  }
}

class Gated extends Mixture {
  forward(x) {
    return F.linear(F.mul(F.silu(F.linear(x, this.gate)), F.linear(x, this.up)), this.down);
  }
}

let state = 1;
const random = (...shape) => new Tensor(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => {
  state = (state * 48271) % 2147483647;
  return (state / 2147483647 - 0.5) * 0.1;
}), shape);

/** `chosen` experts of each token. */
function routing(tokens, chosen) {
  const data = new Float32Array(tokens * EXPERTS);
  for (let t = 0; t < tokens; t++) {
    const order = Array.from({ length: EXPERTS }, (_, e) => [random(1).data[0], e]).sort(([a], [b]) => a - b);
    for (const [, e] of order.slice(0, chosen)) data[t * EXPERTS + e] = 1 / chosen;
  }
  return new Tensor(data, [tokens, EXPERTS]);
}

const weights = { gate: random(INTER, WIDTH), up: random(INTER, WIDTH), down: random(WIDTH, INTER) };
const options = { weights, build, threads };
const mixture = await compile(new Mixture(), { ...options, inputs: [[null, WIDTH], [null, EXPERTS]] });
const gated = await compile(new Gated(), { ...options, inputs: [[null, WIDTH]] });

const now = threads === 1 ? () => process.cpuUsage().user / 1000 : () => performance.now();

async function measure(name, model, inputs, products) {
  const times = [];
  for (let i = -1; i < runs; i++) {
    const from = now();
    await model.forward(...inputs);
    if (i >= 0) times.push(now() - from);
  }
  times.sort((a, b) => a - b);
  // A product of one token reads each of its weights once: then memory is the limit.
  const rate = (ms) => `${ms.toFixed(2)} ms, ${((products * 6 * WIDTH * INTER) / ms / 1e6).toFixed(1)} GFLOP/s${inputs[0].shape[0] === 1 ? `, ${((products * 12 * WIDTH * INTER) / ms / 1e6).toFixed(1)} GB/s` : ''}`;
  console.log(`${name}: median ${rate(times[times.length >> 1])}; best ${rate(times[0])}`);
}

for (const tokens of [512, 64, 1]) {
  const x = random(tokens, WIDTH);
  await measure(`${tokens} tokens, gated layer`, gated, [x], tokens);
  await measure(`${tokens} tokens, 4 of ${EXPERTS} experts`, mixture, [x, routing(tokens, 4)], tokens * 4);
  await measure(`${tokens} tokens, all ${EXPERTS} experts`, mixture, [x, routing(tokens, EXPERTS)], tokens * EXPERTS);
}
