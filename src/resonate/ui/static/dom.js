// Elements from JavaScript. Text is always text: nothing that is shown is ever parsed as HTML.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Replace what an element holds; what is not there is left out.
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
}

export function toast(text, bad = false) {
  const shown = h("div", { class: bad ? "toast bad" : "toast" }, text);
  document.getElementById("toasts").append(shown);
  setTimeout(() => shown.remove(), bad ? 9000 : 5000);
}

// Ask before something is done. `run` does it and returns what came of it; errors stay in the dialog.
export function dialog({ title, text, fields = [], label, danger = false, run }) {
  const before = document.activeElement;
  const problem = h("p", { class: "problem", role: "alert" });
  const submit = h("button", { type: "submit", class: danger ? "danger" : "primary" }, label);
  const box = h("dialog", { "aria-labelledby": "dialog-title" },
    h("form", { method: "dialog", onsubmit: async (event) => {
      event.preventDefault();
      submit.disabled = true;
      problem.textContent = "";
      try {
        const result = await run(Object.fromEntries(new FormData(event.target)));
        box.close();
        if (result) toast(result);
      } catch (error) {
        problem.textContent = error.message;
        submit.disabled = false;
      }
    } },
      h("h2", { id: "dialog-title" }, title), text && h("p", {}, text), fields, problem,
      h("div", { class: "buttons" }, h("button", { type: "button", class: "plain", onclick: () => box.close() }, "Back"), submit)));
  box.addEventListener("close", () => { box.remove(); before?.focus?.(); });
  document.body.append(box);
  box.showModal();
  return box;
}
