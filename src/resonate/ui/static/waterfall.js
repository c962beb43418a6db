// A tree of calls on a line of time. Only the rows that can be seen are in the page.
import { h, replace, span, title } from "./dom.js";

const ROW = 30; // px, as in the style sheet
const AROUND = 12; // rows drawn beyond those that can be seen
const MARKS = { succeeded: "✓", failed: "✗", "timed out": "✗", cancelled: "✗", halted: "!", running: "▶", retrying: "↻", queued: "…", waiting: "·", pending: "·" };

export function waterfall(choose) {
  const rows = h("div", { class: "rows", role: "presentation" });
  const scroll = h("div", { class: "tree", role: "tree", tabindex: "0", "aria-label": "Calls" }, rows);
  const count = h("span", { class: "soft" });
  const element = h("section", { class: "panel" }, h("div", { class: "tree-head" }, h("h2", {}, "Calls"), count), scroll);
  const folded = new Set();
  let root = null;
  let now = 0;
  let lines = [];
  let at = 0;
  let planned = 0;

  scroll.addEventListener("scroll", () => { planned ||= requestAnimationFrame(draw); }, { passive: true });
  addEventListener("resize", () => { planned ||= requestAnimationFrame(draw); });
  scroll.addEventListener("keydown", (event) => {
    const line = lines[at];
    const open = line && line.call.calls && line.call.calls.length && !folded.has(line.call.id);
    if (event.key === "ArrowDown") move(at + 1);
    else if (event.key === "ArrowUp") move(at - 1);
    else if (event.key === "Home") move(0);
    else if (event.key === "End") move(lines.length - 1);
    else if (event.key === "ArrowLeft") open ? fold(line.call.id) : move(lines.findLastIndex((each, index) => index < at && each.depth < line.depth));
    else if (event.key === "ArrowRight") folded.has(line.call.id) ? fold(line.call.id) : move(at + 1);
    else if (event.key === "Enter" || event.key === " ") choose(line.call);
    else return;
    event.preventDefault();
  });

  function move(to) {
    if (to < 0 || to >= lines.length) return;
    at = to;
    const top = at * ROW;
    if (top < scroll.scrollTop) scroll.scrollTop = top;
    else if (top + ROW > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = top + ROW - scroll.clientHeight;
    choose(lines[at].call);
    draw();
  }

  function fold(id) {
    folded.has(id) ? folded.delete(id) : folded.add(id);
    layout();
    draw();
  }

  function layout() {
    lines = [];
    const stack = [{ call: root, depth: 0 }];
    while (stack.length) {
      const line = stack.pop();
      lines.push(line);
      if (folded.has(line.call.id)) continue;
      const below = line.call.calls || [];
      for (let index = below.length - 1; index >= 0; index--) stack.push({ call: below[index], depth: line.depth + 1 });
    }
    at = Math.min(at, lines.length - 1);
    rows.style.height = `${lines.length * ROW}px`;
  }

  function range() {
    let end = root.created_at + 1;
    for (const { call } of lines) end = Math.max(end, call.settled_at || Math.min(now, call.kind === "sleep" ? call.deadline : now));
    return [root.created_at, Math.max(1, end - root.created_at)];
  }

  function row(line, index, begin, length) {
    const { call, depth } = line;
    const name = call.state.replace(" ", "-");
    const below = call.calls && call.calls.length;
    const from = Math.max(0, Math.min(1, (call.created_at - begin) / length));
    const to = Math.max(from, Math.min(1, ((call.settled_at || now) - begin) / length));
    const bar = h("span", { class: `bar b-${name}${call.settled_at ? "" : " open"}` });
    bar.style.left = `${from * 100}%`;
    bar.style.width = `${(to - from) * 100}%`;
    const took = h("span", { class: "took" }, span((call.settled_at || now) - call.created_at));
    const fold_ = below ? h("button", { type: "button", class: "fold", tabindex: "-1", "aria-label": folded.has(call.id) ? "unfold" : "fold", onclick: (event) => { event.stopPropagation(); fold(call.id); } }, folded.has(call.id) ? "▸" : "▾") : h("span", { class: "fold" });
    const element = h("div", { class: "call", role: "treeitem", "aria-level": depth + 1, "aria-selected": String(index === at), "aria-expanded": below ? String(!folded.has(call.id)) : null, "aria-label": `${title(call)}, ${call.state}`, onclick: () => { at = index; choose(call); draw(); } },
      h("span", { class: "name" }, fold_, h("span", { class: `mark m-${name}`, "aria-hidden": "true" }, MARKS[call.state] || "·"), h("span", { class: "title" }, title(call)), h("span", { class: "id mono" }, call.id)),
      h("span", { class: "time" }, bar), took);
    element.style.top = `${index * ROW}px`;
    element.firstChild.style.paddingLeft = `${6 + Math.min(depth, 24) * 16}px`;
    return element;
  }

  function draw() {
    planned = 0;
    if (!root) return;
    const first = Math.max(0, Math.floor(scroll.scrollTop / ROW) - AROUND);
    const last = Math.min(lines.length, Math.ceil((scroll.scrollTop + (scroll.clientHeight || 600)) / ROW) + AROUND);
    const [begin, length] = span_;
    replace(rows, ...lines.slice(first, last).map((line, offset) => row(line, first + offset, begin, length)));
  }

  let span_ = [0, 1];
  function show(tree, instant) {
    root = tree;
    now = instant;
    layout();
    span_ = range();
    count.textContent = `${lines.length.toLocaleString()} ${lines.length === 1 ? "call" : "calls"}`;
    draw();
  }

  return { element, show };
}
