// What a job asks of the flow, and the blocks it runs.

import { randomUUID } from "node:crypto";

export class Requests {
  #job;
  #order;
  /** Who waits for an answer, by request id, and for events, by the block's job id. */
  #waiting = new Map();
  #blocks = new Map();

  constructor(job, order) {
    this.#job = job;
    this.#order = order;
  }

  /** Ask, and return a promise of the answer. */
  ask(action, fields) {
    return new Promise((resolve, reject) => {
      this.#send(action, fields, ({ result, error }) =>
        error === undefined ? resolve(result) : reject(new Error(error)),
      );
    });
  }

  /** Ask for something that nobody waits for. */
  tell(action, fields) {
    this.#send(action, fields, () => {});
  }

  runBlock(block, { inputs = {}, additional_inputs_def, additional_outputs_def } = {}, strict = false) {
    if (!block) throw new Error(`runBlock needs the name of a block, but got ${block}`);
    const run = new BlockRun(block);
    this.#blocks.set(run.job.blockJobId, run);
    const fields = {
      block,
      block_job_id: run.job.blockJobId,
      payload: { inputs, additional_inputs_def, additional_outputs_def },
      stacks: this.#order.stacks,
      strict,
    };
    this.#send("RunBlock", fields, ({ error }) => {
      if (error !== undefined) run.end(error);
    });
    return run.job;
  }

  respond(response) {
    const waiting = this.#waiting.get(response.request_id);
    this.#waiting.delete(response.request_id);
    waiting?.(response);
  }

  notify(event) {
    this.#blocks.get(event.job_id)?.take(event);
    if (event.type.endsWith("BlockFinished")) this.#blocks.delete(event.job_id);
  }

  #send(action, fields, answered) {
    const request_id = randomUUID();
    this.#waiting.set(request_id, answered);
    this.#job.send({ type: "BlockRequest", action, request_id, ...fields });
  }
}

/** A block that was started by another one. */
class BlockRun {
  #block;
  #settle;
  #events = { output: new Set(), progress: new Set(), preview: new Set(), message: new Set() };

  constructor(block) {
    this.#block = block;
    const finished = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    // Who does not ask for the end does not want to hear of a failure.
    finished.catch(() => {});
    this.job = {
      blockJobId: randomUUID(),
      onOutput: wanted =>
        typeof wanted === "function" ? this.#on("output", wanted) : this.#onHandle(wanted),
      onProgress: listener => this.#on("progress", listener),
      onPreview: listener => this.#on("preview", listener),
      onMessage: listener => this.#on("message", listener),
      finish: () => finished,
      dispose: () => Object.values(this.#events).forEach(listeners => listeners.clear()),
    };
  }

  take(event) {
    switch (event.type) {
      case "BlockOutput":
      case "SubflowBlockOutput":
        return this.#emit("output", { [event.handle]: event.output });
      case "BlockOutputs":
        return this.#emit("output", event.outputs);
      case "BlockProgress":
        return this.#emit("progress", event.progress);
      case "BlockPreview":
        return this.#emit("preview", event.payload);
      case "BlockMessage":
        return this.#emit("message", event.payload);
      case "BlockFinished":
      case "SubflowBlockFinished":
        if (event.result) this.#emit("output", event.result);
        return this.end(event.error ?? null);
    }
  }

  end(error) {
    if (error === null) {
      this.#emit("progress", 100);
      this.#settle.resolve();
    } else {
      this.#settle.reject(new Error(`run block ${this.#block} failed: ${error}`));
    }
  }

  #on(kind, listener) {
    this.#events[kind].add(listener);
    return () => this.#events[kind].delete(listener);
  }

  #onHandle(handle) {
    return listener =>
      this.#on("output", outputs => {
        if (Object.hasOwn(outputs, handle)) listener(outputs[handle]);
      });
  }

  #emit(kind, value) {
    for (const listener of [...this.#events[kind]]) listener(value);
  }
}

/** Join several outputs into one: heard once for each complete set, in order. */
export function joinOutputs(...sources) {
  return listener => {
    const queues = sources.map(() => []);
    const disposers = sources.map((source, index) =>
      source(value => {
        queues[index].push(value);
        if (queues.every(queue => queue.length)) listener(queues.map(queue => queue.shift()));
      }),
    );
    return () => disposers.forEach(dispose => dispose());
  };
}
