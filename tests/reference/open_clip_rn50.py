"""open_clip's RN50 at full size with random weights, for a test by hand: python open_clip_rn50.py FOLDER

Writes FOLDER/open_clip_model.safetensors (408 MB, as open_clip saves it) and FOLDER/expected.safetensors (two pictures, three texts and their embeddings);
then: node open_clip_rn50.mjs FOLDER
"""
import os
import sys

import torch
from safetensors.torch import save_file

import open_clip_import  # noqa: F401: before open_clip
import open_clip
from fixture import randomise
from towers import settle

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
torch.manual_seed(50)
model = open_clip.create_model('RN50')
randomise(model.visual, 50)
settle(model.visual, 3, 224, 224, passes=8)
model.eval()
save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, os.path.join(folder, 'open_clip_model.safetensors'), metadata={'format': 'pt'})
pictures = torch.randn(2, 3, 224, 224)
with torch.no_grad():
    output = model.encode_image(pictures)
    texts = open_clip.tokenize(['a photo of a cat', 'a diagram', 'a very long text ' * 30])
    text_output = model.encode_text(texts)
print('embedding', tuple(output.shape), 'standard deviation', output.std().item())
save_file({'input': pictures, 'output': output, 'texts': texts, 'text_output': text_output}, os.path.join(folder, 'expected.safetensors'))
