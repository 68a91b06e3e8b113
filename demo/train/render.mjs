/**
 * Renders the icons of all classes to raw RGBA pixels.
 *
 * Writes data/<set>.rgba (unsigned bytes [pictures, SIZE, SIZE, 4], straight alpha)
 * and data/index.json: the classes and, for each set, the class of every picture.
 *
 *   node render.mjs
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { drawIcon } from './draw.mjs';
import { chooseClasses, HELD_OUT } from './labels.mjs';

const SIZE = 72;
const dataFolder = join(fileURLToPath(new URL('.', import.meta.url)), 'data');

/** Renders every class that the set has; icons that fail or show nothing are left out. */
async function renderSet({ set, icons, names }) {
  const pictures = [];
  const labels = [];
  for (const [label, name] of names.entries()) {
    if (name === undefined) continue;
    let pixels;
    try {
      pixels = await drawIcon(icons, name, SIZE)?.ensureAlpha().raw().toBuffer();
    } catch (error) {
      console.warn(`${set}/${name}: ${error.message}`);
    }
    if (pixels?.length !== SIZE * SIZE * 4 || !pixels.some((value) => value > 0)) continue;
    pictures.push(pixels);
    labels.push(label);
  }
  writeFileSync(join(dataFolder, `${set}.rgba`), Buffer.concat(pictures));
  return labels;
}

async function main() {
  mkdirSync(dataFolder, { recursive: true });
  const { classes, sets } = chooseClasses();
  console.log(`${classes.length} classes`);
  const index = { size: SIZE, held_out: HELD_OUT, classes, sets: {} };
  for (const loaded of sets) {
    const labels = await renderSet(loaded);
    const { license, author, version } = loaded.info;
    index.sets[loaded.set] = { labels, license, author, version };
    console.log(`${loaded.set}: ${labels.length} pictures (${license.spdx})`);
  }
  writeFileSync(join(dataFolder, 'index.json'), JSON.stringify(index));
}

await main();
