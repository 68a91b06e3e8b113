/**
 * A small static file server for the demo page and the browser tests: the folders it is given and nothing else, byte ranges,
 * and the two headers that make a page cross-origin isolated (without them a browser gives no shared memory, so no threads).
 */
import { createReadStream } from 'node:fs';
import { readFile, realpath, stat } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';

const TYPES = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.jpg': 'image/jpeg',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.md': 'text/plain; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.png': 'image/png',
  '.safetensors': 'application/octet-stream',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
  '.webm': 'video/webm',
};

/**
 * The part of a file that a Range header asks for.
 * @param {string | undefined} header as sent: `bytes=first-last`, `bytes=first-` or `bytes=-length`
 * @param {number} size of the file in bytes
 * @returns {{ first: number, last: number } | 'all' | 'none'} `'all'` when there is no header, or one that HTTP says to ignore;
 *   `'none'` when nothing of the file lies in the range
 */
export function parseRange(header, size) {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? '');
  if (!match || (match[1] === '' && match[2] === '')) return 'all';
  const first = match[1] === '' ? Math.max(0, size - Number(match[2])) : Number(match[1]);
  const last = match[1] === '' || match[2] === '' ? size - 1 : Math.min(Number(match[2]), size - 1);
  if (match[1] !== '' && match[2] !== '' && Number(match[2]) < first) return 'all';
  return first < size && first <= last ? { first, last } : 'none';
}

/** The real file behind a URL path, or null when it is outside the folders or does not exist. */
async function locate(root, folders, pathname) {
  const relative = path.posix.normalize(pathname).replace(/^\/+/, '');
  if (relative.includes('\0') || !folders.includes(relative.split('/')[0])) return null;
  try {
    let file = await realpath(path.join(root, relative));
    let info = await stat(file);
    if (info.isDirectory() && pathname.endsWith('/')) {
      file = path.join(file, 'index.html');
      info = await stat(file);
    }
    const inside = folders.some(folder => file.startsWith(path.join(root, folder) + path.sep));
    return inside && info.isFile() ? { file, info } : null;
  } catch {
    return null;
  }
}

/**
 * A server that answers GET and HEAD for files under some folders of one root; `/` leads to `home`.
 * @param {object} options
 * @param {string} options.root absolute path of the folder that URLs start from
 * @param {string[]} options.folders names of the folders directly under the root that are served
 * @param {string} options.home URL path to which `/` redirects
 * @param {boolean} [options.isolation] send `Cross-Origin-Opener-Policy` and `Cross-Origin-Embedder-Policy`; default true
 * @param {(html: string) => string} [options.rewriteHtml] changes pages on their way out (the tests add a script)
 * @returns {http.Server} not yet listening
 */
export function createStaticServer({ root, folders, home, isolation = true, rewriteHtml }) {
  const base = realpath(root);
  return http.createServer(async (request, response) => {
    const headers = { 'Cache-Control': 'no-cache', 'X-Content-Type-Options': 'nosniff' };
    if (isolation) {
      headers['Cross-Origin-Opener-Policy'] = 'same-origin';
      headers['Cross-Origin-Embedder-Policy'] = 'require-corp';
      headers['Cross-Origin-Resource-Policy'] = 'same-origin';
    }
    const fail = (status, text, more = {}) => {
      response.writeHead(status, { ...headers, ...more, 'Content-Type': 'text/plain; charset=utf-8' }).end(`${text}\n`);
    };
    if (request.method !== 'GET' && request.method !== 'HEAD') return fail(405, 'Only GET and HEAD.', { Allow: 'GET, HEAD' });

    let pathname;
    try {
      pathname = decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname);
    } catch {
      return fail(400, 'Not a URL.');
    }
    if (pathname === '/') return response.writeHead(302, { ...headers, Location: home }).end();

    const found = await locate(await base, folders, pathname);
    if (!found) return fail(404, `Not here: ${pathname}`);
    const { file, info } = found;
    headers['Content-Type'] = TYPES[path.extname(file)] ?? 'application/octet-stream';
    if (rewriteHtml && file.endsWith('.html')) {
      return response.writeHead(200, headers).end(rewriteHtml(await readFile(file, 'utf8')));
    }

    const range = parseRange(request.headers.range, info.size);
    headers['Accept-Ranges'] = 'bytes';
    if (range === 'none') return fail(416, 'Nothing of the file lies in that range.', { 'Content-Range': `bytes */${info.size}` });
    const { first, last } = range === 'all' ? { first: 0, last: info.size - 1 } : range;
    if (range !== 'all') headers['Content-Range'] = `bytes ${first}-${last}/${info.size}`;
    response.writeHead(range === 'all' ? 200 : 206, { ...headers, 'Content-Length': last - first + 1 });
    if (request.method === 'HEAD' || info.size === 0) return response.end();
    createReadStream(file, { start: first, end: last }).on('error', () => response.destroy()).pipe(response);
  });
}

/**
 * Listens on 127.0.0.1.
 * @param {http.Server} server
 * @param {number} [port] the first port to try, default 8080; 0 lets the system choose
 * @param {number} [attempts] how many ports to try in turn, default 100
 * @returns {Promise<string>} the address, `http://127.0.0.1:8080/`
 */
export async function listen(server, port = 8080, attempts = 100) {
  for (let candidate = port; ; candidate++) {
    try {
      await new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(candidate, '127.0.0.1', () => {
          server.off('error', reject);
          resolve(undefined);
        });
      });
      return `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (server.address()).port}/`;
    } catch (error) {
      if (error.code !== 'EADDRINUSE' || candidate + 1 >= port + attempts) throw error;
    }
  }
}
