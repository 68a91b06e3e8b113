/** Writes the models as ONNX files (protobuf), so that the bench needs no exporter. Field numbers are onnx.proto's. */
import { walkTower, foldNorm, transpose, EMBED, HEADS, OUTPUT, SIZE, TOKENS } from './tower.mjs';

const FLOAT = 1;
const UINT8 = 2;
const INT64 = 7;
const typeOf = data => data instanceof Float32Array ? FLOAT : data instanceof Uint8Array ? UINT8 : INT64;
/** The domain of its own operators. */
const OWN = 'com.microsoft';
const ATTRIBUTE_TYPE = { i: 2, ints: 7 };
const text = new TextEncoder();

/** A protobuf message under construction: chunks are joined once, so weights are copied once. */
class Message {
  chunks = [];
  size = 0;

  bytes(data) {
    this.chunks.push(data);
    this.size += data.length;
    return this;
  }

  varint(value) {
    const out = [];
    for (let rest = BigInt.asUintN(64, BigInt(value)); ; rest >>= 7n) {
      if (rest < 128n) return this.bytes(Uint8Array.from([...out, Number(rest)]));
      out.push(Number(rest & 127n) | 128);
    }
  }

  int(field, value) {
    return this.varint(field << 3).varint(value);
  }

  data(field, bytes) {
    return this.varint(field << 3 | 2).varint(bytes.length).bytes(bytes);
  }

  string(field, value) {
    return this.data(field, text.encode(value));
  }

  message(field, child) {
    this.varint(field << 3 | 2).varint(child.size);
    this.chunks.push(...child.chunks);
    this.size += child.size;
    return this;
  }

  join() {
    const out = new Uint8Array(this.size);
    let at = 0;
    for (const chunk of this.chunks) {
      out.set(chunk, at);
      at += chunk.length;
    }
    return out;
  }
}

class Graph {
  body = new Message();
  values = 0;

  /** Adds a node and returns the name of its output. */
  node(type, inputs, attributes = {}, domain = '') {
    const output = `v${this.values++}`;
    const node = new Message();
    for (const input of inputs) node.string(1, input);
    node.string(2, output).string(4, type).string(7, domain);
    for (const [name, value] of Object.entries(attributes)) {
      const attribute = new Message().string(1, name);
      if (Array.isArray(value)) value.forEach(v => attribute.int(8, v));
      else attribute.int(3, value);
      node.message(5, attribute.int(20, Array.isArray(value) ? ATTRIBUTE_TYPE.ints : ATTRIBUTE_TYPE.i));
    }
    this.body.message(1, node);
    return output;
  }

  /** Adds a constant; a typed array decides the type. */
  constant(data, shape) {
    const name = `c${this.values++}`;
    const tensor = new Message();
    for (const dim of shape) tensor.int(1, dim);
    tensor.int(2, typeOf(data)).string(8, name);
    this.body.message(5, tensor.data(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)));
    return name;
  }

  ints(...values) {
    return this.constant(BigInt64Array.from(values, BigInt), [values.length]);
  }

  /** Declares a graph input (field 11) or output (field 12). */
  border(field, name, dims) {
    const shape = new Message();
    for (const dim of dims) shape.message(1, new Message().int(1, dim));
    const type = new Message().message(1, new Message().int(1, FLOAT).message(2, shape));
    this.body.message(field, new Message().string(1, name).message(2, type));
  }

  /** The whole file. */
  finish(input, inputShape, output, outputShape) {
    this.border(11, input, inputShape);
    this.border(12, output, outputShape);
    const opset = (domain, version) => new Message().string(1, domain).int(2, version);
    return new Message().int(1, 8).message(8, opset('', 17)).message(8, opset(OWN, 1)).message(7, this.body.string(2, 'bench')).join();
  }
}

