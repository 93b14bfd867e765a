// Which view is shown: the address after the hash decides.

let leave = new AbortController();

function viewOf(parts) {
  if (parts[0] === "tasks" && parts[1]) return ["#/tasks", (signal) => showTask(signal, parts[1])];
  if (parts[0] === "run" && parts[2]) return ["#/run", (signal) => showForm(signal, parts[1], parts[2])];
  if (parts[0] === "run") return ["#/run", showCatalog];
  if (parts[0] === "packages") return ["#/packages", showPackages];
  return ["#/tasks", showTasks];
}

function show() {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const [section, draw] = viewOf(location.hash.slice(2).split("/").map(decodeURIComponent));
  for (const link of document.querySelectorAll("header nav a")) {
    if (link.getAttribute("href") === section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  forget.hidden = !sessionStorage.getItem(TOKEN);
  complain(null);
  view.replaceChildren(el("p", { className: "soft" }, "Loading…"));
  draw(signal).catch((error) => {
    if (signal.aborted) return;
    view.replaceChildren();
    fail(error);
  });
}

function fail(error) {
  if (error.name === "AbortError") return;
  if (error instanceof Unauthorized) return askForToken();
  complain(error);
}

function askForToken() {
  leave.abort();
  const wrong = sessionStorage.getItem(TOKEN) !== null;
  sessionStorage.removeItem(TOKEN);
  forget.hidden = true;
  const token = el("input", { type: "password", id: "token", required: true, autocomplete: "off" });
  const form = el("form", {},
    el("h1", {}, "Token"),
    el("p", {}, wrong ? "The server refused that token." : "This server asks for a token. It is kept until this tab is closed."),
    el("div", { className: "field" }, el("label", { htmlFor: "token" }, "Token of the server"), token),
    el("button", { className: "main" }, "Continue"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, token.value.trim());
    show();
  });
  complain(null);
  view.replaceChildren(form);
  token.focus();
}

forget.addEventListener("click", () => {
  sessionStorage.removeItem(TOKEN);
  show();
});
window.addEventListener("hashchange", () => { show(); view.focus(); });
show();
