// Executions: filters, the list, and the pages after the first.
import { get } from "./api.js";
import { button, empty, fill, h, named, toast } from "./dom.js";
import { about, ago, badge, kebab, number, sign, span, STATES } from "./words.js";

const TIMES = [["", "Any time"], ["900000", "Last 15 minutes"], ["3600000", "Last hour"], ["86400000", "Last 24 hours"], ["604800000", "Last 7 days"], ["range", "From … to …"]];

export function executions({ query, navigate, signal, clock }) {
  const list = h("div", { class: "items", role: "list", "aria-label": "Executions" });
  const count = h("span", { class: "count", role: "status" });
  const more = button("Show older ones", older, "plain more");
  const chips = h("div", { class: "chips", role: "group", "aria-label": "State" });
  const form = filters(query, navigate);
  const rows = new Map();
  let pages = [], next = null, shown = [], counts = null, beyond = [];

  function states() {
    const all = counts && Object.values(counts).reduce((sum, one) => sum + one, 0);
    const kept = chips.contains(document.activeElement) ? document.activeElement.dataset.state : null;
    fill(chips, ["", ...STATES.filter((state) => state !== "retrying")].map((state) => // a list takes that for waiting
      button([state && sign(state), state || "all", counts && h("span", { class: "n" }, number(state ? counts[state] ?? 0 : all) + ((state ? beyond.includes(state) : beyond.length) ? "+" : ""))],
      () => go(navigate, { ...query, state }), `chip ${kebab(state)}`, { "aria-pressed": String((query.state ?? "") === state), "data-state": state })));
    if (kept !== null) chips.querySelector(`[data-state="${kept}"]`)?.focus();
  }

  async function older() {
    more.disabled = true;
    try {
      const page = await get("executions", { ...query, cursor: next }, signal);
      pages.push(...page.items);
      next = page.cursor;
      paint();
    } catch (error) { if (!signal.aborted) toast(error.message, true); }
    more.disabled = false;
  }

  function paint() {
    const seen = new Set(shown.map((call) => call.id));
    const all = [...shown, ...pages.filter((call) => !seen.has(call.id))];
    count.textContent = all.length === 0 ? "" : next ? `the newest ${number(all.length)}` : `${number(all.length)} execution${all.length === 1 ? "" : "s"}`;
    more.hidden = !next;
    const kept = new Set(all.map((call) => call.id));
    for (const [id, known] of rows) if (!kept.has(id)) { known.element.remove(); rows.delete(id); }
    all.forEach((call, index) => {
      const text = JSON.stringify(call);
      let known = rows.get(call.id);
      if (!known || known.text !== text) {
        const element = row(call);
        const focused = known?.element.contains(document.activeElement);
        if (known) known.element.replaceWith(element);
        known = { element, text, call };
        rows.set(call.id, known);
        if (focused) element.firstChild.focus();
      }
      if (list.children[index] !== known.element) list.insertBefore(known.element, list.children[index] ?? null);
    });
    list.querySelector(".empty")?.remove();
    if (!all.length) list.append(nothing(query));
    tick();
    form.suggest(all);
  }

  function tick() {
    const now = clock();
    for (const { element, call } of rows.values()) {
      say(element.querySelector(".when"), ago(call.created, now));
      say(element.querySelector(".took"), call.settled ? span(call.settled - call.created) : about(now - call.created));
    }
  }

  states();
  return {
    title: "Executions", path: "executions", query, tick,
    root: h("div", { class: "page" }, h("div", { class: "head" }, h("h1", {}, "Executions"), count), form.element, chips,
      h("div", { class: "rows" }, heads(), list), more),
    draw(found) {
      if (!pages.length) next = found.cursor;
      else { // what newer ones pushed off the first page stays
        const last = found.items.at(-1), seen = new Set(found.items.map((call) => call.id));
        pages.unshift(...shown.filter((call) => last && call.created <= last.created && !seen.has(call.id)));
      }
      shown = found.items;
      if (JSON.stringify(counts) !== JSON.stringify(found.counts ?? null)) { counts = found.counts ?? null; beyond = found.more ?? []; states(); }
      paint();
    },
  };
}

function say(element, text) { if (element.textContent !== text) element.textContent = text; }

