/** `model.safetensors.index.json`: which tensor lies in which shard. */
import { show } from '../arguments.js';
import { LamellaError } from '../errors.js';

/** @typedef {import('./bytes.js').Source} Source */
/** @typedef {import('./safetensors.js').Place} Place */
/**
 * @typedef {object} Index
 * @property {Source} source The index file.
 * @property {string[]} files The shards' names, each once.
 * @property {(found: Map<string, Place>) => Map<string, Place>} select Just the tensors that the index names.
 */

/**
 * @param {Source} source
 * @param {string} text What it holds.
 * @returns {Index}
 * @throws {LamellaError} 'safetensors' when it is no index.
 */
export function parseIndex(source, text) {
  const { name } = source;
  const fail = (/** @type {string} */ problem, /** @type {unknown} */ cause = undefined) => new LamellaError('safetensors', `${name}: ${problem}`, { path: name, cause });
  let json;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw fail(`expected a safetensors file or an index of shards, got text that is not JSON: ${/** @type {Error} */ (cause).message}`, cause);
  }
  const map = json?.weight_map;
  if (typeof map !== 'object' || map === null || !Object.keys(map).length) {
    throw fail(`expected a safetensors file or an index of shards with "weight_map", got JSON: ${show(text.slice(0, 80))}`);
  }
  for (const [tensor, file] of Object.entries(map)) {
    // Only what lies beside the index or below: a checkpoint must not name other sites or folders.
    if (typeof file !== 'string' || !file || /^[/\\]|^[a-z][a-z0-9+.-]*:|(^|[/\\])\.\.([/\\]|$)/i.test(file)) {
      throw fail(`weight_map: ${show(tensor)}: expected the name of a file beside the index, got ${show(file)}`);
    }
  }
  return { source, files: [...new Set(/** @type {string[]} */ (Object.values(map)))], select: (found) => select(name, map, found) };
}

/**
 * @param {string} index
 * @param {Record<string, string>} map
 * @param {Map<string, Place>} found
 */
function select(index, map, found) {
  return new Map(Object.entries(map).map(([tensor, file]) => {
    const place = found.get(tensor);
    if (!place || baseName(place.source.name) !== baseName(file)) {
      const where = place ? `it is in ${place.source.name}` : 'that has no such tensor';
      throw new LamellaError('safetensors', `${index}: weight_map says that tensor ${show(tensor)} is in ${file}, but ${where}`, { path: tensor });
    }
    return [tensor, place];
  }));
}

/**
 * Addresses of the shards that are still to be opened.
 * @param {Index} index
 * @param {string[]} given Names of shards that were passed with it.
 * @returns {string[]}
 * @throws {LamellaError} when nobody knows what lies beside the index.
 */
export function findShards({ source, files }, given) {
  const present = new Set(given.map(baseName));
  const missing = files.filter((file) => !present.has(baseName(file)));
  if (missing.length && !source.neighbour) {
    throw new LamellaError('safetensors', `${source.name}: expected a list of the index and its shards; missing: ${missing.join(', ')}`, { path: source.name });
  }
  return missing.map((file) => /** @type {string} */ (source.neighbour?.(file)));
}

/** @param {string} name Path or URL. */
export function baseName(name) {
  const isUrl = /^[a-z][a-z0-9+.-]+:\/\//i.test(name);
  const last = /** @type {string} */ ((isUrl ? new URL(name).pathname : name).split(/[/\\]/).pop());
  return isUrl ? decodeURIComponent(last) : last;
}
