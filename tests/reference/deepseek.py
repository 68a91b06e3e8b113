"""Fixtures of DeepSeek-V2: whole models of tiny configurations and their parts. Outputs come from transformers' DeepSeek-V2, DeepSeek-V3
and Llama wherever these have the branch, and from deepseek_reference.py where they lack it; where both have it they are compared here."""
import os
import re

os.environ['HF_HUB_OFFLINE'] = '1'

import torch
from safetensors.torch import save_file
from transformers import (DeepseekV2Config, DeepseekV2ForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM, LlamaConfig, LlamaForCausalLM,
                          logging)

import deepseek_reference as reference
from fixture import FOLDER, Fixture, randomise

logging.set_verbosity_error()

# Each configuration takes a few branches of its own; every number is as small as its branches allow.
# (hidden_act is given: the seed's configuration class has another default than the published one.)
TINY = dict(vocab_size=43, hidden_size=21, intermediate_size=17, moe_intermediate_size=7, num_hidden_layers=2, num_attention_heads=3, kv_lora_rank=12,
            q_lora_rank=None, qk_rope_head_dim=6, qk_nope_head_dim=4, v_head_dim=7, max_position_embeddings=32, num_key_value_heads=None, hidden_act='silu')
YARN = dict(type='yarn', factor=4.0, original_max_position_embeddings=8, beta_fast=4, beta_slow=0.5)
MOE = dict(n_routed_experts=6, num_experts_per_tok=2, n_shared_experts=1, topk_method='greedy')
V3 = dict(qk_nope_head_dim=5, n_routed_experts=8, num_experts_per_tok=3, n_shared_experts=1, topk_method='noaux_tc', scoring_func='sigmoid', n_group=4, topk_group=2)
MHA = dict(use_mla=False, hidden_size=24, num_attention_heads=4, qk_rope_head_dim=0, qk_nope_head_dim=0, v_head_dim=0, kv_lora_rank=None)

MODELS = {
    'dense': {},
    'q_lora_rank, attention_bias, gelu, rms_norm_eps, rope_theta, tied': dict(
        q_lora_rank=9, attention_bias=True, hidden_act='gelu', rms_norm_eps=0.05, rope_theta=300.0, tie_word_embeddings=True),
    'yarn with equal mscale, greedy, two shared experts, first layer dense': dict(
        **{**MOE, 'n_shared_experts': 2}, first_k_dense_replace=1, rope_scaling={**YARN, 'mscale': 0.707, 'mscale_all_dim': 0.707}),
    'yarn with unequal mscale, q_lora_rank, group_limited_greedy, scaled': dict(
        **{**MOE, 'topk_method': 'group_limited_greedy', 'num_experts_per_tok': 3}, n_group=3, topk_group=2, routed_scaling_factor=1.7, q_lora_rank=8, qk_rope_head_dim=8,
        rope_scaling={**YARN, 'mscale': 1.2, 'mscale_all_dim': 0.6}),
    'yarn without mscale, one expert of each token, none shared': dict(
        **{**MOE, 'num_experts_per_tok': 1, 'n_shared_experts': None}, rope_scaling=dict(rope_type='yarn', factor=2.5, original_max_position_embeddings=13)),
    'linear, gelu_pytorch_tanh, mlp_bias': dict(hidden_act='gelu_pytorch_tanh', mlp_bias=True, rope_scaling=dict(type='linear', factor=2.5)),
    'dynamic': dict(max_position_embeddings=10, qk_rope_head_dim=8, rope_scaling=dict(type='dynamic', factor=2.0)),
    'noaux_tc, normalised, yarn with mscale 1': dict(
        **V3, norm_topk_prob=True, routed_scaling_factor=2.5, q_lora_rank=8, first_k_dense_replace=1, rope_scaling={**YARN, 'mscale': 1.0, 'mscale_all_dim': 1.0}),
    'noaux_tc in one group, not normalised, halves rotated': dict(**{**V3, 'n_group': 1, 'topk_group': 1, 'n_shared_experts': 2}, rope_interleave=False, hidden_act='relu'),
    'grouped heads, attention_bias, gelu': dict(**MHA, num_key_value_heads=2, attention_bias=True, hidden_act='gelu', rope_theta=1000.0),
    'multi-head attention, linear': dict(**MHA, rope_scaling=dict(type='linear', factor=1.5)),
    'multi-head attention, dynamic': dict(**MHA, max_position_embeddings=10, rope_scaling=dict(type='dynamic', factor=3.0)),
    'multi-head attention, greedy, first layer dense': dict(**MHA, **{**MOE, 'n_shared_experts': 2}, first_k_dense_replace=1),
    'softmax noaux_tc, every second layer': dict(
        **{**V3, 'scoring_func': 'softmax', 'n_group': 2, 'topk_group': 1}, norm_topk_prob=True, moe_layer_freq=2, num_hidden_layers=3, routed_scaling_factor=1.3),
    'sigmoid greedy, normalised, yarn with mscale alone': dict(
        **MOE, scoring_func='sigmoid', norm_topk_prob=True, moe_layer_freq=2, first_k_dense_replace=1, num_hidden_layers=3, rope_scaling={**YARN, 'mscale': 0.8}),
    'sigmoid group_limited_greedy, yarn with mscale_all_dim alone': dict(
        **{**MOE, 'topk_method': 'group_limited_greedy'}, scoring_func='sigmoid', n_group=2, topk_group=1, rope_scaling={**YARN, 'mscale_all_dim': 0.9}),
    'softmax greedy, normalised': dict(**{**MOE, 'topk_method': 'gready'}, norm_topk_prob=True, routed_scaling_factor=1.9),
}
LENGTHS = (5, 1, 17)


