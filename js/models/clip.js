import { showShape } from '../arguments.js';
import { LamellaError } from '../errors.js';
import * as F from '../functional.js';
import { symbolic } from '../functional/record.js';
import { Module, Parameter } from '../module.js';
import { GELU, QuickGELU } from '../nn/activations.js';
import { MultiheadAttention } from '../nn/attention.js';
import { Sequential } from '../nn/containers.js';
import { Embedding, Linear } from '../nn/layers.js';
import { LayerNorm } from '../nn/norm.js';
import { readConfig } from './clip_config.js';
import { CLIPModel } from './clip_model.js';
import { ModifiedResNet } from './modified_resnet.js';

/** @import { Operand, SymbolicTensor } from '../tensor.js' */
/** @import { CLIPOptions, ModelConfig, PreprocessConfig, Settings } from './clip_config.js' */

/** A transformer's block that normalises first, each token seeing itself and those before it: x + attn(ln_1(x)), then + mlp(ln_2(.)). */
class ResidualAttentionBlock extends Module {
  /** @param {Settings['text']} text */
  constructor({ width, heads, hidden, quickGelu }) {
    super();
    this.ln_1 = new LayerNorm(width);
    this.attn = new MultiheadAttention(width, heads, { batchFirst: true });
    this.ln_2 = new LayerNorm(width);
    this.mlp = new Sequential({ c_fc: new Linear(width, hidden), gelu: quickGelu ? new QuickGELU() : new GELU(), c_proj: new Linear(hidden, width) });
  }

  /** @param {SymbolicTensor} x [n, t, width] */
  forward(x) {
    const normed = this.ln_1(x);
    const attended = F.add(x, this.attn(normed, normed, normed, { needWeights: false, isCausal: true })[0]);
    return F.add(attended, this.mlp(this.ln_2(attended)));
  }
}

class Transformer extends Module {
  /** @param {Settings['text']} text */
  constructor(text) {
    super();
    this.resblocks = Array.from({ length: text.layers }, () => new ResidualAttentionBlock(text));
  }

  /** @param {SymbolicTensor} x [n, t, width] */
  forward(x) {
    return this.resblocks.reduce((y, block) => block(y), x);
  }
}

/**
 * CLIP with a ResNet (RN50, RN101, RN50x4, RN50x16, RN50x64): a ModifiedResNet for pictures and a transformer for texts, both to
 * embeddings that are compared by their cosine. Names of weights are open_clip's.
 *
 *     const clip = await compile(new models.CLIP('RN50-quickgelu'), { weights: 'open_clip_model.safetensors', tokenizer: 'tokenizer.json' });
 *     const [ranking] = await clip.zeroShot(picture, ['cat', 'dog', 'toad']);      // [{ label: 'cat', probability: 0.98 }, ...]
 *     const features = await clip.encodeText(['a happy cat'], { normalize: true });
 *
 * What `compile` gives is a CLIPModel. One tower alone, without the other's weights: `compile(clip, { methods: ['encodeText'], ... })`.
 *
 * Every published checkpoint of these ResNets (openai, yfcc15m, cc12m) was trained with QuickGELU: take the names with '-quickgelu' for
 * them. As in open_clip, 'RN50' means the exact GELU; nothing in the weights tells.
 */
export class CLIP extends Module {
  /**
   * @param {string | ModelConfig | { model_cfg: ModelConfig, preprocess_cfg?: PreprocessConfig }} config One of open_clip's names; its form of a
   *   configuration, `{ embed_dim, vision_cfg, text_cfg, quick_gelu }`; or what an `open_clip_config.json` holds.
   * @param {CLIPOptions} [options] `quickGelu`: x sigmoid(1.702 x) instead of GELU in the text tower, if the configuration does not say so;
   *   `useSe`, `layerNorm`, `projectTwice` of the image tower (see ModifiedResNet).
   */
  constructor(config, options = {}) {
    super();
    const settings = readConfig(config, options);
    const { embedDim, vision, text, preprocess } = settings;
    this.visual = new ModifiedResNet(vision);
    this.transformer = new Transformer(text);
    this.token_embedding = new Embedding(text.vocabSize, text.width);
    this.positional_embedding = new Parameter([text.contextLength, text.width]);
    this.ln_final = new LayerNorm(text.width);
    this.text_projection = new Parameter([text.width, embedDim]);
    this.logit_scale = new Parameter([]);

    /** Sizes of the model. */
    this.settings = settings;
    /** How a picture becomes an input, for image.toTensor. */
    this.preprocess = preprocess;
    /** What a compiled CLIP can be asked; CLIPModel has a friendlier method for each. */
    this.methods = {
      encodeImage: { inputs: this.visual.inputs },
      encodeText: { inputs: [{ shape: [null, null], dtype: /** @type {const} */ ('i32') }, { shape: [null], dtype: /** @type {const} */ ('i32') }] },
      logitScale: { inputs: [] },
    };
  }

  /** The class of a compiled CLIP. */
  get Model() {
    return CLIPModel;
  }

  /**
   * @param {Operand} images [n, 3, imageSize, imageSize]
   * @returns {SymbolicTensor} [n, embedDim], not normalised.
   */
  encodeImage(images) {
    return this.visual(images);
  }

  /**
   * The embedding at each sequence's largest id, which ends it.
   * @param {Operand} ids [n, t] i32
   * @param {Operand | null} [positions] [t] i32: 0, 1, ... for sequences shorter than the context. Without, t must be contextLength.
   * @returns {SymbolicTensor} [n, embedDim], not normalised.
   */
  encodeText(ids, positions = null) {
    const { contextLength } = this.settings.text;
    const tokens = symbolic(ids, 'CLIP: ids');
    if (positions === null && (tokens.shape.length !== 2 || tokens.shape[1] !== contextLength)) {
      throw new LamellaError('shape', `CLIP: expected token ids [n, ${contextLength}], the context length, got ${showShape(tokens.shape)}; shorter ones need positions`);
    }
    const places = positions === null ? this.positional_embedding : F.embedding(positions, this.positional_embedding);
    const x = this.ln_final(this.transformer(F.add(this.token_embedding(tokens), places)));
    return F.matmul(F.select(x, F.argmax(tokens, -1)), this.text_projection);
  }

  /** e^logit_scale, what cosines are multiplied by before the softmax. @returns {SymbolicTensor} [] */
  logitScale() {
    const scale = this.logit_scale;
    return F.div(F.sigmoid(scale), F.sigmoid(F.sub(0, scale)));   // e^x as the odds of sigmoid(x)
  }

  /**
   * As open_clip's: both embeddings, of length 1, and the scale.
   * @param {Operand} images [n, 3, imageSize, imageSize]
   * @param {Operand} ids [m, contextLength] i32
   */
  forward(images, ids) {
    const [imageFeatures, textFeatures] = [this.encodeImage(images), this.encodeText(ids)].map((x) => F.normalize(x, { dim: -1 }));
    return { imageFeatures, textFeatures, logitScale: this.logitScale() };
  }
}
