/** Whole networks, named as in the papers and configurations they come from. */
export { DeepseekV2Config } from './deepseek_v2_config.js';
export { ModifiedResNet } from './modified_resnet.js';
