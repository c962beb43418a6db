// Elements from JavaScript. Text is always text: nothing that is shown is ever parsed as HTML.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "value") element.value = value;
    else if (name === "title") element.title = visible(value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...present(children));
  return element;
}

// Replace what an element holds; what is not there is left out.
export function fill(element, ...children) {
  element.replaceChildren(...present(children));
}

function present(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== "").map((child) => (typeof child === "string" ? visible(child) : child));
}

// Signs that show nothing, or turn others around so that one text passes for another; what joins letters and emoji stays.
const UNSEEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

// Text with those as their codes, as the command writes them.
export function visible(text) {
  return String(text).replace(UNSEEN, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

// An id; in quotes where it would not be seen where it begins or ends.
export function named(id) { return id.trim() === id ? id : JSON.stringify(id); }

// Make `old` as `wanted` is. What is in both stays the same element, so that focus, scrolling and a click that is under
// way stay where they are.
export function patch(old, wanted) {
  if (old.nodeType === Node.TEXT_NODE) { if (old.data !== wanted.data) old.data = wanted.data; return; }
  for (const { name, value } of wanted.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!wanted.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  let here = old.firstChild;
  for (const child of [...wanted.childNodes]) {
    let found = here;
    while (found && !same(found, child)) found = found.nextSibling;
    if (!found) { old.insertBefore(child, here); continue; }
    while (here !== found) here = dropped(here);
    patch(found, child);
    here = found.nextSibling;
  }
  while (here) here = dropped(here);
}

function dropped(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

// Links that lead elsewhere, buttons that say something else and rows of other things are others.
function same(one, other) {
  if (one.nodeName !== other.nodeName) return false;
  if (one.nodeName === "BUTTON") return one.textContent === other.textContent;
  return one.nodeType !== Node.ELEMENT_NODE || (one.getAttribute("href") === other.getAttribute("href") && one.dataset.key === other.dataset.key);
}

export function fact(name, value, more = {}) {
  return value === null || value === undefined || value === "" ? null : h("div", more, h("dt", {}, name), h("dd", {}, value));
}

export function button(label, onclick, kind = "plain", more = {}) {
  return h("button", { type: "button", class: kind, onclick, ...more }, label);
}

// A button that puts a text on the clipboard.
export function copier(text, what) {
  return button("Copy", async () => {
    try { await navigator.clipboard.writeText(text); toast("Copied"); } catch { toast("The browser does not let this page copy", true); }
  }, "quiet small copy", { "aria-label": `Copy ${what}`, title: `Copy ${what}` });
}

const TOKENS = /("(?:[^"\\\n]|\\.)*")(\s*:)?|\b(?:true|false|null)\b|-?\b\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b/g;

// JSON, or a call with arguments in JSON, in colours.
export function coloured(text) {
  const found = [];
  let end = 0;
  for (const match of text.matchAll(TOKENS)) {
    if (match.index > end) found.push(text.slice(end, match.index));
    const [whole, string, colon] = match;
    if (string) found.push(h("span", { class: colon ? "t-key" : "t-text" }, string), colon ?? "");
    else found.push(h("span", { class: "t-value" }, whole));
    end = match.index + whole.length;
  }
  found.push(text.slice(end));
  return found;
}

// `id`: of an execution that the text begins with, which it leads to.
export function toast(text, bad = false, id = "") {
  const said = id && text.startsWith(id) ? [h("a", { href: `#/execution/${encodeURIComponent(id)}` }, named(id)), text.slice(id.length)] : text;
  const shown = h("div", { class: bad ? "toast bad" : "toast" }, h("span", {}, said), button("×", () => shown.remove(), "close", { "aria-label": "Close this message" }));
  document.getElementById("toasts").append(shown);
  setTimeout(() => shown.remove(), bad ? 12000 : 6000);
}

// Ask before something is done. `run` does it and returns what came of it, as `act` does; errors stay in the dialog.
export function dialog({ title, text, id, fields = [], label, danger = false, back = "Back", run }) {
  const before = document.activeElement;
  const problem = h("p", { class: "problem", role: "alert" });
  const submit = h("button", { type: "submit", class: danger ? "danger" : "primary" }, label);
  const box = h("dialog", { "aria-labelledby": "dialog-title" },
    h("form", { method: "dialog", onsubmit: async (event) => {
      event.preventDefault();
      submit.disabled = true;
      problem.textContent = "";
      try {
        const result = await run(Object.fromEntries(new FormData(event.target)), (progress) => { submit.textContent = progress; });
        box.close();
        if (result?.text) toast(result.text, false, result.begun);
      } catch (error) {
        fill(problem, error.message);
        submit.disabled = false;
        submit.textContent = label;
      }
    } },
      h("h2", { id: "dialog-title" }, title), id && h("p", { class: "id" }, named(id)), text && h("p", {}, text), fields, problem,
      h("div", { class: "buttons" }, back && button(back, () => box.close()), submit)));
  box.addEventListener("close", () => { box.remove(); (before?.isConnected ? before : document.getElementById("main")).focus(); });
  box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
  document.body.append(box);
  box.showModal();
  return box;
}

export function empty(title, text, code) {
  return h("div", { class: "empty" }, h("h2", {}, title), h("p", {}, text), code && h("p", { class: "command" }, h("code", {}, code), copier(code, "the command")));
}
