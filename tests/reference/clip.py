"""Fixtures of open_clip's CLIP, both towers, and of its tokenizer."""
import json
import os
import unicodedata

import torch

from fixture import FOLDER, Fixture, randomise
from towers import settle
import open_clip_import  # noqa: F401: before open_clip
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer

# What open_clip's tests of image towers do not cover: text towers of odd sizes. The image towers are small, for the files' sake.
CONFIGS = [
    ('gelu', {
        'embed_dim': 12,
        'vision_cfg': {'layers': [1, 1, 1, 1], 'width': 2, 'head_width': 16, 'image_size': 64},
        'text_cfg': {'context_length': 9, 'vocab_size': 37, 'width': 24, 'heads': 3, 'layers': 2},
    }),
    ('quick_gelu', {
        'embed_dim': 21, 'quick_gelu': True,
        'vision_cfg': {'layers': [1, 2, 1, 1], 'width': 2, 'head_width': 32, 'image_size': 32, 'patch_size': None},
        'text_cfg': {'context_length': 13, 'vocab_size': 50, 'width': 20, 'heads': 4, 'layers': 3},
    }),
    ('odd sizes', {
        'embed_dim': 7, 'quick_gelu': True,
        'vision_cfg': {'layers': [1, 1, 1, 1], 'width': 2, 'head_width': 64, 'image_size': 32},
        'text_cfg': {'context_length': 5, 'vocab_size': 11, 'width': 15, 'heads': 5, 'layers': 1, 'mlp_ratio': 3.0},
    }),
]


def sequences(count, context, vocab):
    """Token ids as the tokenizer gives them, and some that it never would: the end early, late, twice, and not at all."""
    start, end = vocab - 2, vocab - 1
    rows = torch.zeros(count, context, dtype=torch.int64)
    for i, row in enumerate(rows):
        length = [context, 2, 3, context - 1, context, context][i % 6]
        row[:length] = torch.randint(0, start, (length,))
        row[0] = start
        if i % 6 == 4:
            row[1:] = 3        # the largest id is the first
        elif i % 6 == 5:
            row[2] = row[context - 1] = end   # the first of equal ones counts
        else:
            row[length - 1] = end
    return rows


def models():
    f = Fixture('clip', tolerance=1e-4)
    for i, (name, config) in enumerate(CONFIGS):
        torch.manual_seed(60 + i)
        model = CLIP(**config)
        mask = model.attn_mask.clone()   # a buffer too, but not part of a checkpoint
        randomise(model, 60 + i)
        model.attn_mask.copy_(mask)
        size = config['vision_cfg']['image_size']
        settle(model.visual, 3, size, size)
        with torch.no_grad():
            model.logit_scale.fill_(1.7 + i)
            for tensor in list(model.parameters()) + list(model.buffers()):   # half as many bytes
                if tensor.is_floating_point():
                    tensor.copy_(tensor.half().float())
        model.eval()
        weights = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in model.state_dict().items()}
        text = config['text_cfg']
        images, ids = torch.randn(2, 3, size, size).half().float(), sequences(6 + i, text['context_length'], text['vocab_size'])
        f.add(name, 'models.CLIP', [config], model, images, ids, weights=weights)
        f.put(f'{i}.input.0', images.half())
        with torch.no_grad():
            f.put(f'{i}.features.image', model.encode_image(images))
            f.put(f'{i}.features.text', model.encode_text(ids))
            f.put(f'{i}.logits', model.get_logits(images, ids)[0])
    f.write()


TEXTS = [
    'a photo of a cat', 'A Happy  CAT!!', "it's the dog's; they'll say I'm don't you've we'd", 'hello   world\n\tnew line', '1234 and 5,678.90',
    'naïve café Ångström', '日本語のテキスト', 'Привет, мир', 'emoji 😀👍🏽 here', 'don’t “quote” me…', 'a &amp; b &lt;3 &eacute; &#x41;&#66;', '&amp;lt;',
    'supercalifragilisticexpialidocious antidisestablishmentarianism', '', '   ', '_under_score__', 'c++ / c#', 'http://example.com/?q=1&b=2', 'ﬁne ﬂow',
    'Ｆｕｌｌ　ｗｉｄｔｈ', 'x² + y³ = ½ Ⅳ', 'عربي', 'हिन्दी', '한국어', 'a' * 90, "'S 'T", '--- *** ###', 'İstanbul', 'ẞtraße', '#hashtag @user', '5th 3D', 'e\u0301',
    '\u200bzero', 'A\u00a0B', '’tis', "''s", "!!'s", '“”', 'bell\x07 and \x1b[31mred\x1b[0m', 'one two three four five six seven eight nine ten ' * 9, '<b>&amp;</b>',
    'a diagram', 'a photo of a big dog', 'an illustration of New York City at night', 'bad photo of the 4x4', '"double" & \'single\'',
]


