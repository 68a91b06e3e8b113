/**
 * The sampling controls: made from one list, read as the options of generate.
 */

/** `shown`: what a value means that is no number. */
const CONTROLS = [
  { name: 'temperature', label: 'Temperature', kind: 'range', min: 0, max: 2, step: 0.05, value: 0.7, shown: { 0: 'the likeliest' } },
  { name: 'topK', label: 'Top k', kind: 'number', min: 0, max: 100000, step: 1, value: 0, hint: '0: all' },
  { name: 'topP', label: 'Top p', kind: 'range', min: 0.05, max: 1, step: 0.01, value: 0.95, shown: { 1: 'all' } },
  { name: 'minP', label: 'Min p', kind: 'range', min: 0, max: 0.5, step: 0.01, value: 0.05, shown: { 0: 'off' } },
  { name: 'repetitionPenalty', label: 'Repetition penalty', kind: 'range', min: 1, max: 2, step: 0.05, value: 1, shown: { 1: 'none' } },
  { name: 'maxTokens', label: 'Tokens at most', kind: 'number', min: 1, max: 100000, step: 1, value: 200 },
  { name: 'seed', label: 'Seed', kind: 'number', min: 0, max: 2147483647, step: 1, value: '', hint: 'empty: another each time' },
];

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export class WriterSettings {
  /** @param {HTMLFormElement} form Empty; it gets the controls. */
  constructor(form) {
    this.form = form;
    form.append(...CONTROLS.map(control => this.#row(control)));
    form.append(element('div', { className: 'control check' }, element('label', {},
      element('input', { type: 'checkbox', name: 'slide', checked: true }), ' Forget the older half when the context is full')));
    form.addEventListener('submit', event => event.preventDefault());
  }

  #row({ name, label, kind, min, max, step, value, hint, shown = {} }) {
    const id = `writer-${name}`;
    const input = element('input', { id, name, type: kind, min, max, step, value });
    if (kind === 'number') input.inputMode = 'numeric';
    else input.setAttribute('value', value);
    const title = element('label', { htmlFor: id }, label);
    if (kind === 'number') {
      if (hint) title.append(element('span', { className: 'hint' }, ` ${hint}`));
      return element('div', { className: 'control' }, title, input);
    }
    const output = element('output', {});
    output.setAttribute('for', id);
    const show = () => { output.textContent = shown[input.value] ?? Number(input.value).toFixed(2); };
    input.addEventListener('input', show);
    show();
    return element('div', { className: 'control' }, title, output, input);
  }

  /**
   * What is set, if all of it is allowed; the browser points at what is not.
   * @returns {(import('../js/generation.js').GenerateOptions & { seed: number }) | null} With a seed, drawn where none is set.
   */
  read() {
    if (!this.form.checkValidity()) this.form.closest('details').open = true;
    if (!this.form.reportValidity()) return null;
    const { elements } = this.form;
    const values = Object.fromEntries(CONTROLS.map(({ name }) => [name, elements[name].value === '' ? null : Number(elements[name].value)]));
    return { ...values, seed: values.seed ?? crypto.getRandomValues(new Uint32Array(1))[0] >>> 1, slide: elements.slide.checked };
  }
}
