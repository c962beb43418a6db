// Requests to the server, and word of changes; the token of whoever signed in lives as long as the tab.

const base = new URL("api/", document.baseURI);

export const session = {
  readOnly: false,
  get token() { return sessionStorage.getItem("resonate-token") ?? ""; },
  set token(value) { value ? sessionStorage.setItem("resonate-token", value) : sessionStorage.removeItem("resonate-token"); },
};

export class Refused extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

function headers(more = {}) {
  return session.token ? { ...more, authorization: /^[^.\s:]+:.+$/.test(session.token) ? `Basic ${btoa(session.token)}` : `Bearer ${session.token}` } : more;
}

function address(path, query) {
  const url = new URL(path, base);
  for (const [name, value] of Object.entries(query)) if (value !== "" && value !== undefined && value !== null) url.searchParams.set(name, value);
  return url;
}

async function answer(response) {
  const text = await response.text();
  let found = {};
  try { found = JSON.parse(text); } catch { found = { error: text.slice(0, 200) }; }
  if (!response.ok) throw new Refused(response.status, found.error || `the server answered ${response.status}`);
  return found;
}

async function reach(url, options) {
  try { return await fetch(url, options); }
  catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server is out of reach. It is asked again until it answers.");
  }
}

export async function get(path, query = {}, signal = undefined) {
  return answer(await reach(address(path, query), { headers: headers(), signal }));
}

export async function act(action, body) {
  const sent = headers({ "content-type": "application/json", "resonate-action": "1" });
  return (await answer(await reach(new URL(`act/${action}`, base), { method: "POST", headers: sent, body: JSON.stringify(body) }))).text;
}

export async function download(path, query, name) {
  const response = await reach(address(path, query), { headers: headers() });
  if (!response.ok) await answer(response);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Call `changed` whenever the screen has become something else, until the signal aborts. Asks nothing while hidden.
export async function watch(path, query, signal, changed, status) {
  while (!signal.aborted) {
    if (document.hidden) {
      status("paused");
      await new Promise((go) => {
        document.addEventListener("visibilitychange", go, { once: true });
        signal.addEventListener("abort", go, { once: true });
      });
      if (signal.aborted) return;
      changed();
    }
    const stop = new AbortController();
    const end = () => stop.abort();
    signal.addEventListener("abort", end, { once: true });
    const hidden = () => { if (document.hidden) stop.abort(); };
    document.addEventListener("visibilitychange", hidden);
    try {
      const response = await reach(address(`live/${path}`, query), { headers: headers(), signal: stop.signal });
      if (!response.ok) await answer(response);
      status("live");
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        if (value.includes("event: change")) changed();
      }
    } catch (error) {
      if (!stop.signal.aborted) status("lost", error.message);
    } finally {
      signal.removeEventListener("abort", end);
      document.removeEventListener("visibilitychange", hidden);
      stop.abort();
    }
    if (signal.aborted || document.hidden) continue;
    await new Promise((go) => setTimeout(go, 2000));
    if (!signal.aborted) changed();
  }
}
