// Executions: filters, the list, and the pages after the first.
import { get } from "./api.js";
import { h, toast } from "./dom.js";
import { ago, badge, span, STATES } from "./words.js";

export function executions({ query, navigate, signal }) {
  const list = h("div", { class: "rows", role: "list", "aria-label": "Executions" });
  const count = h("span", { class: "count", role: "status" });
  const more = h("button", { type: "button", class: "plain more" }, "Show older ones");
  const chips = h("div", { class: "chips", role: "group", "aria-label": "State" });
  const form = filters(query, navigate);
  let older = [], next = null, shown = [], now = 0;

  for (const state of ["", ...STATES.filter((each) => each !== "retrying" && each !== "pending")]) { // a list cannot tell those from waiting
    const chosen = (query.state ?? "") === state;
    chips.append(h("button", { type: "button", class: "chip", "aria-pressed": String(chosen), onclick: () => go(navigate, { ...query, state }) }, state || "all"));
  }
  more.addEventListener("click", async () => {
    more.disabled = true;
    try {
      const page = await get("executions", { ...query, cursor: next }, signal);
      older.push(...page.items);
      next = page.cursor;
      paint();
    } catch (error) { if (!signal.aborted) toast(error.message, true); }
    more.disabled = false;
  });

  const rows = new Map();
  function paint() {
    const seen = new Set(shown.map((call) => call.id));
    const all = [...shown, ...older.filter((call) => !seen.has(call.id))];
    count.textContent = all.length === 0 ? "" : `${all.length}${next ? "+" : ""} execution${all.length === 1 ? "" : "s"}`;
    more.hidden = !next;
    const kept = new Set(all.map((call) => call.id));
    for (const [id, known] of rows) if (!kept.has(id)) { known.element.remove(); rows.delete(id); }
    all.forEach((call, index) => {
      const text = JSON.stringify(call);
      let known = rows.get(call.id);
      if (!known || known.text !== text) {
        const element = row(call, now);
        const focused = known && known.element === document.activeElement;
        if (known) known.element.replaceWith(element);
        known = { element, text };
        rows.set(call.id, known);
        if (focused) element.focus();
      }
      known.element.querySelector(".when").textContent = ago(call.created, now);
      known.element.querySelector(".took").textContent = span((call.settled ?? now) - call.created);
      if (list.children[index] !== known.element) list.insertBefore(known.element, list.children[index] ?? null);
    });
    list.querySelector(".empty")?.remove();
    if (!all.length) list.append(empty(query));
  }
  return {
    title: "Executions", path: "executions", query,
    root: h("div", { class: "page" }, h("div", { class: "head" }, h("h1", {}, "Executions"), count), form, chips, list, more),
    draw(found) {
      if (!older.length) next = found.cursor;
      shown = found.items;
      now = found.now;
      paint();
    },
  };
}

function go(navigate, query) {
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  navigate(`#/executions${search.size ? `?${search}` : ""}`);
}

function local(instant) {
  if (!instant) return "";
  const then = new Date(Number(instant));
  return new Date(then - then.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}

function filters(query, navigate) {
  const field = (name, label, attributes = {}) => h("div", { class: "field" }, h("label", { for: `f-${name}` }, label),
    h("input", { id: `f-${name}`, name, value: query[name] ?? "", autocomplete: "off", spellcheck: "false", ...attributes }));
  const extra = ["function", "group", "tag", "since", "until"].some((name) => query[name]);
  return h("form", { class: "filters", role: "search", onsubmit: (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    for (const name of ["since", "until"]) if (given[name]) given[name] = String(new Date(given[name]).getTime());
    go(navigate, { ...given, state: query.state });
  } },
    field("prefix", "Id begins with", { type: "search", placeholder: "Find by id…   ( / )", "data-search": true }),
    h("details", { class: "more-filters", open: extra }, h("summary", {}, "More filters"),
      h("div", { class: "fields" }, field("function", "Function"), field("group", "Group"), field("tag", "Tag", { placeholder: "name=value" }),
        field("since", "Begun after", { type: "datetime-local", value: local(query.since) }), field("until", "Begun before", { type: "datetime-local", value: local(query.until) }))),
    h("button", { type: "submit", class: "plain" }, "Search"),
    Object.entries(query).some(([, value]) => value) && h("a", { class: "clear", href: "#/executions" }, "Clear"));
}

function row(call, now) {
  return h("div", { role: "listitem", class: "item" },
    h("a", { class: "row", "data-row": true, href: `#/execution/${encodeURIComponent(call.id)}` },
      badge(call.state),
      h("span", { class: "what" }, h("span", { class: "name" }, call.name), h("span", { class: "id" }, call.id)),
      h("span", { class: "note" }, call.error ?? call.reason ?? ""),
      h("span", { class: "group" }, call.group ?? ""),
      h("span", { class: "took" }), h("span", { class: "when", title: new Date(call.created).toISOString() })));
}

function empty(query) {
  const filtered = Object.values(query).some(Boolean);
  return h("div", { class: "empty" }, h("h2", {}, filtered ? "Nothing matches" : "No executions yet"),
    h("p", {}, filtered ? "Change the filters, or clear them." : "Begin one: ", !filtered && h("code", {}, "resonate invoke NAME ARGS")));
}
