// Word of changes, by server-sent events; nothing is asked while the tab is hidden.
import { stream } from "./api.js";

const AGAIN = 2000; // milliseconds until a stream that broke is opened again

function next(signal, names) {
  return new Promise((go) => {
    for (const [target, name] of names) target.addEventListener(name, go, { once: true });
    signal.addEventListener("abort", go, { once: true });
  });
}

// Until it is time to ask again, and somebody looks.
export async function later(signal) {
  await new Promise((go) => setTimeout(go, AGAIN));
  while (document.hidden && !signal.aborted) await next(signal, [[document, "visibilitychange"]]);
}

// Call `changed` whenever the screen has become something else, until the signal aborts.
export async function watch(path, query, signal, changed, status) {
  while (!signal.aborted) {
    if (document.hidden) {
      status("paused");
      while (document.hidden && !signal.aborted) await next(signal, [[document, "visibilitychange"]]);
      if (signal.aborted) return;
      changed();
    }
    const stop = new AbortController();
    const end = () => stop.abort();
    const hidden = () => { if (document.hidden) stop.abort(); };
    signal.addEventListener("abort", end, { once: true });
    document.addEventListener("visibilitychange", hidden);
    let broken = "";
    try {
      const reader = await stream(`live/${path}`, query, stop.signal);
      status("live");
      let over = false;
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        if (value.includes("event: change")) changed();
        over ||= value.includes("event: over");
      }
      if (over) { status("still"); return; }
    } catch (error) {
      if (!stop.signal.aborted) { broken = error.message; status("lost", broken); }
    } finally {
      signal.removeEventListener("abort", end);
      document.removeEventListener("visibilitychange", hidden);
      stop.abort();
    }
    if (signal.aborted || document.hidden) continue;
    if (broken) await new Promise((go) => setTimeout(go, AGAIN));
    if (!signal.aborted) changed();
  }
}
