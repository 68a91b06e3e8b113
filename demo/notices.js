/**
 * The parts of the page that say how it stands: progress and errors.
 */
import { describeError, formatBytes } from './format.js';

/**
 * A progress bar with its text. Hidden until shown; without a total it moves without an end.
 */
export class Progress {
  /** @param {HTMLElement} box @param {HTMLProgressElement} bar @param {HTMLElement} text */
  constructor(box, bar, text) {
    Object.assign(this, { box, bar, text });
  }

  /** @param {string} [text] what is going on while no bytes are counted */
  start(text = '') {
    this.box.hidden = false;
    this.bar.removeAttribute('value');
    this.text.textContent = text;
  }

  /** @param {{ loaded: number, total: number }} progress in bytes; total may be 0 or missing when it is not known */
  update({ loaded, total }) {
    if (total) this.bar.value = loaded / total;
    this.text.textContent = total ? `${formatBytes(loaded)} of ${formatBytes(total)}` : formatBytes(loaded);
  }

  end() {
    this.box.hidden = true;
  }
}

/**
 * Says an error in words, with a way to try again; without an error, clears the place.
 * @param {HTMLElement} box an element with role=alert
 * @param {unknown} [error]
 * @param {{ intro?: string, retry?: () => void }} [options] intro: what the page was trying to do
 */
export function showError(box, error, { intro = '', retry } = {}) {
  box.replaceChildren();
  box.hidden = !error;
  if (!error) return;
  const text = document.createElement('p');
  text.textContent = `${intro ? `${intro} ` : ''}${describeError(error)}`;
  box.append(text);
  if (!retry) return;
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = 'Try again';
  button.addEventListener('click', () => {
    showError(box);
    retry();
  });
  box.append(button);
}

/** Whether an error only says that the user stopped something. */
export const isAbort = error => error?.name === 'AbortError';
