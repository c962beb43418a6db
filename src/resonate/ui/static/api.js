// Asks our own server, as whoever has signed in.
import { dialog, h, toast } from "./dom.js";

const KEY = "resonate-authorization";

function headers(more) {
  const known = sessionStorage.getItem(KEY);
  return known ? { ...more, authorization: known } : more;
}

async function answered(response) {
  let body = {};
  try { body = await response.json(); } catch { /* no JSON: the status says it */ }
  if (response.ok) return body;
  const error = new Error(body.error || `the server answered ${response.status}`);
  error.status = response.status;
  throw error;
}

// What a view shows, or null if that is what is known already.
export async function ask(path, params, etag) {
  const query = new URLSearchParams(Object.entries(params || {}).filter(([, value]) => value));
  const response = await fetch(`api/${path}?${query}`, { headers: headers(etag ? { "if-none-match": etag } : {}), cache: "no-store" });
  if (response.status === 304) return null;
  const body = await answered(response);
  return { ...body, etag: response.headers.get("etag") };
}

// Has something done, and tells what came of it; whether it was done.
export async function act(action) {
  try {
    const body = JSON.stringify(action);
    const response = await fetch("api/act", { method: "POST", body, headers: headers({ "content-type": "application/json", "x-resonate-ui": "1" }) });
    toast((await answered(response)).said);
    return true;
  } catch (error) {
    toast(error.message, true);
    return false;
  }
}

let asking = null;
export function signIn(text) {
  asking ||= (async () => {
    const form = await dialog("Who are you?", [
      h("p", { class: "soft" }, `The server says: ${text}.`),
      h("label", {}, "Token, or user:password", h("input", { name: "secret", type: "password", autocomplete: "current-password" })),
    ], "Sign in");
    asking = null;
    const secret = form && form.get("secret");
    if (!secret) return false;
    const pair = /^[^.\s:]+:.+$/.test(secret);
    sessionStorage.setItem(KEY, pair ? `Basic ${btoa(secret)}` : `Bearer ${secret}`);
    return true;
  })();
  return asking;
}
