// Times and states, as people say them.
import { h } from "./dom.js";

export const STATES = ["queued", "running", "waiting", "retrying", "halted", "succeeded", "failed", "cancelled", "timed out", "pending"];

const SIGNS = { queued: "◌", running: "▶", waiting: "◔", retrying: "↻", halted: "■", succeeded: "✓", failed: "✕", cancelled: "⊘", "timed out": "⌛", pending: "…" };

export function badge(state) {
  return h("span", { class: `badge ${state.replace(" ", "-")}` }, h("span", { "aria-hidden": "true" }, `${SIGNS[state] ?? "?"} `), state);
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

export function at(instant, now = Date.now()) {
  const then = new Date(instant);
  if (Number.isNaN(then.getTime()) || instant > now + 3.2e11) return "never";
  const time = then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  return then.toDateString() === new Date(now).toDateString() ? time : `${then.toLocaleDateString([], { year: "numeric", month: "short", day: "numeric" })}, ${time}`;
}

export function ago(instant, now) {
  const away = Math.abs(now - instant);
  const text = away < 1000 ? "now" : span(away < 60000 ? Math.round(away / 1000) * 1000 : away).replace(".00", "").replace(/\.0 s/, " s");
  if (text === "now" || text === "forever") return text;
  return instant > now ? `in ${text}` : `${text} ago`;
}

export function moment(instant, now) {
  const then = new Date(instant);
  if (Number.isNaN(then.getTime())) return "never";
  return h("time", { datetime: then.toISOString(), title: then.toISOString() }, at(instant, now));
}

// A cron expression in words, for the common ones; others stay as they are.
export function cron(text) {
  const parts = text.trim().split(/\s+/);
  if (parts.length !== 5) return text;
  const [minute, hour, day, month, weekday] = parts;
  const days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
  const whole = (part) => /^\d+$/.test(part);
  if (parts.every((part) => part === "*")) return "every minute";
  if (/^\*\/\d+$/.test(minute) && [hour, day, month, weekday].every((part) => part === "*")) return `every ${minute.slice(2)} minutes`;
  if (!whole(minute)) return text;
  if ([hour, day, month, weekday].every((part) => part === "*")) return `every hour at minute ${minute}`;
  if (!whole(hour)) return text;
  const time = `${hour.padStart(2, "0")}:${minute.padStart(2, "0")} UTC`;
  if (day === "*" && month === "*" && weekday === "*") return `every day at ${time}`;
  if (day === "*" && month === "*" && weekday === "1-5") return `Monday to Friday at ${time}`;
  if (day === "*" && month === "*" && whole(weekday)) return `every ${days[Number(weekday)]} at ${time}`;
  if (whole(day) && month === "*" && weekday === "*") return `on day ${day} of each month at ${time}`;
  return text;
}
