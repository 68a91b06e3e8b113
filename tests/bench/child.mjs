/** A Node process that holds one runtime, so that runtimes share neither heap nor threads. */
import { answer } from './answer.mjs';

process.on('message', async message => process.send(await answer(message)));
