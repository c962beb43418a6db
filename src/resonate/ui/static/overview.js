// Workers, schedules, failures.
import { act, session } from "./api.js";
import { dialog, h } from "./dom.js";
import { ago, at, badge, cron, span } from "./words.js";

function page(title, path, text, draw) {
  const body = h("div", { class: "cards" });
  return { title, path, query: {}, root: h("div", { class: "page" }, h("div", { class: "head" }, h("h1", {}, title)), h("p", { class: "lead" }, text), body), draw: (found) => body.replaceChildren(...draw(found).flat().filter(Boolean)) };
}

function nothing(title, text, code) {
  return h("div", { class: "empty" }, h("h2", {}, title), h("p", {}, text, " ", code && h("code", {}, code)));
}

function table(label, names, rows) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, h("table", {}, h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell) => h("td", {}, cell)))))));
}

export function groups() {
  return page("Workers", "groups", "Who takes up the work of each group, and what nobody has taken.", ({ groups: found, now, partial, known }) => [
    partial && h("p", { class: "problem" }, "There are more tasks than are counted here."),
    ...found.map((group) => h("section", { class: group.backlog && known && !group.workers.some((worker) => worker.polls) ? "card warn" : "card", "aria-label": `Group ${group.group}` },
      h("div", { class: "card-head" }, h("h2", {}, group.group), h("dl", { class: "facts" },
        fact("Backlog", group.backlog ? h("a", { href: `#/executions?${new URLSearchParams({ group: group.group, state: "queued" })}` }, String(group.backlog)) : "0"),
        fact("Oldest wait", group.oldest ? span(now - group.oldest) : "–"), fact("Leases", String(group.workers.reduce((sum, worker) => sum + worker.leases, 0))), group.halted ? fact("Halted", String(group.halted)) : null)),
      group.workers.length ? table(`Workers of ${group.group}`, ["Worker", "Listens", "Leases", "Lease"], group.workers.map((worker) => [h("code", {}, worker.pid), worker.polls ? "yes" : worker.polls === null && !known ? "unknown" : "no", String(worker.leases), worker.ttl ? `renewed within ${span(worker.ttl)}` : "–"]))
        : h("p", {}, "No worker is known. ", h("code", {}, `resonate worker MODULE --group ${group.group}`)))),
    !found.length && nothing("No workers", "Nobody listens and nothing waits. Start one:", "resonate worker MODULE"),
  ]);
}

function fact(name, value) { return h("div", {}, h("dt", {}, name), h("dd", {}, value)); }

export function schedules() {
  return page("Schedules", "schedules", "Functions that are begun by the calendar.", ({ schedules: found, now }) => [
    ...found.map((one) => h("section", { class: "card", "aria-label": `Schedule ${one.id}` },
      h("div", { class: "card-head" }, h("h2", {}, one.id), !session.readOnly && h("div", { class: "actions" },
        h("button", { type: "button", class: "plain", onclick: () => dialog({ title: "Run it now?", text: `${one.id} is begun once, beside its calendar.`, label: "Run now", run: () => act("run-schedule", { id: one.id }) }) }, "Run now"),
        h("button", { type: "button", class: "plain danger-text", onclick: () => dialog({ title: "Delete the schedule?", text: `${one.id} is begun no more. What has been begun goes on.`, label: "Delete", danger: true, run: () => act("delete-schedule", { id: one.id }) }) }, "Delete"))),
      h("dl", { class: "facts" }, fact("When", h("span", { title: one.cron }, cron(one.cron))), fact("Next", `${ago(one.next, now)} · ${at(one.next, now)} local`), fact("Last", one.last ? ago(one.last, now) : "–"), one.target && fact("Group", one.target)),
      one.results.length ? h("ul", { class: "results" }, one.results.map((call) => h("li", {}, badge(call.state), " ", h("a", { href: `#/execution/${encodeURIComponent(call.id)}` }, call.id), h("span", { class: "muted" }, ` ${ago(call.created, now)}`)))) : null)),
    !found.length && nothing("No schedules", "Make one:", "resonate schedules create"),
  ]);
}

export function failures() {
  return page("Failures", "failures", "Failed executions, grouped by function, error and the place that raised it.", ({ groups: found, now, partial }) => [
    partial && h("p", { class: "lead" }, "Only the newest thousand are grouped."),
    ...found.map((group) => h("section", { class: "card", "aria-label": `${group.function}: ${group.error}` },
      h("div", { class: "card-head" }, h("h2", {}, group.function, h("span", { class: "muted" }, " · "), h("span", { class: "error-name" }, group.error)), h("span", { class: "big" }, `${group.count} ×`),
        !session.readOnly && h("div", { class: "actions" }, h("button", { type: "button", class: "plain", onclick: () => dialog({ title: group.count === 1 ? "Begin it again?" : `Begin ${Math.min(100, group.count)} again?`,
          text: "The same calls are begun under new ids, with the same arguments. Do this once the cause is mended.", label: "Begin again", run: () => act("again", { ids: group.ids.slice(0, 100) }) }) }, group.count > 1 ? "Retry all" : "Retry"))),
      group.message && h("p", { class: "error-line" }, group.message),
      h("p", { class: "muted" }, group.place && h("code", {}, group.place), group.place && " · ", `last ${ago(group.last, now)}`, group.count > 1 && `, first ${ago(group.first, now)}`),
      h("ul", { class: "results" }, group.ids.slice(0, 5).map((id) => h("li", {}, h("a", { href: `#/execution/${encodeURIComponent(id)}` }, id))), group.count > 5 && h("li", {}, h("a", { href: "#/executions?state=failed" }, `and ${group.count - 5} more`))))),
    !found.length && nothing("No failures", "Nothing has failed."),
  ]);
}
