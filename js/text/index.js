/** Text as the input of networks. */
export { loadTokenizer, Tokenizer } from './tokenizer.js';
