/** Whole networks, named as in the papers and configurations they come from. */
export { CLIP } from './clip.js';
export { CLIPModel } from './clip_model.js';
export { DeepseekV2DecoderLayer, DeepseekV2ForCausalLM, DeepseekV2Model } from './deepseek_v2.js';
export { DeepseekV2Attention, LlamaAttention } from './deepseek_v2_attention.js';
export { DeepseekV2Config } from './deepseek_v2_config.js';
export { DeepseekV2MLP, DeepseekV2MoE, MoEGate } from './deepseek_v2_moe.js';
export { fromGGUF } from './gguf.js';
export { LlamaConfig, LlamaForCausalLM } from './llama.js';
export { ModifiedResNet } from './modified_resnet.js';
