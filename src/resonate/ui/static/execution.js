// One execution: its header, why it waits, the waterfall and the details of a call.
import { get } from "./api.js";
import { button, copier, fact, fill, h, named, patch } from "./dom.js";
import { details } from "./details.js";
import { actions, unblock } from "./steer.js";
import { Tree } from "./tree.js";
import { about, badge, deadline, moment, number, span } from "./words.js";

const SHOWN = 12; // waits in the banner
const AFRESH = 10; // seconds after which it is asked for again, for it says how long things last
const LARGE = 1000; // calls beyond which only changes have it asked for again

export function execution({ query, signal, clock }) {
  const id = query.id;
  const header = h("div", { class: "card summary" });
  const banner = h("section", { class: "why", "aria-label": "Why it waits", hidden: true });
  const aside = h("aside", { class: "details card", "aria-label": "Details of the call" });
  const tree = new Tree((row, byHand) => open(row.id, byHand));
  let chosen = query.call || id, top = null, detailed = "", ticks = 0;

  async function open(which, byHand = false) {
    chosen = which;
    history.replaceState(null, "", `#/execution/${encodeURIComponent(id)}${which === id ? "" : `?${new URLSearchParams({ call: which })}`}`);
    try {
      const call = await get("call", { id: which }, signal);
      if (signal.aborted || chosen !== which) return;
      const shown = { ...call, state: tree.of(which)?.state ?? call.state, now: undefined };
      const text = JSON.stringify(shown);
      if (text !== detailed) details(aside, shown, call.now); // what has not changed keeps its place and the focus
      detailed = text;
      if (byHand && aside.offsetTop > tree.root.offsetTop + 40) aside.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    } catch (error) { if (!signal.aborted) { detailed = ""; fill(aside, h("p", { class: "problem" }, error.message)); } }
  }

  async function why() {
    if (top.settled) { banner.hidden = true; return; }
    let waits;
    try { ({ waits } = await get("why", { id }, signal)); } catch { return; }
    if (signal.aborted) return;
    const blocked = waits.filter((wait) => wait.kind !== "lease" && wait.kind !== "step");
    const all = blocked.length ? blocked : waits;
    banner.hidden = !all.length;
    banner.className = blocked.length ? (top.state === "halted" ? "why halted" : "why") : "why running";
    const made = h("div", {}, h("h2", {}, blocked.length ? "Why it waits" : "What it does"), h("ul", {}, all.slice(0, SHOWN).map((wait) => h("li", { "data-key": `${wait.id} ${wait.command}` },
      h("p", {}, sentence(wait)),
      wait.command && h("div", { class: "unblock" }, unblock(wait), h("span", { class: "command" }, h("code", {}, wait.command), copier(wait.command, "the command")))))),
      all.length > SHOWN && h("p", { class: "muted" }, `… and ${number(all.length - SHOWN)} more`));
    if (banner.firstChild) patch(banner.firstChild, made); else banner.append(made);
  }

  // The id at the beginning leads to the call, which may be one of another execution.
  function sentence({ id: which, text }) {
    if (!text.startsWith(which)) return local(text);
    if (!tree.of(which)) return [h("a", { class: "link id", href: `#/execution/${encodeURIComponent(which)}` }, which), local(text.slice(which.length))];
    return [button(which, () => { tree.reveal(which); open(which, true); }, "link id"), local(text.slice(which.length))];
  }

  function tick() {
    if (top.settled) return;
    const took = header.querySelector(".took");
    if (took) took.textContent = about(clock() - top.created);
    tree.tick(clock());
    if (++ticks % AFRESH === 0 && tree.rows.length < LARGE) why();
  }

  return {
    title: id, path: "tree", query: { id }, tick,
    root: h("div", { class: "page execution" }, header, banner, h("div", { class: "split" }, h("section", { class: "card calls", "aria-label": "Calls of this execution" }, tree.root), aside)),
    over: () => !tree.open,
    shown: () => { if (chosen !== id) tree.reveal(chosen); },
    draw(found) {
      top = found.rows[0];
      summary(header, top, found.rows, found.now);
      tree.set(found.rows, found.now);
      if (!tree.of(chosen)) chosen = id;
      tree.selected ??= chosen;
      tree.mark();
      why();
      open(chosen);
    },
  };
}

// Instants are said in UTC, as the command says them; where the reader lives elsewhere, in their time too.
function local(text) {
  if (!new Date().getTimezoneOffset()) return text;
  return text.replace(/(\d{4}-\d\d-\d\d )?(\d\d:\d\d:\d\d) UTC/g, (whole, day, time) => {
    const then = new Date(`${(day ?? new Date().toISOString().slice(0, 10)).trim()}T${time}Z`);
    return Number.isNaN(then.getTime()) ? whole : `${whole} (${then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false })} here)`;
  });
}

function summary(header, top, rows, now) {
  const text = JSON.stringify([top, rows.length, rows.some((row) => row.state === "retrying")]);
  if (header.dataset.shown === text) return;
  header.dataset.shown = text;
  const pauses = rows.filter((row) => row.kind === "retry" && row.depth === 1 && row.settled).length;
  const attempts = top.attempts ? top.attempts.at(-1)[0] : top.started || top.settled ? 1 + pauses : 0;
  const waited = top.started ? top.started - top.created : 0;
  const root = top.root && top.root !== top.id;
  fill(header,
    h("nav", { class: "crumbs", "aria-label": "Where you are" }, h("a", { href: "#/executions" }, "Executions"), root && [" / ", h("a", { class: "id", href: `#/execution/${encodeURIComponent(top.root)}` }, named(top.root))], " / ", h("span", { class: "id" }, named(top.id)), copier(top.id, "the id")),
    h("div", { class: "title" }, h("h1", {}, top.name), badge(top.state), actions(top, rows)),
    h("dl", { class: "facts" },
      fact(top.settled ? "Duration" : "For", h("span", { class: "took" }, top.settled ? span(top.settled - top.created) : about(now - top.created))),
      waited > 0 && fact("Waited to start", span(waited)),
      fact("Begun", moment(top.created, now)),
      top.again && fact("Next attempt", deadline(top.again, now)),
      top.settled ? fact("Ended", moment(top.settled, now)) : fact("Deadline", deadline(top.deadline, now)),
      top.group && fact("Attempts", String(attempts)), fact("Worker", top.worker && h("code", {}, top.worker)), fact("Group", top.group),
      fact("Calls", number(rows.length - 1))),
    top.error && h("p", { class: "error-line" }, top.error)); // why it is halted is said where it is said what it waits for
}