def has_moe(config):
    return any(reference.is_moe(config, layer) for layer in range(config.num_hidden_layers))


def rope_is_theirs(config):
    """With one mscale of two, transformers takes neither; the published code takes the default of the other."""
    scaling = config.rope_scaling or {}
    return ('mscale' in scaling) == ('mscale_all_dim' in scaling)


def transformers_class(config):
    """The class of transformers that has every branch of a configuration, or None."""
    if not config.use_mla:
        return None if has_moe(config) else LlamaForCausalLM
    if not rope_is_theirs(config):
        return None
    if not has_moe(config):
        return DeepseekV2ForCausalLM if config.rope_interleave else DeepseekV3ForCausalLM
    if config.moe_layer_freq != 1:
        return None
    if config.scoring_func == 'softmax' and config.topk_method != 'noaux_tc' and not config.norm_topk_prob and config.rope_interleave:
        return DeepseekV2ForCausalLM
    if config.scoring_func == 'sigmoid' and config.topk_method == 'noaux_tc' and config.num_experts_per_tok > 1 and not config.mlp_bias:
        return DeepseekV3ForCausalLM
    return None


def transformers_model(config, weights):
    kind = transformers_class(config)
    if kind is None:
        return None
    fields = {key: value for key, value in vars(config).items() if key not in ('rope_theta', 'rope_scaling', 'use_mla', 'scoring_func', 'moe_layer_freq')}
    scaling = dict(config.rope_scaling or {})
    fields['rope_parameters'] = {'rope_theta': config.rope_theta, 'rope_type': scaling.pop('type', scaling.pop('rope_type', 'default')), **scaling}
    if kind is LlamaForCausalLM:
        fields = {key: value for key, value in fields.items() if hasattr(LlamaConfig(), key) or key == 'rope_parameters'}
        settings = LlamaConfig(**fields)
    else:
        if not has_moe(config):
            fields.update(first_k_dense_replace=config.num_hidden_layers, n_routed_experts=2, num_experts_per_tok=1)
        fields['n_shared_experts'] = config.n_shared_experts or 0
        if kind is DeepseekV3ForCausalLM:
            fields = {key: value for key, value in fields.items() if key not in ('topk_method', 'mlp_bias')}
            settings = DeepseekV3Config(**fields)
        else:
            settings = DeepseekV2Config(**{key: value for key, value in fields.items() if key != 'rope_interleave'})
    model = kind._from_config(settings, attn_implementation='eager', experts_implementation='eager').eval()
    problems = model.load_state_dict(fused(config, weights), strict=False)
    # A width of 0 stands for no shared experts.
    missing = [key for key in problems.missing_keys if model.state_dict()[key].numel()]
    assert not problems.unexpected_keys and not missing, problems
    return model


