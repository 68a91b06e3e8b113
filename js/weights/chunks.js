/** Tensors in pieces, read in the order of the files with as few requests as possible. */
import { LamellaError } from '../errors.js';
import { PieceReader, truncated } from './bytes.js';

/** @typedef {import('./safetensors.js').Place} Place */
/** @typedef {{ name: string, place: Place, step: number }} Wanted A tensor and the bytes of one piece of it. */
/**
 * @typedef {object} Chunk
 * @property {string} name
 * @property {number} offset In bytes from the tensor's beginning.
 * @property {Uint8Array} data Good until the next piece is asked for.
 * @property {boolean} last Whether it is the tensor's last.
 * @property {'network' | 'cache'} [from] Where it came from, if not from this machine's own files.
 */
/** @typedef {{ tensors: Wanted[], begin: number, end: number }} Run Tensors that one request brings. */

/**
 * @param {Wanted[]} wanted
 * @param {AbortSignal | null} signal
 * @returns {AsyncGenerator<Chunk, void, void>}
 */
export async function* readChunks(wanted, signal) {
  signal?.throwIfAborted();
  const runs = plan(wanted);
  const scratch = { bytes: new Uint8Array(0) };
  const start = (/** @type {Run | undefined} */ run) => {
    const reader = run && new PieceReader(run.tensors[0].place.source, run.begin, run.end, signal);
    reader?.start();
    return reader;
  };
  let next = start(runs[0]);
  try {
    for (let i = 0; i < runs.length; i++) {
      const reader = /** @type {PieceReader} */ (next);
      // The next request is on its way while this one is read.
      next = start(runs[i + 1]);
      try {
        for (const tensor of runs[i].tensors) yield* readTensor(reader, tensor, scratch);
      } finally {
        await reader.close();
      }
      await checkEnd(runs[i], signal);
      const { source } = runs[i].tensors[0].place;
      if (runs[i + 1]?.tensors[0].place.source !== source) await source.finish?.(signal);
    }
  } finally {
    await next?.close();
  }
}

/**
 * Tensors in file order, joined where reading over a gap is cheaper than another request.
 * @param {Wanted[]} wanted
 * @returns {Run[]}
 */
function plan(wanted) {
  const sources = [...new Set(wanted.map(({ place }) => place.source))];
  return sources.flatMap((source) => {
    const own = wanted.filter(({ place }) => place.source === source).sort((a, b) => a.place.begin - b.place.begin || a.place.end - b.place.end);
    /** @type {Run[]} */
    const runs = [];
    for (const tensor of own) {
      const { begin, end } = tensor.place;
      const run = runs[runs.length - 1];
      if (run && begin - run.end <= source.gap) {
        run.tensors.push(tensor);
        run.end = end;
      } else runs.push({ tensors: [tensor], begin, end });
    }
    return runs;
  });
}

/**
 * @param {PieceReader} reader
 * @param {Wanted} tensor
 * @param {{ bytes: Uint8Array }} scratch
 * @returns {AsyncGenerator<Chunk, void, void>}
 */
async function* readTensor(reader, { name, place: { source, begin, end }, step }, scratch) {
  await reader.skipTo(begin);
  let offset = 0;
  do {
    reader.signal?.throwIfAborted();
    const count = Math.min(step, end - begin - offset);
    const data = await reader.upTo(count, scratch);
    if (data.length < count) throw truncated(source.name, begin, end, reader.at);
    yield { name, offset, data, last: offset + count === end - begin, ...(source.from && { from: source.from }) };
    offset += count;
  } while (offset < end - begin);
}

/**
 * A stream does not tell its size before it ends: then is the time to see that nothing follows.
 * @param {Run} run
 * @param {AbortSignal | null} signal
 */
async function checkEnd({ tensors, end }, signal) {
  const { source, fileEnd } = tensors[0].place;
  if (source.random || source.size !== undefined || end !== fileEnd) return;
  for await (const piece of source.stream(end, undefined, { signal })) {
    if (piece.length) throw new LamellaError('safetensors', `${source.name}: the file is too long: the last tensor ends at byte ${end}, more follow`, { path: source.name });
  }
}
