// The waterfall: a tree of calls beside their bars in time. Only the rows in sight are elements,
// so that ten thousand calls open and scroll as fast as ten.
import { button, fill, h } from "./dom.js";
import { kebab, number, sign, span } from "./words.js";

const HEIGHT = 32;
const SPARE = 8; // rows drawn beyond both edges
const LEGEND = [["queue", "in the queue"], ["succeeded", "runs"], ["waiting", "waits"], ["failed", "failed attempt"], ["pause", "pause before the next"]];

export class Tree {
  constructor(chosen) {
    this.chosen = chosen;
    this.rows = [];
    this.index = new Map();
    this.visible = [];
    this.folded = new Set();
    this.selected = null;
    this.drawn = new Map();
    this.count = h("span", { class: "count" });
    this.found = h("span", { class: "found muted", role: "status" });
    this.field = h("input", { type: "search", placeholder: "Find a call", "aria-label": "Find a call", "aria-keyshortcuts": "f", "data-find": true, autocomplete: "off", spellcheck: "false",
      oninput: () => this.find(0), onkeydown: (event) => { if (event.key === "Enter") { event.preventDefault(); this.find(event.shiftKey ? -1 : 1); } } });
    this.space = h("div", { class: "tree-space", role: "presentation" });
    this.box = h("div", { class: "tree", role: "tree", tabindex: "0", "aria-label": "Calls" }, this.space);
    this.axis = h("div", { class: "axis", "aria-hidden": "true" }, h("span", {}, "Call"), h("span", { class: "axis-times" }));
    this.root = h("div", { class: "waterfall" },
      h("div", { class: "tools" }, h("h2", {}, "Calls"), this.count, h("div", { class: "finder" }, this.found, this.field),
        button("Fold", () => this.foldAll(true), "plain small", { title: "Fold all calls" }), button("Unfold", () => this.foldAll(false), "plain small", { title: "Unfold all calls" })),
      h("p", { class: "legend" }, LEGEND.map(([kind, text]) => h("span", {}, h("span", { class: `bar ${kind}`, "aria-hidden": "true" }), text))),
      this.axis, this.box);
    this.box.addEventListener("scroll", () => this.paint(), { passive: true });
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(() => this.paint()).observe(this.box);
  }

  of(id) { return this.rows[this.index.get(id)]; }

  set(rows, now) {
    this.rows = rows;
    this.now = now;
    this.index = new Map(rows.map((row, position) => [row.id, position]));
    const stack = [];
    let begin = Infinity, end = 0;
    rows.forEach((row, position) => {
      row.parent = row.depth ? stack[row.depth - 1] : -1;
      stack[row.depth] = position;
      row.pauses = [];
      row.begin = Math.min(row.created, row.started ?? row.created); // a short step is recorded when it has ended
      row.children = 0;
      if (row.parent >= 0) {
        const parent = rows[row.parent];
        parent.children += 1;
        parent.last = Math.max(parent.last ?? 0, row.settled ?? row.created);
        if (row.kind === "retry") parent.pauses.push([row.created, row.settled ?? Math.min(now, row.deadline)]);
        else if (parent.group) parent.first ??= row.begin;
      }
      begin = Math.min(begin, row.begin);
      end = Math.max(end, row.settled ?? now);
    });
    this.begin = begin;
    this.end = Math.max(end, this.begin + 1);
    this.open = rows.some((row) => !row.settled);
    this.count.textContent = number(rows.length - 1); // what the execution calls, without itself
    this.scale();
    this.fold();
  }

  // Time has gone by: what has not ended grows.
  tick(now) {
    if (!this.open || now <= this.now) return;
    this.now = this.end = now;
    this.scale();
    for (const [position, element] of this.drawn) element.lastChild.replaceWith(this.lane(this.rows[this.visible[position]]));
  }

  scale() {
    fill(this.axis.lastChild, [0, 0.25, 0.5, 0.75, 1].map((part) => h("span", {}, span((this.end - this.begin) * part))));
  }

  fold() {
    this.visible = [];
    let hidden = Infinity;
    this.rows.forEach((row, position) => {
      if (row.depth > hidden) return;
      hidden = this.folded.has(row.id) ? row.depth : Infinity;
      this.visible.push(position);
    });
    this.space.style.height = `${this.visible.length * HEIGHT}px`;
    this.box.style.setProperty("--rows", Math.min(this.visible.length, 24));
    this.redraw();
  }

