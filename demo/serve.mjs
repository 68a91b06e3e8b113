/**
 * Serves the demo page on 127.0.0.1 and runs the same job once here, in Node.
 *
 *     node demo/serve.mjs [--once] [--port 8080] [--no-isolation]
 *
 * --once: end after the job. --port: the first port to try. --no-isolation: leave out the headers that allow threads in the page.
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Classifier } from './classify.js';
import { formatBuild, formatPercent, formatTime } from './format.js';
import { createStaticServer, listen } from './static-server.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PICTURE = 'samples/dog-face.png';

/** Classifies a bundled picture and prints the labels with their scores, and the times. */
async function classifyOnce() {
  const started = performance.now();
  const classifier = await Classifier.load(new URL('model/', import.meta.url));
  const loaded = performance.now() - started;
  const picture = await readFile(new URL(PICTURE, import.meta.url));
  await classifier.classify(picture); // the first run also compiles the kernels
  const { labels, times } = await classifier.classify(picture, { count: 5 });
  console.log(`\ndemo/${PICTURE} in Node ${process.versions.node} (${formatBuild(classifier.build)}):\n`);
  for (const { emoji, name, score } of labels) console.log(`  ${formatPercent(score).padStart(7)}  ${emoji}  ${name}`);
  console.log(`\n  weights loaded in ${formatTime(loaded)}, picture prepared in ${formatTime(times.preprocess)}, network run in ${formatTime(times.forward)}\n`);
  classifier.model.dispose();
}

const { values: options } = parseArgs({
  options: { once: { type: 'boolean' }, port: { type: 'string', default: '8080' }, 'no-isolation': { type: 'boolean' } },
});
const server = createStaticServer({ root: ROOT, folders: ['demo', 'dist', 'js', 'web'], home: '/demo/', isolation: !options['no-isolation'] });
console.log(`\nThe page: ${await listen(server, Number(options.port))}${options.once ? '' : '  (Ctrl+C ends it)'}`);
await classifyOnce();
if (options.once) {
  server.close();
  server.closeAllConnections();
}
