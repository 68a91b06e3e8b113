/** tfjs with its wasm backend: channels last, batch norm folded, bias and ReLU fused into the convolutions. */
import * as tf from '@tensorflow/tfjs-core';
import * as backend from '@tensorflow/tfjs-backend-wasm';
import { foldNorm, towerInput, towerTensors, transpose, walkTower, EMBED, HEADS, SIZE, TOKENS } from '../tower.mjs';
import { gemmInput, GEMMS, gemmWeight } from '../work.mjs';

/**
 * One thread: the backend has no more under Node, and none when it is itself in a worker.
 * @param {{ assets: string }} options assets: where its wasm is
 */
export async function start({ assets }) {
  backend.setWasmPaths(assets);
  backend.setThreadsCount(1);
  await tf.setBackend('wasm');
  await tf.ready();
  return {
    version: backend.version_wasm,
    jobs: { tower: async () => towerJob(), ...Object.fromEntries(GEMMS.map(n => [`gemm ${n}`, async () => gemmJob(n)])) },
  };
}

function gemmJob(n) {
  const b = tf.transpose(tf.tensor(gemmWeight(n), [n, n]));
  const a = gemmInput(n);
  return { run: () => read(tf.tidy(() => tf.matMul(tf.tensor(a, [n, n]), b))) };
}

/** Outside of tidy, which would look for tensors in every element of a returned array. */
function read(tensor) {
  const data = tensor.dataSync();
  tensor.dispose();
  return data;
}

function towerJob() {
  const tensors = towerTensors();
  const constants = new Map();
  const once = (name, make) => constants.get(name) ?? constants.set(name, tf.keep(make())).get(name);
  const convWeights = (conv, norm, { inputs, outputs, kernel }) => {
    const folded = () => foldNorm(tensors, conv, norm);
    return {
      filter: once(`${conv} filter`, () => tf.tidy(() =>
        tf.transpose(tf.tensor(folded().weight, [outputs, inputs, kernel, kernel]), [2, 3, 1, 0]))),
      bias: once(`${conv} bias`, () => tf.tensor(folded().bias)),
    };
  };
  const ops = {
    conv: (x, conv, norm, shape) => tf.fused.conv2d({
      x, ...convWeights(conv, norm, shape), strides: shape.stride, pad: shape.kernel >> 1, activation: shape.relu ? 'relu' : 'linear',
    }),
    avgPool: (x, k) => tf.avgPool(x, k, k, 'valid'),
    addRelu: (x, y) => tf.relu(tf.add(x, y)),
    attentionPool: x => attentionPool(x, name => once(name, () => {
      const { data, shape } = tensors.get(`attnpool.${name}`);
      return tf.tidy(() => name.endsWith('proj.weight') ? tf.transpose(tf.tensor(data, shape)) : tf.tensor(data, shape));
    })),
  };
  // The network is channels last: the picture is turned once, outside the timing.
  const picture = transpose(towerInput(), 3, SIZE * SIZE);
  return { run: () => read(tf.tidy(() => walkTower(ops, tf.tensor(picture, [1, SIZE, SIZE, 3])))) };
}

function attentionPool(x, weight) {
  const project = (y, name) => tf.fused.matMul({ a: y, b: weight(`${name}_proj.weight`), bias: weight(`${name}_proj.bias`) });
  const heads = y => tf.transpose(tf.reshape(y, [-1, HEADS, EMBED / HEADS]), [1, 0, 2]);
  const pixels = tf.reshape(x, [TOKENS - 1, EMBED]);
  const tokens = tf.add(tf.concat([tf.mean(pixels, 0, true), pixels], 0), weight('positional_embedding'));
  const q = tf.mul(heads(project(tf.slice(tokens, [0, 0], [1, EMBED]), 'q')), (EMBED / HEADS) ** -0.5);
  const attention = tf.softmax(tf.matMul(q, heads(project(tokens, 'k')), false, true));
  const mixed = tf.reshape(tf.matMul(attention, heads(project(tokens, 'v'))), [1, EMBED]);
  return project(mixed, 'c');
}