def fused(config, weights):
    """transformers keeps the experts of a layer in two tensors; checkpoints name each expert's own."""
    weights = dict(weights)
    for key in [key for key in weights if re.search(r'experts\.0\.gate_proj\.weight$', key)]:
        stem = key[:-len('0.gate_proj.weight')]
        gate, up, down = (torch.stack([weights.pop(f'{stem}{e}.{name}.weight') for e in range(config.n_routed_experts)]) for name in ('gate_proj', 'up_proj', 'down_proj'))
        weights[stem + 'gate_up_proj'], weights[stem + 'down_proj'] = torch.cat([gate, up], 1), down
    return weights


def agree(name, ours, theirs, tolerance=3e-6):
    worst = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    assert worst < tolerance, f'{name}: the reference is {worst} away from transformers'
    return worst


def decided(make, runs, path=''):
    """A module of the first random weights with which no choice of an expert or a group hangs on rounding. `path`: the part that runs."""
    for seed in range(0, 100000, 1000):
        module = make(seed)
        gates = [gate for gate in module.modules() if isinstance(gate, reference.Gate)]
        with torch.no_grad():
            for run in runs:
                module.get_submodule(path)(*run)
        if all(gate.margin > 3e-4 for gate in gates):
            return module
    raise AssertionError('every choice is close')


def models():
    files = {}
    for i, (name, changes) in enumerate(MODELS.items()):
        fields = {**TINY, **changes}
        config = reference.configuration(fields)
        generator = torch.Generator().manual_seed(i)
        lengths = [min(t, 20) for t in LENGTHS]
        runs = [(torch.randint(0, config.vocab_size, (b, t), generator=generator, dtype=torch.int32),) for b, t in zip((2, 1, 2), lengths)]
        runs[1] = (runs[1][0].long(),)
        module = decided(lambda seed: randomise(reference.ForCausalLM(config), seed + i), runs)
        weights = {key: value for key, value in module.state_dict().items() if not (config.tie_word_embeddings and key == 'lm_head.weight')}
        expected, worst = {}, 0.0
        with torch.no_grad():
            for r, (ids,) in enumerate(runs):
                expected[r] = module(ids)
                theirs = transformers_model(config, module.state_dict())   # a new one each time: dynamic frequencies stay with a model
                if theirs is not None:
                    logits = theirs(ids.long()).logits
                    worst = max(worst, agree(name, expected[r], logits))
                    expected[r] = logits
        source = 'deepseek_reference.py' if transformers_class(config) is None else f'transformers {transformers_class(config).__name__}'
        print(f'{name}: {source}' + ('' if theirs is None else f', the reference is {worst:.1e} away'))
        gating = [{'gready': 'greedy'}.get(config.topk_method, config.topk_method)] if has_moe(config) else []
        file = '_'.join(['deepseek_v2', 'mla' if config.use_mla else 'mha', *gating])
        f = files.setdefault(file, Fixture(file, tolerance=1e-4))
        outputs = iter(expected.values())
        f.add(f'{name} ({source})', 'models.DeepseekV2ForCausalLM', [fields], None, weights=weights, call=lambda ids: next(outputs), runs=runs,
              inputs=[{'shape': [None, None], 'dtype': 'i32'}])
    for f in files.values():
        f.write()


