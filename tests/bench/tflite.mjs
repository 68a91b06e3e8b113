/** Writes the tower's trunk and a linear layer as TensorFlow Lite files, channels last. Slots of the tables are those of TensorFlow's schema.fbs. */
import { Builder } from 'flatbuffers';
import { foldNorm, walkTower, SIZE } from './tower.mjs';

const INT32 = 2;
const SAME = 0;
const VALID = 1;
const RELU = 1;
/** Numbers of the operators and of their tables of options. */
const OPERATORS = {
  ADD: { code: 0, options: 11 },
  AVERAGE_POOL_2D: { code: 1, options: 5 },
  CONV_2D: { code: 3, options: 1 },
  FULLY_CONNECTED: { code: 9, options: 8 },
  PAD: { code: 34, options: 22 },
};
const KINDS = Object.keys(OPERATORS);

/** The graph while it is described: tensors and operators in order. */
class Network {
  tensors = [];
  operators = [];

  /** @returns {number} of the tensor; data only for constants */
  tensor(shape, data) {
    return this.tensors.push({ shape, data }) - 1;
  }

  /** @param {[slot: number, value: number][]} options bytes, or a number of more than a byte as `[slot, value, 'int']` */
  operator(kind, inputs, shape, options = []) {
    const output = this.tensor(shape);
    this.operators.push({ kind, inputs, output, options });
    return output;
  }

  /** @returns {Uint8Array} the file */
  finish(input, output) {
    return new Writer(this).file(input, output);
  }
}

/** FlatBuffers are written from the leaves up. */
class Writer {
  constructor(network) {
    const bytes = network.tensors.reduce((sum, { data }) => sum + (data?.byteLength ?? 0), 0);
    this.network = network;
    this.builder = new Builder(bytes + (1 << 18));
  }

  /** @param {[slot: number, kind: 'byte' | 'int' | 'at', value: number][]} fields */
  table(slots, ...fields) {
    const { builder } = this;
    builder.startObject(slots);
    for (const [slot, kind, value] of fields) {
      if (kind === 'byte') builder.addFieldInt8(slot, value, 0);
      else if (kind === 'int') builder.addFieldInt32(slot, value, 0);
      else builder.addFieldOffset(slot, value, 0);
    }
    return builder.endObject();
  }

  vector(values, add) {
    this.builder.startVector(4, values.length, 4);
    for (const value of values.toReversed()) add(value);
    return this.builder.endVector();
  }

  ints(values) {
    return this.vector(values, value => this.builder.addInt32(value));
  }

  places(values) {
    return this.vector(values, value => this.builder.addOffset(value));
  }

  bytes(data) {
    const { builder } = this;
    builder.startVector(1, data.byteLength, 16);
    builder.space -= data.byteLength;
    builder.bb.setPosition(builder.space);
    builder.bb.bytes().set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), builder.space);
    return builder.endVector();
  }

  file(input, output) {
    const { builder, network: { tensors, operators } } = this;
    const constants = tensors.filter(({ data }) => data);
    const buffers = [this.table(1), ...constants.map(({ data }) => this.table(1, [0, 'at', this.bytes(data)]))];
    const described = tensors.map((tensor, i) => {
      const shape = this.ints(tensor.shape);
      const name = builder.createString(`t${i}`);
      const type = tensor.data instanceof Int32Array ? INT32 : 0;
      return this.table(10, [0, 'at', shape], [1, 'byte', type], [2, 'int', constants.indexOf(tensor) + 1], [3, 'at', name]);
    });
    const steps = operators.map(({ kind, inputs, output: result, options }) => {
      const places = [this.ints(inputs), this.ints([result])];
      const settings = this.table(7, ...options);
      return this.table(11, [0, 'int', KINDS.indexOf(kind)], [1, 'at', places[0]], [2, 'at', places[1]], [3, 'byte', OPERATORS[kind].options], [4, 'at', settings]);
    });
    const codes = KINDS.map(kind => this.table(4, [0, 'byte', OPERATORS[kind].code], [2, 'int', 1], [3, 'int', OPERATORS[kind].code]));
    const parts = [this.places(described), this.ints([input]), this.ints([output]), this.places(steps)];
    const graph = this.table(5, ...parts.map((part, slot) => [slot, 'at', part]));
    const named = tensor => {
      const name = builder.createString(`t${tensor}`);
      return this.places([this.table(2, [0, 'at', name], [1, 'int', tensor])]);
    };
    const signature = [named(input), named(output), builder.createString('serving_default')];
    const signatures = this.places([this.table(5, ...signature.map((part, slot) => [slot, 'at', part]))]);
    const top = [this.places(codes), this.places([graph]), builder.createString('bench'), this.places(buffers)];
    builder.finish(this.table(8, [0, 'int', 3], ...top.map((part, i) => [i + 1, 'at', part]), [7, 'at', signatures]), 'TFL3');
    return builder.asUint8Array();
  }
}

/** PyTorch's order [outputs, inputs, pixels] to [outputs, pixels, inputs]. */
function channelsLast(weight, outputs, inputs) {
  const pixels = weight.length / outputs / inputs;
  const out = new Float32Array(weight.length);
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < inputs; i++) for (let p = 0; p < pixels; p++) out[(o * pixels + p) * inputs + i] = weight[(o * inputs + i) * pixels + p];
  }
  return out;
}

/** @param {ReturnType<import('./tower.mjs').towerTensors>} tensors @returns {Uint8Array} [1, 224, 224, 3] -> [1, 7, 7, 2048] */
export function trunkTflite(tensors) {
  const network = new Network();
  const shape = x => network.tensors[x].shape;
  const input = network.tensor([1, SIZE, SIZE, 3]);
  const output = walkTower({
    conv(x, conv, norm, { inputs, outputs, kernel, stride, relu }) {
      const { weight, bias } = foldNorm(tensors, conv, norm);
      const side = shape(x)[1];
      if (stride > 1) {
        // SAME would pad below and to the right; PyTorch pads on all sides, of which the last row and column are not reached.
        const border = network.tensor([4, 2], Int32Array.of(0, 0, 1, 0, 1, 0, 0, 0));
        x = network.operator('PAD', [x, border], [1, side + 1, side + 1, inputs]);
      }
      const filter = network.tensor([outputs, kernel, kernel, inputs], channelsLast(weight, outputs, inputs));
      return network.operator('CONV_2D', [x, filter, network.tensor([outputs], bias)], [1, side / stride, side / stride, outputs],
        [[0, 'byte', stride > 1 ? VALID : SAME], [1, 'int', stride], [2, 'int', stride], [3, 'byte', relu ? RELU : 0]]);
    },
    avgPool(x, k) {
      const [, side, , channels] = shape(x);
      return network.operator('AVERAGE_POOL_2D', [x], [1, side / k, side / k, channels],
        [[0, 'byte', VALID], [1, 'int', k], [2, 'int', k], [3, 'int', k], [4, 'int', k]]);
    },
    addRelu: (a, b) => network.operator('ADD', [a, b], shape(a), [[0, 'byte', RELU]]),
    attentionPool: x => x,
  }, input);
  return network.finish(input, output);
}

/** @param {Float32Array} weight [n, n], as a Linear keeps it @returns {Uint8Array} [n, n] -> [n, n] */
export function gemmTflite(weight, n) {
  const network = new Network();
  const input = network.tensor([n, n]);
  const constants = [network.tensor([n, n], weight), network.tensor([n], new Float32Array(n))];
  return network.finish(input, network.operator('FULLY_CONNECTED', [input, ...constants], [n, n]));
}