def tokenizer():
    """A tokenizer.json as CLIP's checkpoints have it, cut down to the merges that TEXTS need, under CLIP's own ids; and what open_clip makes of TEXTS."""
    whole = SimpleTokenizer()
    used = set()
    for text in TEXTS:
        for word in whole.pat.findall(whole.clean_fn(text)) + [unicodedata.normalize('NFC', text).lower()]:
            symbols = [whole.byte_encoder[b] for b in word.encode('utf-8')]
            symbols[-1:] = [symbols[-1] + '</w>'] if symbols else []
            while len(symbols) > 1:
                pair = min(zip(symbols, symbols[1:]), key=lambda p: whole.bpe_ranks.get(p, float('inf')))
                if pair not in whole.bpe_ranks:
                    break
                used.add(pair)
                at = next(i for i in range(len(symbols)) if tuple(symbols[i:i + 2]) == pair)
                symbols[at:at + 2] = [pair[0] + pair[1]]
    merges = sorted(used, key=whole.bpe_ranks.get)
    symbols = list(whole.byte_encoder.values())
    names = symbols + [s + '</w>' for s in symbols] + [a + b for a, b in merges]
    vocab = {name: whole.encoder[name] for name in names}
    vocab['<|startoftext|>'], vocab['<|endoftext|>'] = whole.sot_token_id, whole.eot_token_id
    special = {'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False, 'special': True}
    content = {
        'version': '1.0', 'truncation': None, 'padding': None,
        'added_tokens': [{'id': vocab[t], 'content': t, **special} for t in ('<|startoftext|>', '<|endoftext|>')],
        'normalizer': {'type': 'Sequence', 'normalizers': [
            {'type': 'NFC'}, {'type': 'Replace', 'pattern': {'Regex': '\\s+'}, 'content': ' '}, {'type': 'Lowercase'}]},
        'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [
            {'type': 'Split', 'pattern': {'Regex': "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"}, 'behavior': 'Removed', 'invert': True},
            {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True}]},
        'post_processor': {'type': 'RobertaProcessing', 'sep': ['<|endoftext|>', vocab['<|endoftext|>']],
                           'cls': ['<|startoftext|>', vocab['<|startoftext|>']], 'trim_offsets': False, 'add_prefix_space': False},
        'decoder': {'type': 'ByteLevel', 'add_prefix_space': True, 'trim_offsets': True},
        'model': {'type': 'BPE', 'dropout': None, 'unk_token': '<|endoftext|>', 'continuing_subword_prefix': '', 'end_of_word_suffix': '</w>',
                  'fuse_unk': False, 'vocab': vocab, 'merges': [' '.join(pair) for pair in merges]},
    }
    path = os.path.join(FOLDER, 'clip_tokenizer.json')
    with open(path, 'w', encoding='utf-8') as out:
        json.dump(content, out, ensure_ascii=False, separators=(',', ':'))
    with open(os.path.join(FOLDER, 'clip_tokens.json'), 'w', encoding='utf-8') as out:
        rows = [json.dumps({'text': text, 'ids': ids}) for text, ids in zip(TEXTS, trimmed(whole(TEXTS)))]
        out.write('[\n' + ',\n'.join(rows) + '\n]\n')
    print(f'clip_tokenizer: {len(merges)} merges, {os.path.getsize(path) // 1024} kB')


def trimmed(rows):
    """Without the zeros at the end, of which there are 77 in all."""
    return [row[:row.index(49407) + 1] for row in rows.tolist()]


if __name__ == '__main__':
    torch.set_num_threads(1)
    models()
    tokenizer()
