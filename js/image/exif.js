/** The orientation that a JPEG file asks for. Browsers obey it and cannot be told not to, so it is overwritten. */

const ORIENTATION = 0x0112;

/**
 * @param {Blob} file
 * @returns {Promise<Blob>} The same picture, as the camera stored it; the file itself if it has no orientation.
 */
export async function withoutOrientation(file) {
  // EXIF data is the first segment of the file or the second, and has less than 64 kB.
  const head = new Uint8Array(await file.slice(0, 1 << 18).arrayBuffer());
  const at = findOrientation(head);
  if (at === null) return file;
  head.fill(0, at, at + 4);
  return new Blob([head, file.slice(head.length)], { type: file.type });
}

/**
 * Where the value of the orientation is written: 4 bytes.
 * @param {Uint8Array} bytes The beginning of a file.
 * @returns {number | null}
 */
export function findOrientation(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 4 || view.getUint16(0) !== 0xffd8) return null;
  for (let at = 2; at + 10 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda;) {
    const length = view.getUint16(at + 2);
    const isExif = bytes[at + 1] === 0xe1 && view.getUint32(at + 4) === 0x45786966;
    if (isExif) return findTag(view, at + 10, Math.min(bytes.length, at + 2 + length));
    at += 2 + length;
  }
  return null;
}

/**
 * @param {DataView} view
 * @param {number} tiff Where the TIFF header begins.
 * @param {number} end
 * @returns {number | null}
 */
function findTag(view, tiff, end) {
  if (tiff + 8 > end) return null;
  const little = view.getUint16(tiff) === 0x4949;
  const directory = tiff + view.getUint32(tiff + 4, little);
  if (directory + 2 > end) return null;
  const count = view.getUint16(directory, little);
  for (let i = 0, at = directory + 2; i < count && at + 12 <= end; i++, at += 12) {
    if (view.getUint16(at, little) === ORIENTATION) return at + 8;
  }
  return null;
}
