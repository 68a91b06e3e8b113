/** A worker that prepares pictures: bundled into one text by web/build.mjs, started by js/image/apart.js. */
import { prepare } from '../js/image/prepare.js';
import { listen, reply } from './answers.js';

listen(({ id, args: [found, settings] }) => reply(id, () => prepare(found, settings), ({ data }) => [data.buffer]));
