/** Draws icons of an Iconify set. */
import sharp from 'sharp';

const MAX_ALIASES = 5;

/** Follows aliases to the icon's drawing; returns undefined for what cannot be drawn as it is. */
function iconBody(icons, name) {
  let current = name;
  for (let i = 0; i < MAX_ALIASES; i += 1) {
    if (icons.icons[current]) return icons.icons[current];
    const alias = icons.aliases?.[current];
    if (!alias || alias.rotate || alias.hFlip || alias.vFlip) return undefined;
    current = alias.parent;
  }
  return undefined;
}

/**
 * A sharp image of an icon on a transparent square, its longer side filling the square;
 * undefined if the set has no such drawing.
 */
export function drawIcon(icons, name, size) {
  const icon = iconBody(icons, name);
  if (!icon) return undefined;
  const left = icon.left ?? icons.left ?? 0;
  const top = icon.top ?? icons.top ?? 0;
  const width = icon.width ?? icons.width ?? 16;
  const height = icon.height ?? icons.height ?? 16;
  const side = Math.max(width, height);
  const box = [left - (side - width) / 2, top - (side - height) / 2, side, side].join(' ');
  const svg =
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" ' +
    `viewBox="${box}" width="${size}" height="${size}">${icon.body}</svg>`;
  return sharp(Buffer.from(svg));
}
