// One execution: what it is, why it waits, its calls on a line of time, and what can be done.
import { act } from "./api.js";
import { dialog, h, link, pretty, replace, span, state, title, when } from "./dom.js";
import { waterfall } from "./waterfall.js";

export function execution(place, refresh) {
  const view = { title: place.id, path: "execution", params: { id: place.id }, draw };
  const head = h("div", { class: "panel pad" });
  const why = h("div", {});
  const details = h("aside", { class: "panel pad details", "aria-label": "Details of the chosen call" });
  const tree = waterfall((call) => { chosen = call.id; detail(call); });
  let chosen = null;
  let latest = null;

  async function doing(action, question, text, confirm, danger) {
    const form = await dialog(question, [h("p", {}, text)], confirm, danger);
    if (form && await act({ do: action, id: place.id })) refresh();
  }

  async function settle(id) {
    const form = await dialog(`Settle ${id}`, [
      h("p", { class: "soft" }, "Whoever waits for it goes on with this value."),
      h("label", {}, "As", h("select", { name: "do" }, h("option", { value: "resolve" }, "value (resolve)"), h("option", { value: "reject" }, "error (reject)"))),
      h("label", {}, "JSON", h("textarea", { name: "value", class: "mono", spellcheck: "false" }, "true")),
    ], "Settle it");
    if (!form) return;
    const value = form.get("value").trim() || "null";
    try { JSON.parse(value); } catch (error) {
      const again = await dialog("That is no JSON", [h("p", { class: "error" }, error.message), h("p", {}, "A text needs quotes: \"yes\".")], "Try again");
      return again ? settle(id) : undefined;
    }
    if (await act({ do: form.get("do"), id, value })) refresh();
  }

  function save() {
    const blob = new Blob([JSON.stringify(latest.tree, null, 2)], { type: "application/json" });
    const anchor = h("a", { href: URL.createObjectURL(blob), download: `${place.id}.json` });
    anchor.click();
    URL.revokeObjectURL(anchor.href);
  }

  function actions(call, readOnly) {
    const buttons = [];
    if (!readOnly && call.state === "retrying") buttons.push(h("button", { type: "button", class: "first", onclick: () => doing("retry", `Try ${place.id} again now?`, "The pause before the next attempt ends.", "Try now") }, "Retry now"));
    if (!readOnly && call.state === "halted") buttons.push(h("button", { type: "button", class: "first", onclick: () => doing("resume", `Resume ${place.id}?`, "A worker replays it; its code has to agree with what is recorded.", "Resume") }, "Resume"));
    if (!readOnly && !call.settled_at) buttons.push(h("button", { type: "button", class: "danger", onclick: () => doing("cancel", `Cancel ${place.id}?`, "It and everything that it waits for are cancelled. That cannot be undone.", "Cancel it", true) }, "Cancel…"));
    buttons.push(h("button", { type: "button", onclick: save }, "Export"));
    return h("div", { class: "actions" }, ...buttons);
  }

  function fact(name, value) {
    return value === null || value === undefined || value === "" ? null : h("div", {}, h("dt", {}, name), h("dd", {}, value));
  }

  function header(call, answer) {
    const took = (call.settled_at || answer.now) - call.created_at;
    const above = call.tags && call.tags["resonate:origin"] && call.tags["resonate:origin"] !== call.id ? h("a", { href: link(call.tags["resonate:origin"]), class: "mono" }, call.tags["resonate:origin"]) : null;
    const own = Object.entries(call.tags || {}).filter(([name]) => !name.startsWith("resonate:"));
    replace(head, h("div", { class: "head" }, h("h1", {}, call.id), state(call.state), actions(call, answer.readOnly)),
      h("dl", { class: "facts" }, fact("Function", title(call)), fact(call.settled_at ? "Took" : "Since", span(took)), fact("Begun", when(call.created_at)),
        fact("Ended", call.settled_at && when(call.settled_at)), fact("Deadline", when(call.deadline)), fact("Group", call.group), fact("Worker", call.worker), fact("Part of", above),
        own.length ? fact("Tags", h("span", { class: "chips" }, ...own.map(([name, value]) => h("span", { class: "chip" }, `${name} = ${value}`)))) : null));
  }

  function waits(found, answer) {
    if (!found.length) return replace(why);
    const pending = new Set(flat(answer.found.tree).filter((call) => call.kind === "promise" && !call.settled_at).map((call) => call.id));
    replace(why, h("section", { class: "panel pad why", "aria-label": "Why it waits" }, h("h2", {}, "Why it waits"), h("ul", {}, ...found.slice(0, 20).map((wait) => h("li", {}, h("p", {}, wait.text),
      wait.command ? h("div", { class: "row" }, h("code", {}, wait.command), pending.has(wait.id) && !answer.readOnly ? h("button", { type: "button", class: "first", onclick: () => settle(wait.id) }, "Settle…") : null) : null))),
      found.length > 20 ? h("p", { class: "soft" }, `and ${found.length - 20} more`) : null));
  }

  function detail(call) {
    const rows = [];
    const row = (name, value) => value ? rows.push(h("dt", {}, name), h("dd", {}, value)) : 0;
    row("Id", h("span", { class: "mono" }, call.id));
    row("State", state(call.state));
    row("Kind", call.kind);
    row("Called at", call.place && h("span", { class: "mono" }, call.place));
    row("Begun", when(call.created_at));
    row("Ended", call.settled_at && when(call.settled_at));
    row("Took", call.settled_at && span(call.settled_at - call.created_at));
    row("Deadline", when(call.deadline));
    row("Group", call.group);
    row("Worker", call.worker);
    const block = (name, value, kind) => value === undefined || value === null ? [] : [h("h3", {}, name), h("pre", { tabindex: "0", class: kind }, pretty(value))];
    const input = call.input && Array.isArray(call.input.args) ? (Object.keys(call.input.kwargs || {}).length ? { args: call.input.args, kwargs: call.input.kwargs } : call.input.args) : call.input;
    replace(details, h("h2", {}, title(call)), h("dl", { class: "rows" }, ...rows),
      !call.settled_at && call.kind === "promise" && !latest.readOnly ? h("p", {}, h("button", { type: "button", class: "first", onclick: () => settle(call.id) }, "Settle…")) : "",
      ...block("Input", input), ...block("Output", call.output), ...block("Halted", call.reason),
      ...(call.error ? [h("h3", {}, "Error"), h("p", { class: "error" }, `${call.error.type}${call.error.message ? `: ${call.error.message}` : ""}`)] : []),
      ...block("Traceback", call.error && call.error.traceback || undefined, "code"));
  }

  function draw(main, found, answer) {
    if (!view.drawn) {
      replace(main, h("div", { class: "stack" }, head, why, h("div", { class: "split" }, tree.element, details)));
      view.drawn = true;
    }
    latest = { ...found, readOnly: answer.readOnly };
    header(found.tree, answer);
    waits(found.waits, answer);
    tree.show(found.tree, answer.now);
    const calls = flat(found.tree);
    detail(calls.find((call) => call.id === chosen) || calls.find((call) => call.error && call !== found.tree) || found.tree);
  }

  return view;
}

function flat(root) {
  const found = [];
  const stack = [root];
  while (stack.length) {
    const call = stack.pop();
    found.push(call);
    for (const child of call.calls || []) stack.push(child);
  }
  return found;
}
