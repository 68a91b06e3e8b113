"""Pictures as Pillow resizes them, and as open_clip prepares them, byte for byte.

    python image.py      # writes fixtures/image/pillow.safetensors

The pictures are formulas (`picture`), so that only Pillow's answers need to be kept. `__metadata__.cases` lists, for tensor i, the picture,
what was done (`to`: resized to [width, height]; `size`: resized and cropped as open_clip does) and the filter.
"""
import json
import os

import numpy
from PIL import Image
from safetensors.numpy import save_file

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'fixtures', 'image', 'pillow.safetensors')
CHANNELS = {'L': 1, 'LA': 2, 'RGB': 3, 'RGBA': 4}
MEAN = numpy.array([0.48145466, 0.4578275, 0.40821073], numpy.float32)
STD = numpy.array([0.26862954, 0.26130258, 0.27577711], numpy.float32)


def picture(mode, width, height, kind):
    """Noise, smooth waves, or black and white stripes; alpha is 0, 255 or anything. tests/node/image.test.js has the same formulas."""
    channels = CHANNELS[mode]
    i = numpy.arange(width * height * channels, dtype=numpy.uint64)
    noise = ((i * 2654435761 % 2 ** 32) >> 24).astype(numpy.int64)
    c = (i % channels).astype(numpy.int64)
    x = (i // channels % width).astype(numpy.int64)
    y = (i // channels // width).astype(numpy.int64)
    values = {'noise': noise, 'waves': (x * x + 3 * y * y + 40 * c) // 16 % 256, 'stripes': (x // 2 + y // 3) % 2 * 255}[kind]
    if mode.endswith('A'):
        alpha = numpy.choose((x // 3 + y // 2) % 3, [0, 255, noise])
        values = numpy.where(c == channels - 1, alpha, values)
    return Image.fromarray(values.astype(numpy.uint8).reshape((height, width) + ((channels,) if channels > 1 else ())), mode)


def prepare(image, size, filter_):
    """torchvision's Resize(size) and CenterCrop(size), then RGB: the order of open_clip."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    new_long = int(size * long / short)
    new = (size, new_long) if width <= height else (new_long, size)
    if new != image.size:
        image = image.resize(new, filter_)
    width, height = image.size
    top, left = int(round((height - size) / 2.0)), int(round((width - size) / 2.0))
    return image.crop((left, top, left + size, top + size)).convert('RGB')


def cases():
    sizes = [((1, 1), (5, 7)), ((1, 9), (4, 3)), ((7, 5), (1, 1)), ((13, 11), (29, 31)), ((64, 48), (17, 13)), ((50, 40), (50, 20)), ((50, 40), (25, 40)),
             ((33, 21), (33, 21)), ((200, 3), (16, 9)), ((3, 200), (9, 16)), ((101, 97), (32, 8)), ((255, 16), (254, 15)), ((40, 100), (20, 50)), ((40, 100), (20, 61))]
    for (width, height), to in sizes:
        for mode, kind in (('RGB', 'noise'), ('RGBA', 'noise'), ('L', 'waves'), ('RGB', 'stripes'), ('LA', 'waves')):
            yield {'mode': mode, 'width': width, 'height': height, 'kind': kind, 'to': to, 'filter': 'bicubic'}
    for name in ('nearest', 'box', 'bilinear', 'hamming', 'lanczos'):
        for (width, height), to in sizes[2:5] + sizes[10:11]:
            for mode in ('RGB', 'RGBA'):
                yield {'mode': mode, 'width': width, 'height': height, 'kind': 'noise', 'to': to, 'filter': name}
    for mode, width, height in (('RGB', 300, 200), ('RGB', 201, 333), ('RGBA', 97, 96), ('RGB', 32, 32), ('L', 37, 32), ('RGBA', 32, 35), ('RGB', 900, 31), ('LA', 20, 31), ('RGB', 5, 6)):
        yield {'mode': mode, 'width': width, 'height': height, 'kind': 'waves', 'size': 32, 'filter': 'bicubic'}


def main():
    listed, tensors = [], {}
    for case in cases():
        image = picture(case['mode'], case['width'], case['height'], case['kind'])
        filter_ = Image.Resampling[case['filter'].upper()]
        done = image.resize(case['to'], filter_) if 'to' in case else prepare(image, case['size'], filter_)
        tensors[str(len(listed))] = numpy.ascontiguousarray(done)
        listed.append(case)
    image = picture('RGB', 16, 16, 'noise')
    normalised = ((numpy.asarray(image).astype(numpy.float32) / numpy.float32(255)).transpose(2, 0, 1) - MEAN[:, None, None]) / STD[:, None, None]
    tensors['normalised'] = numpy.ascontiguousarray(normalised[None])
    os.makedirs(os.path.dirname(FILE), exist_ok=True)
    save_file(tensors, FILE, {'cases': json.dumps(listed)})
    os.chmod(FILE, 0o644)


if __name__ == '__main__':
    main()
