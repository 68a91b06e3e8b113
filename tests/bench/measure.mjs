/** Starts the contestants, compares what they compute, and times them in turns. */
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { FRESH, FRESH_RUNS } from './contestants.mjs';
import { relativeError } from './statistics.mjs';
import { WORK } from './work.mjs';

const TOLERANCE = 1e-3;
/** Milliseconds, five runs at least. */
const WARM_UP = 200;
/** Fresh runs that give the same in every round. */
const EXACT = ['cosine'];

/**
 * @typedef {import('./contestant.mjs').Contestant} Contestant
 * @typedef {{ contestant: Contestant, jobs: string[], silent?: boolean }} Entrant silent: its outputs are not those of the others
 * @typedef {Record<string, Record<string, string>>} Reasons why there is no figure, [job][label]
 */

/** Share of the cores that is busy while the contestants wait. */
async function busyShare() {
  const ticks = () => cpus().map(({ times }) => [times.idle, Object.values(times).reduce((a, b) => a + b)]);
  const before = ticks();
  await sleep(300);
  const shares = ticks().map(([idle, total], i) => 1 - (idle - before[i][0]) / (total - before[i][1]));
  return shares.reduce((a, b) => a + b) / shares.length;
}

/** Why a job could not be made: what is not there yet is said so. */
const reason = error => /there is no option "precision"/.test(error.short ?? error.message) ? 'not built' : (error.short ?? error.message).split('\n')[0];

/**
 * @param {Entrant[]} entrants Jobs that cannot be made are taken out of them.
 * @returns {Promise<Reasons>}
 */
export async function startAll(entrants) {
  const reasons = {};
  for (const { contestant, jobs } of entrants) {
    process.stdout.write(`starting ${contestant.label}\n`);
    try {
      await contestant.start();
    } catch (error) {
      for (const job of jobs.splice(0)) (reasons[job] ??= {})[contestant.label] = reason(error);
    }
    for (const job of [...jobs]) {
      try {
        await contestant.prepare(job);
        const [once] = await contestant.time(job, 0, 1);
        await contestant.time(job, Math.max(5, Math.min(500, Math.ceil(WARM_UP / once))), 0); // brings V8's optimising tier
      } catch (error) {
        (reasons[job] ??= {})[contestant.label] = reason(error);
        jobs.splice(jobs.indexOf(job), 1);
      }
    }
  }
  return reasons;
}

/**
 * Outputs of each job against the first peer's that has it (else the first entrant's); throws on a difference above the job's tolerance.
 * @param {Entrant[]} entrants
 * @returns {Promise<Record<string, Record<string, number>>>} max|y - reference| / max|reference|, [job][label]
 */
export async function compareOutputs(entrants) {
  const errors = {};
  for (const job of new Set(entrants.flatMap(({ jobs }) => jobs))) {
    const competing = entrants.filter(({ jobs, silent }) => jobs.includes(job) && !silent).map(({ contestant }) => contestant);
    if (competing.length < 2) continue;
    const reference = await (competing.find(({ name }) => name !== 'lamella') ?? competing[0]).output(job);
    for (const contestant of competing) {
      const error = relativeError(await contestant.output(job), reference);
      (errors[job] ??= {})[contestant.label] = error;
      const tolerance = WORK[job].tolerance ?? TOLERANCE;
      if (!(error <= tolerance)) throw new Error(`${contestant.label}, ${job}: differs from the reference by ${error} of its largest value`);
    }
  }
  return errors;
}

/**
 * @param {Entrant[]} entrants
 * @param {{ rounds: number, fresh: string[], open: (run: string) => Contestant, reasons: Reasons }} options fresh: the runs of FRESH_RUNS that are wanted, each in the
 *   contestant that `open` gives it
 * @returns {Promise<{ times: Record<string, Record<string, number[][]>>, othersBusy: number[] }>} times: milliseconds [job][label][round][run];
 *   of fresh runs the figures as they are
 */
export async function measure(entrants, { rounds, fresh, open, reasons }) {
  const times = {};
  const othersBusy = [];
  const note = (job, label, values) => ((times[job] ??= {})[label] ??= []).push(values);
  const jobs = [...new Set(entrants.flatMap(entrant => entrant.jobs))];
  const failed = new Set();
  for (let round = 0; round < rounds; round++) {
    console.log(`round ${round + 1} of ${rounds}`);
    othersBusy.push(await busyShare());
    for (const job of jobs) {
      const competing = entrants.filter(entrant => entrant.jobs.includes(job));
      // Another one begins each time.
      for (let i = 0; i < competing.length; i++) {
        const { contestant } = competing[(i + round) % competing.length];
        note(job, contestant.label, await contestant.time(job, WORK[job].warm, WORK[job].runs));
      }
    }
    for (const run of fresh.filter(name => !failed.has(name) && (round === 0 || !EXACT.includes(name)))) {
      const contestant = open(run);
      try {
        for (const [figure, value] of Object.entries(await contestant.figures())) note(figure, FRESH, [value]);
      } catch (error) {
        failed.add(run);
        for (const figure of FRESH_RUNS[run]) (reasons[figure] ??= {})[FRESH] = reason(error);
      } finally {
        await contestant.stop();
      }
    }
  }
  return { times, othersBusy };
}
