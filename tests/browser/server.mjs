/**
 * The demo's own server with what the tests add: their folder, files that they make, a script that records errors in every page, and a slow lane.
 */
import { createReadStream } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createStaticServer, listen } from '../../demo/static-server.mjs';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const SLOW = '/slow/';
const MADE = '/made/';
const SLOW_CHUNK = 4096; // bytes
const SLOW_PAUSE = 200; // milliseconds

/** Sends a file below tests/, or one that was made, piece by piece, so that a page has time to change its mind. */
async function answerSlowly(request, response, headers, made) {
  response.writeHead(200, { ...headers, 'Content-Type': 'application/octet-stream' });
  const address = request.url.slice(SLOW.length - 1);
  const content = address.startsWith(MADE) ? made[address.slice(MADE.length)] : undefined;
  const chunks = content === undefined ? createReadStream(path.join(ROOT, 'tests', path.posix.normalize(address)), { highWaterMark: SLOW_CHUNK }) : pieces(Buffer.from(content));
  for await (const chunk of chunks) {
    if (response.destroyed) return;
    response.write(chunk);
    await sleep(SLOW_PAUSE);
  }
  response.end();
}

/** @param {Buffer} content */
function* pieces(content) {
  for (let at = 0; at < content.length; at += SLOW_CHUNK) yield content.subarray(at, at + SLOW_CHUNK);
}

/**
 * @param {{ isolation: boolean, made?: Record<string, string | Uint8Array> }} options made: files to be found under /made/
 * @returns {Promise<{ url: string, close: () => Promise<void> }>} url ends with a slash
 */
export async function startServer({ isolation, made = {} }) {
  const files = createStaticServer({
    root: ROOT, folders: ['demo', 'dist', 'js', 'tests', 'web'], home: '/demo/', isolation,
    rewriteHtml: html => html.replace('<head>', '<head><script src="/tests/browser/record-errors.js"></script>'),
  });
  const headers = isolation ? { 'Cross-Origin-Resource-Policy': 'same-origin' } : {};
  const server = http.createServer((request, response) => {
    if (request.url?.startsWith(SLOW)) return answerSlowly(request, response, headers, made);
    const content = request.url?.startsWith(MADE) ? made[request.url.slice(MADE.length)] : undefined;
    if (content === undefined) return files.emit('request', request, response);
    response.writeHead(200, { ...headers, 'Content-Length': Buffer.byteLength(content) }).end(request.method === 'HEAD' ? undefined : content);
  });
  const url = await listen(server, 0);
  return {
    url,
    close: () => new Promise(resolve => {
      server.close(() => resolve());
      server.closeAllConnections();
    }),
  };
}
