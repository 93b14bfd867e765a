// One run of one block inside the worker.

import { inspect } from "node:util";

import { Exit, LineSplitter, runAs } from "./capture.mjs";
import { createContext, KEEP_ALIVE } from "./context.mjs";
import { EntryError, loadFunction } from "./entries.mjs";
import { Requests } from "./requests.mjs";
import { encodeMessage, InputUnavailable, resolveInputs } from "./values.mjs";

/** Characters of an error text; of a longer one the end is kept. */
const ERROR_LIMIT = 256 * 1024;
/** Milliseconds between two reports of progress. */
const PROGRESS_PERIOD = 300;
const OWN_FILES = new URL(".", import.meta.url).href;

export class Job {
  /** True once nothing of it is delivered any more. */
  over = false;
  #order;
  #shared;
  #ended;
  #returned = false;
  #lines = { stdout: new LineSplitter(), stderr: new LineSplitter() };
  #progress = { waiting: null, timer: null, sentAt: -Infinity };

  constructor(order, shared, ended) {
    this.requests = new Requests(this, order);
    this.#order = order;
    this.#shared = shared;
    this.#ended = ended;
  }

  async run() {
    await runAs(this, async () => {
      try {
        this.#takeReturn(await this.#call());
      } catch (error) {
        this.fail(error);
      }
    });
    this.#returned = true;
    // One that asked to be kept alive ends later, by finish().
    if (this.over) this.#end();
  }

  /** Send nothing more; JavaScript that runs can't be stopped. */
  abort() {
    this.over = true;
    clearTimeout(this.#progress.timer);
    this.#report("JobUnstoppable");
  }

  /** Send a message of this job, or drop it when the job is over. */
  send(message) {
    const body = encodeMessage({ ...message, job_id: this.#order.job_id });
    if (!this.over) this.#shared.channel.send(body);
  }

  print(text, stdio) {
    this.#log(this.#lines[stdio].feed(text), stdio);
  }

  reportProgress(progress) {
    const state = this.#progress;
    state.waiting = { type: "BlockProgress", progress: Number(progress) || 0 };
    const wait = state.sentAt + PROGRESS_PERIOD - performance.now();
    if (wait <= 0) this.flushProgress();
    else state.timer ??= setTimeout(() => this.flushProgress(), wait);
  }

  flushProgress() {
    const state = this.#progress;
    clearTimeout(state.timer);
    state.timer = null;
    if (state.waiting === null) return;
    state.sentAt = performance.now();
    this.send(state.waiting);
    state.waiting = null;
  }

  /** Send BlockFinished, after everything that is still held back; only the first counts. */
  finish(message = {}) {
    if (this.over) return;
    const body = encodeMessage({ type: "BlockFinished", ...message, job_id: this.#order.job_id });
    this.flushProgress();
    for (const stdio of ["stdout", "stderr"]) this.#log(this.#lines[stdio].flush(), stdio);
    this.#shared.channel.mark(this.#order.mark);
    this.#shared.channel.send(body);
    this.over = true;
    if (this.#returned) this.#end();
  }

  fail(error) {
    if (error instanceof Exit && error.code === 0) this.finish();
    else this.finish({ error: errorText(error).slice(-ERROR_LIMIT) });
  }

  async #call() {
    const order = this.#order;
    const inputs = Object.freeze(resolveInputs(order, this.#shared.values));
    const context = createContext(this, order, inputs, this.#shared);
    if (order.service_block !== null) return this.#shared.service.call(inputs, context);
    const main = await loadFunction(order.entry, order.function);
    return main(inputs, context);
  }

  #takeReturn(returned) {
    if (returned === KEEP_ALIVE) return;
    if (returned === undefined) this.finish();
    else if (typeof returned === "object" && returned !== null && !Array.isArray(returned)) {
      this.finishWith(returned);
    } else {
      this.finish({ error: `return value must be an object, but got ${inspect(returned)}` });
    }
  }

  #end() {
    this.#report("JobEnded");
    this.#ended();
  }

  #log(lines, stdio) {
    for (const log of lines) this.send({ type: "BlockLog", log, stdio });
  }

  #report(type) {
    this.#shared.channel.send({ type, job_id: this.#order.job_id });
  }
}

/** The error as Node.js prints it, without the worker's own frames. */
export function errorText(error) {
  if (!(error instanceof Error)) return typeof error === "string" ? error : inspect(error);
  if (error instanceof EntryError || error instanceof InputUnavailable || error instanceof Exit) {
    return error.message;
  }
  const lines = inspect(error).split("\n");
  return lines.filter(line => !line.includes(OWN_FILES)).join("\n");
}
