/**
 * Runs in the browser: PyTorch's fixtures through the package, and every kind of picture through image.toTensor.
 */
import * as lamella from '../../js/index.js';

const { compile, image, init, Module, safetensors } = lamella;

/** A fixture's class by its name: `nn.Conv2d`, `models.ModifiedResNet`, or `F.silu`, which becomes a module without weights. */
function construct(name, args) {
  const [group, member] = name.split('.');
  const found = lamella[group][member];
  if (group !== 'F') return new found(...args);
  return new (class extends Module {
    forward(...inputs) {
      return found(...inputs, ...args);
    }
  })();
}

/** The tensors of one run of a case: i.input.0, i.input.1, ..., with @run where a case has several. */
async function tensors(weights, kind, suffix) {
  const found = [];
  for (let k = 0; weights.has(`${kind}.${k}${suffix}`); k++) {
    const name = `${kind}.${k}${suffix}`;
    const { dtype } = weights.get(name);
    found.push({ dtype, tensor: new lamella.Tensor((await weights.tensor(name)).toFloat32(), weights.get(name).shape) });
  }
  return found;
}

/** Sizes that all runs share; null where they differ. */
function commonShape(shapes) {
  return shapes[0].map((size, axis) => (shapes.every(shape => shape[axis] === size) ? size : null));
}

/** max|y - ref| / max|ref| */
function relativeError({ shape, data }, reference) {
  if (String(shape) !== String(reference.shape)) return Infinity;
  let error = 0;
  let size = 0;
  for (let i = 0; i < data.length; i++) {
    const difference = Math.abs(data[i] - reference.data[i]);
    error = difference > error || Number.isNaN(difference) ? difference : error;
    size = Math.max(size, Math.abs(reference.data[i]));
  }
  return error / (size || 1);
}

/**
 * Runs one case of a fixture on one build.
 * @returns {Promise<number>} the largest relative error of its outputs
 */
async function runCase(weights, index, { class: name, args, runs }, options) {
  const suffixes = runs ? Array.from({ length: runs }, (_, run) => `@${run}`) : [''];
  const inputs = await Promise.all(suffixes.map(suffix => tensors(weights, `${index}.input`, suffix)));
  const outputs = await Promise.all(suffixes.map(suffix => tensors(weights, `${index}.output`, suffix)));
  const model = await compile(construct(name, args), {
    weights, prefix: `${index}.weights.`, ...options,
    inputs: inputs[0].map(({ dtype }, k) => ({ shape: commonShape(inputs.map(list => list[k].tensor.shape)), dtype: dtype === 'BOOL' ? 'bool' : 'f32' })),
  });
  let worst = 0;
  for (const [run, list] of inputs.entries()) {
    const answer = await model.forward(...list.map(input => input.tensor));
    const answers = Array.isArray(answer) ? answer : [answer];
    for (const [k, { tensor }] of outputs[run].entries()) worst = Math.max(worst, relativeError(answers[k], tensor));
  }
  model.dispose();
  return worst;
}

/** Every case of a fixture file. */
async function runFixture(url, options) {
  const weights = await safetensors.open(url);
  const results = [];
  for (const [index, one] of JSON.parse(weights.metadata.cases).entries()) {
    results.push({ name: one.name, tolerance: one.tolerance, error: await runCase(weights, index, one, options) });
  }
  await weights.close();
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
  runFixture,
  tensorsOf,
  async tensorOfVideo(url, options) {
    const video = await videoOf((await pictures(url)).HTMLCanvasElement);
    const { shape, data } = await image.toTensor(video, options);
    video.srcObject.getTracks().forEach(track => track.stop());
    return [shape, [...data]];
  },
};
