/** The configurations of CLIP with a ResNet: open_clip's names and its form of a configuration, checked. */
import { badArgument, boolean, divides, integer, options, show } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { CLIP_MEAN, CLIP_STD } from '../image/clip.js';

/**
 * open_clip's form of a model: `model_configs/RN50.json`, or `model_cfg` of an `open_clip_config.json`.
 * @typedef {object} ModelConfig
 * @property {number} embed_dim Size of both embeddings.
 * @property {boolean} [quick_gelu] false: the exact GELU.
 * @property {VisionConfig} vision_cfg
 * @property {TextConfig} text_cfg
 * @property {PreprocessConfig} [preprocess_cfg]
 */
/**
 * @typedef {object} VisionConfig
 * @property {number[]} layers Blocks of the four stages.
 * @property {number} width
 * @property {number} [head_width] 64
 * @property {number} [heads] Of the attention pool: width * 32 / head_width.
 * @property {number} [image_size] 224
 * @property {boolean} [use_se] As `useSe`, `layerNorm` and `projectTwice` of ModifiedResNet, which are no options of open_clip: false.
 * @property {boolean} [layer_norm]
 * @property {boolean} [project_twice]
 */
/**
 * @typedef {object} TextConfig
 * @property {number} [context_length] 77
 * @property {number} [vocab_size] 49408
 * @property {number} [width] 512
 * @property {number} [heads] 8
 * @property {number} [layers] 12
 * @property {number} [mlp_ratio] 4
 */
/** @typedef {{ mean?: number[], std?: number[], size?: number | [number, number], interpolation?: string, resize_mode?: string }} PreprocessConfig */
/** @typedef {{ quickGelu?: boolean, useSe?: boolean, layerNorm?: boolean, projectTwice?: boolean }} CLIPOptions */
/**
 * @typedef {object} Settings What CLIP is built from.
 * @property {number} embedDim
 * @property {import('./modified_resnet.js').ModifiedResNetOptions} vision
 * @property {{ contextLength: number, vocabSize: number, width: number, heads: number, layers: number, hidden: number, quickGelu: boolean }} text
 * @property {import('../image.js').ImageOptions} preprocess
 */

/** Of open_clip's ResNets: blocks, width, image size, size of the embedding, width of the text tower. @type {Record<string, [number[], number, number, number, number]>} */
const RESNETS = {
  RN50: [[3, 4, 6, 3], 64, 224, 1024, 512],
  RN101: [[3, 4, 23, 3], 64, 224, 512, 512],
  RN50x4: [[4, 6, 10, 6], 80, 288, 640, 640],
  RN50x16: [[6, 8, 18, 8], 96, 384, 768, 768],
  RN50x64: [[3, 15, 36, 10], 128, 448, 1024, 1024],
};

/** Every name, each also with '-quickgelu'. */
export const CLIP_NAMES = Object.freeze(Object.keys(RESNETS).flatMap((name) => [name, `${name}-quickgelu`]));

/** What open_clip has variants of and this has not: the only value there is, of a field that matters if it is another. */
const FIXED = {
  '': { custom_text: false, multimodal_cfg: null, init_logit_bias: null },
  vision_cfg: { timm_model_name: null },
  text_cfg: {
    hf_model_name: null, embed_cls: false, no_causal_mask: false, final_ln_after_pool: false, pool_type: 'argmax', proj_type: 'linear', proj_bias: false,
    ls_init_value: null, act_kwargs: null, norm_kwargs: null, qk_norm: false, scaled_cosine_attn: false, scale_heads: false, scale_attn_inner: false,
    scale_attn: false, scale_fc: false,
  },
};

/**
 * @param {unknown} given A name of open_clip's, a ModelConfig, or what an open_clip_config.json holds.
 * @param {unknown} overrides CLIPOptions.
 * @returns {Settings}
 * @throws {LamellaError} 'argument': an unknown name, a field that is wrong, two that contradict each other, something that is not built.
 */
export function readConfig(given, overrides) {
  const o = options('CLIP', [overrides], /** @type {Record<keyof CLIPOptions, any>} */ ({ quickGelu: undefined, useSe: undefined, layerNorm: undefined, projectTwice: undefined }));
  const { model, preprocess } = parts(given);
  refuseVariants(model);
  const embedDim = integer('CLIP: embed_dim', model.embed_dim, 1);
  for (const tower of ['vision_cfg', 'text_cfg']) {
    const outputDim = model[tower].output_dim ?? embedDim;
    if (outputDim !== embedDim) throw contradiction('embed_dim', embedDim, `${tower}.output_dim`, outputDim);
  }
  const vision = readVision(model.vision_cfg, embedDim, o);
  return {
    embedDim, vision, text: readText(model.text_cfg, boolean('CLIP: quickGelu', o.quickGelu ?? model.quick_gelu ?? false)), preprocess: readPreprocess(preprocess, /** @type {number} */ (vision.imageSize)),
  };
}

/** @param {any} given */
function parts(given) {
  if (typeof given === 'string') return { model: named(given), preprocess: {} };
  if (!isObject(given)) throw badArgument('CLIP: config', 'a name such as "RN50", or a configuration { embed_dim, vision_cfg, text_cfg }', given);
  const model = given.model_cfg ?? given;
  for (const name of ['vision_cfg', 'text_cfg']) if (!isObject(model[name])) throw badArgument(`CLIP: ${name}`, 'an object', model[name]);
  return { model, preprocess: given.preprocess_cfg ?? {} };
}

