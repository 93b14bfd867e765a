// A service: a function that is called once and registers what handles the service's blocks.

import { loadFunction } from "./entries.mjs";

export class Service {
  #started;
  #context = {
    blockHandler: null,
    // Nothing sends messages to a service here; listening is allowed.
    events: { on: () => () => {} },
  };

  constructor(order) {
    this.#started = this.#start(order);
    // Each job of the service says so itself.
    this.#started.catch(() => {});
  }

  /** Run a block of the service. */
  async call(inputs, context) {
    await this.#started;
    const { blockHandler: handler } = this.#context;
    const block = context.serviceBlock;
    if (typeof handler === "function") return handler(block, inputs, context);
    if (typeof handler?.[block] === "function") return handler[block](inputs, context);
    throw new Error(`the service has no handler for its block ${block}`);
  }

  async #start({ entry, function: name }) {
    const main = await loadFunction(entry, name);
    await main(this.#context);
  }
}
