// `fetch` as a browser gives it to a page of `origin`: it asks with a preflight, hides what it may not show, and refuses.
// Source: https://fetch.spec.whatwg.org/#http-cors-protocol

const SAFE_REQUEST = new Set(["accept", "accept-language", "content-language"]);
const SAFE_RESPONSE = ["cache-control", "content-language", "content-length", "content-type", "expires", "last-modified", "pragma"];

export function browserFetch(origin) {
  return async (url, init = {}) => {
    const headers = new Headers(init.headers);
    const method = (init.method ?? "GET").toUpperCase();
    const asked = [...headers.keys()].filter((name) => !SAFE_REQUEST.has(name) && !isSimple(name, headers)).sort();
    if (asked.length || !["GET", "HEAD", "POST"].includes(method)) await preflight(url, origin, method, asked);
    headers.set("origin", origin);
    headers.set("sec-fetch-mode", "cors");
    const answer = await fetch(url, { ...init, headers });
    check(answer, origin);
    return new Response(answer.body, { status: answer.status, headers: shown(answer) });
  };
}

function isSimple(name, headers) {
  const simple = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];
  return name === "content-type" && simple.includes(headers.get(name).split(";")[0]);
}

async function preflight(url, origin, method, asked) {
  const headers = { origin, "access-control-request-method": method, "sec-fetch-mode": "cors" };
  if (asked.length) headers["access-control-request-headers"] = asked.join(",");
  const answer = await fetch(url, { method: "OPTIONS", headers });
  check(answer, origin);
  if (!answer.ok) throw new TypeError(`Failed to fetch: the preflight was answered with ${answer.status}`);
  const methods = list(answer, "access-control-allow-methods");
  if (!methods.includes(method.toLowerCase()) && !["GET", "HEAD", "POST"].includes(method))
    throw new TypeError(`Failed to fetch: the method ${method} is not allowed`);
  const allowed = list(answer, "access-control-allow-headers");
  const refused = asked.filter((name) => !allowed.includes(name) && !(allowed.includes("*") && name !== "authorization"));
  if (refused.length) throw new TypeError(`Failed to fetch: the headers ${refused} are not allowed`);
}

function check(answer, origin) {
  const allowed = answer.headers.get("access-control-allow-origin");
  if (allowed !== "*" && allowed !== origin) throw new TypeError(`Failed to fetch: ${origin} is not allowed`);
}

function shown(answer) {
  const exposed = list(answer, "access-control-expose-headers");
  const visible = (name) => SAFE_RESPONSE.includes(name) || exposed.includes(name) || exposed.includes("*");
  return [...answer.headers].filter(([name]) => visible(name));
}

function list(answer, name) {
  return (answer.headers.get(name) ?? "").split(",").map((one) => one.trim().toLowerCase());
}
