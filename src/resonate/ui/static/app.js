// The frame: which screen is shown, word of changes, signing in, light and dark, keys.
import { get, session, Refused } from "./api.js";
import { button, dialog, h, visible } from "./dom.js";
import { execution } from "./execution.js";
import { failures } from "./failures.js";
import { groups } from "./groups.js";
import { executions } from "./list.js";
import { later, watch } from "./live.js";
import { schedules } from "./schedules.js";

const SCREENS = { executions, execution, groups, schedules, failures };
const main = document.getElementById("main");
const live = document.getElementById("live");
let stop = new AbortController();
let known = false; // what `about` tells
let ahead = 0; // milliseconds that the server's clock is ahead of this one

function clock() { return Date.now() + ahead; }

function route() {
  const hash = location.hash.replace(/^#\/?/, "");
  const [path, search = ""] = hash.split("?");
  const [name, ...rest] = path.split("/");
  const query = Object.fromEntries(new URLSearchParams(search));
  if (rest.length) query.id = decoded(rest.join("/"));
  return { name: name in SCREENS ? name : "executions", query, hash };
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

const WORDS = {
  live: ["live", "Changes show by themselves"],
  paused: ["paused", "Nothing is asked while the tab is hidden"],
  lost: ["reconnecting", ""],
  still: ["complete", "It has ended, so nothing of it can change"],
};

function status(state, text = "") {
  const [word, meaning] = WORDS[state];
  live.dataset.state = state;
  live.textContent = word;
  live.title = text || meaning;
}

// What holds for all screens; asked for once.
async function about(signal) {
  const found = await get("about", {}, signal);
  session.readOnly = found.readOnly;
  session.decoder = found.decoder ?? "";
  const where = document.getElementById("where");
  where.textContent = found.where + (found.readOnly ? " · read-only" : "");
  where.title = where.textContent;
  known = true;
}

async function show() {
  stop.abort();
  stop = new AbortController();
  const { signal } = stop;
  const { name, query, hash } = route();
  main.setAttribute("aria-busy", "true");
  for (const link of document.querySelectorAll("#nav a")) {
    const current = link.hash.slice(2) === (name === "execution" ? "executions" : name);
    current ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  const waiting = setTimeout(() => main.replaceChildren(h("p", { class: "loading", role: "status" }, "Loading…")), main.childElementCount ? 300 : 0);
  const screen = SCREENS[name]({ query, signal, navigate, clock });
  let drawn = false, busy = false, again = false, problem = null;
  const refresh = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      if (!known) await about(signal);
      const found = await get(screen.path, screen.query, signal);
      if (signal.aborted) return;
      if (found.now) ahead = found.now - Date.now();
      await screen.draw(found);
      if (signal.aborted) return;
      if (!drawn) {
        clearTimeout(waiting);
        main.replaceChildren(screen.root);
        main.dataset.screen = hash;
        main.setAttribute("aria-busy", "false");
        document.title = `${visible(screen.title)} · Resonate`;
        scrollTo(0, 0);
        screen.shown?.();
      }
      drawn = true;
    } catch (error) {
      if (signal.aborted || error.name === "AbortError") return;
      clearTimeout(waiting);
      if (error instanceof Refused && error.status === 401) { signIn(); return; }
      if (!drawn && problem?.message !== error.message) refused(error);
      problem = error;
      if (!(error instanceof Refused)) throw error;
    } finally {
      busy = false;
      if (again && !signal.aborted) { again = false; refresh(); }
    }
  };
  await refresh();
  while (!drawn && !signal.aborted && passing(problem)) {
    status("lost", problem.message);
    await later(signal);
    if (!signal.aborted) await refresh();
  }
  if (signal.aborted) return clearTimeout(waiting);
  if (screen.tick) {
    const ticking = setInterval(() => { if (!document.hidden && drawn) screen.tick(); }, 1000);
    signal.addEventListener("abort", () => clearInterval(ticking), { once: true });
  }
  if (drawn && screen.over?.()) status("still");
  else if (drawn) watch(screen.path, screen.query, signal, refresh, (state, text) => { if (!signal.aborted) status(state, text); });
}

// Whether what keeps a screen from being shown may be over when it is asked for again.
function passing(error) { return error instanceof Refused && [0, 502, 503, 504].includes(error.status); }

function refused(error) {
  main.setAttribute("aria-busy", "false");
  const missing = error.status === 404;
  main.replaceChildren(h("div", { class: "page" }, h("div", { class: "empty", role: "alert" }, h("h1", {}, missing ? "Not found" : "This cannot be shown"), h("p", {}, `${error.message}${passing(error) ? " It is asked again until it answers." : ""}`),
    h("div", { class: "buttons" }, !missing && button("Try again", show, "primary"), h("a", { href: "#/executions" }, "All executions")))));
}

export function navigate(hash) {
  if (location.hash === hash) show(); else location.hash = hash;
}

function signIn() {
  stop.abort(); // asked for again, the screen would take away what is being typed
  main.setAttribute("aria-busy", "false");
  main.replaceChildren(h("div", { class: "empty" }, h("h1", {}, "Sign in"), h("p", {}, "This server wants to know who you are."),
    h("form", { class: "signin", onsubmit: (event) => { event.preventDefault(); session.token = new FormData(event.target).get("token").trim(); show(); } },
      h("label", { for: "token" }, !session.token ? "Token, or user:password" : session.sendable ? "That was not accepted. Another token, or user:password" : "That is no token: it has a character that none has. Another, or user:password"),
      h("input", { id: "token", name: "token", type: "password", autocomplete: "off", required: true }),
      h("button", { class: "primary", type: "submit" }, "Sign in"))));
  document.getElementById("token").focus();
}

function help() {
  const keys = [["/", "find by id"], ["g e", "executions"], ["g w", "workers"], ["g s", "schedules"], ["g f", "failures"], ["j  k", "next, previous row"], ["Enter", "open"],
    ["↓ ↑", "in the tree: next, previous call"], ["→ ←", "in the tree: unfold, fold"], ["*", "in the tree: unfold all"], ["f", "in an execution: find a call"], ["Esc", "close, leave a field"], ["?", "this help"]];
  dialog({ title: "Keys", back: null, fields: [h("dl", { class: "keys" }, keys.map(([key, text]) => [h("dt", {}, key.split(" ").filter(Boolean).map((one) => [h("kbd", {}, one), " "])), h("dd", {}, text)]))], label: "Close", run: async () => "" });
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
  else if (event.key === "/") { find("[data-search]", "#/executions"); event.preventDefault(); }
  else if (event.key === "f") { if (find("[data-find]")) event.preventDefault(); }
  else if (event.key === "j" || event.key === "k") {
    const rows = [...document.querySelectorAll("[data-row]")];
    if (!rows.length) return;
    const here = rows.indexOf(document.activeElement);
    rows[Math.max(0, Math.min(rows.length - 1, here + (event.key === "j" ? 1 : -1)))].focus();
    event.preventDefault();
  }
});

// Put the focus into a field, of another screen if need be.
function find(selector, elsewhere) {
  const field = document.querySelector(selector);
  if (field) { field.focus(); field.select?.(); return true; }
  if (elsewhere) {
    const come = new MutationObserver(() => { const there = document.querySelector(selector); if (there) { come.disconnect(); there.focus(); } });
    come.observe(main, { childList: true, subtree: true });
    navigate(elsewhere);
  }
  return false;
}

document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
document.getElementById("help").addEventListener("click", help);

const theme = localStorage.getItem("resonate-theme");
if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
document.getElementById("theme").addEventListener("click", () => {
  const shown = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.documentElement.dataset.theme = shown === "dark" ? "light" : "dark";
  localStorage.setItem("resonate-theme", document.documentElement.dataset.theme);
});

addEventListener("hashchange", show);
show();
