/**
 * Writes the sample pictures of the demo page: icons of the held-out set on white.
 *
 *   node samples.mjs
 */
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { drawIcon } from './draw.mjs';
import { HELD_OUT, loadSet } from './labels.mjs';

const SIZE = 128;
/** Icon names in the held-out set. */
const SAMPLES = [
  'robot', 'dog-face', 'pizza', 'rocket', 'octopus', 'guitar', 'bicycle',
  'ghost', 'cactus', 'castle', 'hot-beverage', 'sunflower', 'umbrella',
];

const folder = fileURLToPath(new URL('../samples/', import.meta.url));
mkdirSync(folder, { recursive: true });
const { icons } = loadSet(HELD_OUT);
for (const name of SAMPLES) {
  const image = drawIcon(icons, name, SIZE);
  if (!image) throw new Error(`${HELD_OUT} has no icon ${name}`);
  await image
    .flatten({ background: '#ffffff' })
    .png({ compressionLevel: 9, palette: true })
    .toFile(join(folder, `${name}.png`));
}
console.log(`${SAMPLES.length} pictures`);