ROUTES = {
    'softmax greedy': dict(num_experts_per_tok=3),
    'softmax greedy, one': dict(num_experts_per_tok=1, routed_scaling_factor=16.0),
    'softmax greedy, every expert': dict(num_experts_per_tok=12),
    'softmax group_limited_greedy': dict(topk_method='group_limited_greedy', n_group=4, topk_group=2, num_experts_per_tok=4),
    'softmax group_limited_greedy, one group': dict(topk_method='group_limited_greedy', n_group=6, topk_group=1, routed_scaling_factor=3.0),
    'softmax noaux_tc': dict(topk_method='noaux_tc', n_group=3, topk_group=2),
    'sigmoid greedy': dict(scoring_func='sigmoid', num_experts_per_tok=3),
    'sigmoid group_limited_greedy, normalised': dict(topk_method='group_limited_greedy', n_group=4, topk_group=2, scoring_func='sigmoid', norm_topk_prob=True),
    'sigmoid noaux_tc': dict(topk_method='noaux_tc', scoring_func='sigmoid', n_group=4, topk_group=3, num_experts_per_tok=5),
    'sigmoid noaux_tc, normalised': dict(topk_method='noaux_tc', scoring_func='sigmoid', n_group=2, topk_group=1, num_experts_per_tok=4, norm_topk_prob=True, routed_scaling_factor=2.5),
    'sigmoid noaux_tc, as many as the groups hold': dict(topk_method='noaux_tc', scoring_func='sigmoid', n_group=4, topk_group=1, num_experts_per_tok=3, norm_topk_prob=True),
    'softmax greedy, normalised and scaled': dict(num_experts_per_tok=4, norm_topk_prob=True, routed_scaling_factor=0.3),
    'one is never normalised': dict(num_experts_per_tok=1, norm_topk_prob=True, routed_scaling_factor=1.5),
    'sigmoid greedy, normalised': dict(scoring_func='sigmoid', norm_topk_prob=True, num_experts_per_tok=5),
}


