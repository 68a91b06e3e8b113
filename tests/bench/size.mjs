/** What a page downloads: the package's JavaScript, bundled and minified, and one build of the engine. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync } from 'node:zlib';
import { build } from 'esbuild';

/**
 * Brotli bytes of the whole public interface and of each engine build as a bundler would emit them.
 * @param {string} root the package
 */
export async function sizes(root) {
  const entry = join(root, 'js/index.js');
  if (!existsSync(entry)) return undefined;
  const { outputFiles } = await build({
    entryPoints: [entry], bundle: true, minify: true, splitting: true, format: 'esm', platform: 'browser', target: 'es2022',
    write: false, outdir: '/bundle', chunkNames: '[name]', external: ['node:*', 'sharp'],
  });
  const parts = outputFiles.map(file => ({ name: file.path.replace('/bundle/', ''), bytes: brotliCompressSync(file.contents).length }));
  return parts;
}
