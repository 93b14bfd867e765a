// Values on their way into a block and out of it.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { MESSAGE_LIMIT } from "./channel.mjs";

const EXECUTOR = "nodejs";

/** An input names a value that is not to be had here any more. */
export class InputUnavailable extends Error {}

/** What `context.queryAuth` takes. */
export class CredentialInput {
  constructor(type, name, id) {
    Object.assign(this, { type, name, id });
  }
}

/**
 * The inputs as the block gets them: objects and Buffers instead of what stands for them. A handle
 * that takes anything may get them too, but then what is not to be had is left as it is.
 */
export function resolveInputs({ inputs, inputs_def }, store) {
  const entries = Object.entries(inputs).map(([handle, value]) => {
    const media = inputs_def[handle]?.json_schema?.contentMediaType;
    return [handle, resolveInput(handle, value, media, store)];
  });
  return Object.fromEntries(entries);
}

/** The output value as it is sent: a reference for a var or bin handle. */
export function wrapOutput(handle, value, order, store, warn) {
  const media = order.outputs_def[handle].json_schema?.contentMediaType;
  if (media === "oomol/var" && !["string", "number", "boolean"].includes(typeof value)) {
    const { job_id, session_id } = order;
    const reference = { executor: EXECUTOR, handle, job_id, session_id };
    store.set(storeKey(reference), value);
    return { __OOMOL_TYPE__: "oomol/var", value: reference };
  }
  if (media === "oomol/bin") {
    if (value instanceof Uint8Array) return writeBinary(handle, value, order);
    warn(`Output handle key: [${handle}] is defined as binary, but the value is not a Buffer.`);
  }
  // JSON would leave out the key.
  return value === undefined ? null : value;
}

/** The message as JSON; throws an error that names the output handle. */
export function encodeMessage(message) {
  let body;
  try {
    body = JSON.stringify(message);
  } catch (error) {
    throw new TypeError(`${culprit(message, isUnencodable)} can't be sent as JSON: ${error.message}`);
  }
  if (Buffer.byteLength(body) > MESSAGE_LIMIT) {
    throw new RangeError(
      `${culprit(message, isLarge)} is too large to send: the limit is ${MESSAGE_LIMIT} bytes as ` +
        "JSON. Write it to a file and give the path, or declare the handle as oomol/var or " +
        "oomol/bin.",
    );
  }
  return body;
}

function resolveInput(handle, value, media, store) {
  if (media === "oomol/credential" && typeof value === "string") return credential(value);
  const kind = value?.__OOMOL_TYPE__;
  try {
    if (kind === "oomol/var") return stored(handle, value.value ?? {}, store);
    if (kind === "oomol/bin") return readBinary(handle, value.value);
  } catch (error) {
    if (media === "oomol/var" || media === "oomol/bin") throw error;
  }
  return value;
}

function stored(handle, reference, store) {
  const key = storeKey(reference);
  if (store.has(key)) return store.get(key);
  throw new InputUnavailable(
    `input [${handle}] was kept in memory by job ${reference.job_id}, whose worker process has ` +
      "ended or belongs to another package or language. Pass a file path or a plain JSON value " +
      "between these blocks.",
  );
}

function credential(text) {
  const found = /^\$\{\{OO_CREDENTIAL:([^,}]+),([^,}]+),([^,}]+)\}\}$/.exec(text);
  return found ? new CredentialInput(found[1], found[2], found[3]) : null;
}

function readBinary(handle, path) {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new InputUnavailable(`input [${handle}] can't be read from its file: ${error.message}`);
  }
}

function writeBinary(handle, value, { session_dir, session_id, job_id }) {
  const path = join(session_dir, "binary", session_id, job_id, handle);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, value);
  return { __OOMOL_TYPE__: "oomol/bin", value: path };
}

function storeKey({ executor, handle, job_id, session_id }) {
  return JSON.stringify([executor, handle, job_id, session_id]);
}

function culprit(message, isGuilty) {
  const outputs =
    message.type === "BlockOutput"
      ? { [message.handle]: message.output }
      : (message.outputs ?? message.result ?? {});
  const guilty = Object.keys(outputs).find(handle => isGuilty(outputs[handle]));
  return guilty === undefined ? `the content of ${message.type}` : `the value of output [${guilty}]`;
}

function isUnencodable(value) {
  try {
    JSON.stringify(value);
    return false;
  } catch {
    return true;
  }
}

function isLarge(value) {
  return Buffer.byteLength(JSON.stringify(value) ?? "") > MESSAGE_LIMIT / 2;
}