def dense(router, x):
    """transformers' router: weights and numbers of the chosen ones, as a weight of every expert."""
    _, weights, indices = router(x)
    return torch.zeros(x.numel() // x.shape[-1], router.num_experts).scatter(1, indices, weights).unflatten(0, x.shape[:-1])


def gates():
    f = Fixture('deepseek_v2_gate')
    for i, (name, changes) in enumerate(ROUTES.items()):
        fields = {**TINY, **MOE, 'n_routed_experts': 12, 'num_hidden_layers': 1, **changes}
        config = reference.configuration(fields)
        generator = torch.Generator().manual_seed(300 + i)
        x = torch.randn(2, 9, config.hidden_size, generator=generator)
        gate = call = decided(lambda seed: randomise(reference.Gate(config), seed + 200 + i), [(x,)])
        kind = transformers_class(config)
        if kind is not None:
            model = reference.ForCausalLM(config)
            model.model.layers[0].mlp.gate = gate
            router = transformers_model(config, model.state_dict()).model.layers[0].mlp.gate
            with torch.no_grad():
                agree(name, gate(x), dense(router, x))
            call = lambda x: dense(router, x)
        f.add(f"{name} ({'deepseek_reference.py' if kind is None else 'transformers'})", 'models.MoEGate', [fields], gate, x, call=call)
    f.write()


def parts():
    f = Fixture('deepseek_v2_parts', tolerance=2e-5)
    generator = torch.Generator().manual_seed(400)
    given = lambda config, b=2, t=11: torch.randn(b, t, config.hidden_size, generator=generator)
    # A module of the reference and the same place in transformers' model.
    def add(name, kind, changes, make, path, args=(), x=None, **options):
        fields = {**TINY, **changes}
        config = reference.configuration(fields)
        x = given(config) if x is None else x
        model = decided(lambda seed: randomise(reference.ForCausalLM(config), seed + len(f.cases)), [(x,)], path)
        module = model.get_submodule(path)
        theirs = transformers_model(config, model.state_dict())
        with torch.no_grad():
            expected = make(theirs, theirs.get_submodule(path), x)
            agree(name, module(x), expected)
        f.add(name, kind, [fields, *args], module, x, call=lambda x: expected, **options)

    plain = lambda model, module, x: module(x)
    def attention(model, module, x):
        positions = torch.arange(x.shape[1])[None]
        mask = torch.full((x.shape[1],) * 2, -torch.inf).triu(1)[None, None]
        return module(hidden_states=x, position_embeddings=model.model.rotary_emb(x, positions), attention_mask=mask)[0]
    def layer(model, module, x):
        positions = torch.arange(x.shape[1])[None]
        mask = torch.full((x.shape[1],) * 2, -torch.inf).triu(1)[None, None]
        y = module(x, position_embeddings=model.model.rotary_emb(x, positions), attention_mask=mask, position_ids=positions)
        return y[0] if isinstance(y, tuple) else y

    for act in sorted(reference.ACTIVATIONS):
        add(f'mlp {act}', 'models.DeepseekV2MLP', dict(hidden_act=act, hidden_size=15, intermediate_size=13), plain, 'model.layers.0.mlp', tolerance=1e-5)
    add('experts with gelu', 'models.DeepseekV2MoE', dict(**MOE, hidden_act='gelu'), plain, 'model.layers.1.mlp')
    add('experts with noaux_tc', 'models.DeepseekV2MoE', dict(**V3, norm_topk_prob=True), plain, 'model.layers.1.mlp')
    add('MLA', 'models.DeepseekV2Attention', {}, attention, 'model.layers.0.self_attn')
    add('MLA with q_lora_rank, biases and yarn', 'models.DeepseekV2Attention', dict(q_lora_rank=11, attention_bias=True, hidden_size=28, num_attention_heads=4, rope_scaling={**YARN, 'mscale': 1.4, 'mscale_all_dim': 0.7}),
        attention, 'model.layers.0.self_attn')
    add('MLA of odd widths', 'models.DeepseekV2Attention', dict(rope_interleave=False, qk_rope_head_dim=2, qk_nope_head_dim=1, v_head_dim=1, kv_lora_rank=3, num_attention_heads=1), attention, 'model.layers.0.self_attn')
    add('grouped heads', 'models.LlamaAttention', dict(**MHA, num_key_value_heads=1), attention, 'model.layers.0.self_attn')
    add('dense', 'models.DeepseekV2DecoderLayer', dict(**MOE, first_k_dense_replace=1, rms_norm_eps=0.02), layer, 'model.layers.0', args=(0,))
    add('experts', 'models.DeepseekV2DecoderLayer', dict(**MOE, first_k_dense_replace=1, rms_norm_eps=0.02), layer, 'model.layers.1', args=(1,))
    add('without its head', 'models.DeepseekV2Model', dict(**MOE, first_k_dense_replace=1), lambda model, module, ids: module(ids.long()).last_hidden_state, 'model', tolerance=1e-4,
        x=torch.randint(0, TINY['vocab_size'], (2, 9), generator=generator, dtype=torch.int32))
    f.write()


def saved():
    """A folder as transformers writes it, whose config.json leaves the routing of DeepSeek-V3 unsaid; io.safetensors holds ids and logits."""
    config = reference.configuration({**TINY, **MODELS['noaux_tc, normalised, yarn with mscale 1']})
    ids = torch.randint(0, config.vocab_size, (2, 13), generator=torch.Generator().manual_seed(500), dtype=torch.int32)
    module = decided(lambda seed: randomise(reference.ForCausalLM(config), seed + 500), [(ids,)])
    model = transformers_model(config, module.state_dict())
    folder = os.path.join(FOLDER, 'deepseek_v3_saved')
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, 'generation_config.json'))
    with torch.no_grad():
        logits = model(ids.long()).logits
        agree('saved', module(ids), logits)
    save_file({'ids': ids, 'logits': logits.contiguous()}, os.path.join(folder, 'io.safetensors'))
    for file in os.listdir(folder):
        os.chmod(os.path.join(folder, file), 0o644)


if __name__ == '__main__':
    models()
    gates()
    parts()
    saved()
