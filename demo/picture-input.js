/**
 * A place that takes a picture: choose a file, or drop one on it. Shows what was chosen.
 */

/** The first picture in a drop or a paste, or null. */
export function pictureIn(transfer) {
  return [...(transfer?.files ?? [])].find(file => file.type.startsWith('image/')) ?? null;
}

export class PictureInput {
  /**
   * @param {HTMLElement} zone a label that holds a file input and an img
   * @param {(picture: Blob) => void} onPicture
   */
  constructor(zone, onPicture) {
    this.zone = zone;
    this.onPicture = onPicture;
    this.input = zone.querySelector('input');
    this.img = zone.querySelector('img');
    this.input.addEventListener('change', () => {
      const [file] = this.input.files;
      if (file) this.take(file);
      this.input.value = '';
    });
    zone.addEventListener('dragover', event => {
      event.preventDefault();
      zone.classList.add('dropping');
    });
    zone.addEventListener('dragleave', () => zone.classList.remove('dropping'));
    zone.addEventListener('drop', event => {
      zone.classList.remove('dropping');
      const picture = pictureIn(event.dataTransfer);
      if (!picture) return;
      event.preventDefault();
      event.stopPropagation();
      this.take(picture);
    });
  }

  /** Shows a picture and hands it on. */
  take(picture) {
    this.show(picture);
    this.onPicture(picture);
  }

  /** @param {Blob} picture */
  show(picture) {
    if (this.img.src) URL.revokeObjectURL(this.img.src);
    this.img.src = URL.createObjectURL(picture);
    this.img.hidden = false;
    this.zone.classList.add('filled');
  }
}
