/**
 * Where the parts of a language model's checkpoint lie: in a folder of the disk, or at an address.
 */
import { cache as downloads } from '../js/index.js';

/**
 * @typedef {object} LanguageCheckpoint
 * @property {string} name What to call it.
 * @property {string | URL | File} config The config.json.
 * @property {any} weights What compile takes as weights.
 * @property {string | URL | File} tokenizer The tokenizer.json.
 * @property {(access: Access) => Promise<object | null>} template What chat takes as template; null where there is none.
 */
/** @typedef {{ signal?: AbortSignal, cache?: any }} Access cache: what compile takes as cache. */
/** @typedef {{ name: string, gguf: URL | File | File[] }} GgufCheckpoint One file with all of it, or its parts. */

const story = name => new URL(`models/story/${name}`, import.meta.url);
/** The model that comes with the page. @type {LanguageCheckpoint} */
export const STORY_TELLER = { name: 'The story-teller', config: story('config.json'), weights: story('model.safetensors'), tokenizer: story('tokenizer.json'), template: async () => null };

/** How names of a GGUF file's parts end. */
const PART = /-\d{5}-of-\d{5}\.gguf$/;
const NEEDED = ['config.json', 'tokenizer.json'];

/**
 * A small file.
 * @param {string | URL | File} source
 * @param {Access} access
 */
export async function readText(source, { signal, cache }) {
  if (source instanceof Blob) return source.text();
  const url = new URL(source);
  if (url.protocol === 'file:') {
    const { readFile } = await import('node:fs/promises');
    return readFile(url, 'utf8');
  }
  if (cache) return new TextDecoder().decode(await downloads.read(url, { ...cache, signal }));
  const response = await fetch(url, { signal });
  if (!response.ok) throw new Error(`${url}: the server answered ${response.status} ${response.statusText}`);
  return response.text();
}

/** Without the server, what of it was kept is there. @param {URL} url @param {AbortSignal} [signal] */
async function exists(url, signal) {
  const response = await fetch(url, { method: 'HEAD', signal }).catch(() => null);
  if (response) return response.ok;
  return (await downloads.list().catch(() => [])).some(file => file.complete && file.url === url.href);
}

/** The repository of a page of Hugging Face's: its files are under resolve/main/. @param {URL} url */
function inRepository(url) {
  const [, owner, name, kind, revision = 'main', ...rest] = url.pathname.split('/');
  if (!/(^|\.)huggingface\.co$/.test(url.hostname) || !name || kind === 'resolve') return url;
  return new URL(`/${owner}/${name}/resolve/${revision}/${kind === 'blob' ? rest.join('/') : ''}`, url);
}

/**
 * The checkpoint at an address: of a folder, of one of its files, or of a repository of huggingface.co.
 * @param {string | URL} address
 * @param {{ signal?: AbortSignal }} [options]
 * @returns {Promise<LanguageCheckpoint | GgufCheckpoint>}
 */
export async function checkpointAt(address, { signal } = {}) {
  const url = inRepository(new URL(address, globalThis.location?.href));
  if (/\.gguf$/.test(url.pathname)) return { name: decodeURIComponent(url.pathname.split('/').pop()), gguf: url };
  const isFile = /\.(json|safetensors)$/.test(url.pathname);
  const folder = isFile || url.pathname.endsWith('/') ? url : new URL(`${url.pathname}/${url.search}`, url);
  const at = name => Object.assign(new URL(name, folder), { search: folder.search });
  const isWeights = /\.safetensors(\.index\.json)?$/.test(url.pathname);
  return {
    name: decodeURIComponent(url.pathname.replace(/\/resolve\/.*$/, '').replace(/\/[^/]*\.[^/]*$/, '').split('/').filter(Boolean).pop() ?? url.hostname),
    config: at('config.json'),
    weights: isWeights ? url : at(await exists(at('model.safetensors'), signal) ? 'model.safetensors' : 'model.safetensors.index.json'),
    tokenizer: at('tokenizer.json'),
    template: access => templateOf(name => readText(at(name), access).catch(() => {
      access.signal?.throwIfAborted();
      return null;
    })),
  };
}

/**
 * The checkpoint in a folder that was chosen, or among files that were.
 * @param {Iterable<File>} files
 * @returns {LanguageCheckpoint | GgufCheckpoint}
 * @throws {Error} when something is missing; the message says what there is.
 */
export function checkpointIn(files) {
  const all = [...files];
  const ggufs = all.filter(file => file.name.endsWith('.gguf'));
  if (ggufs.length === 1) return { name: ggufs[0].name, gguf: ggufs[0] };
  const stems = new Set(ggufs.map(({ name }) => name.replace(PART, '')));
  if (stems.size > 1) throw new Error(`Choose one GGUF file of ${ggufs.map(file => file.name).join(', ')}.`);
  if (stems.size) return { name: [...stems][0], gguf: ggufs };
  const depth = file => file.webkitRelativePath.split('/').length;
  const [config] = all.filter(file => file.name === 'config.json').sort((a, b) => depth(a) - depth(b));
  const folderOf = file => file.webkitRelativePath.slice(0, -file.name.length);
  // Of several folders the one with the uppermost config.json.
  const here = config ? all.filter(file => folderOf(file) === folderOf(config)) : all;
  const found = name => here.find(file => file.name === name);
  const weights = weightsAmong(here);
  const missing = [...NEEDED.filter(name => !found(name)), ...(weights ? [] : ['model.safetensors'])];
  if (missing.length) {
    const names = here.map(file => file.name);
    throw new Error(`There is no ${missing.join(' and no ')} in what was chosen${names.length ? `, only ${names.slice(0, 6).join(', ')}${names.length > 6 ? ' …' : ''}` : ''}.`);
  }
  return {
    name: folderOf(config).split('/').filter(Boolean).pop() ?? weights[0].name,
    config, weights, tokenizer: found('tokenizer.json'),
    template: () => templateOf(async name => (await found(name)?.text()) ?? null),
  };
}

/** One file, or an index with its shards. Some folders hold the same weights twice, under other names. @param {File[]} files */
function weightsAmong(files) {
  const named = pattern => files.filter(file => pattern.test(file.name));
  const choices = [
    named(/^model\.safetensors$/),
    named(/\.safetensors\.index\.json$/).length ? [...named(/^model\.safetensors\.index\.json$/), ...named(/^model-.*\.safetensors$/)] : [],
    named(/\.safetensors$/),
  ];
  return choices.find(choice => choice.length);
}

/**
 * @param {(name: string) => Promise<string | null>} read
 * @returns {Promise<object | null>} A tokenizer_config.json with its chat_template, wherever that lies.
 */
async function templateOf(read) {
  const config = await read('tokenizer_config.json');
  const json = config ? JSON.parse(config) : {};
  const chat_template = json.chat_template ?? await read('chat_template.jinja');
  return chat_template ? { ...json, chat_template } : null;
}
