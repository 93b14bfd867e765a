// The Node.js worker: what runs inside a worker process, next to the blocks of one package.
//
// Arguments: the package's directory, and the directory with its `node_modules` where these are
// elsewhere. It speaks as the Python worker does: `../python_worker/protocol.py` and `frames.py`
// have the names and the form of messages. Only modules of Node.js itself are imported.

import { Worker } from "node:worker_threads";

import { installCapture, starter } from "./capture.mjs";
import { Channel, writeLoose } from "./channel.mjs";
import { prepareImports } from "./entries.mjs";
import { errorText, Job } from "./job.mjs";
import { Service } from "./service.mjs";

const [packageDir, modulesDir] = process.argv.slice(2);

// Blocks get another one.
const { exit } = process;

const jobs = new Map();
const channel = new Channel();
/** Objects behind var handles, the stores of flow nodes, and the service if this is one. */
const shared = { channel, values: new Map(), nodeStores: new Map(), service: null };

const orders = {
  RunJob({ job: order }) {
    process.env.OOCANA_PKG_DIR = order.pkg_dir;
    if (order.service_block !== null) shared.service ??= new Service(order);
    const job = new Job(order, shared, () => jobs.delete(order.job_id));
    jobs.set(order.job_id, job);
    job.run();
  },
  StartService(order) {
    process.env.OOCANA_PKG_DIR = order.pkg_dir;
    shared.service ??= new Service(order);
  },
  AbortJob({ job_id }) {
    jobs.get(job_id)?.abort();
  },
  Respond({ job_id, response }) {
    jobs.get(job_id)?.requests.respond(response);
  },
  Notify({ job_id, event }) {
    jobs.get(job_id)?.requests.notify(event);
  },
};

function latestJob() {
  return [...jobs.values()].findLast(job => !job.over);
}

/** An error that no block caught fails the job it belongs to, as far as that is known. */
function takeUncaught(error) {
  const job = starter() ?? latestJob();
  if (job && !job.over) job.fail(error);
  else writeLoose(`${errorText(error)}\n`);
}

/** End this process and all its descendants, without a last word. */
function endGroup() {
  try {
    process.kill(-process.pid, "SIGKILL");
  } finally {
    exit(1);
  }
}

/** A block that never lets go of this thread must not outlive the server either. */
function watchServer(watching) {
  const watch = `
    const { ppid } = process;
    setInterval(() => process.ppid === ppid || process.kill(-process.pid, "SIGKILL"), 500);
  `;
  const watcher = new Worker(watch, { eval: true, resourceLimits: { maxOldGenerationSizeMb: 8 } });
  // Until then it needs this thread.
  watcher.once("online", watching);
  watcher.unref();
}

process.setSourceMapsEnabled(true);
installCapture(latestJob);
process.on("uncaughtException", takeUncaught);
process.on("unhandledRejection", takeUncaught);
prepareImports(packageDir, modulesDir);
channel.listen(order => orders[order.type](order), endGroup);
watchServer(() => channel.send({ type: "WorkerReady" }));
