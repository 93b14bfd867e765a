// What all views use: elements made of text alone, requests, and the event stream.

const view = document.getElementById("view");
const trouble = document.getElementById("trouble");
const forget = document.getElementById("forget");
const TOKEN = "oomol-connect-token";

class Unauthorized extends Error {}

// Everything shown goes through here: strings become text nodes, never markup.
function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

function table(caption, titles, rows) {
  const head = el("tr", {}, titles.map((title) => el("th", { scope: "col" }, title)));
  const body = rows.map((cells) =>
    el("tr", {}, cells.map((cell, index) => el("td", { className: index ? "" : "first" }, cell))));
  const whole = el("table", {}, el("thead", {}, head), el("tbody", {}, body));
  whole.setAttribute("aria-label", caption);
  return el("div", { className: "scroll" }, whole);
}

function when(milliseconds) {
  return milliseconds ? new Date(milliseconds).toLocaleString() : "";
}

function pretty(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

function statusMark(status) {
  return el("span", { className: `status ${status}` }, status);
}

function complain(error) {
  trouble.textContent = error ? error.message || String(error) : "";
  trouble.hidden = !error;
}

function path(...segments) {
  return segments.map((segment) => encodeURIComponent(segment)).join("/");
}

// Addresses are relative: the page works at /ui and at /api/ui.
async function call(address, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers };
  if (token) headers.Authorization = token;
  let answer;
  try {
    answer = await fetch(address, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server can't be reached.");
  }
  if (answer.status === 401) throw new Unauthorized("The server asks for its token.");
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw new Error(body.message || `The server answered ${answer.status}.`);
  }
  return answer;
}

async function ask(address, options) {
  return (await call(address, options)).json();
}

function post(address, value) {
  const body = value === undefined ? undefined : JSON.stringify(value);
  return ask(address, { method: "POST", body, headers: { "Content-Type": "application/json" } });
}

// EventSource can't send a token, so the stream is read by hand.
async function listen(address, signal, take) {
  const answer = await call(address, { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const frames = (rest + value).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) {
      const fields = Object.fromEntries(
        frame.split("\n").map((line) => [line.split(": ", 1)[0], line.slice(line.indexOf(": ") + 2)]));
      if (fields.data) take(fields.event, JSON.parse(fields.data), Number(fields.id));
    }
  }
}

// A wait that ends at once when the view is left.
function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

// Refreshes a view as long as it is shown; a server that is away for a while is waited for.
async function repeat(signal, refresh) {
  let away = false;
  while (!signal.aborted) {
    try {
      if (!document.hidden) await refresh();
      if (away) complain(null);
      away = false;
    } catch (error) {
      if (error instanceof Unauthorized || error.name === "AbortError") throw error;
      complain(error);
      away = true;
    }
    await pause(2000, signal);
  }
}

function button(text, act, properties = {}) {
  const made = el("button", { type: "button", ...properties }, text);
  made.addEventListener("click", async () => {
    made.disabled = true;
    try {
      complain(null);
      await act();
    } catch (error) {
      fail(error);
    } finally {
      made.disabled = false;
    }
  });
  return made;
}
