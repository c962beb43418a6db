// Screens that are a heading and a card for each of some things.
import { h, patch } from "./dom.js";

const TICKING = 100; // cards whose clocks are moved each second

export function keyed({ title, path, lead, items, key, card, none, notes, clock }) {
  const notice = h("div", { class: "notices" });
  const body = h("div", { class: "cards" });
  const count = h("span", { class: "count" });
  const cards = new Map();
  let last = null;

  function paint(found, now) {
    const all = items(found);
    patch(count, h("span", { class: "count" }, all.length ? String(all.length) : ""));
    patch(notice, h("div", { class: "notices" }, notes?.(found)));
    const kept = new Set(all.map(key));
    for (const [name, known] of cards) if (!kept.has(name)) { known.element.remove(); cards.delete(name); }
    body.querySelector(":scope > .empty")?.remove();
    if (!all.length) body.append(none());
    all.forEach((item, index) => {
      const name = key(item);
      const known = cards.get(name) ?? {};
      known.item = item;
      const made = card(item, now, found, () => known.item);
      if (known.element) patch(known.element, made); else known.element = made;
      cards.set(name, known);
      if (body.children[index] !== known.element) body.insertBefore(known.element, body.children[index] ?? null);
    });
  }

  return {
    title, path, query: {},
    root: h("div", { class: "page" }, h("div", {}, h("div", { class: "head" }, h("h1", {}, title), count), h("p", { class: "lead" }, lead)), notice, body),
    tick: () => { if (cards.size <= TICKING) paint(last, clock()); },
    draw: (found) => { last = found; paint(found, found.now); },
  };
}
