/**
 * Reads the sizes of an open_clip ResNet image tower off the shapes of its tensors, so that a checkpoint needs no config file.
 */

const HEAD_SIZE = 64;
const REDUCTION = 32; // of the image's side, from the picture to the attention pool

/**
 * @param {{ keys: () => Iterable<string>, get: (name: string) => { shape: readonly number[] } | undefined }} tensors what `safetensors.open` gives
 * @returns {{ prefix: string, options: { layers: number[], outputDim: number, heads: number, imageSize: number, width: number, useSe: boolean, layerNorm: boolean } }}
 *   what `models.ModifiedResNet` and `compile` take
 * @throws {Error} when there is no such tower among the tensors
 */
export function inferResNet(tensors) {
  const anchor = 'attnpool.positional_embedding';
  const names = new Set(tensors.keys());
  const name = [...names].find(key => key === anchor || key.endsWith(`.${anchor}`));
  if (name === undefined) {
    const [first] = names;
    throw new Error(`This is not a checkpoint of an open_clip ResNet: none of its ${names.size} tensors is called "${anchor}"` +
      (first === undefined ? '.' : `; the first is "${first}".`));
  }
  const prefix = name.slice(0, -anchor.length);
  const shape = key => {
    const found = tensors.get(prefix + key)?.shape;
    if (!found) throw new Error(`The checkpoint has "${name}" but not "${prefix}${key}", so its sizes cannot be told.`);
    return found;
  };
  const width = shape('conv3.weight')[0];
  const [rows, channels] = shape(anchor);
  const side = Math.sqrt(rows - 1);
  if (!Number.isInteger(side) || channels !== width * 32) {
    throw new Error(`"${name}" has the shape [${rows}, ${channels}]; a tower of width ${width} has [side² + 1, ${width * 32}].`);
  }
  const blocks = stage => {
    let count = 0;
    while (names.has(`${prefix}layer${stage}.${count}.conv1.weight`)) count++;
    return count;
  };
  return {
    prefix,
    options: {
      layers: [1, 2, 3, 4].map(blocks),
      outputDim: shape('attnpool.c_proj.weight')[0],
      heads: channels / HEAD_SIZE,
      imageSize: side * REDUCTION,
      width,
      useSe: names.has(`${prefix}layer1.0.se.fc.0.weight`),
      layerNorm: names.has(`${prefix}attnpool.ln.weight`),
    },
  };
}

/**
 * <a, b> / (|a| |b|)
 * @param {ArrayLike<number>} a @param {ArrayLike<number>} b of the same length
 * @returns {number} -1 to 1
 */
export function cosineSimilarity(a, b) {
  let dot = 0;
  let aa = 0;
  let bb = 0;
  for (let i = 0; i < a.length; i++) {
    dot += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return dot / Math.sqrt(aa * bb);
}
