/**
 * Runs in the browser: PyTorch's fixtures through the package, and every kind of picture through image.toTensor.
 */
import { image, init } from '../../js/index.js';
import { buildsHere, runFile } from '../node/fixtures.js';

/** Every case of a fixture file: its name, and its error as a part of what is allowed. */
async function runFixture(url, options) {
  const results = [];
  for await (const { test, ratio } of runFile(url, file => new URL(file, url), options)) results.push({ name: test.name, ratio });
  return results;
}

/** The same picture as everything that a browser can hold a picture in. */
async function pictures(url) {
  const blob = await (await fetch(url)).blob();
  const img = Object.assign(new Image(), { src: url });
  await img.decode();
  const { naturalWidth: width, naturalHeight: height } = img;
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  const context = canvas.getContext('2d');
  context.drawImage(img, 0, 0);
  const sources = {
    Blob: blob,
    HTMLImageElement: img,
    HTMLCanvasElement: canvas,
    ImageData: context.getImageData(0, 0, width, height),
    ImageBitmap: await createImageBitmap(blob),
  };
  if (typeof OffscreenCanvas === 'function') {
    sources.OffscreenCanvas = new OffscreenCanvas(width, height);
    sources.OffscreenCanvas.getContext('2d').drawImage(img, 0, 0);
  }
  if (typeof VideoFrame === 'function') sources.VideoFrame = new VideoFrame(canvas, { timestamp: 0 });
  return sources;
}

/** A canvas as the video of a stream that shows it. Its colours pass through a camera's colour space. */
async function videoOf(canvas) {
  const video = Object.assign(document.createElement('video'), { muted: true, srcObject: canvas.captureStream(30) });
  const context = canvas.getContext('2d');
  const repaint = setInterval(() => context.drawImage(canvas, 0, 0), 30);
  await video.play();
  await new Promise(resolve => { setTimeout(resolve, 300); });
  clearInterval(repaint);
  return video;
}

/** Tensors of a picture from every source: name to [shape, numbers]. */
async function tensorsOf(url, options) {
  const sources = await pictures(url);
  const results = {};
  for (const [name, source] of Object.entries(sources)) {
    const { shape, data } = await image.toTensor(source, options);
    results[name] = [shape, [...data]];
  }
  sources.VideoFrame?.close();
  return results;
}

globalThis.fixture = {
  engine: () => init(),
  buildsHere,
  runFixture,
  tensorsOf,
  async tensorOfVideo(url, options) {
    const video = await videoOf((await pictures(url)).HTMLCanvasElement);
    const { shape, data } = await image.toTensor(video, options);
    video.srcObject.getTracks().forEach(track => track.stop());
    return [shape, [...data]];
  },
};
