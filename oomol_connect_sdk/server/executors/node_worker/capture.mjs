// Which job is running here: output and `process.exit` of blocks that share a process.

import { AsyncLocalStorage } from "node:async_hooks";

import { writeLoose } from "./channel.mjs";

const LINE_LIMIT = 64 * 1024;
const running = new AsyncLocalStorage();

/** What `process.exit` throws inside a block. */
export class Exit extends Error {
  constructor(code) {
    super(`block call exit with message: ${code}`);
    this.code = code ?? process.exitCode ?? 0;
  }
}

/** Run a function, and all that it starts, as part of this job. */
export function runAs(job, callback) {
  return running.run(job, callback);
}

/** The job that started the code that runs now, over or not, if it is known. */
export function starter() {
  return running.getStore();
}

/**
 * Give what is written to standard output and errors to the job that wrote it; `latest` names the
 * one for code that belongs to no open job.
 */
export function installCapture(latest) {
  const current = () => {
    const job = running.getStore();
    return job && !job.over ? job : latest();
  };
  for (const stdio of ["stdout", "stderr"]) {
    process[stdio].write = (chunk, encoding, callback) => {
      const text = typeof chunk === "string" ? chunk : Buffer.from(chunk).toString();
      const job = current();
      if (job) job.print(text, stdio);
      else writeLoose(text);
      const done = typeof encoding === "function" ? encoding : callback;
      if (done) process.nextTick(done);
      return true;
    };
  }
  process.exit = code => {
    throw new Exit(code);
  };
}

/** Complete lines out of text that arrives in pieces, as a terminal would show them in the end. */
export class LineSplitter {
  #rest = "";

  feed(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    if (this.#rest.length >= LINE_LIMIT) {
      const begun = pieces(this.#rest);
      this.#rest = begun.pop();
      return [...lines.flatMap(pieces), ...begun];
    }
    return lines.flatMap(pieces);
  }

  flush() {
    const rest = this.#rest;
    this.#rest = "";
    return rest ? pieces(rest) : [];
  }
}

function pieces(line) {
  const shown = line.replace(/\r+$/, "").replace(/^.*\r/s, "");
  const found = [];
  for (let at = 0; at < shown.length; at += LINE_LIMIT) found.push(shown.slice(at, at + LINE_LIMIT));
  return found.length ? found : [""];
}
