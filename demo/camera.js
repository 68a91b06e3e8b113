/**
 * Takes a photograph with the device's camera; where the page may not use it, the system's own camera app can.
 */
const REASONS = {
  NotAllowedError: 'The camera was not allowed. Allow it in the address bar, or choose a picture instead.',
  NotFoundError: 'No camera was found. Choose a picture instead.',
  NotReadableError: 'Another program is using the camera.',
};

export class Camera {
  /**
   * @param {{ video: HTMLVideoElement, start: HTMLButtonElement, take: HTMLButtonElement, note: HTMLElement, fallback: HTMLElement, file: HTMLInputElement }} parts
   * @param {(picture: Blob) => void} onPicture a PNG of the frame, or the file of the camera app
   */
  constructor(parts, onPicture) {
    Object.assign(this, parts);
    this.onPicture = onPicture;
    /** @type {MediaStream | null} */
    this.stream = null;
    this.start.addEventListener('click', () => this.open());
    this.take.addEventListener('click', () => this.capture());
    this.file.addEventListener('change', () => {
      if (this.file.files[0]) this.onPicture(this.file.files[0]);
    });
    if (!navigator.mediaDevices?.getUserMedia) this.unavailable('This browser gives pages like this one no camera.');
  }

  unavailable(reason) {
    this.note.textContent = reason;
    this.note.hidden = false;
    this.fallback.hidden = false;
    this.start.hidden = !navigator.mediaDevices?.getUserMedia;
  }

  async open() {
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment', width: { ideal: 640 } }, audio: false });
      this.video.srcObject = this.stream;
      await this.video.play();
      this.note.hidden = true;
      this.take.disabled = false;
      this.start.hidden = true;
      this.take.focus();
    } catch (error) {
      this.close();
      this.unavailable(REASONS[error.name] ?? `The camera did not start: ${error.message}`);
    }
  }

  /** The middle square of the current frame. */
  capture() {
    const { videoWidth: w, videoHeight: h } = this.video;
    const side = Math.min(w, h);
    const canvas = Object.assign(document.createElement('canvas'), { width: side, height: side });
    canvas.getContext('2d').drawImage(this.video, (w - side) / 2, (h - side) / 2, side, side, 0, 0, side, side);
    canvas.toBlob(blob => this.onPicture(blob), 'image/png');
  }

  /** Turns the camera off. */
  close() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.video.srcObject = null;
    this.take.disabled = true;
    this.start.hidden = false;
  }
}
