/**
 * Decides which emoji are classes and which icon of which set shows each of them.
 *
 * A class is an emoji that emojibase lists, that is not a skin tone variant or a
 * component (skin tone swatch, hair, …), and that the held-out set AND all three core training
 * sets contain. The extra training sets may cover a class or not.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const readJson = (id) => JSON.parse(readFileSync(require.resolve(id), 'utf8'));

/** The test set: its pictures are never trained on. */
export const HELD_OUT = 'twemoji';
/** Training sets that must contain every class. */
export const CORE_SETS = ['openmoji', 'noto', 'fluent-emoji-flat'];
/** Further training sets; used for the classes that they contain. */
export const EXTRA_SETS = ['fluent-emoji', 'noto-v1', 'emojione', 'emojione-v1', 'fxemoji'];

/** emojibase group of skin tone swatches, hair styles and regional indicators. */
const COMPONENT_GROUP = 2;
const SHORTCODE_SETS = ['cldr', 'emojibase', 'iamcal', 'joypixels', 'github'];

/** Code points of an emoji without variation selectors: sets differ in where they write them. */
const bareHex = (hex) => hex.toLowerCase().split('-').filter((c) => c !== 'fe0f').join('-');

/** Compares names across sets: only letters and digits, no accents. */
const compact = (name) =>
  name.normalize('NFD').toLowerCase().replace(/&/g, 'and').replace(/[^a-z0-9]/g, '');

/** All emoji of emojibase that may become classes, with their texts. */
function candidates() {
  return readJson('emojibase-data/en/data.json')
    .filter((entry) => entry.group !== undefined && entry.group !== COMPONENT_GROUP)
    .map((entry) => ({
      hex: bareHex(entry.hexcode),
      hexcode: entry.hexcode,
      emoji: entry.emoji,
      group: entry.group,
      name: entry.label,
      keywords: (entry.tags ?? []).filter((tag) => tag !== entry.label),
    }));
}

/** Loads one Iconify set and, where it has one, its table from code points to icon names. */
export function loadSet(set) {
  const icons = readJson(`@iconify-json/${set}/icons.json`);
  const info = readJson(`@iconify-json/${set}/info.json`);
  let chars = {};
  try {
    chars = readJson(`@iconify-json/${set}/chars.json`);
  } catch {
    // Older sets have no such table; their icons are matched by name.
  }
  return { set, icons, info, chars };
}

/** Maps every spelling of a name that is unique to one emoji to that emoji's code points. */
function namesToHex(entries, setsWithChars) {
  const seen = new Map();
  const add = (name, hex) => {
    const key = compact(name);
    if (!seen.has(key)) seen.set(key, new Set());
    seen.get(key).add(hex);
  };
  const known = new Set(entries.map((entry) => entry.hex));
  for (const entry of entries) add(entry.name, entry.hex);
  for (const { chars } of setsWithChars) {
    for (const [hex, name] of Object.entries(chars)) {
      if (known.has(bareHex(hex))) add(name, bareHex(hex));
    }
  }
  for (const code of SHORTCODE_SETS) {
    const table = readJson(`emojibase-data/en/shortcodes/${code}.json`);
    for (const [hex, names] of Object.entries(table)) {
      if (!known.has(bareHex(hex))) continue;
      for (const name of [names].flat()) add(name, bareHex(hex));
    }
  }
  return new Map([...seen].filter(([, set]) => set.size === 1).map(([key, set]) => [key, [...set][0]]));
}

/** Maps code points to the icon name for one set. */
function iconsByHex(loaded, names) {
  const found = new Map();
  for (const [hex, name] of Object.entries(loaded.chars)) found.set(bareHex(hex), name);
  if (found.size > 0) return found;
  const all = [...Object.keys(loaded.icons.icons), ...Object.keys(loaded.icons.aliases ?? {})];
  for (const name of all) {
    const hex = names.get(compact(name));
    if (hex && !found.has(hex)) found.set(hex, name);
  }
  return found;
}

/**
 * Returns the classes in emojibase order and, for each set, the icon name of every
 * class (undefined where the set lacks it).
 */
export function chooseClasses() {
  const entries = candidates();
  const sets = [HELD_OUT, ...CORE_SETS, ...EXTRA_SETS].map(loadSet);
  const names = namesToHex(entries, sets);
  const tables = new Map(sets.map((loaded) => [loaded.set, iconsByHex(loaded, names)]));
  const required = [HELD_OUT, ...CORE_SETS].map((set) => tables.get(set));
  const classes = entries.filter((entry) => required.every((table) => table.has(entry.hex)));
  const icons = sets.map((loaded) => ({
    ...loaded,
    names: classes.map((entry) => tables.get(loaded.set).get(entry.hex)),
  }));
  return { classes, sets: icons };
}
