// The frame: which view is shown, what it asks for, and when it asks again.
import { ask, signIn } from "./api.js";
import { h, replace } from "./dom.js";
import { executions } from "./executions.js";
import { execution } from "./execution.js";
import { failures, groups, schedules } from "./tables.js";

const EVERY = 1000; // ms between two looks while the page can be seen
const SHARE = 10; // and so many times what the last look took: a page must not keep a server busy
const MOST = 30000; // ms
const VIEWS = { executions, execution, failures, groups, schedules };
const main = document.getElementById("main");
const live = document.getElementById("live");
let current = null;
let timer = 0;

function where() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  const params = new URLSearchParams(query || "");
  if (name === "x") return { name: "execution", params, id: decodeURIComponent(rest.join("/")) };
  return { name: VIEWS[name] && name !== "execution" ? name : "executions", params };
}

function show() {
  const place = where();
  for (const link of document.querySelectorAll("nav a")) {
    const shown = link.dataset.view === (place.name === "execution" ? "executions" : place.name);
    shown ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  current = VIEWS[place.name](place, refresh);
  current.etag = null;
  document.title = `${current.title} · Resonate`;
  replace(main, h("p", { class: "soft" }, "…"));
  look();
}

async function look() {
  clearTimeout(timer);
  const view = current;
  const begun = performance.now();
  if (document.hidden) return status("paused", "paused");
  try {
    const answer = await ask(view.path, view.params, view.etag);
    if (view !== current) return;
    if (answer) {
      view.etag = answer.etag;
      view.draw(main, answer.found, answer);
    }
    status("", "live");
  } catch (error) {
    if (view !== current) return;
    if (error.status === 401) {
      status("away", "not signed in");
      if (await signIn(error.message)) return look();
    } else {
      status("away", error.status ? "error" : "server away, trying again");
      if (error.status && !view.drawn) replace(main, h("div", { class: "panel empty" }, h("strong", {}, error.message), h("a", { href: "#/" }, "All executions")));
    }
  }
  timer = setTimeout(look, Math.min(MOST, Math.max(EVERY, SHARE * (performance.now() - begun))));
}

function refresh() {
  if (current) current.etag = null;
  look();
}

function status(kind, text) {
  live.className = kind;
  if (live.textContent !== text) live.textContent = text;
}

const themes = { light: "dark", dark: "light" };
const saved = localStorage.getItem("resonate-theme");
if (saved) document.documentElement.dataset.theme = saved;
document.getElementById("theme").addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const next = themes[document.documentElement.dataset.theme || (dark ? "dark" : "light")];
  document.documentElement.dataset.theme = next;
  localStorage.setItem("resonate-theme", next);
});
addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => document.hidden ? status("paused", "paused") : look());
show();
