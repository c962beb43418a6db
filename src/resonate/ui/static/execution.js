// One execution: its header, why it waits, the waterfall, the details of a call, and what can be done.
import { act, download, get, session } from "./api.js";
import { dialog, fill, h, toast } from "./dom.js";
import { Tree } from "./tree.js";
import { ago, badge, moment, span } from "./words.js";

export function execution({ query, signal }) {
  const id = query.id;
  const header = h("div", { class: "card summary" });
  const banner = h("section", { class: "why", "aria-label": "Why it waits", hidden: true });
  const details = h("aside", { class: "details card", "aria-label": "Details of the call" });
  const tree = new Tree((row) => open(row.id));
  const tools = h("div", { class: "tools" }, h("h2", {}, "Calls"), h("span", { class: "count" }),
    h("button", { type: "button", class: "plain small", onclick: () => tree.foldAll(true) }, "Fold"),
    h("button", { type: "button", class: "plain small", onclick: () => tree.foldAll(false) }, "Unfold"));
  let chosen = id, now = 0;

  async function open(which) {
    chosen = which;
    try {
      const call = await get("call", { id: which }, signal);
      if (!signal.aborted && chosen === which) detail(details, { ...call, state: tree.rows.find((row) => row.id === which)?.state ?? call.state }, now);
    } catch (error) { if (!signal.aborted) fill(details, h("p", { class: "problem" }, error.message)); }
  }

  async function why(top) {
    if (top.settled) { banner.hidden = true; return; }
    const { waits } = await get("why", { id }, signal);
    const shown = waits.filter((wait) => wait.command || !/is run by worker/.test(wait.text));
    const all = shown.length ? shown : waits;
    banner.hidden = !all.length;
    banner.className = `why ${top.state}`;
    fill(banner, h("h2", {}, shown.length ? "Why it waits" : "What it does"), h("ul", {}, all.slice(0, 20).map((wait) => h("li", {},
      h("p", {}, wait.text), wait.command && h("div", { class: "unblock" }, settles(wait) && !session.readOnly && h("button", { type: "button", class: "primary small", onclick: () => settle(wait.id) }, "Settle it…"), command(wait.command))))),
      all.length > 20 && h("p", {}, `… and ${all.length - 20} more`));
  }

  return {
    title: id, path: "tree", query: { id },
    root: h("div", { class: "page execution" }, header, banner, h("div", { class: "split" }, h("section", { class: "card calls", "aria-label": "Calls of this execution" }, tools, legend(), tree.root), details)),
    async draw(found) {
      now = found.now;
      const top = found.rows[0];
      summary(header, top, found.rows, now);
      tools.querySelector(".count").textContent = found.rows.length.toLocaleString("en");
      tree.selected ??= id;
      tree.set(found.rows, now);
      tree.mark();
      await Promise.all([open(chosen), why(top)]);
    },
  };
}

function settles(wait) { return wait.command.startsWith("resonate promises resolve"); }

function command(text) {
  return h("span", { class: "command" }, h("code", {}, text), h("button", { type: "button", class: "quiet small", "aria-label": "Copy the command", title: "Copy the command", onclick: async () => {
    try { await navigator.clipboard.writeText(text); toast("Copied"); } catch { toast("The browser does not let this page copy", true); }
  } }, "Copy"));
}

function legend() {
  const kinds = [["queue", "waits to begin"], ["succeeded", "runs"], ["waiting", "waits"], ["failed", "failed attempt"], ["pause", "pause before the next"]];
  return h("p", { class: "legend" }, kinds.map(([kind, text]) => h("span", {}, h("span", { class: `bar ${kind}`, "aria-hidden": "true" }), text)));
}

function fact(name, value) { return h("div", {}, h("dt", {}, name), h("dd", {}, value)); }

function summary(header, top, rows, now) {
  const attempts = 1 + rows.filter((row) => row.kind === "retry" && row.depth === 1 && row.settled).length;
  const facts = [
    fact(top.settled ? "Took" : "For", span((top.settled ?? now) - top.created)), fact("Begun", moment(top.created, now)),
    top.settled ? fact("Ended", moment(top.settled, now)) : fact("Deadline", h("span", { title: new Date(Math.min(top.deadline, 8e15)).toISOString() }, ago(top.deadline, now))),
    fact("Attempts", String(attempts)), top.group && fact("Group", top.group), top.worker && fact("Worker", top.worker)];
  fill(header,
    h("nav", { class: "crumbs", "aria-label": "Where you are" }, h("a", { href: "#/executions" }, "Executions"), " / ", h("span", { class: "id" }, top.id)),
    h("div", { class: "title" }, h("h1", {}, top.name), badge(top.state), actions(top, rows)),
    h("dl", { class: "facts" }, facts), top.error && h("p", { class: "error-line" }, top.error), top.reason && h("p", { class: "error-line" }, top.reason));
}

