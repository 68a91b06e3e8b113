/** Numbers drawn from a seed: the same seed gives the same draws on every machine. */

/** @param {string} text @returns {number} 32 bits that any change of the text changes (FNV-1a, then murmur3's finish). */
export function hash(text) {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

export class Random {
  /** @param {number} seed */
  constructor(seed) {
    this.state = seed >>> 0;
  }

  /** In [0, 1). Mulberry32: a Weyl sequence through a mixing function. */
  unit() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  /** An integer from `least` to `most`, both included. @param {number} least @param {number} most */
  int(least, most) {
    return least + Math.floor(this.unit() * (most - least + 1));
  }

  /** @param {number} [probability] */
  chance(probability = 0.5) {
    return this.unit() < probability;
  }

  /** @template T @param {readonly T[]} list @returns {T} */
  pick(list) {
    return list[this.int(0, list.length - 1)];
  }

  /** @template T @param {readonly T[]} list @returns {T[]} In another order. */
  shuffled(list) {
    const result = [...list];
    for (let i = result.length - 1; i > 0; i--) {
      const j = this.int(0, i);
      [result[i], result[j]] = [result[j], result[i]];
    }
    return result;
  }

  /**
   * The size of an axis: one is common, and so are sizes around the widths of vectors and tiles.
   * @param {number} [most]
   * @param {number} [least]
   */
  size(most = 9, least = 1) {
    if (least <= 1 && this.chance(0.15)) return 1;
    return this.chance(0.8) ? this.int(least, Math.min(most, least + 6)) : this.int(least, most);
  }

  /** A size that is zero now and then. @param {number} [most] */
  sizeOrZero(most = 9) {
    return this.chance(0.03) ? 0 : this.size(most);
  }

  /** @param {number} least @param {number} most Of the rank. @param {number} [largest] Of a size. @returns {number[]} */
  shape(least, most, largest = 9) {
    const rank = this.int(least, most);
    return Array.from({ length: rank }, () => this.sizeOrZero(rank > 3 ? Math.min(largest, 5) : largest));
  }

  /** One integer for both axes, or [height, width]. @param {() => number} draw @returns {number | [number, number]} */
  pair(draw) {
    return this.chance() ? draw() : [draw(), draw()];
  }

  /** An axis of that rank, counted from the front or from the end. @param {number} rank */
  axis(rank) {
    return this.int(-rank, rank - 1);
  }

  /** About a normal distribution of standard deviation 1: the sum of four uniform ones. */
  normal() {
    return (this.unit() + this.unit() + this.unit() + this.unit() - 2) * Math.sqrt(3);
  }
}
