// The frame: which screen is shown, word of changes, signing in, light and dark, keys.
import { get, session, watch, Refused } from "./api.js";
import { dialog, h } from "./dom.js";
import { execution } from "./execution.js";
import { executions } from "./list.js";
import { failures, groups, schedules } from "./overview.js";

const SCREENS = { executions, execution, groups, schedules, failures };
const main = document.getElementById("main");
const live = document.getElementById("live");
let stop = new AbortController();

function route() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  const query = Object.fromEntries(new URLSearchParams(search));
  if (rest.length) query.id = decodeURIComponent(rest.join("/"));
  return { name: name in SCREENS ? name : "executions", query };
}

function status(state, text = "") {
  const words = { live: "live", paused: "paused", lost: "reconnecting" };
  live.className = `live ${state}`;
  live.textContent = words[state] ?? "";
  live.title = text || { live: "Changes show by themselves", paused: "Nothing is asked while the tab is hidden" }[state] || "";
}

async function show() {
  stop.abort();
  stop = new AbortController();
  const { signal } = stop;
  const { name, query } = route();
  for (const link of document.querySelectorAll("#nav a")) {
    const current = link.hash.slice(2) === (name === "execution" ? "executions" : name);
    current ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  main.replaceChildren(h("p", { class: "loading", role: "status" }, "Loading…"));
  const screen = SCREENS[name]({ query, signal, navigate });
  document.title = screen.title ? `${screen.title} · Resonate` : "Resonate";
  let drawn = false, busy = false, again = false;
  const refresh = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const found = await get(screen.path, screen.query, signal);
      if (signal.aborted) return;
      if (!drawn) main.replaceChildren(screen.root);
      drawn = true;
      await screen.draw(found);
    } catch (error) {
      if (signal.aborted || error.name === "AbortError") return;
      if (error instanceof Refused && error.status === 401) { signIn(); return; }
      if (!drawn) main.replaceChildren(h("div", { class: "empty", role: "alert" }, h("h1", {}, error.status === 404 ? "Not found" : "This cannot be shown"), h("p", {}, error.message), h("p", {}, h("a", { href: "#/executions" }, "All executions"))));
      if (!(error instanceof Refused)) throw error;
    } finally {
      busy = false;
      if (again && !signal.aborted) { again = false; refresh(); }
    }
  };
  screen.refresh = refresh;
  await refresh();
  if (!signal.aborted && drawn) watch(screen.path, screen.query, signal, refresh, (state, text) => { if (!signal.aborted) status(state, text); });
}

export function navigate(hash) {
  if (location.hash === hash) show(); else location.hash = hash;
}

function signIn() {
  main.replaceChildren(h("div", { class: "empty" }, h("h1", {}, "Sign in"), h("p", {}, "This server wants to know who you are."),
    h("form", { class: "signin", onsubmit: (event) => { event.preventDefault(); session.token = new FormData(event.target).get("token").trim(); begin(); } },
      h("label", { for: "token" }, session.token ? "That was not accepted. Another token, or user:password" : "Token, or user:password"),
      h("input", { id: "token", name: "token", type: "password", autocomplete: "off", required: true, autofocus: true }),
      h("button", { class: "primary", type: "submit" }, "Sign in"))));
  document.getElementById("token").focus();
}

function help() {
  const keys = [["/", "search"], ["g e", "executions"], ["g w", "workers"], ["g s", "schedules"], ["g f", "failures"], ["j k or ↓ ↑", "next, previous row"], ["Enter", "open"], ["← →", "fold, unfold"], ["?", "this help"]];
  dialog({ title: "Keys", fields: [h("dl", { class: "keys" }, keys.map(([key, text]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)]))], label: "Close", run: async () => "" });
}

let first = "";
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog")) return;
  if (event.target.closest("input, select, textarea")) { if (event.key === "Escape") event.target.blur(); return; }
  if (first === "g") {
    const to = { e: "executions", w: "groups", s: "schedules", f: "failures" }[event.key];
    first = "";
    if (to) { navigate(`#/${to}`); event.preventDefault(); return; }
  }
  if (event.key === "g") first = "g";
  else if (event.key === "?") help();
  else if (event.key === "/") { const search = document.querySelector("[data-search]"); if (search) { search.focus(); event.preventDefault(); } else navigate("#/executions"); }
  else if (event.key === "j" || event.key === "k") {
    const rows = [...document.querySelectorAll("[data-row]")];
    if (!rows.length) return;
    const here = rows.indexOf(document.activeElement);
    rows[Math.max(0, Math.min(rows.length - 1, here + (event.key === "j" ? 1 : -1)))].focus();
    event.preventDefault();
  }
});

document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });

const theme = localStorage.getItem("resonate-theme");
if (theme) document.documentElement.dataset.theme = theme;
document.getElementById("theme").addEventListener("click", () => {
  const shown = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.documentElement.dataset.theme = shown === "dark" ? "light" : "dark";
  localStorage.setItem("resonate-theme", document.documentElement.dataset.theme);
});

async function begin() {
  try {
    const about = await get("about");
    session.readOnly = about.readOnly;
    document.getElementById("where").textContent = about.where + (about.readOnly ? " · read-only" : "");
  } catch (error) {
    if (error.status === 401) { signIn(); return; }
  }
  show();
}

addEventListener("hashchange", show);
begin();
