// Failures, groups of workers, and schedules.
import { h, link, replace, span, when } from "./dom.js";

function table(heads, rows, empty, hint) {
  if (!rows.length) return h("div", { class: "panel empty" }, h("strong", {}, empty), hint);
  return h("div", { class: "panel" }, h("table", {}, h("thead", {}, h("tr", {}, ...heads.map((name) => h("th", { scope: "col", class: name.startsWith("#") ? "num" : "" }, name.replace("#", ""))))), h("tbody", {}, ...rows)));
}

function page(title, path, draw) {
  return () => {
    const view = { title, path, params: {}, draw: (main, found, answer) => { view.drawn = true; replace(main, h("h1", {}, title), draw(found, answer)); } };
    return view;
  };
}

export const failures = page("Failures", "failures", (groups) => table(["Function", "Error", "Raised at", "#Times", "Newest", "Executions"], groups.map((group) => h("tr", {},
  h("td", {}, group.function),
  h("td", {}, h("strong", {}, group.error.type), group.error.message ? `: ${group.error.message}`.slice(0, 200) : ""),
  h("td", { class: "mono" }, group.place || "–"),
  h("td", { class: "num" }, group.count),
  h("td", { class: "when" }, when(group.newest)),
  h("td", {}, h("span", { class: "chips" }, ...group.ids.slice(0, 5).map((id) => h("a", { class: "chip mono", href: link(id) }, id)), group.count > 5 ? h("a", { href: `#/executions?state=failed&function=${encodeURIComponent(group.function.split(" v")[0])}` }, `all ${group.count}`) : null)))),
  "Nothing has failed", "Executions that raise an error are counted here by function, error and place."));

export const groups = page("Workers", "groups", (found, answer) => table(["Group", "Processes that have calls", "#Running", "#Waiting", "#Queued", "Oldest in the queue", "#Halted"], found.map((group) => h("tr", {},
  h("td", {}, h("a", { href: `#/executions?group=${encodeURIComponent(group.name)}` }, group.name)),
  h("td", {}, h("span", { class: "chips" }, ...Object.entries(group.workers || {}).map(([pid, count]) => h("span", { class: "chip mono" }, `${pid} · ${count}`)))),
  h("td", { class: "num" }, group.running || 0),
  h("td", { class: "num" }, group.waiting || 0),
  h("td", { class: "num" }, group.queued || 0),
  h("td", { class: group.oldest && answer.now - group.oldest > 60000 ? "warn" : "soft" }, group.oldest ? `since ${span(answer.now - group.oldest)}` : "–"),
  h("td", { class: group.halted ? "num warn" : "num" }, group.halted || 0))),
  "No open calls", "Groups are shown while they have calls that run, wait or are queued."));

export const schedules = page("Schedules", "schedules", (found, answer) => table(["Id", "Cron (UTC)", "Next", "", "Last", "Begins"], found.map((each) => h("tr", {},
  h("td", { class: "mono" }, each.id),
  h("td", { class: "mono" }, each.cron),
  h("td", { class: "when" }, when(each.nextRunAt)),
  h("td", { class: "soft" }, `in ${span(each.nextRunAt - answer.now)}`),
  h("td", { class: "when" }, when(each.lastRunAt)),
  h("td", {}, h("a", { class: "mono", href: `#/executions?prefix=${encodeURIComponent(each.promiseId.split("{{")[0])}` }, each.promiseId)))),
  "No schedules", "r.schedule(id, function, cron) makes one."));
