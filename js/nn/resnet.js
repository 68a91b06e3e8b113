/** Residual blocks. */
import { boolean, integer, options } from '../arguments.js';
import * as F from '../functional.js';
import { Module } from '../module.js';
import { BatchNorm2d } from './batch_norm.js';
import { Sequential } from './containers.js';
import { AdaptiveAvgPool2d, AvgPool2d, Conv2d, Identity, Linear, ReLU, Sigmoid } from './layers.js';

/** @import { SymbolicTensor } from '../tensor.js' */

/**
 * Squeeze and excitation: every channel of x [n, channel, h, w] times a factor from 0 to 1 that two small linear layers compute from
 * the means of all channels. Weights: `fc.0.weight` [channel / reduction, channel], `fc.2.weight` [channel, channel / reduction].
 */
export class SEBlock extends Module {
  /**
   * @param {number} channel
   * @param {{ reduction?: number } | number} [reduction] 16
   */
  constructor(channel, reduction) {
    super();
    const o = options('SEBlock', [reduction], { reduction: 16 });
    integer('SEBlock: reduction', o.reduction, 1);
    this.channel = integer('SEBlock: channel', channel, o.reduction);
    const squeezed = Math.floor(channel / o.reduction);
    this.avg_pool = new AdaptiveAvgPool2d(1);
    this.fc = new Sequential(
      new Linear(channel, squeezed, { bias: false }),
      new ReLU(),
      new Linear(squeezed, channel, { bias: false }),
      new Sigmoid(),
    );
  }

  /** @param {SymbolicTensor} x [n, channel, h, w] */
  forward(x) {
    const means = F.flatten(this.avg_pool(x), 1);
    return F.mul(x, F.reshape(this.fc(means), [-1, this.channel, 1, 1]));
  }
}

/**
 * The bottleneck of CLIP's ResNet: 1x1, 3x3 and 1x1 convolutions with batch norms, strided by average pooling, added to the input (or
 * its pooled projection `downsample`), then ReLU, then `se` with `useSe`.  x [n, inplanes, h, w] -> [n, 4 planes, h / stride, w / stride].
 */
export class Bottleneck extends Module {
  static expansion = 4;

  /**
   * @param {number} inplanes
   * @param {number} planes
   * @param {{ stride?: number, useSe?: boolean } | number} [stride] Options, or in this order: stride (1), useSe (false).
   * @param {boolean} [useSe]
   */
  constructor(inplanes, planes, stride, useSe) {
    super();
    const o = options('Bottleneck', [stride, useSe], { stride: 1, useSe: false });
    const outplanes = integer('Bottleneck: planes', planes, 1) * Bottleneck.expansion;
    integer('Bottleneck: inplanes', inplanes, 1);
    integer('Bottleneck: stride', o.stride, 1);
    this.conv1 = new Conv2d(inplanes, planes, 1, { bias: false });
    this.bn1 = new BatchNorm2d(planes);
    this.act1 = new ReLU();
    this.conv2 = new Conv2d(planes, planes, 3, { padding: 1, bias: false });
    this.bn2 = new BatchNorm2d(planes);
    this.act2 = new ReLU();
    this.avgpool = o.stride > 1 ? new AvgPool2d(o.stride) : new Identity();
    this.conv3 = new Conv2d(planes, outplanes, 1, { bias: false });
    this.bn3 = new BatchNorm2d(outplanes);
    this.act3 = new ReLU();
    this.downsample = null;
    if (o.stride > 1 || inplanes !== outplanes) {
      this.downsample = new Sequential({
        '-1': new AvgPool2d(o.stride),
        0: new Conv2d(inplanes, outplanes, 1, { bias: false }),
        1: new BatchNorm2d(outplanes),
      });
    }
    this.se = boolean('Bottleneck: useSe', o.useSe) ? new SEBlock(outplanes) : null;
  }

  /** @param {SymbolicTensor} x [n, inplanes, h, w] */
  forward(x) {
    let out = this.act1(this.bn1(this.conv1(x)));
    out = this.act2(this.bn2(this.conv2(out)));
    out = this.bn3(this.conv3(this.avgpool(out)));
    out = this.act3(F.add(out, this.downsample ? this.downsample(x) : x));
    return this.se ? this.se(out) : out;
  }
}

/**
 * Two 3x3 convolutions with batch norms, added to the input (or its 1x1 projection `shortcut` where the size or the channels change),
 * then ReLU.  x [n, inChannels, h, w] -> [n, outChannels, ceil(h / stride), ceil(w / stride)].
 */
export class ResidualBlock extends Module {
  /**
   * @param {number} inChannels
   * @param {number} outChannels
   * @param {{ stride?: number } | number} [stride] 1
   */
  constructor(inChannels, outChannels, stride) {
    super();
    const o = options('ResidualBlock', [stride], { stride: 1 });
    integer('ResidualBlock: inChannels', inChannels, 1);
    integer('ResidualBlock: outChannels', outChannels, 1);
    integer('ResidualBlock: stride', o.stride, 1);
    this.conv1 = new Conv2d(inChannels, outChannels, 3, { stride: o.stride, padding: 1, bias: false });
    this.bn1 = new BatchNorm2d(outChannels);
    this.relu = new ReLU();
    this.conv2 = new Conv2d(outChannels, outChannels, 3, { padding: 1, bias: false });
    this.bn2 = new BatchNorm2d(outChannels);
    this.shortcut = o.stride !== 1 || inChannels !== outChannels
      ? new Sequential(new Conv2d(inChannels, outChannels, 1, { stride: o.stride, bias: false }), new BatchNorm2d(outChannels))
      : new Sequential();
  }

  /** @param {SymbolicTensor} x [n, inChannels, h, w] */
  forward(x) {
    const out = this.bn2(this.conv2(this.relu(this.bn1(this.conv1(x)))));
    return this.relu(F.add(out, this.shortcut(x)));
  }
}
