/**
 * Measures free-text search: what the words of a query should be compared with, the text tower's embeddings of the emoji's names
 * or the image tower's of their drawings.
 *
 *   node render.mjs && node search.mjs
 *
 * The queries are the shortcodes of chat programs that are neither a name nor a keyword of any class, so no caption in training held
 * them; the pictures are the held-out set's and, for comparison, the mean over the sets that were trained on.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { compile, image, models, safetensors } from '../../js/index.js';
import { HELD_OUT } from './labels.mjs';

const MODEL = new URL('../model/', import.meta.url);
const SHORTCODES = ['cldr', 'emojibase', 'iamcal', 'joypixels', 'github'];
const BATCH = 32;
const require = createRequire(import.meta.url);
const index = JSON.parse(readFileSync(new URL('data/index.json', import.meta.url), 'utf8'));
const config = JSON.parse(readFileSync(new URL('config.json', MODEL), 'utf8'));
const size = config.embed_dim;

/** Only letters, digits and single blanks. */
const plain = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, ' ').trim();

/** Each query with the classes that it names. */
function unseenQueries() {
  const taught = new Set(index.classes.flatMap(({ name, keywords }) => [name, ...keywords].map(plain)));
  const classOf = new Map(index.classes.map(({ hexcode }, i) => [hexcode, i]));
  const queries = new Map();
  for (const code of SHORTCODES) {
    for (const [hex, names] of Object.entries(require(`emojibase-data/en/shortcodes/${code}.json`))) {
      if (!classOf.has(hex)) continue;
      for (const query of [names].flat().map(plain)) {
        if (query && !taught.has(query)) queries.set(query, (queries.get(query) ?? new Set()).add(classOf.get(hex)));
      }
    }
  }
  return queries;
}

/** Embeddings of a set's drawings on white, a row for each class; zeros where the set lacks it. */
async function drawings(clip, set) {
  const side = index.size;
  const pixels = readFileSync(new URL(`data/${set}.rgba`, import.meta.url));
  const rows = new Float32Array(index.classes.length * size);
  const { labels } = index.sets[set];
  for (let at = 0; at < labels.length; at += BATCH) {
    const pictures = labels.slice(at, at + BATCH).map((_, i) => onWhite(pixels.subarray((at + i) * side * side * 4, (at + i + 1) * side * side * 4), side));
    const { data } = await clip.encodeImage(await image.toTensor(pictures, clip.module.preprocess), { normalize: true });
    pictures.forEach((_, i) => rows.set(data.subarray(i * size, (i + 1) * size), labels[at + i] * size));
  }
  return rows;
}

function onWhite(rgba, side) {
  const data = new Uint8Array(side * side * 3);
  for (let i = 0; i < side * side; i++) {
    const alpha = rgba[i * 4 + 3] / 255;
    for (let c = 0; c < 3; c++) data[i * 3 + c] = Math.round(rgba[i * 4 + c] * alpha + 255 * (1 - alpha));
  }
  return { data, width: side, height: side };
}

/** The sum of rows of several tables, each of length 1. */
function mean(tables) {
  const rows = tables[0].map((_, i) => tables.reduce((sum, table) => sum + table[i], 0));
  for (let at = 0; at < rows.length; at += size) {
    const length = Math.hypot(...rows.subarray(at, at + size)) || 1;
    for (let i = at; i < at + size; i++) rows[i] /= length;
  }
  return rows;
}

/** How many classes come before the best right one, and one more. */
function ranks(embeddings, rights, rows) {
  return rights.map((right, q) => {
    const cosines = index.classes.map((_, i) => {
      let sum = 0;
      for (let j = 0; j < size; j++) sum += embeddings[q * size + j] * rows[i * size + j];
      return sum;
    });
    const best = Math.max(...[...right].map((i) => cosines[i]));
    return 1 + cosines.filter((cosine) => cosine > best).length;
  });
}

const clip = await compile(new models.CLIP(config), { weights: new URL('model.safetensors', MODEL) });
const queries = unseenQueries();
const { data: embeddings } = await clip.encodeText([...queries.keys()], { normalize: true });
const file = await safetensors.open(new URL('labels.safetensors', MODEL));
const names = (await file.tensor('embedding')).toFloat32();
await file.close();
const trained = mean(await Promise.all(Object.keys(index.sets).filter((set) => set !== HELD_OUT).map((set) => drawings(clip, set))));
const tables = { 'names (text tower)': names, [`${HELD_OUT} (held out)`]: await drawings(clip, HELD_OUT), 'mean of the training sets': trained, 'names + training sets': mean([names, trained]) };
console.log(`${queries.size} queries, ${index.classes.length} emoji`);
for (const [name, rows] of Object.entries(tables)) {
  const all = ranks(embeddings, [...queries.values()], rows);
  const within = (k) => `${(100 * all.filter((rank) => rank <= k).length / all.length).toFixed(1)} %`;
  console.log(`${name.padEnd(28)} first ${within(1)}, first five ${within(5)}, first twelve ${within(12)}, mean 1/rank ${(all.reduce((sum, rank) => sum + 1 / rank, 0) / all.length).toFixed(3)}`);
}
clip.dispose();
