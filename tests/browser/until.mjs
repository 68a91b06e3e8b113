/**
 * Waiting for a page.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

const WAIT = 60000; // milliseconds until a thing must have happened: the machines are slow and shared
const PAUSE = 40;

/**
 * Waits until a function of the page answers something true, and returns that. Fails with what the page shows.
 * @param {import('./browsers.mjs').Page} page
 * @param {string} what for the error: 'the model is loaded'
 * @param {Function} condition runs in the page
 * @param {...any} args of the condition, JSON
 */
export async function until(page, what, condition, ...args) {
  for (const end = Date.now() + WAIT; Date.now() < end; await sleep(PAUSE)) {
    const value = await page.evaluate(condition, ...args);
    if (value) return value;
  }
  const shown = await page.evaluate(() => document.body.innerText.slice(0, 1500));
  return assert.fail(`waited ${WAIT / 1000} s in vain until ${what}. The page shows:\n${shown}`);
}
