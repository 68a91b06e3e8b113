import { badArgument, boolean, divides, integer, options, show } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { CLIP_MEAN, CLIP_STD } from '../image/clip.js';
import { Module } from '../module.js';
import { AttentionPool2d } from '../nn/attention.js';
import { Sequential } from '../nn/containers.js';
import { BatchNorm2d } from '../nn/batch_norm.js';
import { AvgPool2d, Conv2d, ReLU } from '../nn/layers.js';
import { Bottleneck } from '../nn/resnet.js';

/** @import { SymbolicTensor } from '../tensor.js' */
/**
 * @typedef {object} ModifiedResNetOptions
 * @property {[number, number, number, number]} layers Blocks per stage; RN50: [3, 4, 6, 3].
 * @property {number} outputDim Size of the embedding; RN50: 1024.
 * @property {number} heads Of the attention pool, width / 2 in CLIP's; RN50: 32.
 * @property {number} [imageSize] 224; at least 32.
 * @property {number} [width] 64; even.
 * @property {boolean} [useSe] false; squeeze and excitation in every block.
 * @property {boolean} [layerNorm] false; a layer norm in the attention pool.
 * @property {boolean} [projectTwice] false; see nn.AttentionPool2d.
 */

/**
 * The image tower of CLIP's ResNets (RN50, RN101, RN50x4, ...): a stem of three convolutions, four stages of bottlenecks, an attention pool.
 * Images [n, 3, imageSize, imageSize] -> embeddings [n, outputDim], not normalised. In a whole CLIP checkpoint the weights are under the
 * prefix 'visual.'.
 *
 *     const clip = await compile(new models.ModifiedResNet({ layers: [3, 4, 6, 3], outputDim: 1024, heads: 32 }),
 *       { weights: 'open_clip_model.safetensors', prefix: 'visual.' });
 */
export class ModifiedResNet extends Module {
  /**
   * @param {ModifiedResNetOptions | number[]} layers Options, or in this order: layers, outputDim, heads, imageSize, width, useSe, layerNorm, projectTwice.
   * @param {...any} rest
   */
  constructor(layers, ...rest) {
    super();
    const missing = /** @type {any} */ (undefined);
    const o = options('ModifiedResNet', [layers, ...rest], { layers: missing, outputDim: missing, heads: missing, imageSize: 224, width: 64, useSe: false, layerNorm: false, projectTwice: false });
    if (!Array.isArray(o.layers) || o.layers.length !== 4) throw badArgument('ModifiedResNet: layers', 'four block counts, [3, 4, 6, 3]', o.layers);
    const counts = o.layers.map((count, i) => integer(`ModifiedResNet: layers[${i}]`, count, 1));
    const width = integer('ModifiedResNet: width', o.width, 2);
    if (width % 2) throw new LamellaError('argument', `ModifiedResNet: width: expected an even number, got ${show(width)}`);
    const imageSize = integer('ModifiedResNet: imageSize', o.imageSize, 32);
    const heads = integer('ModifiedResNet: heads', o.heads, 1);
    divides('ModifiedResNet', 'width * 32 =', width * 32, 'heads', heads);
    const useSe = boolean('ModifiedResNet: useSe', o.useSe);

    this.conv1 = new Conv2d(3, width / 2, 3, { stride: 2, padding: 1, bias: false });
    this.bn1 = new BatchNorm2d(width / 2);
    this.act1 = new ReLU();
    this.conv2 = new Conv2d(width / 2, width / 2, 3, { padding: 1, bias: false });
    this.bn2 = new BatchNorm2d(width / 2);
    this.act2 = new ReLU();
    this.conv3 = new Conv2d(width / 2, width, 3, { padding: 1, bias: false });
    this.bn3 = new BatchNorm2d(width);
    this.act3 = new ReLU();
    this.avgpool = new AvgPool2d(2);
    this.layer1 = stage(width, width, counts[0], 1, useSe);
    this.layer2 = stage(width * 4, width * 2, counts[1], 2, useSe);
    this.layer3 = stage(width * 8, width * 4, counts[2], 2, useSe);
    this.layer4 = stage(width * 16, width * 8, counts[3], 2, useSe);
    const outputDim = integer('ModifiedResNet: outputDim', o.outputDim, 1);
    this.attnpool = new AttentionPool2d(Math.floor(imageSize / 32), width * 32, heads, { outputDim, layerNorm: o.layerNorm, projectTwice: o.projectTwice });

    /** Shapes of forward's arguments, for compile. */
    this.inputs = [[null, 3, imageSize, imageSize]];
    /** How a picture becomes an input, for image.toTensor: CLIP's. */
    this.preprocess = { size: imageSize, mean: CLIP_MEAN, std: CLIP_STD };
  }

  /** @param {SymbolicTensor} x [n, 3, imageSize, imageSize] */
  forward(x) {
    let y = this.act1(this.bn1(this.conv1(x)));
    y = this.act2(this.bn2(this.conv2(y)));
    y = this.avgpool(this.act3(this.bn3(this.conv3(y))));
    return this.attnpool(this.layer4(this.layer3(this.layer2(this.layer1(y)))));
  }
}

/**
 * @param {number} inplanes
 * @param {number} planes
 * @param {number} blocks
 * @param {number} stride Of the first block.
 * @param {boolean} useSe
 */
function stage(inplanes, planes, blocks, stride, useSe) {
  const rest = Array.from({ length: blocks - 1 }, () => new Bottleneck(planes * Bottleneck.expansion, planes, { useSe }));
  return new Sequential(new Bottleneck(inplanes, planes, { stride, useSe }), ...rest);
}
