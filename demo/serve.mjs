/**
 * Serves the demo page on 127.0.0.1 and runs the same jobs once here, in Node: a picture is classified, and a story begun.
 *
 *     node demo/serve.mjs [--once] [--port 8080] [--no-isolation]
 *
 * --once: end after the jobs. --port: the first port to try. --no-isolation: leave out the headers that allow threads in the page.
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Classifier } from './classify.js';
import { formatBuild, formatPercent, formatTime } from './format.js';
import { STORY_TELLER } from './language-checkpoint.js';
import { createStaticServer, listen } from './static-server.mjs';
import { Writer } from './writer.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PICTURE = 'samples/dog-face.png';
const BEGINNING = 'Once upon a time there was a little';

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

/** Goes on from the beginning of a story, and prints it as it comes, with the speed. */
async function writeOnce() {
  const writer = await Writer.load(STORY_TELLER, { precision: 'q8' });
  let timing;
  process.stdout.write(`A story by the small DeepSeek-V2 of the page:\n\n  ${BEGINNING}`);
  for await (const piece of writer.continue(BEGINNING, { temperature: 0.7, topP: 0.9, maxTokens: 60, seed: 1, onTiming: now => { timing = now; } })) {
    process.stdout.write(piece.replaceAll('\n', '\n  '));
  }
  console.log(` ...\n\n  ${Math.round(timing.prefill.tokensPerSecond)} tokens/s read, ${Math.round(timing.decode.tokensPerSecond)} tokens/s written\n`);
  writer.dispose();
}

const { values: options } = parseArgs({
  options: { once: { type: 'boolean' }, port: { type: 'string', default: '8080' }, 'no-isolation': { type: 'boolean' } },
});
const server = createStaticServer({ root: ROOT, folders: ['demo', 'dist', 'js', 'web'], home: '/demo/', isolation: !options['no-isolation'] });
console.log(`\nThe page: ${await listen(server, Number(options.port))}${options.once ? '' : '  (Ctrl+C ends it)'}`);
await classifyOnce();
await writeOnce();
if (options.once) {
  server.close();
  server.closeAllConnections();
}
