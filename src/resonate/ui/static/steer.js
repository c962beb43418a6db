// What can be done to an execution, each asked before and with its result shown.
import { act, download, session } from "./api.js";
import { button, dialog, h, toast } from "./dom.js";

export function ask(label, kind, { title, text, id, danger = false }, action, body) {
  return button(label, () => dialog({ title, text, id, label: title.replace(/\?$/, ""), danger, run: () => act(action, body) }), kind);
}

export function actions(top, rows) {
  const pauses = rows.some((row) => row.kind === "retry" && !row.settled);
  const change = session.readOnly ? [] : [
    top.kind === "promise" && !top.settled && button("Settle…", () => settle(top.id), "primary"),
    !top.settled && pauses && retryNow(top.id, "plain"),
    top.state === "halted" && resume(top.id, "primary"),
    !top.settled && ask("Cancel", "plain danger-text", { title: "Cancel this execution?", id: top.id, text: "It and everything that it waits for end as cancelled. What is detached goes on.", danger: true }, "cancel", { id: top.id }),
    top.settled && top.state !== "succeeded" && top.group && ask("Begin again", "plain", { title: "Begin it again?", id: top.id, text: "The same call is begun under a new id, with the same arguments." }, "again", { ids: [top.id] })];
  const save = button("Export", async () => {
    try {
      await download("export", { id: top.id }, `${top.id.replace(/[^\w.-]/g, "_")}.json`);
      toast(`${top.id} is exported with all that is below it`);
    } catch (error) { toast(error.message, true); }
  });
  return h("div", { class: "actions" }, change, save);
}

// What unblocks a wait, as a button; the command beside it says the same.
export function unblock(wait) {
  if (session.readOnly || !wait.command) return null;
  if (wait.kind === "retry") return retryNow(wait.id, "primary small");
  if (wait.kind === "halted") return resume(wait.id, "primary small");
  if (wait.kind === "sleep") return ask("End the sleep…", "plain small", { title: "End the sleep now?", id: wait.id, text: "The function goes on as if the time were over." }, "settle", { id: wait.id, how: "resolve", value: "" });
  return wait.kind === "promise" ? button("Settle it…", () => settle(wait.id), "primary small") : null;
}

function retryNow(id, kind) {
  return ask("Retry now", kind, { title: "Retry now?", id, text: "The pause before the next attempt ends, and the attempt begins." }, "retry", { id });
}

function resume(id, kind) {
  return ask("Resume", kind, { title: "Resume?", id, text: "A worker replays it. Do this once its code agrees with what is recorded." }, "resume", { id });
}

const HOW = {
  resolve: ["Resolve", "Value, as JSON (may be empty)"],
  reject: ["Reject", "Why, as text: whoever waits gets it as an error"],
  cancel: ["Cancel", "Nothing is given: whoever waits sees it cancelled"],
};

// The form that settles a promise.
export function settle(id) {
  const value = h("textarea", { id: "settle-value", name: "value", rows: "6", spellcheck: "false", placeholder: '{"approved": true}', autofocus: true });
  const label = h("label", { for: "settle-value" }, HOW.resolve[1]);
  const quick = h("div", { class: "quick" }, "Put in ", ["true", "false", '{"approved": true}'].map((text) => button(text, () => { value.value = text; value.focus(); }, "plain small mono")));
  const chosen = (kind) => {
    label.textContent = HOW[kind][1];
    value.disabled = kind === "cancel";
    value.placeholder = { resolve: '{"approved": true}', reject: "not this time", cancel: "" }[kind];
    quick.hidden = kind !== "resolve";
  };
  const how = Object.entries(HOW).map(([kind, [name]], index) => h("label", { class: "choice" }, h("input", { type: "radio", name: "how", value: kind, checked: index === 0, onchange: () => chosen(kind) }), ` ${name}`));
  dialog({ title: "Settle the promise", id, label: "Settle", fields: [h("fieldset", {}, h("legend", {}, "How"), how), label, value, quick], run: (given) => {
    if (given.how === "resolve" && given.value.trim()) checked(given.value);
    return act("settle", { id, ...given });
  } });
}

function checked(text) {
  try { JSON.parse(text); } catch (error) { throw new Error(`The value is no JSON (${error.message}); text goes in double quotes`); }
}
