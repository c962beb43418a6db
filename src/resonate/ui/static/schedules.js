// Schedules: when they fire, in words and in the reader's time, what came of it, and pausing.
import { session } from "./api.js";
import { empty, fact, h, named } from "./dom.js";
import { keyed } from "./screen.js";
import { ask } from "./steer.js";
import { ago, at, cron, sign, span } from "./words.js";

export function schedules({ clock }) {
  return keyed({
    title: "Schedules", path: "schedules", clock, lead: "Functions that are begun by the calendar.",
    items: (found) => found.schedules, key: (one) => one.id, card,
    notes: ({ partial }) => partial && h("p", { class: "note-line" }, "There are more schedules than are shown here."),
    none: () => empty("No schedules", "Make one in a program with r.schedule(…), or:", "resonate schedules create"),
  });
}

function card(one, now) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const words = cron(one.cron);
  return h("section", { class: one.paused ? "card paused" : "card", "aria-label": `Schedule ${one.id}` },
    h("div", { class: "card-head" }, h("h2", {}, named(one.id)), one.paused && h("span", { class: "pill warn" }, "paused"), !session.readOnly && h("div", { class: "actions" },
      ask("Run now", "plain", { title: "Run now?", id: one.id, text: "It is begun once, beside its calendar." }, "run-schedule", { id: one.id }),
      one.paused ? ask("Go on", "plain", { title: "Go on?", id: one.id, text: "It fires at its next time. Those that fell into the pause are left out." }, "resume-schedule", { id: one.id })
        : ask("Pause", "plain", { title: "Pause?", id: one.id, text: "It is begun no more until somebody lets it go on. What has been begun goes on." }, "pause-schedule", { id: one.id }),
      ask("Delete", "plain danger-text", { title: "Delete?", id: one.id, text: "It is begun no more, until a program makes the schedule again. What has been begun goes on.", danger: true }, "delete-schedule", { id: one.id }))),
    h("dl", { class: "facts" },
      fact("When", [words, words !== one.cron && h("code", { class: "muted cron" }, one.cron)]),
      fact("Function", one.function), fact("Group", one.target), fact("Last", one.last ? ago(one.last, now) : "–")),
    h("div", { class: "two" },
      h("section", {}, h("h3", {}, `${one.paused ? "Would be next" : "Next"}, your time (${zone})`), h("ol", { class: "times" }, one.upcoming.map((instant) => h("li", {}, h("time", { datetime: new Date(instant).toISOString(), title: `${new Date(instant).toISOString()} = ${at(instant, now)} ${zone}` }, at(instant, now)), h("span", { class: "muted" }, ` ${ago(instant, now)}`))))),
      h("section", {}, h("h3", {}, "Last results"), one.results.length ? h("ul", { class: "results" }, one.results.map((call) => h("li", { title: call.error ?? call.state }, sign(call.state), h("a", { href: `#/execution/${encodeURIComponent(call.id)}` }, named(call.id)),
        h("span", { class: "muted" }, `${call.state} · ${ago(call.created, now)}${call.settled ? ` · ${span(call.settled - call.created)}` : ""}`)))) : h("p", { class: "muted" }, "It has not fired yet."))));
}
