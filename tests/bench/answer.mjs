/** What a contestant's process or worker does when asked. */
let runtime;

const calls = {
  async start({ name, options }) {
    runtime = await (await import(`./runtimes/${name}.mjs`)).start(options);
    return runtime.version;
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

/**
 * @param {{ call: 'start' | 'output' | 'time', [argument: string]: any }} message
 * @returns {Promise<{ result: any } | { error: string }>}
 */
export async function answer({ call, ...values }) {
  try {
    return { result: await calls[call](values) };
  } catch (error) {
    return { error: error?.stack ?? String(error) };
  }
}
