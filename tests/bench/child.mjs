/** A process that holds one runtime and times its jobs on request, so that runtimes share neither heap nor threads. */
let runtime;

const calls = {
  async start({ name, options }) {
    runtime = await (await import(`./runtimes/${name}.mjs`)).start(options);
    return { version: runtime.version, node: process.versions.node };
  },
  output: async ({ job }) => Float32Array.from(await runtime[job]()),
  /** Milliseconds of `runs` executions that follow `warm` untimed ones. */
  async time({ job, warm, runs }) {
    const times = [];
    for (let i = -warm; i < runs; i++) {
      const from = performance.now();
      await runtime[job]();
      if (i >= 0) times.push(performance.now() - from);
    }
    return times;
  },
};

process.on('message', async ({ call, ...values }) => {
  try {
    process.send({ result: await calls[call](values) });
  } catch (error) {
    process.send({ error: error?.stack ?? String(error) });
  }
});
