// Calls of the public API with the page's session. An error is an ApiError whose message can be shown as it is.
//
// Changes carry the session's CSRF token. Reads and repeatable changes (PUT, DELETE, POST with an idempotency key or
// with `repeatable`) are tried again when the connection breaks, when the service is unavailable, and after a rate limit.

import { t } from "./texts.js";

const ATTEMPTS = 4;
const RETRIED = new Set([429, 502, 503, 504]);
const meta = (name) => document.querySelector(`meta[name=${name}]`)?.content ?? "";
let csrf = meta("csrf");
const scopes = new Set(meta("scopes").split(" "));

// `scope`: read, jobs or admin.
export const allows = (scope) => scopes.has("admin") || scopes.has(scope);

export class ApiError extends Error {
  // `errors`: JSON pointers into the body -> what is wrong there. `status` is 0 if there was no answer.
  constructor(message, { status = 0, type = "", errors = {} } = {}) {
    super(message);
    Object.assign(this, { status, type: type.replace("/problems/", ""), errors: errors ?? {} });
  }
}

// A key for one intention of the user: the same for each repeat, so that two clicks make one job. Only POST /jobs and
// POST /generations honour it.
export function makeIdempotencyKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const get = (path, options) => call("GET", path, options);
export const post = (path, body, options) => call("POST", path, { ...options, body });
export const put = (path, body, options) => call("PUT", path, { ...options, body });
export const patch = (path, body, options) => call("PATCH", path, { ...options, body });

// What this page itself deletes: the news of it surprises nobody here.
const removed = new Set();
export const isRemoved = (path) => removed.has(path);

export async function remove(path, options) {
  removed.add(path);
  try {
    return await call("DELETE", path, options);
  } catch (error) {
    removed.delete(path);
    throw error;
  }
}

// All items of a list, page by page; `limit` is the most in all.
export async function list(path, { limit = Infinity, pageSize = 100, signal } = {}) {
  const items = [];
  for (let after = ""; ; ) {
    const size = Math.min(pageSize, limit - items.length);
    const page = await get(`${path}${path.includes("?") ? "&" : "?"}limit=${size}${after}`, { signal });
    items.push(...page.data);
    if (!page.has_more || items.length >= limit) return items;
    after = `&after=${encodeURIComponent(page.last_id)}`;
  }
}

async function call(method, path, { body, signal, idempotencyKey, repeatable = false } = {}) {
  const isRepeatable = repeatable || Boolean(idempotencyKey) || !["POST", "PATCH"].includes(method);
  for (let attempt = 1; ; attempt++) {
    const headers = { Accept: "application/json", "X-CSRF-Token": csrf };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (idempotencyKey) headers["Idempotency-Key"] = idempotencyKey;
    const token = csrf;
    let answer;
    try {
      answer = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      if (!isRepeatable || attempt >= ATTEMPTS) throw new ApiError(t("error.network"));
      await pause(attempt);
      continue;
    }
    if (answer.ok) return answer.status === 204 ? null : answer.json();
    if (isRepeatable && attempt < ATTEMPTS && RETRIED.has(answer.status) && isShort(answer)) {
      await pause(attempt, Number(answer.headers.get("Retry-After")));
      continue;
    }
    const error = problemOf(answer.status, await answer.text());
    if (isSessionLost(error) && (await renewSession(token))) continue;
    throw error;
  }
}

// Sends a form or a file, and reports its progress as bytes: `onProgress(sent, total)`. `signal` stops it.
export async function upload(path, body, options = {}) {
  const token = csrf;
  try {
    return await send(path, body, options);
  } catch (error) {
    if (isSessionLost(error) && (await renewSession(token))) return send(path, body, options);
    throw error;
  }
}

function send(path, body, { method = "POST", onProgress = () => {}, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, path);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("X-CSRF-Token", csrf);
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded, event.total));
    request.addEventListener("load", () => {
      if (request.status < 400) resolve(JSON.parse(request.responseText));
      else reject(problemOf(request.status, request.responseText));
    });
    request.addEventListener("error", () => reject(new ApiError(t("error.network"))));
    request.addEventListener("abort", () => reject(new DOMException(t("error.aborted"), "AbortError")));
    signal?.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}

function problemOf(status, text) {
  try {
    const problem = JSON.parse(text);
    if (problem.title) return new ApiError(problem.detail || problem.title, { ...problem, status });
  } catch {
    // not the service's own answer: a proxy's
  }
  return new ApiError(t("error.unreadable", { status }), { status });
}

function isShort(answer) {
  return !(Number(answer.headers.get("Retry-After")) > 30);
}

function pause(attempt, seconds = 0) {
  return new Promise((resolve) => setTimeout(resolve, Math.max(seconds * 1000, 250 * 2 ** attempt * (0.75 + Math.random() / 2))));
}

// --- sessions that end while a page is open -----------------------------------------------------------

let renewal = null;

function isSessionLost(error) {
  return error.status === 401 || (error.status === 403 && error.type === "csrf");
}

// Whether the page may go on. What was entered stays: the user logs in in another tab. Several calls ask once;
// one that was sent with an older token just goes again.
async function renewSession(token) {
  if (token !== csrf) return true;
  renewal ??= askToLogIn().finally(() => (renewal = null));
  return renewal;
}

async function askToLogIn() {
  const found = await adoptSession();
  if (found !== "none") return found === "new";
  const { confirmLogin } = await import("./ui.js");
  while (await confirmLogin()) {
    if ((await adoptSession()) !== "none") return true;
  }
  return false;
}

// "new" or "same", if there is a session; "none" if there is not.
async function adoptSession() {
  const answer = await fetch("/ui/session", { headers: { Accept: "application/json" }, redirect: "error" }).catch(() => null);
  if (!answer?.ok) return "none";
  const session = await answer.json();
  if (session.key !== meta("key")) throw new ApiError(t("session.other"), { status: 401 });
  const found = session.csrf === csrf ? "same" : "new";
  csrf = session.csrf;
  for (const field of document.querySelectorAll("input[name=csrf]")) field.value = csrf;
  return found;
}
