// The list of tasks, and one task with its log as it is written.

const ENDED = ["completed", "failed", "stopped"];
const PAGE = 50;
const MOST_ROWS = 2000;

function taskName(task) {
  const parts = task.manifest_path.replaceAll("\\", "/").split("/");
  return `${task.project_id.replace(/_[^_]*$/, "")}::${parts.at(-2) ?? task.manifest_path}`;
}

async function showTasks(signal) {
  const choice = el("select", { id: "status" },
    ["all", "running", "pending", "completed", "failed", "stopped"]
      .map((status) => el("option", { value: status === "all" ? "" : status }, status)));
  const list = el("div");
  let cursors = [""];
  const older = button("Older", () => { cursors.push(next); return refresh(); });
  const newer = button("Newer", () => { cursors.pop(); return refresh(); });
  let next = null;

  async function refresh() {
    const query = new URLSearchParams({ limit: PAGE });
    if (choice.value) query.set("status", choice.value);
    if (cursors.at(-1)) query.set("cursor", cursors.at(-1));
    const answer = await ask(`v1/tasks?${query}`, { signal });
    next = answer.nextCursor ?? null;
    older.hidden = !next;
    newer.hidden = cursors.length < 2;
    // Rows are replaced only when they changed: focus and selection stay.
    const state = JSON.stringify(answer.tasks.map((t) => [t.id, t.status, t.progress, t.updated_at]));
    if (list.dataset.state === state) return;
    list.dataset.state = state;
    list.replaceChildren(answer.tasks.length ? taskTable(answer.tasks)
      : el("p", { className: "soft" }, "There are no such tasks. ", el("a", { href: "#/run" }, "Run a block or flow.")));
  }

  choice.addEventListener("change", () => { cursors = [""]; refresh().catch(fail); });
  view.replaceChildren(
    el("h1", {}, "Tasks"),
    el("div", { className: "bar" }, el("label", { htmlFor: "status" }, "Status"), choice),
    list,
    el("div", { className: "bar" }, newer, older));
  await repeat(signal, refresh);
}

function taskTable(tasks) {
  return table("Tasks, the newest first", ["Block or flow", "Status", "Progress", "Created"],
    tasks.map((task) => [
      el("a", { href: `#/tasks/${path(task.id)}` }, taskName(task)),
      statusMark(task.status),
      progressOf(task),
      when(task.created_at),
    ]));
}

function progressOf(task) {
  if (ENDED.includes(task.status) || task.progress === undefined) return "";
  return el("progress", { max: 100, value: task.progress, ariaLabel: "Progress" }, `${task.progress} %`);
}

async function showTask(signal, id) {
  const about = el("div");
  const results = el("div");
  const log = el("div", { className: "log", role: "log", tabIndex: 0, ariaLabel: "Log" });
  const rows = logWriter(log);
  let drawn = "";

  function draw(task) {
    const state = JSON.stringify([task.status, task.progress]);
    if (state === drawn) return;
    drawn = state;
    about.replaceChildren(
      el("h1", {}, taskName(task)),
      el("dl", {},
        el("dt", {}, "Status"), el("dd", {}, statusMark(task.status), " ", progressOf(task)),
        el("dt", {}, "Task"), el("dd", { className: "mono" }, task.id),
        el("dt", {}, "Created"), el("dd", {}, when(task.created_at)),
        el("dt", {}, "Changed"), el("dd", {}, when(task.updated_at))),
      taskActions(task));
    results.replaceChildren(...taskResults(task));
    if (ENDED.includes(task.status)) taskFiles(task).then((files) => results.append(...files)).catch(fail);
  }

  draw((await ask(`v1/tasks/${path(id)}`, { signal })).task);
  view.replaceChildren(about, el("h2", {}, "Log"), log, results);
  let last = 0;
  let ended = false;
  while (!signal.aborted && !ended) {
    const query = new URLSearchParams({ task: id, after: last });
    const stream = new AbortController();
    signal.addEventListener("abort", () => stream.abort(), { once: true });
    try {
      await listen(`v1/events?${query}`, stream.signal, (kind, data, position) => {
        last = position;
        complain(null);
        if (kind === "logs") for (const row of data.logs) rows.add(row);
        if (kind === "task") {
          draw(data.task);
          ended = ENDED.includes(data.task.status);
          if (ended) stream.abort();
        }
      });
    } catch (error) {
      if (error instanceof Unauthorized) throw error;
      if (error.name !== "AbortError") complain(error);
    }
    if (!ended) await pause(1000, signal);
  }
}

