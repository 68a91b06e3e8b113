/** The same in a page: a dedicated worker that holds one runtime. */
import { answer } from './answer.mjs';

self.onmessage = async ({ data }) => self.postMessage(await answer(data));
