// The gateway's HTTP API, by the session's cookie. The key that was signed in with is sent once and kept nowhere.

/** An answer that is an error; `message` names the remedy. */
export class ApiError extends Error {
  constructor(status, error = {}, requestId = "") {
    super(error.message || `the gateway answered with status ${status}`);
    this.status = status;
    this.code = error.code || "";
    this.param = error.param || "";
    this.requestId = requestId;
  }
}

let who = null;
let visit = new AbortController(); // of whoever is signed in: what is on its way ends with them
const otherTabs = "BroadcastChannel" in window ? new BroadcastChannel("stoker-session") : null;

/** Who is signed in, as GET /v1/session says; null: nobody. */
export const signedIn = () => who;

/** Whether the key's scopes hold a word; its role is asked with `reaches`. */
export function may(word) {
  const scopes = who && who.scopes;
  return Boolean(who) && (!scopes || scopes.includes(word) || scopes.includes(word.split(":")[0]));
}

const RANKS = ["reader", "ingest", "member", "manager", "admin"];

/** Whether the role is at least this one. `ingest` stands beside `reader`: it puts in and reads nothing. */
export function reaches(role) {
  return Boolean(who) && (who.role === role || (who.role !== "ingest" && RANKS.indexOf(who.role) >= RANKS.indexOf(role)));
}

/** Ask who is signed in. Returns null where nobody is. */
export async function resume() {
  try {
    become(await get("/v1/session"));
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
    become(null);
  }
  return who;
}

/** From now on it is them, or nobody; other tabs of this browser have the same cookie, and are told. */
function become(now) {
  visit.abort();
  visit = new AbortController();
  who = now;
  otherTabs?.postMessage(who && who.csrf_token);
}

otherTabs?.addEventListener("message", ({ data }) => {
  if (data !== (who && who.csrf_token)) document.dispatchEvent(new CustomEvent("session-changed"));
});

/** Exchange a key for a session. */
export async function signIn(key) {
  become(await post("/v1/session", { key }));
  return who;
}

/** End the session. Where that fails, somebody is still signed in. */
export async function signOut() {
  await call("DELETE", "/v1/session");
  become(null);
}

/**
 * Send a request.
 * @returns {Promise<Response>} of a status below 400.
 */
export async function call(method, path, { body, form, signal, accept } = {}) {
  const headers = {};
  if (who && who.csrf_token && method !== "GET") headers["x-csrf-token"] = who.csrf_token;
  if (body !== undefined) headers["content-type"] = "application/json";
  if (accept) headers.accept = accept;
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      signal: signal ? AbortSignal.any([signal, visit.signal]) : visit.signal,
      body: form || (body === undefined ? undefined : JSON.stringify(body)),
      credentials: "same-origin",
      redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "the gateway does not answer; look whether it runs, and try again" });
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  const refused = new ApiError(answer.status, said.error, answer.headers.get("x-request-id") || "");
  if (refused.code === "csrf_failed" && who) document.dispatchEvent(new CustomEvent("session-changed"));
  if (answer.status === 401 && who) {
    become(null);
    document.dispatchEvent(new CustomEvent("signed-out", { detail: refused.message }));
  }
  throw refused;
}

const json = async (answer) => (answer.status === 204 ? null : answer.json());

export const get = async (path, how) => json(await call("GET", path, how));
export const post = async (path, body, how = {}) => json(await call("POST", path, { ...how, body }));
export const put = async (path, body) => json(await call("PUT", path, { body }));
export const patch = async (path, body) => json(await call("PATCH", path, { body }));
export const del = async (path) => json(await call("DELETE", path));

/** A path with its parts escaped: at`/v1/collections/${name}`. */
export function at(texts, ...parts) {
  return texts.reduce((path, text, index) => path + encodeURIComponent(parts[index - 1]) + text);
}

/** `path` with these parameters; those that are null, undefined or empty are left out. */
export function withQuery(path, query) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") found.set(name, value);
  }
  const text = found.toString();
  return text ? `${path}${path.includes("?") ? "&" : "?"}${text}` : path;
}

/** All items of a list, up to `most` of them. */
export async function all(path, most = 500, query = {}) {
  const found = [];
  let after = null;
  do {
    const page = await get(withQuery(path, { ...query, limit: 100, after }));
    found.push(...page.data);
    after = page.has_more ? page.last_id : null;
  } while (after && found.length < most);
  return found;
}

/**
 * The server-sent events of an answer, as they come; `data` is JSON, or the text where it is none.
 * Source: WHATWG HTML, section "Server-sent events", event stream interpretation.
 */
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let name = "";
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        throw error.name === "AbortError" ? error : new ApiError(0, { message: "the connection to the gateway broke off; try again" });
      });
      if (done) return;
      rest += value;
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length) yield { name: name || "message", data: decoded(data.join("\n")) };
          name = "";
          data = [];
        } else {
          const [, field, text] = line.match(/^([^:]*)(?:: ?(.*))?$/s);
          if (field === "event") name = text || "";
          else if (field === "data") data.push(text || "");
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function decoded(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
