// Elements from data: text is only ever text, never markup.
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function replace(parent, ...children) {
  parent.replaceChildren(...children);
}

export function state(name) {
  return h("span", { class: `state s-${name.replace(" ", "-")}` }, name);
}

export function when(at) {
  if (at === undefined || at === null) return "–";
  const date = new Date(at);
  if (isNaN(date)) return "never";
  const text = date.toLocaleTimeString([], { hour12: false });
  return date.toDateString() === new Date().toDateString() ? text : `${date.toLocaleDateString()} ${text}`;
}

export function span(ms) {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(1)} s`;
  const units = [[86400000, "d"], [3600000, "h"], [60000, "m"], [1000, "s"]];
  const at = units.findIndex(([size]) => ms >= size);
  const [size, unit] = units[at];
  const rest = units[at + 1] ? Math.floor((ms % size) / units[at + 1][0]) : 0;
  return `${Math.floor(ms / size)}${unit}${rest ? ` ${rest}${units[at + 1][1]}` : ""}`;
}

const CUT = 20000; // characters of a value that are shown
export function pretty(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return text.length > CUT ? `${text.slice(0, CUT)}\n… ${text.length - CUT} characters more` : text;
}

export function title(call) {
  if (!call.name) return call.kind;
  if (call.kind === "sleep") return `sleep ${call.name}`;
  return (call.version || 1) === 1 ? call.name : `${call.name} v${call.version}`;
}

export function link(id) {
  return `#/x/${encodeURIComponent(id)}`;
}

export function toast(text, bad) {
  const element = h("div", { class: bad ? "toast bad" : "toast" }, text);
  document.getElementById("toasts").append(element);
  setTimeout(() => element.remove(), bad ? 8000 : 4000);
}

// Opens the dialog; resolves with what the form says when it is confirmed, else null.
export function dialog(heading, body, confirm, danger) {
  const element = document.getElementById("dialog");
  return new Promise((resolve) => {
    const close = (value) => { element.close(); resolve(value); };
    const send = h("button", { type: "submit", class: danger ? "danger" : "first" }, confirm);
    const form = h("form", { method: "dialog", onsubmit: (event) => { event.preventDefault(); close(new FormData(form)); } },
      h("h2", { id: "dialog-title" }, heading), ...body,
      h("div", { class: "actions" }, h("button", { type: "button", onclick: () => close(null) }, "Leave it"), send));
    replace(element, form);
    element.oncancel = () => resolve(null);
    element.showModal();
    (form.querySelector("textarea, input, select") || send).focus();
  });
}
