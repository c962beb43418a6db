// Requests to the server; the token of whoever signed in lives as long as the tab.

const base = new URL("api/", document.baseURI);
const BASIC = /^[^:]+:.+$/; // user and password: no token has a colon

export const session = {
  readOnly: false,
  decoder: "",
  get token() { return sessionStorage.getItem("resonate-token") ?? ""; },
  set token(value) { value ? sessionStorage.setItem("resonate-token", value) : sessionStorage.removeItem("resonate-token"); },
  get sendable() { return BASIC.test(this.token) || !/[^\x00-\xff]/.test(this.token); }, // as a header takes it
};

export class Refused extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

function headers(more = {}) {
  if (!session.token) return more;
  if (!session.sendable) throw new Refused(401, "That is no token");
  return { ...more, authorization: BASIC.test(session.token) ? `Basic ${btoa(String.fromCharCode(...new TextEncoder().encode(session.token)))}` : `Bearer ${session.token}` };
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
    throw new Refused(0, "The server is out of reach.");
  }
}

export async function get(path, query = {}, signal = undefined) {
  return answer(await reach(address(path, query), { headers: headers(), signal }));
}

export async function stream(path, query, signal) {
  const response = await reach(address(path, query), { headers: headers(), signal });
  if (!response.ok) await answer(response);
  return response.body.pipeThrough(new TextDecoderStream()).getReader();
}

// Do something; what came of it: a text, and the id of what has been begun, if anything has.
export async function act(action, body) {
  const sent = headers({ "content-type": "application/json", "resonate-action": "1" });
  try {
    return await answer(await reach(new URL(`act/${action}`, base), { method: "POST", headers: sent, body: JSON.stringify(body) }));
  } catch (error) {
    if (error.status === 0) throw new Refused(0, "The server is out of reach, so this may have happened or not. See what has become of it before you do it again.");
    throw error;
  }
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

// What the decoder that this dashboard names makes of stored values: JSON each, in their order.
export async function decoded(values, signal) {
  let response;
  try {
    response = await fetch(session.decoder, { method: "POST", credentials: "include", headers: { "content-type": "application/json" }, body: JSON.stringify({ values }), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(`The decoder ${session.decoder} cannot be reached from this page. It has to answer to this origin (CORS).`);
  }
  const found = response.ok ? await response.json().catch(() => null) : null;
  if (!Array.isArray(found?.values) || found.values.length !== values.length) throw new Error(`The decoder ${session.decoder} answered ${response.status}${response.ok ? ", and not with as many values" : ""}`);
  return found.values;
}
