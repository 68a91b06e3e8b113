/**
 * Networks that more than one bench runs, each with a checkpoint of random weights in memory: CLIP's RN50 tower and small
 * convolutional ones that take about the time in their name on one thread.
 */
import { models, nn, safetensors, Tensor } from '../../js/index.js';
import { HEADS, LAYERS, OUTPUT, SIZE, towerTensors, uniform } from './tower.mjs';

/** Sides of the image and channels of each of six convolutions. */
const SMALL = { 'small-0.1ms': [8, 16], 'small-1ms': [28, 32], 'small-5ms': [48, 64] };

export const NETS = ['rn50', ...Object.keys(SMALL)];

function rn50() {
  const tensors = [...towerTensors()].map(([name, { data, shape }]) => [name, new Tensor(data, shape)]);
  return { module: new models.ModifiedResNet({ layers: LAYERS, outputDim: OUTPUT, heads: HEADS }), tensors, shape: [1, 3, SIZE, SIZE] };
}

function small(side, channels) {
  const layers = Array.from({ length: 6 }, (_, i) => [new nn.Conv2d(i ? channels : 3, channels, 3, { padding: 1 }), new nn.ReLU()]);
  const module = new nn.Sequential(...layers.flat(), new nn.AdaptiveAvgPool2d(1), new nn.Flatten(), new nn.Linear(channels, 10));
  const tensors = [...module.stateDict()].map(([name, { shape }]) => [name, new Tensor(uniform(name, shape.reduce((a, b) => a * b), 0.1), [...shape])]);
  return { module, tensors, shape: [1, 3, side, side] };
}

/**
 * @param {string} name one of NETS
 * @returns {{ module: any, checkpoint: Uint8Array, shape: number[], input: Tensor }}
 */
export function net(name) {
  const { module, tensors, shape } = name === 'rn50' ? rn50() : small(...SMALL[name]);
  return { module, checkpoint: safetensors.write(Object.fromEntries(tensors)), shape, input: new Tensor(uniform('picture', shape.reduce((a, b) => a * b), 1.7), shape) };
}
