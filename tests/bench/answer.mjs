/** What a contestant's process or worker does when asked. */
let runtime;
/** Jobs are made when they are first asked for. */
const jobs = new Map();

async function made(name) {
  if (!jobs.has(name)) {
    if (!runtime.jobs[name]) throw new Error(`there is no job "${name}"`);
    jobs.set(name, await runtime.jobs[name]());
  }
  return jobs.get(name);
}

const calls = {
  async start({ name, options }) {
    runtime = await (await import(`./runtimes/${name}.mjs`)).start(options);
    return runtime.version;
  },
  async prepare({ job }) {
    await made(job);
  },
  async output({ job }) {
    const { run, output = run } = await made(job);
    return Float32Array.from(await output());
  },
  /** Milliseconds of `runs` executions that follow `warm` untimed ones. */
  async time({ job, warm, runs }) {
    const { run, milliseconds = () => wall(run) } = await made(job);
    const times = [];
    for (let i = -warm; i < runs; i++) {
      const time = await milliseconds();
      if (i >= 0) times.push(time);
    }
    return times;
  },
  async layers({ job }) {
    return (await made(job)).layers();
  },
  /** What a runtime measures by itself: numbers by name. */
  async figures({ name, options }) {
    return (await import(`./runtimes/${name}.mjs`)).figures(options);
  },
};

async function wall(run) {
  const from = performance.now();
  await run();
  return performance.now() - from;
}

/**
 * @param {{ call: keyof calls, [argument: string]: any }} message
 * @returns {Promise<{ result: any } | { error: string }>}
 */
export async function answer({ call, ...values }) {
  try {
    return { result: await calls[call](values) };
  } catch (error) {
    return { error: error?.stack ?? String(error), short: String(error?.message ?? error) };
  }
}
