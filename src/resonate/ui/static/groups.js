// Workers: who takes up the work of each group, and what nobody has taken.
import { copier, empty, fact, h } from "./dom.js";
import { keyed } from "./screen.js";
import { about, ago, number, span } from "./words.js";

export function groups({ clock }) {
  return keyed({
    title: "Workers", path: "groups", clock, lead: "Who takes up the work of each group, and what nobody has taken.",
    items: (found) => found.groups, key: (group) => group.group,
    notes: ({ partial }) => partial && h("p", { class: "note-line" }, "There are more tasks than are counted here."),
    none: () => empty("No workers", "Nobody listens and nothing waits. Start one:", "resonate worker MODULE"),
    card: (group, now, found) => card(group, now, found.known),
  });
}

function card(group, now, known) {
  const listens = group.workers.filter((worker) => worker.polls).length;
  const nobody = group.backlog > 0 && (known ? !listens : !group.workers.length);
  const leases = group.workers.reduce((sum, worker) => sum + worker.leases, 0);
  const start = `resonate worker MODULE --group ${group.group}`;
  return h("section", { class: nobody ? "card warn" : "card", "aria-label": `Group ${group.group}` },
    h("div", { class: "card-head" }, h("h2", {}, group.group), known && h("span", { class: listens ? "pill ok" : "pill" }, listens ? `${number(listens)} listening` : "nobody listens")),
    h("dl", { class: "tiles" },
      fact("Backlog", group.backlog ? h("a", { href: `#/executions?${new URLSearchParams({ group: group.group, state: "queued" })}` }, counted(group, "queued", group.backlog)) : "0", { class: nobody ? "bad" : "" }),
      fact("Oldest wait", group.oldest ? about(now - group.oldest) : "–"), fact("Leases", number(leases)),
      fact("Halted", group.halted ? h("a", { href: `#/executions?${new URLSearchParams({ group: group.group, state: "halted" })}` }, counted(group, "halted", group.halted)) : "0", { class: group.halted ? "bad" : "" })),
    nobody && h("p", {}, known ? "Nobody listens for this group; what waits is taken up as soon as somebody does:" : "No worker of this group has anything now; if none runs, start one:"),
    nobody && h("p", { class: "command" }, h("code", {}, start), copier(start, "the command")),
    group.workers.length > 0 && table(group, now, known));
}

function table(group, now, known) {
  const names = ["Worker", known && "Listens", "Last seen", "Leases", "Runs now"].filter(Boolean);
  const rows = group.workers.map((worker) => h("tr", { "data-key": worker.pid }, h("th", { scope: "row" }, h("code", {}, worker.pid)),
    known && h("td", {}, worker.polls ? h("span", { class: "yes" }, worker.since ? `for ${about(now - worker.since)}` : "yes") : "no"),
    h("td", {}, seen(worker, now)), h("td", {}, number(worker.leases)),
    h("td", { class: "runs" }, worker.runs.map((call) => h("a", { href: `#/execution/${encodeURIComponent(call.id)}`, title: call.id }, call.name)), worker.leases > worker.runs.length && h("span", { class: "muted" }, `and ${number(worker.leases - worker.runs.length)} more`))));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Workers of ${group.group}` }, h("table", {}, h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows)));
}

function counted(group, state, count) { return number(count) + (group.more.includes(state) ? "+" : ""); }

// Who listens is there now; who only has a lease was there when it renewed it: where that is not told, within its time.
function seen(worker, now) {
  if (worker.polls) return "now";
  if (worker.seen) return ago(Math.max(worker.seen, worker.gone ?? 0), now);
  if (worker.ttl) return `within ${span(worker.ttl).replace(/\.00? s/, " s").replace(".0 s", " s")} (its lease)`;
  return worker.gone ? ago(worker.gone, now) : "unknown";
}
