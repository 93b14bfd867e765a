// Blocks and flows, and a form to run one.

async function showCatalog(signal) {
  const [{ flows }, { blocks }] = await Promise.all([
    ask("v1/flows", { signal }), ask("v1/blocks", { signal }),
  ]);
  view.replaceChildren(
    el("h1", {}, "Run"),
    el("h2", {}, "Flows"), catalog("Flows", "flow", flows),
    el("h2", {}, "Blocks"), catalog("Blocks", "block", blocks));
}

function catalog(caption, kind, rows) {
  if (!rows.length) return el("p", { className: "soft" }, "There are none.");
  return table(caption, ["Name", "Version", "Description"], rows.map((row) => [
    el("a", { href: `#/run/${path(kind, row.path)}` }, `${row.package}::${row.name}`),
    row.version ?? "",
    row.error ? el("span", { className: "bad" }, row.error) : row.description ?? "",
  ]));
}

async function showForm(signal, kind, manifest) {
  const answer = await ask(kind === "flow" ? "v1/flows" : "v1/blocks", { signal });
  const target = answer[`${kind}s`].find((row) => row.path === manifest);
  if (!target) throw new Error("This server does not have that block or flow.");
  const nodes = kind === "flow" ? target.inputs ?? [] : [{ nodeId: "_", inputs: target.inputs ?? [] }];
  const fields = nodes.flatMap(({ nodeId, inputs }) => inputs.map((input) => inputField(nodeId, input)));
  const start = el("button", { className: "main" }, "Run");
  const form = el("form", {},
    nodes.map(({ nodeId }) => {
      const own = fields.filter((field) => field.nodeId === nodeId).map((field) => field.element);
      return nodeId === "_" ? own : el("fieldset", {}, el("legend", {}, `Node ${nodeId}`), own);
    }),
    fields.length ? null : el("p", { className: "soft" }, "It has no inputs."),
    start);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    start.disabled = true;
    try {
      complain(null);
      const { task } = await create(target.path, fields);
      location.hash = `#/tasks/${path(task.id)}`;
    } catch (error) {
      fail(error);
    } finally {
      start.disabled = false;
    }
  });
  view.replaceChildren(
    el("h1", {}, `${target.package}::${target.name}`),
    el("p", {}, target.description ?? ""),
    form);
}

function create(manifest, fields) {
  const files = [];
  const nodes = new Map();
  for (const field of fields) {
    const value = field.value(files);
    if (value === undefined) continue;
    if (!nodes.has(field.nodeId)) nodes.set(field.nodeId, []);
    nodes.get(field.nodeId).push({ handle: field.handle, value });
  }
  const inputValues = [...nodes].map(([nodeId, inputs]) => ({ nodeId, inputs }));
  if (!files.length) return post("v1/tasks", { manifest, inputValues });
  const body = new FormData();
  body.append("manifest", manifest);
  body.append("inputValues", JSON.stringify(inputValues));
  files.forEach((file) => body.append("files", file));
  return ask("v1/tasks", { method: "POST", body });
}

let fieldCount = 0;

function inputField(nodeId, { handle, json_schema: schema = {}, description, nullable, value: initial }) {
  const id = `field-${(fieldCount += 1)}`;
  const required = initial === undefined && !nullable;
  const { control, read } = controlFor(schema, initial, required);
  control.id = id;
  const hint = el("p", { className: "hint", id: `${id}-hint` }, description ?? schema.description ?? "");
  control.setAttribute("aria-describedby", hint.id);
  const label = el("label", { htmlFor: id }, handle, required ? null : el("span", { className: "soft" }, " (optional)"));
  const element = el("div", { className: "field" }, label, hint, control);
  const value = (files) => {
    try {
      return read(files);
    } catch (error) {
      control.focus();
      throw new Error(`${handle}: ${error.message}`);
    }
  };
  return { nodeId, handle, element, value };
}

// Each control with a function that reads it: undefined is what was left empty.
function controlFor(schema, initial, required) {
  const widget = schema["ui:widget"];
  if (widget === "file" || widget === "files") return fileControl(widget === "files", initial, required);
  if (Array.isArray(schema.enum)) return choiceControl(schema.enum, initial, required);
  if (schema.type === "boolean") return choiceControl([true, false], initial, required);
  if (schema.type === "integer" || schema.type === "number") {
    const control = el("input", { type: "number", step: schema.type === "integer" ? "1" : "any", required });
    if (typeof initial === "number") control.value = initial;
    return { control, read: () => (control.value === "" ? undefined : Number(control.value)) };
  }
  if (schema.type === "string") {
    const control = el(widget === "text" ? "textarea" : "input", { required });
    if (typeof initial === "string") control.value = initial;
    return { control, read: () => (control.value === "" && !required ? undefined : control.value) };
  }
  const control = el("textarea", { required, placeholder: "JSON, such as [1, 2] or \"text\"", spellcheck: false });
  if (initial !== undefined && initial !== null) control.value = JSON.stringify(initial, null, 2);
  return { control, read: () => (control.value.trim() ? jsonOrText(control.value, schema) : undefined) };
}

function jsonOrText(text, schema) {
  try {
    return JSON.parse(text);
  } catch {
    if (schema.type === undefined) return text;
    throw new Error("this is not JSON.");
  }
}

function fileControl(multiple, initial, required) {
  const control = el("input", { type: "file", multiple, required: required && initial === undefined });
  const placeholder = (file, files) => ({ __OOMOL_FILE__: files.push(file) - 1 });
  const read = (files) => {
    const given = [...control.files].map((file) => placeholder(file, files));
    if (!given.length) return undefined;
    return multiple ? given : given[0];
  };
  return { control, read };
}

function choiceControl(choices, initial, required) {
  const options = choices.map((choice, index) => el("option", { value: index }, pretty(choice)));
  const control = el("select", { required }, el("option", { value: "" }, "–"), options);
  const chosen = choices.findIndex((choice) => JSON.stringify(choice) === JSON.stringify(initial));
  control.value = chosen < 0 ? "" : chosen;
  return { control, read: () => (control.value === "" ? undefined : choices[control.value]) };
}