function taskActions(task) {
  const bar = el("div", { className: "bar" });
  if (ENDED.includes(task.status)) {
    bar.append(
      button("Run again", async () => {
        const { task: again } = await post(`v1/tasks/${path(task.id)}/rerun`);
        location.hash = `#/tasks/${path(again.id)}`;
      }),
      button("Delete", async () => {
        if (!confirm("Delete this task with its log and files?")) return;
        await ask(`v1/tasks/${path(task.id)}`, { method: "DELETE" });
        location.hash = "#/tasks";
      }));
  } else {
    bar.append(button("Stop", () => post(`v1/tasks/${path(task.id)}/stop`)));
  }
  return bar;
}

function taskResults(task) {
  const parts = [];
  if (task.error) {
    const where = (task.error.nodePath ?? []).join(" / ");
    parts.push(el("h2", {}, where ? `Error at ${where}` : "Error"), el("pre", { className: "bad", tabIndex: 0 }, task.error.message));
  }
  if (task.result) parts.push(el("h2", {}, "Result"), el("pre", { tabIndex: 0 }, pretty(task.result)));
  if (task.inputValues) parts.push(el("h2", {}, "Inputs"), el("pre", { tabIndex: 0 }, pretty(inputsOf(task))));
  return parts;
}

// Handle to value; of a flow whose nodes were given some, node to handle to value.
function inputsOf(task) {
  const nodes = Object.fromEntries(task.inputValues.map(({ nodeId, inputs }) =>
    [nodeId, Object.fromEntries(inputs.map(({ handle, value }) => [handle, value]))]));
  const { _: own, ...others } = nodes;
  return Object.keys(others).length ? nodes : own ?? {};
}

async function taskFiles(task) {
  const { files } = await ask(`v1/tasks/${path(task.id)}/files`);
  if (!files.length) return [];
  const rows = files.map((file) => [
    button(file.name, () => save(task, file.name), { className: "plain" }),
    `${file.size.toLocaleString()} bytes`,
    when(file.modified_at),
  ]);
  return [el("h2", {}, "Files"), table("Files of the task", ["Name", "Size", "Changed"], rows)];
}

// A link could not send the token.
async function save(task, name) {
  const answer = await call(`v1/tasks/${path(task.id)}/files/${path(...name.split("/"))}`);
  const address = URL.createObjectURL(await answer.blob());
  el("a", { href: address, download: name.split("/").at(-1) }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

// Writes rows into the log in batches, keeps the newest, and the end in sight if it was.
function logWriter(log) {
  let waiting = [];
  let dropped = 0;
  const note = el("div", { className: "faint", hidden: true });
  log.append(note);

  function write() {
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 8;
    log.append(...waiting);
    waiting = [];
    while (log.childElementCount > MOST_ROWS + 1) {
      note.nextElementSibling.remove();
      dropped += 1;
    }
    note.hidden = !dropped;
    note.textContent = `${dropped.toLocaleString()} earlier lines are not shown`;
    if (atEnd) log.scrollTop = log.scrollHeight;
  }

  return {
    add(row) {
      const line = logLine(row);
      if (!line) return;
      if (!waiting.length) setTimeout(write, 50);
      waiting.push(line);
      if (waiting.length > MOST_ROWS) {
        waiting.shift();
        dropped += 1;
      }
    },
  };
}

function logLine(row) {
  const event = row.event ?? {};
  const [text, kind] = {
    BlockLog: () => [event.log, ""],
    BlockWarning: () => [event.warning, "warn"],
    BlockError: () => [event.error, "bad"],
    BlockStarted: () => ["started", "faint"],
    BlockFinished: () => (event.error ? [`failed: ${event.error}`, "bad"] : ["finished", "faint"]),
  }[row.type]?.() ?? [];
  if (text === undefined || text === null) return null;
  return el("div", {},
    el("span", { className: "when" }, new Date(row.created_at).toLocaleTimeString()),
    row.node_id && row.node_id !== "none" ? el("span", { className: "where" }, row.node_id) : null,
    el("span", { className: `what ${kind}` }, String(text)));
}
