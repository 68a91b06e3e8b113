/** Functions of single numbers, as modules. Each keeps the shape of its input. */
import { badArgument, boolean, finite, options } from '../arguments.js';
import * as F from '../functional.js';
import { Module } from '../module.js';

/** @import { Operand } from '../tensor.js' */

/** A function that PyTorch can compute in place. */
class Inplace extends Module {
  /**
   * @param {string} what
   * @param {unknown} inplace
   */
  constructor(what, inplace) {
    super();
    boolean(`${what}: inplace`, options(what, [inplace], { inplace: false }).inplace);
  }
}

/** x sigmoid(x). */
export class SiLU extends Inplace {
  /** @param {{ inplace?: boolean } | boolean} [inplace] Accepted; the engine decides about memory by itself. */
  constructor(inplace) {
    super('SiLU', inplace);
  }

  /** @param {Operand} x */
  forward(x) {
    return F.silu(x);
  }
}

/** x sigmoid(x): another name for SiLU. */
export class Swish extends Module {
  /** @param {Operand} x */
  forward(x) {
    return F.silu(x);
  }
}

/** x tanh(softplus(x)). */
export class Mish extends Inplace {
  /** @param {{ inplace?: boolean } | boolean} [inplace] Accepted; the engine decides about memory by itself. */
  constructor(inplace) {
    super('Mish', inplace);
  }

  /** @param {Operand} x */
  forward(x) {
    return F.mish(x);
  }
}

/** x Phi(x), Phi being the normal distribution's; or its approximation 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). */
export class GELU extends Module {
  /** @param {{ approximate?: 'none' | 'tanh' } | 'none' | 'tanh'} [approximate] 'none' (exact) or 'tanh' */
  constructor(approximate) {
    super();
    this.approximate = options('GELU', [approximate], { approximate: /** @type {'none' | 'tanh'} */ ('none') }).approximate;
    if (this.approximate !== 'none' && this.approximate !== 'tanh') throw badArgument('GELU: approximate', "'none' or 'tanh'", this.approximate);
  }

  /** @param {Operand} x */
  forward(x) {
    return F.gelu(x, { approximate: this.approximate });
  }

  extraRepr() {
    return `approximate='${this.approximate}'`;
  }
}

/** x sigmoid(1.702 x), CLIP's. */
export class QuickGELU extends Module {
  /** @param {Operand} x */
  forward(x) {
    return F.quickGelu(x);
  }
}

/** (e^x - e^-x) / (e^x + e^-x). */
export class Tanh extends Module {
  /** @param {Operand} x */
  forward(x) {
    return F.tanh(x);
  }
}

/** log(1 + e^(beta x)) / beta; x itself where beta x > threshold. */
export class Softplus extends Module {
  /** @param {{ beta?: number, threshold?: number } | number} [beta] Options, or PyTorch's order: beta (1; not 0), threshold (20). @param {number} [threshold] */
  constructor(beta, threshold) {
    super();
    const o = options('Softplus', [beta, threshold], { beta: 1, threshold: 20 });
    this.beta = finite('Softplus: beta', o.beta);
    if (this.beta === 0) throw badArgument('Softplus: beta', 'a number other than 0', o.beta);
    this.threshold = finite('Softplus: threshold', o.threshold);
  }

  /** @param {Operand} x */
  forward(x) {
    return F.softplus(x, this.beta, this.threshold);
  }

  extraRepr() {
    return `beta=${this.beta}, threshold=${this.threshold}`;
  }
}
