/** What ../generation.js fetches, in one piece. */
export { chat, complete } from './chat.js';
export { generate } from './generate.js';