/** @param {unknown} value */
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

/** @param {string} name @returns {any} */
function named(name) {
  if (!CLIP_NAMES.includes(name)) throw new LamellaError('argument', `CLIP: there is no configuration ${show(name)}; known, all ResNets: ${CLIP_NAMES.join(', ')}`);
  const [layers, width, image_size, embed_dim, textWidth] = RESNETS[name.replace('-quickgelu', '')];
  return { embed_dim, quick_gelu: name.endsWith('-quickgelu'), vision_cfg: { layers, width, image_size }, text_cfg: { width: textWidth, heads: textWidth / 64 } };
}

/** @param {any} model */
function refuseVariants(model) {
  for (const [part, fields] of Object.entries(FIXED)) {
    for (const [name, only] of Object.entries(fields)) {
      const value = (part ? model[part] : model)[name] ?? only;
      if (value !== only) throw badArgument(`CLIP: ${part ? `${part}.` : ''}${name}`, `${show(only)}, the only kind that is built`, value);
    }
  }
}

/**
 * @param {string} one @param {unknown} a @param {string} other @param {unknown} b
 * @returns {LamellaError}
 */
const contradiction = (one, a, other, b) => new LamellaError('argument', `CLIP: ${one} is ${show(a)} but ${other} is ${show(b)}: they must agree`);

/**
 * @param {any} cfg
 * @param {number} outputDim
 * @param {Record<keyof CLIPOptions, any>} o
 * @returns {Settings['vision']}
 */
function readVision(cfg, outputDim, o) {
  const { layers } = cfg;
  if (!Array.isArray(layers) || layers.length !== 4) {
    const hint = typeof layers === 'number' ? ' (one number is a vision transformer, which is not built)' : '';
    throw badArgument('CLIP: vision_cfg.layers', `four block counts, [3, 4, 6, 3]${hint}`, layers);
  }
  layers.forEach((count, i) => integer(`CLIP: vision_cfg.layers[${i}]`, count, 1));
  const width = integer('CLIP: vision_cfg.width', cfg.width, 2);
  if (width % 2) throw badArgument('CLIP: vision_cfg.width', 'an even number', width);
  const headWidth = integer('CLIP: vision_cfg.head_width', cfg.head_width ?? (cfg.heads ? (width * 32) / integer('CLIP: vision_cfg.heads', cfg.heads, 1) : 64), 1);
  divides('CLIP', 'vision_cfg.width * 32 =', width * 32, 'vision_cfg.head_width', headWidth);
  const heads = (width * 32) / headWidth;
  if ((cfg.heads ?? heads) !== heads) throw contradiction('vision_cfg.heads', cfg.heads, 'vision_cfg.width * 32 / head_width', heads);
  return {
    layers: /** @type {any} */ (layers), outputDim, heads, width, imageSize: side('CLIP: vision_cfg.image_size', cfg.image_size ?? 224),
    useSe: boolean('CLIP: useSe', o.useSe ?? cfg.use_se ?? false),
    layerNorm: boolean('CLIP: layerNorm', o.layerNorm ?? cfg.layer_norm ?? false),
    projectTwice: boolean('CLIP: projectTwice', o.projectTwice ?? cfg.project_twice ?? false),
  };
}

/**
 * The side of a square, which may be given as both of its sides.
 * @param {string} what
 * @param {any} value
 */
function side(what, value) {
  const [height, width] = Array.isArray(value) ? value : [value, value];
  if (height !== width) throw badArgument(what, 'one size: pictures are square', value);
  return integer(what, height, 32);
}

/**
 * @param {any} cfg
 * @param {boolean} quickGelu
 * @returns {Settings['text']}
 */
function readText(cfg, quickGelu) {
  const size = (/** @type {string} */ name, /** @type {number} */ standard) => integer(`CLIP: text_cfg.${name}`, cfg[name] ?? standard, 1);
  const [width, heads] = [size('width', 512), size('heads', 8)];
  divides('CLIP', 'text_cfg.width', width, 'text_cfg.heads', heads);
  const ratio = cfg.mlp_ratio ?? 4;
  if (!(ratio > 0)) throw badArgument('CLIP: text_cfg.mlp_ratio', 'a number above 0', ratio);
  return {
    contextLength: size('context_length', 77), vocabSize: size('vocab_size', 49408), width, heads, layers: size('layers', 12), hidden: Math.trunc(width * ratio), quickGelu,
  };
}

/**
 * @param {any} cfg
 * @param {number} imageSize
 * @returns {Settings['preprocess']}
 */
function readPreprocess(cfg, imageSize) {
  if (!isObject(cfg)) throw badArgument('CLIP: preprocess_cfg', 'an object', cfg);
  const size = side('CLIP: preprocess_cfg.size', cfg.size ?? imageSize);
  if (size !== imageSize) throw contradiction('preprocess_cfg.size', size, 'vision_cfg.image_size', imageSize);
  const interpolation = cfg.interpolation ?? 'bicubic';
  if (!['bicubic', 'bilinear'].includes(interpolation)) throw badArgument('CLIP: preprocess_cfg.interpolation', "'bicubic' or 'bilinear'", interpolation);
  const resize = cfg.resize_mode ?? 'shortest';
  if (!['shortest', 'squash'].includes(resize)) throw badArgument('CLIP: preprocess_cfg.resize_mode', "'shortest' or 'squash'", resize);
  return { size, mean: cfg.mean ?? CLIP_MEAN, std: cfg.std ?? CLIP_STD, interpolation, resize };
}
