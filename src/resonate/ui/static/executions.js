// The list of executions.
import { h, link, replace, span, state, title, when } from "./dom.js";

const STATES = ["queued", "running", "waiting", "halted", "succeeded", "failed", "cancelled", "timed out"];

export function executions(place) {
  const params = Object.fromEntries(place.params);
  const body = h("div", {});
  let known = null;
  const view = { title: "Executions", path: "executions", params: { limit: 50, ...params }, draw };

  function go(changed) {
    const next = new URLSearchParams(Object.entries({ ...params, cursor: "", ...changed }).filter(([, value]) => value));
    location.hash = `#/executions${next.size ? `?${next}` : ""}`;
  }

  function field(label, name, wide) {
    const input = h("input", { name, value: params[name] || "", type: "search", placeholder: name === "prefix" ? "order-" : "", autocomplete: "off" });
    input.addEventListener("change", () => go({ [name]: input.value.trim() }));
    return h("label", { class: wide ? "wide" : "" }, label, input);
  }

  function filters() {
    const chosen = h("select", { name: "state" }, h("option", { value: "" }, "any"), ...STATES.map((name) => h("option", { value: name }, name)));
    chosen.value = params.state || "";
    chosen.addEventListener("change", () => go({ state: chosen.value }));
    return h("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
      field("Id begins with", "prefix", true), h("label", {}, "State", chosen), field("Function", "function"), field("Group", "group"), field("Tag (name=value)", "tag"));
  }

  function row(call, now) {
    return h("tr", {},
      h("td", {}, h("a", { href: link(call.id), class: "mono" }, call.id)),
      h("td", {}, state(call.state)),
      h("td", {}, title(call)),
      h("td", { class: "when" }, when(call.created_at)),
      h("td", { class: "num" }, span((call.settled_at || now) - call.created_at)),
      h("td", {}, call.group || ""),
      h("td", { class: "soft" }, call.error ? [call.error.type, call.error.message].filter(Boolean).join(": ").slice(0, 120) : call.worker ? `on ${call.worker}` : ""));
  }

  function table(calls, now) {
    if (!calls.length) {
      const filtered = Object.values(params).some(Boolean);
      return h("div", { class: "panel empty" }, h("strong", {}, filtered ? "Nothing matches" : "Nothing has run yet"),
        filtered ? h("a", { href: "#/" }, "Show all executions") : "Run a program with this URL, or: resonate invoke NAME ARGS");
    }
    const heads = ["Id", "State", "Function", "Begun", "Took", "Group", ""];
    return h("div", { class: "panel" }, h("table", { class: "cards" },
      h("thead", {}, h("tr", {}, ...heads.map((name, at) => h("th", { class: at === 4 ? "num" : "", scope: "col" }, name)))),
      h("tbody", {}, ...calls.map((call) => row(call, now)))));
  }

  function draw(main, page, answer) {
    if (!view.drawn) {
      replace(main, h("h1", {}, "Executions"), filters(), body);
      view.drawn = true;
    }
    known = page;
    const more = page.cursor ? h("button", { type: "button", onclick: () => go({ cursor: known.cursor }) }, "Older →") : "";
    const back = params.cursor ? h("button", { type: "button", onclick: () => history.back() }, "← Newer") : "";
    const focused = document.activeElement && body.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    replace(body, table(page.items, answer.now), h("div", { class: "pages" }, back || h("span", {}), more || h("span", {})));
    if (focused) body.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  }

  return view;
}
