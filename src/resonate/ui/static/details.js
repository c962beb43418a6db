// The details of one call: what it was given, what it gave, who ran it and where the code is.
import { decoded, session } from "./api.js";
import { button, coloured, copier, fact, fill, h, named } from "./dom.js";
import { settle } from "./steer.js";
import { badge, deadline, moment, number, span } from "./words.js";

const OWN = /^resonate:/;

export function details(box, call, now) {
  const ended = call.settled_at ?? now;
  const begun = Math.min(call.created_at, call.started_at ?? call.created_at);
  const tags = Object.entries(call.tags ?? {});
  const own = tags.filter(([name]) => OWN.test(name)), users = tags.filter(([name]) => !OWN.test(name));
  const attempts = call.attempts ?? [];
  fill(box,
    h("div", { class: "detail-head" }, h("h2", {}, call.title), badge(call.state)),
    h("p", { class: "id-line" }, h("span", { class: "id" }, named(call.id)), copier(call.id, "the id")),
    call.kind === "promise" && !call.settled_at && !session.readOnly && button("Settle it…", () => settle(call.id), "primary"),
    h("dl", { class: "facts" },
      fact("Kind", call.kind), fact("Begun", moment(begun, now)),
      call.started_at && call.started_at - call.created_at > 0 && fact("Waited to start", span(call.started_at - call.created_at)),
      call.kind !== "sleep" && call.kind !== "promise" && call.state !== "queued" && call.started_at && fact("Ran for", span(ended - call.started_at)),
      fact(call.settled_at ? "Took in all" : "For", span(ended - begun)),
      call.again_at && fact("Next attempt", deadline(call.again_at, now)),
      fact("Group", call.group), fact("Worker", call.worker && h("code", {}, call.worker)),
      !call.settled_at && fact("Deadline", deadline(call.deadline, now)),
      call.place && fact("Called at", h("code", { class: "place" }, call.place), { class: "wide" })),
    call.error && block("Error", call.error.message ? `${call.error.type}: ${call.error.message}` : call.error.type, "bad"),
    call.error?.traceback && block("Traceback", call.error.traceback),
    call.reason && block("Halted because", call.reason, "bad"),
    call.encoded ? secret(call) : [block("Called with", call.input, "json"), block("Output", call.output, "json")],
    (attempts.length > 1 || call.again_at) && runs(attempts, now),
    users.length > 0 && h("section", {}, h("h3", {}, "Tags"), h("dl", { class: "pairs" }, pairs(users))),
    own.length > 0 && h("details", { class: "tags" }, h("summary", {}, `${own.length} tags of the machinery`), h("dl", { class: "pairs" }, pairs(own))));
}

function pairs(tags) {
  return tags.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);
}

export function block(name, text, kind = "") {
  if (text === null || text === undefined || text === "") return null;
  return h("section", { class: "payload" }, h("div", { class: "payload-head" }, h("h3", {}, name), copier(text, name.toLowerCase())),
    h("pre", { tabindex: "0", class: kind, "aria-label": name, role: "region" }, kind === "json" ? coloured(text) : text));
}

function runs(attempts, now) {
  return h("section", {}, h("h3", {}, `${number(attempts.at(-1).number)} attempt${attempts.at(-1).number === 1 ? "" : "s"}`),
    h("ol", { class: "attempts" }, attempts.map((one) => h("li", {}, h("span", { class: "muted nr" }, `${one.number}`),
      h("div", {}, one.error ? h("span", { class: "error-name" }, one.error.message ? `${one.error.type}: ${one.error.message.slice(0, 300)}` : one.error.type) : h("span", { class: "yes" }, "succeeded"),
        h("p", { class: "muted" }, one.started_at && [moment(one.started_at, now), one.ended_at && ` · ran ${span(one.ended_at - one.started_at)}`], one.worker && ` · ${one.worker}`))))));
}

// Stored values as the user's own decoder reads them; nothing of them passes through the dashboard's server decoded.
function secret(call) {
  const box = h("div", { class: "decoded" }, h("p", { class: "muted", role: "status" }, "Decoding…"));
  const { input, output } = call.encoded;
  const asked = [["Called with", input], ["Output", output]].filter(([, value]) => value);
  if (!asked.length) return null;
  decoded(asked.map(([, value]) => value)).then(
    (values) => fill(box, asked.map(([name], index) => block(name, JSON.stringify(values[index], null, 2), "json"))),
    (error) => fill(box, h("p", { class: "problem", role: "alert" }, error.message), asked.map(([name, value]) => block(`${name}, as stored`, value.data))));
  return box;
}