function actions(top, rows) {
  const asked = (label, danger, title, text, action, body = { id: top.id }) => h("button", { type: "button", class: danger ? "plain danger-text" : "plain",
    onclick: () => dialog({ title, text, label, danger, run: () => act(action, body) }) }, label);
  const pauses = rows.some((row) => row.kind === "retry" && !row.settled);
  const change = session.readOnly ? [] : [
    top.kind === "promise" && !top.settled && h("button", { type: "button", class: "primary", onclick: () => settle(top.id) }, "Settle…"),
    !top.settled && pauses && asked("Retry now", false, "Retry now?", "The pause before the next attempt ends, and the attempt begins.", "retry"),
    top.state === "halted" && asked("Resume", false, "Resume?", "A worker replays it. Do this once its code agrees with what is recorded.", "resume"),
    !top.settled && asked("Cancel", true, "Cancel this execution?", `${top.id} and everything that it waits for end as cancelled. What is detached goes on.`, "cancel"),
    top.settled && top.state !== "succeeded" && top.group && asked("Begin again", false, "Begin it again?", "The same call is begun under a new id, with the same arguments.", "again", { ids: [top.id] })];
  const save = h("button", { type: "button", class: "plain", onclick: () => download("export", { id: top.id }, `${top.id.replace(/[^\w.-]/g, "_")}.json`).catch((error) => toast(error.message, true)) }, "Export");
  return h("div", { class: "actions" }, change, save);
}

export function settle(id) {
  const value = h("textarea", { id: "settle-value", name: "value", rows: "5", spellcheck: "false", placeholder: 'true, 42, "text", {"approved": true}' });
  const label = h("label", { for: "settle-value" }, "Value, as JSON (may be empty)");
  const how = ["resolve", "reject", "cancel"].map((kind, index) => h("label", { class: "choice" }, h("input", { type: "radio", name: "how", value: kind, checked: index === 0, onchange: () => {
    label.textContent = kind === "resolve" ? "Value, as JSON (may be empty)" : kind === "reject" ? "Why, as text: whoever waits gets it as an error" : "Nothing is given";
    value.disabled = kind === "cancel";
  } }), { resolve: " Resolve", reject: " Reject", cancel: " Cancel" }[kind]));
  dialog({ title: "Settle the promise", text: id, label: "Settle", fields: [h("fieldset", {}, h("legend", {}, "How"), how), label, value], run: (given) => {
    if (given.how === "resolve" && given.value.trim()) checked(given.value);
    return act("settle", { id, ...given });
  } });
}

function checked(text) {
  try { JSON.parse(text); } catch (error) { throw new Error(`The value is no JSON (${error.message}); text goes in double quotes`); }
}

function block(name, text) {
  return text === null || text === undefined || text === "" ? null : h("section", {}, h("h3", {}, name), h("pre", { tabindex: "0", "aria-label": name }, text));
}

function detail(box, call, now) {
  const facts = [fact("Kind", call.kind), fact("Begun", moment(call.created_at, now)), call.settled_at && fact("Took", span(call.settled_at - call.created_at)), call.group && fact("Group", call.group),
    call.worker && fact("Worker", call.worker), call.place && fact("Called at", h("code", {}, call.place)), !call.settled_at && fact("Deadline", ago(call.deadline, now))];
  const tags = Object.entries(call.tags ?? {});
  fill(box, h("div", { class: "detail-head" }, h("h2", {}, call.title), badge(call.state)), h("p", { class: "id" }, call.id),
    call.kind === "promise" && !call.settled_at && !session.readOnly && h("button", { type: "button", class: "primary", onclick: () => settle(call.id) }, "Settle it…"),
    h("dl", { class: "facts" }, facts), block("Called with", call.input), block("Output", call.output),
    call.error ? block("Error", `${call.error.type}: ${call.error.message}`) : "", call.error?.traceback ? block("Traceback", call.error.traceback) : "",
    call.reason ? block("Halted because", call.reason) : "",
    tags.length ? h("details", { class: "tags" }, h("summary", {}, `${tags.length} tags`), h("dl", {}, tags.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))) : "");
}
