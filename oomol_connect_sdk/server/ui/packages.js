// Packages: what there is, installs under way, and a form to install one.

async function showPackages(signal) {
  const name = el("input", { id: "name", required: true, placeholder: "name or @scope/name", size: 28 });
  const version = el("input", { id: "version", placeholder: "latest", size: 10 });
  const list = el("div");
  const installs = el("div");
  const form = el("form", { className: "bar" },
    el("label", { htmlFor: "name" }, "Package"), name,
    el("label", { htmlFor: "version" }, "Version"), version,
    el("button", {}, "Install"));

  async function refresh() {
    const [{ packages }, { tasks }] = await Promise.all([
      ask("packages", { signal }), ask("packages/install", { signal }),
    ]);
    const state = JSON.stringify([packages, tasks]);
    if (list.dataset.state === state) return;
    list.dataset.state = state;
    list.replaceChildren(packages.length ? packageTable(packages, refresh)
      : el("p", { className: "soft" }, "No packages are installed."));
    installs.replaceChildren(...(tasks.length ? [el("h2", {}, "Installs"), installTable(tasks.slice(0, 20))] : []));
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    complain(null);
    const wanted = { name: name.value.trim(), ...(version.value.trim() && { version: version.value.trim() }) };
    post("packages/install", wanted).then(refresh).catch(fail);
  });
  view.replaceChildren(el("h1", {}, "Packages"), form, list, installs);
  await repeat(signal, refresh);
}

function packageTable(packages, refresh) {
  return table("Packages", ["Name", "Version", "Description", "Actions"], packages.map((item) => [
    item.name ?? "",
    item.version ?? "",
    item.description ?? "",
    item.name && item.version ? button("Uninstall", async () => {
      if (!confirm(`Uninstall ${item.name} ${item.version}?`)) return;
      const address = path("packages", ...item.name.split("/"), item.version);
      await ask(address, { method: "DELETE" });
      await refresh();
    }, { className: "plain", ariaLabel: `Uninstall ${item.name} ${item.version}` }) : "",
  ]));
}

function installTable(tasks) {
  return table("Installs, the newest first", ["Package", "Version", "Status", "Changed"], tasks.map((task) => [
    task.name,
    task.version ?? "",
    el("div", {}, statusMark(task.status), task.error ? el("div", { className: "bad" }, task.error) : null),
    when(task.updatedAt),
  ]));
}
