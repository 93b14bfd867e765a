// The worker's connection to its server: frames in both directions, marks in the error output.

import { writeSync } from "node:fs";
import { Socket } from "node:net";

/** Bytes of one message as JSON; larger values go by file. */
export const MESSAGE_LIMIT = 63 * 1024 * 1024;

// The launcher has moved the frames away from standard input and output, which are the blocks'.
const INPUT = 3;
const OUTPUT = 4;
const ERRORS = 2;

export class Channel {
  /** Call back with each message of the server, and once when the server is gone. */
  listen(received, gone) {
    const input = new Socket({ fd: INPUT, readable: true, writable: false });
    const frames = new FrameDecoder();
    input.on("data", data => {
      for (const body of frames.feed(data)) received(JSON.parse(body));
    });
    input.on("close", gone);
    input.on("error", gone);
  }

  /** Send a message, or its JSON; blocks while the server is not reading. */
  send(message) {
    const body = Buffer.from(typeof message === "string" ? message : JSON.stringify(message));
    const head = Buffer.alloc(4);
    head.writeUInt32BE(body.length);
    write(OUTPUT, Buffer.concat([head, body]));
  }

  /** Write this mark to the error output. */
  mark(number) {
    write(ERRORS, Buffer.from(`\0mark:${number}\0`));
  }
}

/** Write text that belongs to no job. */
export function writeLoose(text) {
  write(ERRORS, Buffer.from(text));
}

/** Bodies out of bytes that arrive in pieces. */
class FrameDecoder {
  #pieces = [];
  #size = 0;
  #wanted = 4;

  *feed(data) {
    this.#pieces.push(data);
    this.#size += data.length;
    // A large frame comes in many pieces, which are joined once.
    while (this.#size >= this.#wanted) {
      const joined = Buffer.concat(this.#pieces);
      const end = 4 + joined.readUInt32BE();
      if (joined.length >= end) yield joined.toString("utf8", 4, end);
      const rest = joined.length >= end ? joined.subarray(end) : joined;
      this.#pieces = [rest];
      this.#size = rest.length;
      this.#wanted = joined.length >= end ? 4 : end;
    }
  }
}

function write(descriptor, data) {
  for (let at = 0; at < data.length; ) {
    try {
      at += writeSync(descriptor, data, at);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
      // The pipe is full and was made one that does not block: wait for a moment.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}
