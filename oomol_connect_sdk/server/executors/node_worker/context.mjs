// What a block's function gets besides its inputs.

import { randomUUID } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { errorText } from "./job.mjs";
import { joinOutputs } from "./requests.mjs";
import { wrapOutput } from "./values.mjs";

/** Returned by a block that ends later, by `context.finish()`. */
export const KEEP_ALIVE = Symbol("keepAlive");

export function createContext(job, order, inputs, shared) {
  const context = {
    ...identity(order),
    ...directories(order),
    ...surroundings(),
    inputs,
    inputsDef: Object.freeze(order.inputs_def),
    outputsDef: Object.freeze(order.outputs_def),
    keepAlive: KEEP_ALIVE,
    flowNodeStore: nodeStore(order, shared.nodeStores),
    ...reports(job),
    ...outputs(job, order, shared.values),
    ...questions(job.requests),
    joinOutputs,
    preview: async (payload, id) => {
      const shown = table(payload, order);
      job.send({ type: "BlockPreview", payload: id ? { ...shown, id } : shown });
    },
  };
  let warned = false;
  Object.defineProperty(context, "OOMOL_LLM_ENV", {
    enumerable: true,
    get: () => {
      const env = languageModels();
      if (!warned) warnOfMissing(env, context);
      warned = true;
      return env;
    },
  });
  return context;
}

function identity({ session_id, job_id, block_path, stacks, package_name, service_block }) {
  return {
    sessionId: session_id,
    jobId: job_id,
    block_path: block_path ?? undefined,
    stacks: Object.freeze(stacks),
    node_id: stacks.at(-1)?.node_id ?? "none",
    packageName: package_name,
    serviceBlock: service_block ?? undefined,
  };
}

function directories({ session_dir, tmp_dir, package_name, pkg_dir }) {
  return {
    sessionDir: session_dir,
    tmpDir: tmp_dir,
    tmpPkgDir: join(tmp_dir, package_name),
    pkgDir: pkg_dir,
    pkgDataDir: pkg_dir,
  };
}

function surroundings() {
  const { env } = process;
  return {
    hostInfo: Object.freeze({
      gpuVendor: env.OOMOL_HOST_GPU_VENDOR || "unknown",
      gpuRenderer: env.OOMOL_HOST_GPU_RENDERER || "unknown",
    }),
    hostEndpoint: env.OO_HOST_ENDPOINT,
    oomolToken: async () => env.OOMOL_TOKEN ?? "",
  };
}

function languageModels() {
  const { env } = process;
  return Object.freeze({
    baseUrl: env.OOMOL_LLM_BASE_URL ?? "",
    baseUrlV1: env.OOMOL_LLM_BASE_URL_V1 ?? "",
    apiKey: env.OOMOL_LLM_API_KEY ?? "",
    models: env.OOMOL_LLM_MODELS ? env.OOMOL_LLM_MODELS.split(",") : [],
  });
}

function warnOfMissing(env, context) {
  for (const [key, value] of Object.entries(env)) {
    if (!value.length) {
      context.warning(`OOMOL_LLM_ENV variable ${key} is empty: some features may not work.`);
    }
  }
}

/** What a node keeps from one of its runs to the next within one run of its flow. */
function nodeStore({ stacks }, stores) {
  const key = stacks.length ? `${stacks.at(-1).flow_job_id} ${stacks.at(-1).node_id}` : "";
  if (!stores.has(key)) stores.set(key, {});
  return stores.get(key);
}

function reports(job) {
  const warning = async text => job.send({ type: "BlockWarning", warning: String(text) });
  const error = async reason => job.send({ type: "BlockError", error: errorText(reason) });
  const reportProgress = async progress => job.reportProgress(progress);
  reportProgress.flush = async () => job.flushProgress();
  return {
    reportLog: async (log, stdio = "stdout") => job.send({ type: "BlockLog", log: String(log), stdio }),
    logJSON: async json => job.send({ type: "BlockLogJSON", json }),
    sendMessage: async payload => job.send({ type: "BlockMessage", payload }),
    warning,
    sendWarning: warning,
    error,
    sendError: error,
    reportProgress,
  };
}

function outputs(job, order, store) {
  const warn = warning => job.send({ type: "BlockWarning", warning });
  const declared = values => {
    const wrapped = {};
    for (const [handle, value] of Object.entries(values)) {
      if (handle in order.outputs_def) {
        wrapped[handle] = wrapOutput(handle, value, order, store, warn);
      } else {
        warn(`Output handle key: [${handle}] is not defined in Block outputs schema.`);
      }
    }
    return wrapped;
  };
  // Not async: what can't be sent is an error right here, whether or not the block awaits it.
  const output = (handle, value, { to_node, to_flow } = {}) => {
    const wrapped = declared({ [handle]: value });
    if (handle in wrapped) {
      const target = to_node || to_flow ? { options: { target: { to_node, to_flow } } } : {};
      job.send({ type: "BlockOutput", handle, output: wrapped[handle], ...target });
    }
    return Promise.resolve();
  };
  const all = values => {
    job.send({ type: "BlockOutputs", outputs: declared(values) });
    return Promise.resolve();
  };
  const finish = ({ result, error } = {}) => {
    if (error) job.fail(error);
    else job.finish(result ? { result: declared(result) } : {});
    return Promise.resolve();
  };
  job.finishWith = result => finish({ result });
  return { output, outputs: all, finish };
}

function questions(requests) {
  return {
    runBlock: (block, payload, strict) => requests.runBlock(block, payload, strict),
    queryBlock: block => requests.ask("QueryBlock", { block }),
    queryDownstream: (handles = null) => requests.ask("QueryDownstream", { handles }),
    queryAuth: credential => requests.ask("QueryAuth", { payload: credential?.id ?? credential }),
    internal: {
      updateNodeWeight: async (nodeId, weight) => {
        const number = Number(weight);
        if (!Number.isFinite(number) || number < 0) {
          throw new Error("Weight must be a non-negative finite number.");
        }
        requests.tell("UpdateNodeWeight", { node_id: nodeId, weight: number });
      },
    },
  };
}

/** A table of rows becomes a file, as a preview may have many. */
function table(payload, { tmp_dir, job_id }) {
  if (payload?.type !== "table" || !Array.isArray(payload.data?.rows)) return payload;
  const directory = join(tmp_dir, job_id);
  mkdirSync(directory, { recursive: true });
  const file = join(directory, `${randomUUID()}.csv`);
  const rows = [payload.data.columns ?? [], ...payload.data.rows];
  writeFileSync(file, rows.map(row => row.map(cell).join(",")).join("\n") + "\n");
  return { ...payload, data: file };
}

function cell(value) {
  const text = String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
