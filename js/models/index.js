/** Whole networks, named as in the papers and configurations they come from. */
export { ModifiedResNet } from './modified_resnet.js';
