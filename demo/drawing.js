/**
 * The drawing area: pointer, touch and keyboard.
 */

const COLOURS = [
  ['black', '#1b1b1f'], ['white', '#ffffff'], ['red', '#e23b3b'], ['orange', '#f7931e'], ['yellow', '#ffcc33'],
  ['green', '#3fa34d'], ['blue', '#2f7fd6'], ['purple', '#8a56d6'], ['pink', '#f48fb1'], ['brown', '#8d5a34'],
];
const PAPER = '#ffffff';
const UNDO_STEPS = 20;

export class Drawing {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{ swatches: HTMLElement, size: HTMLInputElement, eraser: HTMLButtonElement, undo: HTMLButtonElement, clear: HTMLButtonElement }} tools
   * @param {(canvas: HTMLCanvasElement) => void} onChange after each stroke and while one is drawn
   */
  constructor(canvas, tools, onChange) {
    this.canvas = canvas;
    this.tools = tools;
    this.onChange = onChange;
    this.context = canvas.getContext('2d', { willReadFrequently: true });
    this.colour = COLOURS[0][1];
    /** @type {ImageData[]} */
    this.history = [];
    /** The pen: where it is, and whether it is down. */
    this.pen = { x: canvas.width / 2, y: canvas.height / 2, down: false };
    this.fill();
    this.addSwatches();
    this.listen();
  }

  addSwatches() {
    for (const [name, value] of COLOURS) {
      const label = document.createElement('label');
      const input = Object.assign(document.createElement('input'), { type: 'radio', name: 'colour', value, checked: value === this.colour });
      const patch = document.createElement('span');
      patch.style.background = value;
      input.setAttribute('aria-label', name);
      label.title = name;
      label.append(input, patch);
      this.tools.swatches.append(label);
    }
    const own = Object.assign(document.createElement('input'), { type: 'color', value: '#00b3a4', title: 'another colour' });
    own.setAttribute('aria-label', 'another colour');
    own.addEventListener('input', () => this.choose(own.value));
    this.tools.swatches.append(own);
    this.tools.swatches.addEventListener('change', event => this.choose(/** @type {HTMLInputElement} */ (event.target).value));
  }

  choose(colour) {
    this.colour = colour;
    this.tools.eraser.setAttribute('aria-pressed', 'false');
  }

  listen() {
    const { canvas, tools } = this;
    canvas.addEventListener('pointerdown', event => {
      canvas.setPointerCapture(event.pointerId);
      this.begin(this.locate(event));
    });
    canvas.addEventListener('pointermove', event => {
      if (!this.pen.down || !canvas.hasPointerCapture(event.pointerId)) return;
      const steps = event.getCoalescedEvents?.() ?? [];
      for (const step of steps.length ? steps : [event]) this.lineTo(this.locate(step));
      this.onChange(canvas);
    });
    for (const type of ['pointerup', 'pointercancel']) canvas.addEventListener(type, () => this.end());
    canvas.addEventListener('keydown', event => this.key(event));
    canvas.addEventListener('blur', () => this.end());
    tools.eraser.addEventListener('click', () => {
      const pressed = tools.eraser.getAttribute('aria-pressed') !== 'true';
      tools.eraser.setAttribute('aria-pressed', String(pressed));
    });
    tools.undo.addEventListener('click', () => {
      const before = this.history.pop();
      if (!before) return;
      this.context.putImageData(before, 0, 0);
      this.onChange(canvas);
    });
    tools.clear.addEventListener('click', () => {
      this.remember();
      this.fill();
      this.onChange(canvas);
    });
  }

  /** The place of a pointer event in canvas pixels. */
  locate(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width * this.canvas.width, y: (event.clientY - box.top) / box.height * this.canvas.height };
  }

  remember() {
    this.history.push(this.context.getImageData(0, 0, this.canvas.width, this.canvas.height));
    if (this.history.length > UNDO_STEPS) this.history.shift();
  }

  fill() {
    this.context.fillStyle = PAPER;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  begin({ x, y }) {
    this.remember();
    this.pen = { x, y, down: true };
    this.lineTo({ x, y });
    this.onChange(this.canvas);
  }

  lineTo({ x, y }) {
    const { context, pen } = this;
    context.strokeStyle = this.tools.eraser.getAttribute('aria-pressed') === 'true' ? PAPER : this.colour;
    context.lineWidth = Number(this.tools.size.value);
    context.lineCap = context.lineJoin = 'round';
    context.beginPath();
    context.moveTo(pen.x, pen.y);
    context.lineTo(x, y);
    context.stroke();
    Object.assign(pen, { x, y });
  }

  end() {
    if (!this.pen.down) return;
    this.pen.down = false;
    this.onChange(this.canvas);
  }

  /** Arrow keys move the pen, Space or Enter puts it down and lifts it. */
  key(event) {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (move) {
      const step = event.shiftKey ? 4 : 16;
      const clamp = (value, limit) => Math.min(Math.max(value, 0), limit);
      const to = { x: clamp(this.pen.x + move[0] * step, this.canvas.width), y: clamp(this.pen.y + move[1] * step, this.canvas.height) };
      if (this.pen.down) {
        this.lineTo(to);
        this.onChange(this.canvas);
      } else {
        Object.assign(this.pen, to);
      }
    } else if (event.key === ' ' || event.key === 'Enter') {
      if (this.pen.down) this.end();
      else this.begin(this.pen);
    } else {
      return;
    }
    event.preventDefault();
  }
}