/** @param {ReturnType<import('./tower.mjs').towerTensors>} tensors @returns {{ bytes: Uint8Array, input: string, output: string }} */
export function towerOnnx(tensors) {
  const graph = new Graph();
  const output = walkTower({
    conv(x, conv, norm, { inputs, outputs, kernel, stride, relu }) {
      const { weight, bias } = foldNorm(tensors, conv, norm);
      const pad = kernel >> 1;
      const y = graph.node('Conv', [x, graph.constant(weight, [outputs, inputs, kernel, kernel]), graph.constant(bias, [outputs])],
        { kernel_shape: [kernel, kernel], strides: [stride, stride], pads: [pad, pad, pad, pad] });
      return relu ? graph.node('Relu', [y]) : y;
    },
    avgPool: (x, k) => graph.node('AveragePool', [x], { kernel_shape: [k, k], strides: [k, k] }),
    addRelu: (a, b) => graph.node('Relu', [graph.node('Add', [a, b])]),
    attentionPool: x => attentionPool(graph, tensors, x),
  }, 'x');
  return { bytes: graph.finish('x', [1, 3, SIZE, SIZE], output, [1, OUTPUT]), input: 'x', output };
}

/** One query (the mean token), as the tower's result needs no other. */
function attentionPool(graph, tensors, x) {
  const get = name => {
    const { data, shape } = tensors.get(`attnpool.${name}`);
    return graph.constant(data, shape);
  };
  const project = (y, name) => graph.node('Gemm', [y, get(`${name}_proj.weight`), get(`${name}_proj.bias`)], { transB: 1 });
  const heads = (y, perm) => graph.node('Transpose', [graph.node('Reshape', [y, graph.ints(-1, HEADS, EMBED / HEADS)])], { perm });

  const pixels = graph.node('Transpose', [graph.node('Reshape', [x, graph.ints(EMBED, TOKENS - 1)])], { perm: [1, 0] });
  const mean = graph.node('ReduceMean', [pixels], { axes: [0], keepdims: 1 });
  const tokens = graph.node('Add', [graph.node('Concat', [mean, pixels], { axis: 0 }), get('positional_embedding')]);
  const first = graph.node('Slice', [tokens, graph.ints(0), graph.ints(1), graph.ints(0)]);
  const scale = graph.constant(Float32Array.of((EMBED / HEADS) ** -0.5), []);
  const q = heads(graph.node('Mul', [project(first, 'q'), scale]), [1, 0, 2]);
  const k = heads(project(tokens, 'k'), [1, 2, 0]);
  const v = heads(project(tokens, 'v'), [1, 0, 2]);
  const weights = graph.node('Softmax', [graph.node('MatMul', [q, k])], { axis: -1 });
  const mixed = graph.node('Reshape', [graph.node('MatMul', [weights, v]), graph.ints(1, EMBED)]);
  return project(mixed, 'c');
}

/** @param {Float32Array} weight [n, n], as a Linear keeps it */
export function gemmOnnx(weight, n) {
  const graph = new Graph();
  const output = graph.node('MatMul', ['x', graph.constant(transpose(weight, n, n), [n, n])]);
  return { bytes: graph.finish('x', [n, n], output, [n, n]), input: 'x', output };
}

/**
 * 4-bit weights in blocks of 32, two in a byte; int8 activations (accuracy level 4), which are no slower than float ones.
 * @param {{ codes: Uint8Array, scales: Float32Array }} weight as work.mjs's gemvCodes makes it
 */
export function gemvOnnx({ codes, scales }, [outputs, inputs]) {
  const graph = new Graph();
  const packed = Uint8Array.from({ length: codes.length / 2 }, (_, i) => codes[2 * i] | codes[2 * i + 1] << 4);
  const constants = [graph.constant(packed, [outputs, inputs / 32, 16]), graph.constant(scales, [outputs * inputs / 32])];
  const output = graph.node('MatMulNBits', ['x', ...constants], { K: inputs, N: outputs, bits: 4, block_size: 32, accuracy_level: 4 }, OWN);
  return { bytes: graph.finish('x', [1, inputs], output, [1, outputs]), input: 'x', output };
}
