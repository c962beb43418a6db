// Failures, grouped by function, error and the place that raised it, and begun again together.
import { act, session } from "./api.js";
import { button, dialog, empty, h, named } from "./dom.js";
import { keyed } from "./screen.js";
import { ago, number } from "./words.js";

const PART = 50; // executions that are begun again by one request

export function failures({ clock }) {
  return keyed({
    title: "Failures", path: "failures", clock, lead: "Failed executions, grouped by function, error and the place that raised it.",
    items: (found) => found.groups, key: (group) => JSON.stringify([group.function, group.error, group.place]), card,
    notes: ({ partial }) => partial && h("p", { class: "note-line" }, "There are more failures than are named here; of each kind, the newest are."),
    none: () => empty("No failures", "Nothing has failed."),
  });
}

function card(group, now, found, latest) {
  const left = group.left.length, count = group.count, again = group.again;
  const all = number(count) + (group.more ? "+" : "");
  const rest = again ? "the other" : left < count || group.more ? "the newest" : "";
  return h("section", { class: "card failure", "aria-label": `${group.function}: ${group.error}` },
    h("div", { class: "card-head" }, h("span", { class: "big", title: `${all} executions` }, all, h("span", { class: "times-sign" }, "×")),
      h("div", { class: "what" }, h("h2", {}, group.function || "unnamed"), h("p", { class: "error-name" }, group.error)),
      !session.readOnly && left > 0 && h("div", { class: "actions" }, button(left > 1 ? (rest ? `Begin ${rest} ${number(left)} again` : "Begin all again") : "Begin again", () => beginAgain(latest())))),
    group.message && h("p", { class: "error-line" }, group.message),
    h("p", { class: "muted" }, group.place && h("code", { class: "place" }, group.place), group.place && " · ", `last ${ago(group.last, now)}`, group.first && `, first ${ago(group.first, now)}`, again > 0 && ` · ${number(again)} begun again`),
    h("ul", { class: "results" }, group.ids.map((id) => h("li", {}, h("a", { href: `#/execution/${encodeURIComponent(id)}` }, named(id)))),
      count > group.ids.length && h("li", {}, h("a", { href: `#/executions?${new URLSearchParams({ state: "failed", function: group.function })}` }, `and ${number(count - group.ids.length)}${group.more ? "+" : ""} more`))));
}

function beginAgain({ left, function: name, error }) {
  const many = left.length > 1;
  dialog({ title: many ? `Begin ${number(left.length)} again?` : "Begin it again?", id: `${name}: ${error}`, label: "Begin again",
    text: "The same calls are begun under new ids, with the same arguments; one that has been begun again already is not begun twice. Do this once the cause is mended.",
    run: async (given, progress) => {
      let said = {}, done = 0;
      for (let start = 0; start < left.length; start += PART) {
        const part = left.slice(start, start + PART);
        said = await act("again", { ids: part });
        done += part.length;
        progress(`${number(done)} of ${number(left.length)} …`);
      }
      return left.length > PART ? { text: `${number(done)} executions are begun again` } : said;
    } });
}