function heads() {
  return h("div", { class: "row heads", "aria-hidden": "true" }, ["State", "Function and id", "Error or tags", "Group", "Duration", "Begun"].map((name, index) => h("span", { class: ["", "", "note", "group", "took", "when"][index] }, name)));
}

function go(navigate, query) {
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  navigate(`#/executions${search.size ? `?${search}` : ""}`);
}

function local(instant) {
  if (!instant) return "";
  const then = new Date(Number(instant));
  return Number.isNaN(then.getTime()) ? "" : new Date(then - then.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}

function filters(query, navigate) {
  const field = (name, label, attributes = {}) => h("div", { class: `field f-${name}` }, h("label", { for: `f-${name}` }, label),
    h("input", { id: `f-${name}`, name, value: query[name] ?? "", autocomplete: "off", spellcheck: "false", ...attributes }));
  const range = query.since || query.until;
  const chosen = range ? "range" : query.last ?? "";
  const time = h("select", { id: "f-last", name: "last", onchange: () => { times.hidden = time.value !== "range"; if (time.value !== "range") element.requestSubmit(); } },
    TIMES.map(([value, label]) => h("option", { value, selected: value === chosen }, label)));
  const times = h("div", { class: "fields", hidden: !range },
    field("since", "Begun after", { type: "datetime-local", value: local(query.since) }), field("until", "Begun before", { type: "datetime-local", value: local(query.until) }));
  const functions = h("datalist", { id: "functions" }), groups = h("datalist", { id: "groups" });
  const used = ["function", "group", "tag", "last", "since", "until"].filter((name) => query[name]).length;
  const wide = matchMedia("(min-width: 900px)").matches;
  const element = h("form", { class: "filters", role: "search", onsubmit: (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    if (given.last !== "range") given.since = given.until = "";
    else given.last = "";
    for (const name of ["since", "until"]) if (given[name]) given[name] = String(new Date(given[name]).getTime());
    go(navigate, { ...given, state: query.state });
  } },
    field("prefix", "Id begins with", { type: "search", placeholder: "Find by id", "data-search": true, "aria-keyshortcuts": "/" }),
    h("details", { class: "more-filters", open: wide || used > 0 }, h("summary", {}, used ? `Filters (${used})` : "Filters"),
      h("div", { class: "fields" }, field("function", "Function", { list: "functions" }), field("group", "Group", { list: "groups" }),
        field("tag", "Tag", { placeholder: "name=value" }), h("div", { class: "field f-last" }, h("label", { for: "f-last" }, "Begun"), time)),
      times),
    functions, groups,
    h("div", { class: "buttons" }, h("button", { type: "submit", class: "plain" }, "Search"),
      Object.entries(query).some(([name, value]) => value && name !== "state") && h("a", { class: "clear", href: query.state ? `#/executions?${new URLSearchParams({ state: query.state })}` : "#/executions" }, "Clear")));
  const suggest = (calls) => {
    for (const [box, name] of [[functions, "name"], [groups, "group"]]) {
      const all = [...new Set(calls.map((call) => call[name]).filter(Boolean))].sort().slice(0, 50);
      if (all.join("\n") !== box.dataset.all) { box.dataset.all = all.join("\n"); fill(box, all.map((value) => h("option", { value }))); }
    }
  };
  return { element, suggest };
}

function row(call) {
  const note = (call.state === "failed" && call.error) || call.reason || ""; // of others the state says it all
  return h("div", { role: "listitem", class: "item" },
    h("a", { class: "row", "data-row": true, href: `#/execution/${encodeURIComponent(call.id)}` },
      badge(call.state),
      h("span", { class: "what" }, h("span", { class: "name" }, call.name), h("span", { class: "id" }, named(call.id))),
      h("span", { class: note ? "note bad" : "note", title: note }, note.split("\n")[0] || Object.entries(call.tags ?? {}).map(([name, value]) => [h("span", { class: "kind" }, `${name}=${value}`), " "])),
      h("span", { class: "group" }, call.group ?? "", call.worker && h("span", { class: "worker" }, call.worker)),
      h("span", { class: "took" }), h("span", { class: "when", title: new Date(call.created).toISOString() })));
}

function nothing(query) {
  return Object.values(query).some(Boolean) ? empty("Nothing matches", "Change the filters, or clear them.")
    : empty("No executions yet", "What your workers run shows here by itself. Begin something:", "resonate invoke NAME ARG --id ID");
}
