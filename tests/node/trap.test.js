/** Faults of the engine that should never be: an error for the model that ran, and nothing for the others. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile, nn, Tensor } from '../../js/index.js';
import { sharedEngine } from '../../js/init.js';
import { features } from '../../web/features.js';
import { uniform } from '../bench/tower.mjs';

/** The word of lam_session in 32-bit memory that says where the layers' scratch is noted: for each the offset, floats per thread and floats that they share. */
const SCRATCH = 11;
/** Of the layers the first convolution; before it the picture's layout is converted. */
const CONVOLUTION = 1;

/** A convolution whose tasks write to scratch of their thread. */
const convolutions = () => new nn.Sequential(new nn.Conv2d(48, 96, 3, { padding: 1, stride: 2 }), new nn.ReLU(), new nn.Conv2d(96, 96, 1));
const picture = new Tensor(uniform('picture', 48 * 56 * 56, 1), [1, 48, 56, 56]);
const weightsOf = (module) => Object.fromEntries([...module.stateDict()].map(([name, { shape }]) => [name, new Tensor(uniform(name, shape.reduce((a, b) => a * b, 1), 0.1), [...shape])]));

/** A model whose engine and session are known. */
async function open(options) {
  const engine = await sharedEngine(options);
  const { lam_session_new: make } = engine.exports;
  let session = 0;
  engine.exports.lam_session_new = (...args) => { session = make(...args) >>> 0; return session; };
  const module = convolutions();
  const model = await compile(module, { weights: weightsOf(module), inputs: [picture.shape], ...options });
  engine.exports.lam_session_new = make;
  return { engine, model, word: (/** @type {number} */ i) => session / 4 + i };
}

/**
 * What is done to a session: the word that is spoilt, and by how much, in units of four bytes: 1 GB is beyond all memory that these tests take. So are 2 GB for the
 * second thread, while two times as much is nothing to an address of 32 bits: what the threads share lies where it was.
 */
const FAULTS = { 'in all threads': [0, 2 ** 28], 'in another thread only': [1, 2 ** 29] };

function spoil({ engine, word }, [i, distance]) {
  const words = engine.i32();
  const at = words[word(SCRATCH)] / 4 + CONVOLUTION * 3;
  assert.ok(words[at + 1] > 0 && words[at + 1] < 1e6, 'the convolution has scratch for each thread');
  words[at + i] += distance;
}

for (const threads of features().threads ? [1, 2] : [1]) {
  describe(`a trap of the engine, ${threads} thread${threads > 1 ? 's' : ''}`, () => {
    for (const [where, fault] of Object.entries(FAULTS).slice(0, threads)) {
      it(`${where} is an error and ends the model, not the others`, { timeout: 60000 }, async () => {
        const opened = await open({ threads });
        const { engine, model } = opened;
        for (let i = 0; i < 200 && engine.threads < threads; i++) await new Promise((resolve) => { setTimeout(resolve, 50); });
        assert.equal(engine.threads, threads);
        const expected = (await model.forward(picture)).data;
        const { model: other } = await open({ threads });
        const used = engine.exports.lam_memory_used();
        const own = model.memory.total;
        const stack = engine.exports.__stack_pointer.value;

        spoil(opened, fault);
        const failed = async () => {   // now and then the other thread is late for all of the work
          for (let j = 0; j < 50; j++) await model.forward(picture);
        };
        await assert.rejects(failed, (error) => error.name === 'LamellaError' && error.code === 'trap' && /the engine failed .*what was running cannot be used any more/.test(error.message)
          && error.cause instanceof WebAssembly.RuntimeError);
        await assert.rejects(model.forward(picture), { code: 'trap', message: /compile it again/ });
        await assert.rejects(model.session({ context: 3 }), { code: 'trap' });
        assert.equal(model.memory.total, 0);
        assert.equal(engine.exports.__stack_pointer.value, stack);
        assert.ok(engine.exports.lam_memory_used() < used - own, 'its memory is free again');

        assert.equal(engine.threads, 1, 'its threads are gone');
        for (let i = 0; i < 3; i++) assert.deepEqual((await other.forward(picture)).data, expected);
        other.dispose();
        const again = await open({ threads });
        assert.notEqual(again.engine, engine, 'what comes later has an engine of its own');
        assert.deepEqual((await again.model.forward(picture)).data, expected);
        again.model.dispose();
        model.dispose();
      });
    }
  });
}
