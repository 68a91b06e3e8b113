/** @param {number[]} values @param {number} q 0..1 @returns {number} linear between neighbours, as NumPy's default */
export function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = Math.floor(at);
  const high = Math.ceil(at);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

/** @param {number[]} values */
export const median = values => quantile(values, 0.5);

/** @param {number[]} values */
export const spread = values => ({
  count: values.length,
  min: quantile(values, 0),
  q1: quantile(values, 0.25),
  median: median(values),
  q3: quantile(values, 0.75),
  max: quantile(values, 1),
});

/**
 * Ratios of two contestants, round by round, so that a slow or fast spell of the machine is in both.
 * @param {number[][]} a milliseconds [round][run]
 * @param {number[][]} b
 */
export const pairedRatios = (a, b) => a.map((round, i) => median(round) / median(b[i]));

/**
 * max|y - reference| / max|reference|; NaN anywhere gives NaN.
 * @param {Float32Array} y
 * @param {Float32Array} reference
 */
export function relativeError(y, reference) {
  if (y.length !== reference.length) throw new Error(`expected ${reference.length} values, got ${y.length}`);
  let error = 0;
  let scale = 0;
  for (let i = 0; i < y.length; i++) {
    const difference = Math.abs(y[i] - reference[i]);
    if (!(difference <= error)) error = difference;
    scale = Math.max(scale, Math.abs(reference[i]));
  }
  return error / scale;
}

/** @param {Float32Array} a @param {Float32Array} b */
export function cosine(a, b) {
  let [product, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    product += a[i] * b[i];
    aa += a[i] ** 2;
    bb += b[i] ** 2;
  }
  return product / Math.sqrt(aa * bb);
}
