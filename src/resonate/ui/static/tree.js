// The waterfall: a tree of calls beside their bars in time. Only the rows in sight are elements,
// so that ten thousand calls open and scroll as fast as ten.
import { h } from "./dom.js";
import { span } from "./words.js";

const HEIGHT = 32;
const SPARE = 12; // rows drawn beyond both edges

export class Tree {
  constructor(chosen) {
    this.chosen = chosen;
    this.rows = [];
    this.visible = [];
    this.folded = new Set();
    this.selected = null;
    this.drawn = new Map();
    this.space = h("div", { class: "tree-space", role: "presentation" });
    this.box = h("div", { class: "tree", role: "tree", tabindex: "0", "aria-label": "Calls" }, this.space);
    this.axis = h("div", { class: "axis", "aria-hidden": "true" }, h("span", { class: "axis-name" }, "call"), h("span", { class: "axis-times" }));
    this.root = h("div", { class: "waterfall" }, this.axis, this.box);
    this.box.addEventListener("scroll", () => this.paint(), { passive: true });
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(() => this.paint()).observe(this.box);
  }

  set(rows, now) {
    this.rows = rows;
    this.now = now;
    const stack = [];
    rows.forEach((row, index) => {
      row.parent = row.depth ? stack[row.depth - 1] : -1;
      stack[row.depth] = index;
      row.pauses = row.pauses ?? [];
      row.children = 0;
      if (row.parent >= 0) {
        const parent = rows[row.parent];
        parent.children += 1;
        if (row.kind === "retry") parent.pauses.push([row.created, row.settled ?? Math.min(now, row.deadline)]);
        if (parent.first === undefined && row.kind !== "retry") parent.first = row.created;
      }
    });
    this.begin = rows[0].created;
    this.end = rows.reduce((end, row) => Math.max(end, row.settled ?? now), this.begin + 1);
    this.scale();
    this.fold();
  }

  scale() {
    const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => h("span", {}, span((this.end - this.begin) * part)));
    this.axis.lastChild.replaceChildren(...ticks);
  }

  fold() {
    this.visible = [];
    let hidden = Infinity;
    this.rows.forEach((row, index) => {
      if (row.depth > hidden) return;
      hidden = this.folded.has(row.id) ? row.depth : Infinity;
      this.visible.push(index);
    });
    this.space.style.height = `${this.visible.length * HEIGHT}px`;
    this.box.style.setProperty("--rows", Math.min(this.visible.length, 22));
    for (const element of this.drawn.values()) element.remove();
    this.drawn.clear();
    this.paint();
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
    const took = span((row.settled ?? this.now) - row.created);
    const element = h("div", { class: "call", role: "treeitem", id: `call-${position}`, "aria-level": row.depth + 1, "aria-expanded": open,
      "aria-selected": String(row.id === this.selected), "aria-setsize": this.visible.length, "aria-posinset": position + 1,
      "aria-label": `${row.name}, ${row.state}, ${took}` },
      h("span", { class: "label" }, h("span", { class: "twist", "aria-hidden": "true" }, open ? (open === "true" ? "▾" : "▸") : ""),
        h("span", { class: `dot ${row.state.replace(" ", "-")}`, "aria-hidden": "true" }),
        h("span", { class: "name", title: row.id }, row.kind === "retry" ? "pause before the next attempt" : row.name),
        open === "false" && h("span", { class: "hidden-count" }, `${row.children}`)),
      h("span", { class: "lane" }, this.bars(row), h("span", { class: "took" }, took)));
    element.style.top = `${position * HEIGHT}px`;
    element.style.setProperty("--depth", row.depth);
    element.dataset.position = position;
    this.place(element.querySelector(".lane > .took"), row.settled ?? this.now);
    return element;
  }

  place(label, end) {
    const part = (end - this.begin) / (this.end - this.begin);
    if (part > 0.82) { label.style.right = `${Math.max(0, (1 - part) * 100)}%`; label.classList.add("inside"); }
    else label.style.left = `${part * 100}%`;
  }

  // Waiting to begin is drawn apart from running, and each attempt is a bar of its own.
  bars(row) {
    const end = row.settled ?? this.now;
    if (row.kind === "retry") return [this.bar(row.created, end, "pause", "pause before the next attempt")];
    if (row.state === "queued") return [this.bar(row.created, end, "queue", "waits for a worker")];
    const found = [];
    let begin = row.created;
    if (row.group && row.first !== undefined && row.first > begin && row.first < (row.pauses[0]?.[0] ?? end)) {
      found.push(this.bar(begin, row.first, "queue", "until its first call"));
      begin = row.first;
    }
    row.pauses.forEach(([from, until], index) => {
      found.push(this.bar(begin, from, "failed", `attempt ${index + 1}`), this.bar(from, until, "pause", "pause"));
      begin = until;
    });
    if (begin < end || !found.length) found.push(this.bar(begin, end, row.state.replace(" ", "-"), row.pauses.length ? `attempt ${row.pauses.length + 1}` : row.state));
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
    this.mark();
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
    if (open) this.chosen(row);
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
    const page = Math.floor(this.box.clientHeight / HEIGHT);
    const moves = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page };
    if (event.key in moves) this.select(Math.max(0, Math.min(this.visible.length - 1, position + moves[event.key])), false);
    else if (event.key === "Home") this.select(0, false);
    else if (event.key === "End") this.select(this.visible.length - 1, false);
    else if (row && (event.key === "Enter" || event.key === " ")) this.chosen(row);
    else if (row && event.key === "ArrowLeft") {
      if (row.children && !this.folded.has(row.id)) this.toggle(row);
      else this.select(this.visible.indexOf(row.parent), false);
    } else if (row && event.key === "ArrowRight" && this.folded.has(row.id)) this.toggle(row);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  foldAll(fold) {
    this.folded = new Set(fold ? this.rows.filter((row) => row.children && row.depth > 0).map((row) => row.id) : []);
    this.fold();
    this.mark();
  }
}
