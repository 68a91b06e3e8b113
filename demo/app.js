/**
 * The page: takes pictures from where they come, and shows the labels, the times and the layers.
 */
import { Camera } from './camera.js';
import { LayerChart } from './chart.js';
import { CheckpointPanel } from './checkpoint-panel.js';
import { Classifier } from './classify.js';
import { Drawing } from './drawing.js';
import { formatBuild, formatPercent, formatTime } from './format.js';
import { Progress, showError } from './notices.js';
import { PictureInput, pictureIn } from './picture-input.js';
import { renderRanking } from './ranking.js';
import { SearchPanel } from './search-panel.js';
import { WriterPanel } from './writer-panel.js';

const SAMPLES = [
  'dog-face', 'robot', 'pizza', 'rocket', 'octopus', 'guitar', 'bicycle', 'ghost', 'cactus', 'castle', 'sunflower', 'umbrella',
];
const PROFILE_DELAY = 400; // milliseconds without a new picture, so that drawing is not slowed down
const PROFILES = 9;

const $ = id => document.getElementById(id);
const progress = new Progress($('model-loading'), $('model-progress'), $('model-progress-text'));
const search = new SearchPanel();
const chart = new LayerChart($('layer-strip'), $('layer-table'), $('layers-summary'));

/** @type {Classifier | null} */
let classifier = null;
/** The newest picture that waits for the network; older ones are dropped. */
let waiting = null;
let busy = false;
let profileTimer = 0;

async function loadModel() {
  showError($('model-error'));
  progress.start();
  try {
    classifier = await Classifier.load(new URL('model/', import.meta.url), { worker: true, onProgress: p => progress.update(p) });
    $('build').textContent = formatBuild(classifier.build);
    $('build').title = crossOriginIsolated ? '' : 'This page is not cross-origin isolated, so it may not use threads.';
    $('build').hidden = false;
    $('label-count').textContent = classifier.labels.length.toLocaleString('en');
    showAccuracy(classifier.config.metrics);
    search.use(classifier);
    work();
  } catch (error) {
    showError($('model-error'), error, { intro: 'The model could not be loaded.', retry: loadModel });
  } finally {
    progress.end();
  }
}

/** The held-out figure that the training wrote into config.json. */
function showAccuracy(metrics) {
  const [name, figures] = Object.entries(metrics?.zero_shot ?? {})[0] ?? [];
  if (!figures) return;
  $('accuracy').textContent = `Of ${figures.pictures.toLocaleString('en')} pictures of a set that it never saw in training (${name.replace(' ', ', on ')}), the model puts the right ` +
    `label first for ${figures.top1.toFixed(1)}\u00a0% and among the first five for ${figures.top5.toFixed(1)}\u00a0%.`;
  $('accuracy').hidden = false;
}

/** @param {*} source any image source */
function classify(source) {
  waiting = source;
  work();
}

/** Classifies what waits, one picture at a time. */
async function work() {
  if (busy || !classifier || waiting === null) return;
  busy = true;
  clearTimeout(profileTimer);
  const source = waiting;
  waiting = null;
  try {
    const result = await classifier.classify(source);
    showError($('model-error'));
    showResult(result);
    profileTimer = setTimeout(profile, PROFILE_DELAY, result.tensor);
  } catch (error) {
    showError($('model-error'), error, { intro: 'This picture could not be classified.', retry: () => classify(source) });
  } finally {
    busy = false;
  }
  work();
}

function showResult({ labels, times }) {
  const [best] = labels;
  $('answer').textContent = `${best.emoji} ${best.name}, ${formatPercent(best.score)}`;
  renderRanking($('ranking'), labels);
  for (const name of ['preprocess', 'forward', 'rank']) $(`time-${name}`).textContent = formatTime(times[name]);
  $('times').hidden = false;
}

async function profile(tensor) {
  try {
    const runs = [];
    for (let i = 0; i < PROFILES; i++) runs.push(await classifier.model.profile(tensor));
    chart.show(runs);
    $('layers').hidden = false;
  } catch (error) {
    showError($('model-error'), error, { intro: 'The layers could not be timed.', retry: () => profile(tensor) });
  }
}

const picture = new PictureInput($('dropzone'), classify);
const camera = new Camera(
  { video: $('video'), start: $('camera-start'), take: $('camera-take'), note: $('camera-note'), fallback: $('camera-fallback'), file: $('camera-file') },
  photograph => usePicture(photograph),
);
const drawing = new Drawing(
  $('pad'),
  { swatches: $('swatches'), size: $('brush-size'), eraser: $('eraser'), undo: $('undo'), clear: $('clear') },
  canvas => classify(canvas),
);

/** Shows one of the sources and turns off what the others use. */
function chooseSource(name) {
  for (const source of ['pick', 'draw', 'camera']) $(`source-${source}`).hidden = source !== name;
  document.querySelector(`input[name=source][value=${name}]`).checked = true;
  if (name !== 'camera') camera.close();
  if (name === 'draw' && drawing.history.length) classify(drawing.canvas);
}

/** Puts a picture from anywhere into the picture source. */
function usePicture(blob) {
  chooseSource('pick');
  picture.take(blob);
}

async function useSample(name) {
  try {
    const response = await fetch(new URL(`samples/${name}.png`, import.meta.url));
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    usePicture(await response.blob());
  } catch (error) {
    showError($('model-error'), error, { intro: 'The sample could not be read.', retry: () => useSample(name) });
  }
}

function addSamples() {
  $('samples').append(...SAMPLES.map(name => {
    const title = name.replaceAll('-', ' ');
    const button = Object.assign(document.createElement('button'), { type: 'button', title });
    button.dataset.sample = name;
    button.append(Object.assign(document.createElement('img'), { src: `samples/${name}.png`, alt: title, width: 64, height: 64 }));
    button.addEventListener('click', () => useSample(name));
    const item = document.createElement('li');
    item.append(button);
    return item;
  }));
}

function listen() {
  for (const radio of document.querySelectorAll('input[name=source]')) radio.addEventListener('change', () => chooseSource(radio.value));
  for (const radio of document.querySelectorAll('input[name=layer-order]')) {
    radio.addEventListener('change', () => chart.order(radio.value === 'slowest'));
  }
  document.addEventListener('paste', event => {
    const pasted = pictureIn(event.clipboardData);
    if (pasted) usePicture(pasted);
  });
  document.addEventListener('dragover', event => event.preventDefault());
  document.addEventListener('drop', event => {
    event.preventDefault();
    const dropped = pictureIn(event.dataTransfer);
    if (dropped) usePicture(dropped);
  });
}

addSamples();
listen();
new CheckpointPanel();
new WriterPanel();
useSample(SAMPLES[0]);
loadModel();
