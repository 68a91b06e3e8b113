/**
 * The demo's own server with what the tests add: their folder, a script that records errors in every page, and a slow lane.
 */
import { createReadStream } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createStaticServer, listen } from '../../demo/static-server.mjs';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const SLOW = '/slow/';
const SLOW_CHUNK = 4096; // bytes
const SLOW_PAUSE = 200; // milliseconds

/** Sends a file below tests/ piece by piece, so that a page has time to change its mind. */
async function answerSlowly(request, response, headers) {
  response.writeHead(200, { ...headers, 'Content-Type': 'application/octet-stream' });
  const file = path.join(ROOT, 'tests', path.posix.normalize(request.url.slice(SLOW.length - 1)));
  for await (const chunk of createReadStream(file, { highWaterMark: SLOW_CHUNK })) {
    if (response.destroyed) return;
    response.write(chunk);
    await sleep(SLOW_PAUSE);
  }
  response.end();
}

/**
 * @param {{ isolation: boolean }} options
 * @returns {Promise<{ url: string, close: () => Promise<void> }>} url ends with a slash
 */
export async function startServer({ isolation }) {
  const files = createStaticServer({
    root: ROOT, folders: ['demo', 'dist', 'js', 'tests', 'web'], home: '/demo/', isolation,
    rewriteHtml: html => html.replace('<head>', '<head><script src="/tests/browser/record-errors.js"></script>'),
  });
  const server = http.createServer((request, response) => {
    if (!request.url?.startsWith(SLOW)) return files.emit('request', request, response);
    answerSlowly(request, response, isolation ? { 'Cross-Origin-Resource-Policy': 'same-origin' } : {});
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