  redraw() {
    this.drawn.clear();
    this.space.replaceChildren();
    this.paint();
    this.mark();
  }

  paint() {
    const from = Math.max(0, Math.floor(this.box.scrollTop / HEIGHT) - SPARE);
    const to = Math.min(this.visible.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / HEIGHT) + SPARE);
    for (const [position, element] of this.drawn) if (position < from || position >= to) { element.remove(); this.drawn.delete(position); }
    for (let position = from; position < to; position++) {
      if (this.drawn.has(position)) continue;
      const element = this.element(this.rows[this.visible[position]], position);
      this.drawn.set(position, element);
      this.space.append(element);
    }
  }

  element(row, position) {
    const open = row.children ? String(!this.folded.has(row.id)) : undefined;
    const took = span((row.settled ?? this.now) - row.begin);
    const name = row.kind === "retry" ? "pause before the next attempt" : row.name;
    const where = row.depth && row.group && row.kind !== "sleep" ? row.group : "";
    const element = h("div", { class: `call ${kebab(row.state)}`, role: "treeitem", id: `call-${position}`, "aria-level": row.depth + 1, "aria-expanded": open,
      "aria-selected": String(row.id === this.selected), "aria-setsize": this.visible.length, "aria-posinset": position + 1, "aria-label": `${name}, ${row.state}, ${took}` },
      h("span", { class: "label" }, h("span", { class: "twist", "aria-hidden": "true" }, open ? (open === "true" ? "▾" : "▸") : ""), sign(row.state),
        h("span", { class: "name", title: row.id }, name),
        where && h("span", { class: "kind" }, where),
        open === "false" && h("span", { class: "hidden-count" }, number(this.below(this.visible[position])))),
      this.lane(row));
    element.style.top = `${position * HEIGHT}px`;
    element.style.setProperty("--depth", row.depth);
    element.dataset.position = position;
    return element;
  }

  lane(row) {
    const end = row.settled ?? this.now;
    const took = h("span", { class: "took" }, row.attempts?.length > 1 && h("span", { class: "tries", title: "attempts" }, `${row.attempts.length}× `), span(end - row.begin));
    this.place(took, row.begin, end);
    return h("span", { class: "lane" }, this.bars(row), took);
  }

  below(position) {
    let next = position + 1;
    while (next < this.rows.length && this.rows[next].depth > this.rows[position].depth) next++;
    return next - position - 1;
  }

  // Behind the bar; before it where there is no room, and on it where there is none either.
  place(label, from, to) {
    const [begin, end] = [from, to].map((instant) => (instant - this.begin) / (this.end - this.begin));
    if (end <= 0.84) label.style.left = `${end * 100}%`;
    else if (begin >= 0.2) label.style.right = `${(1 - begin) * 100}%`;
    else { label.style.right = `${Math.max(0, (1 - end) * 100)}%`; label.classList.add("inside"); }
  }

  // Waiting to start is drawn apart from running, and each attempt is a bar of its own.
  bars(row) {
    const end = row.settled ?? this.now;
    if (row.kind === "retry") return [this.bar(row.created, end, "pause", "pause before the next attempt")];
    if (row.state === "queued" && !row.attempts && !row.last) return [this.bar(row.created, end, "queue", "waits for a worker")];
    const failed = row.attempts ? row.attempts.filter(([, from, to, error]) => from && to && error && to < end).map(([number, from, to, error]) => [number, from, to, error])
      : row.pauses.map(([from], index) => [index + 1, index ? row.pauses[index - 1][1] : row.started ?? row.created, from, "failed"]);
    const found = [];
    let begin = row.begin;
    const started = row.started ?? row.first;
    if (started > begin && started <= end) {
      found.push(this.bar(begin, started, "queue", row.group ? "waits for a worker" : "waits to start"));
      begin = started;
    }
    for (const [number, from, to, error] of failed) {
      if (from > begin) found.push(this.bar(begin, from, "pause", "pause before the next attempt"));
      found.push(this.bar(from, to, "failed", `attempt ${number}: ${error}`));
      begin = to;
    }
    const last = row.attempts?.at(-1);
    const again = !failed.length ? begin : row.state === "retrying" ? end : (last && last[2] === row.settled && last[1]) || row.again || row.pauses.at(-1)?.[1] || begin;
    if (again > begin) {
      found.push(this.bar(begin, Math.min(again, end), "pause", "pause before the next attempt"));
      begin = Math.min(again, end);
    }
    if (row.state === "queued") { // it has run before, and is in the queue again
      const back = Math.min(end, Math.max(begin, row.last ?? begin));
      if (back > begin) found.push(this.bar(begin, back, "waiting", "ran and waited"));
      found.push(this.bar(back, end, "queue", "waits for a worker to go on"));
    } else if (begin < end || !found.length || row.settled) found.push(this.bar(begin, end, kebab(row.state), failed.length ? `attempt ${failed.at(-1)[0] + 1}: ${row.state}` : row.state));
    return found;
  }

  bar(from, to, kind, title) {
    const whole = this.end - this.begin;
    const element = h("span", { class: `bar ${kind}`, title: `${title}: ${span(to - from)}` });
    element.style.left = `${((from - this.begin) / whole) * 100}%`;
    element.style.width = `${(Math.max(0, to - from) / whole) * 100}%`;
    return element;
  }

  click(event) {
    const element = event.target.closest(".call");
    if (!element) return;
    const row = this.rows[this.visible[Number(element.dataset.position)]];
    if (event.target.closest(".twist") && row.children) this.toggle(row);
    else this.select(Number(element.dataset.position), true);
  }

  toggle(row) {
    this.folded.has(row.id) ? this.folded.delete(row.id) : this.folded.add(row.id);
    this.fold();
  }

  select(position, open) {
    if (position < 0 || position >= this.visible.length) return;
    const row = this.rows[this.visible[position]];
    this.selected = row.id;
    const top = position * HEIGHT;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + HEIGHT > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = top + HEIGHT - this.box.clientHeight;
    this.paint();
    this.mark();
    if (open) this.chosen(row, true);
  }

  // Show a call, whatever is folded.
  reveal(id) {
    const position = this.index.get(id);
    if (position === undefined) return;
    let changed = false;
    for (let up = this.rows[position].parent; up >= 0; up = this.rows[up].parent) changed = this.folded.delete(this.rows[up].id) || changed;
    if (changed) this.fold();
    const there = this.visible.indexOf(position);
    this.select(there, false);
    this.drawn.get(there)?.scrollIntoView({ block: "nearest" });
  }

  // The next call whose name, id or state holds what is looked for.
  find(step) {
    const wanted = this.field.value.trim().toLowerCase();
    const hits = wanted ? this.rows.flatMap((row, position) => (`${row.name}\n${row.id}\n${row.state}`.toLowerCase().includes(wanted) ? [position] : [])) : [];
    this.found.textContent = wanted ? (hits.length ? "" : "none") : "";
    if (!hits.length) return;
    const here = this.index.get(this.selected) ?? -1;
    let at = step < 0 ? hits.findLastIndex((hit) => hit < here) : hits.findIndex((hit) => (step ? hit > here : hit >= here));
    if (at < 0) at = step < 0 ? hits.length - 1 : 0;
    this.found.textContent = `${number(at + 1)} of ${number(hits.length)}`;
    this.reveal(this.rows[hits[at]].id);
    this.chosen(this.rows[hits[at]], false);
  }

  mark() {
    this.box.removeAttribute("aria-activedescendant");
    for (const [position, element] of this.drawn) {
      const here = this.rows[this.visible[position]].id === this.selected;
      element.setAttribute("aria-selected", String(here));
      if (here) this.box.setAttribute("aria-activedescendant", element.id);
    }
  }

  key(event) {
    const position = this.visible.findIndex((index) => this.rows[index].id === this.selected);
    const row = position < 0 ? null : this.rows[this.visible[position]];
    const page = Math.max(1, Math.floor(this.box.clientHeight / HEIGHT));
    const moves = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page };
    if (event.key in moves) this.select(Math.max(0, Math.min(this.visible.length - 1, position + moves[event.key])), false);
    else if (event.key === "Home") this.select(0, false);
    else if (event.key === "End") this.select(this.visible.length - 1, false);
    else if (event.key === "*") this.foldAll(false);
    else if (row && (event.key === "Enter" || event.key === " ")) this.chosen(row, true);
    else if (row && event.key === "ArrowLeft") {
      if (row.children && !this.folded.has(row.id)) this.toggle(row);
      else this.select(this.visible.indexOf(row.parent), false);
    } else if (row && event.key === "ArrowRight") {
      if (this.folded.has(row.id)) this.toggle(row);
      else if (row.children) this.select(position + 1, false);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  foldAll(fold) {
    this.folded = new Set(fold ? this.rows.filter((row) => row.children && row.depth > 0).map((row) => row.id) : []);
    this.fold();
  }
}
