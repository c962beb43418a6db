// Times and states, as people say them.
import { h } from "./dom.js";

export const STATES = ["queued", "running", "waiting", "retrying", "halted", "succeeded", "failed", "cancelled", "timed out"];

const SIGNS = { queued: "○", running: "▶", waiting: "◔", retrying: "↻", halted: "■", succeeded: "✓", failed: "✕", cancelled: "⊘", "timed out": "◷", pending: "…" };

export function kebab(state) { return state.replaceAll(" ", "-"); }

export function sign(state) {
  return h("span", { class: `sign ${kebab(state)}`, "aria-hidden": "true" }, SIGNS[state] ?? "?");
}

export function badge(state) {
  return h("span", { class: `badge ${kebab(state)}` }, sign(state), state);
}

export function span(ms) {
  if (ms < 0) ms = 0;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
  const minutes = Math.floor(ms / 60000);
  if (minutes < 60) return `${minutes} min ${Math.floor(ms / 1000) % 60} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  const days = Math.floor(hours / 24);
  return days > 3650 ? "forever" : `${days} days`;
}

// The same without what nobody reads beside a moving clock.
export function about(ms) {
  if (ms < 60000) return `${Math.floor(Math.max(0, ms) / 1000)} s`;
  if (ms < 3600000) return `${Math.floor(ms / 60000)} min`;
  return span(ms).replace(" 0 min", "");
}

export function at(instant, now = Date.now()) {
  const then = new Date(instant);
  if (Number.isNaN(then.getTime()) || instant > now + 3.2e11) return "never";
  const time = then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  const away = Math.round((new Date(then).setHours(0, 0, 0, 0) - new Date(now).setHours(0, 0, 0, 0)) / 86400000);
  const day = { "-1": "yesterday", 0: "", 1: "tomorrow" }[away] ?? then.toLocaleDateString([], { weekday: away > 1 && away < 7 ? "short" : undefined, year: Math.abs(away) > 300 ? "numeric" : undefined, month: "short", day: "numeric" });
  return day ? `${day}, ${time}` : time;
}

export function ago(instant, now) {
  const away = Math.abs(now - instant);
  if (away < 1000) return "now";
  const text = about(away);
  if (text === "forever") return text;
  return instant > now ? `in ${text}` : `${text} ago`;
}

export function moment(instant, now) {
  const then = new Date(instant);
  if (Number.isNaN(then.getTime())) return "never";
  return h("time", { datetime: then.toISOString(), title: then.toISOString() }, at(instant, now));
}

export function deadline(instant, now) {
  const text = at(instant, now);
  return text === "never" ? "none" : h("span", {}, moment(instant, now), h("span", { class: "muted" }, ` · ${ago(instant, now)}`));
}

export function number(value) { return value.toLocaleString("en"); }

// A cron expression in words, for the common ones; others stay as they are.
export function cron(text) {
  const parts = text.trim().split(/\s+/).map((part) => (part === "*/1" ? "*" : part));
  if (parts.length !== 5) return text;
  const [minute, hour, day, month, weekday] = parts;
  const days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
  const whole = (part) => /^\d+$/.test(part);
  const any = (...given) => given.every((part) => part === "*");
  if (any(...parts)) return "every minute";
  if (/^\*\/\d+$/.test(minute) && any(hour, day, month, weekday)) return `every ${minute.slice(2)} minutes`;
  if (!whole(minute)) return text;
  if (any(hour, day, month, weekday)) return minute === "0" ? "every hour" : `every hour at minute ${minute}`;
  if (/^\*\/\d+$/.test(hour) && any(day, month, weekday)) return `every ${hour.slice(2)} hours${minute === "0" ? "" : ` at minute ${minute}`}`;
  if (!whole(hour)) return text;
  const time = `${hour.padStart(2, "0")}:${minute.padStart(2, "0")} UTC`;
  if (any(day, month, weekday)) return `every day at ${time}`;
  if (any(day, month) && weekday === "1-5") return `Monday to Friday at ${time}`;
  if (any(day, month) && whole(weekday)) return `every ${days[Number(weekday)]} at ${time}`;
  if (whole(day) && any(month, weekday)) return `on day ${day} of each month at ${time}`;
  return text;
}
