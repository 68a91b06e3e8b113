/** Pictures in Node, through the optional package sharp. */
import { LamellaError } from '../errors.js';

/** @typedef {import('./resample.js').Pixels} Pixels */

/** The package's name, put together so that no bundler takes it for a dependency: few pages have it installed. */
const SHARP = ['sha', 'rp'].join('');

/**
 * @param {Blob | Uint8Array | string} encoded Bytes or a path.
 * @param {'from-image' | 'none'} orientation
 * @returns {Promise<Pixels>}
 * @throws {LamellaError} 'sharp-missing', 'image'
 */
export async function decodeInNode(encoded, orientation) {
  const { default: sharp } = await import(/* webpackIgnore: true */ /* @vite-ignore */ SHARP).catch((cause) => {
    throw new LamellaError('sharp-missing', 'image: decoding pictures in Node needs the package sharp: npm install sharp', { cause });
  });
  try {
    // No colour management: Pillow has none.
    const picture = sharp(encoded, { ignoreIcc: true, failOn: 'error' });
    if (orientation === 'from-image') picture.rotate();
    const { data, info } = await picture.toColourspace('srgb').ensureAlpha().raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
    return { data, width: info.width, height: info.height, channels: info.channels };
  } catch (cause) {
    const path = typeof encoded === 'string' ? encoded : undefined;
    throw new LamellaError('image', `image: ${path ?? 'the bytes'}: expected a picture: ${/** @type {Error} */ (cause).message}`, { path, cause });
  }
}
