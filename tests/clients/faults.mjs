// What goes wrong between the TypeScript client and a gateway; prints the names of checks that fail.
import { Refused, Stoker, StreamBroken, Unreachable } from "./stoker.js";
const faults = [];
const check = (name, good) => good || faults.push(name);
const thrown = async (act) => { try { await act(); } catch (error) { return error; } return null; };
const all = async (events) => { const found = []; for await (const event of events) found.push(event); return found; };
const bytes = (text) => new TextEncoder().encode(text);
let cancelled = 0;
const body = (...parts) => new ReadableStream({
  pull(controller) {
    const part = parts.shift();
    if (part === undefined) controller.close();
    else if (part === "hang") return new Promise(() => {});
    else if (part instanceof Error) controller.error(part);
    else controller.enqueue(part);
  },
  cancel() { cancelled += 1; },
}, { highWaterMark: 0 });
const heard = (init, promise) => new Promise((resolve, reject) => {
  if (init.signal.aborted) reject(init.signal.reason);
  init.signal.addEventListener("abort", () => reject(init.signal.reason));
  promise.then(resolve, reject);
});
const answers = (make, how = {}) => new Stoker("http://gate", "k", { ...how, fetch: (address, init) => heard(init, make(init)) });
const never = () => new Promise(() => {});

// A browser's fetch is no other object's method.
const usual = globalThis.fetch;
globalThis.fetch = async function () {
  if (this !== undefined && this !== globalThis) throw new TypeError("Illegal invocation");
  return Response.json({ id: "job_1" });
};
check("fetch", (await new Stoker("http://gate", "k").job("job_1")).id === "job_1");
globalThis.fetch = usual;

const text = "a\u2028b\u0085\u{1f6a2}";
const told = bytes(`event: token\r\ndata: ${JSON.stringify({ text })}\r\n\r\nevent: done\rdata: {}\r\r\n`);
for (let cut = 1; cut < told.length; cut += 1) {
  const found = await all(answers(async () => new Response(body(told.slice(0, cut), told.slice(cut)))).stream("q", "a"));
  check(`cut ${cut}`, found.length === 2 && found[0].text === text);
}

const token = bytes('event: token\ndata: {"text": "a"}\n\n');
check("broken", (await thrown(() => all(answers(async () => new Response(body(token, new TypeError("terminated")))).stream("q", "a")))) instanceof StreamBroken);
check("short", (await thrown(() => all(answers(async () => new Response(body(token))).stream("q", "a")))) instanceof StreamBroken);
check("away", (await thrown(() => answers(async () => { throw new TypeError("fetch failed"); }).job("j"))) instanceof Unreachable);
check("html", /is no Stoker; check the address/.test((await thrown(() => answers(async () => new Response("<html>")).job("j"))).message));
for (const body of ["null", '{"error": "bad gateway"}', "<html>"]) {
  const refused = await thrown(() => answers(async () => new Response(body, { status: 502 })).job("j"));
  check(`refusal ${body}`, refused instanceof Refused && refused.message === "HTTP 502");
}

// Patience: for an answer, for more of it, and none while the events are being read.
const late = await thrown(() => answers(never, { readMs: 30 }).job("j"));
check("late", late instanceof Unreachable && /30 ms/.test(late.message));
const slow = answers(async () => new Response(body(token, bytes('event: done\ndata: {}\n\n'))), { readMs: 30 });
let count = 0;
for await (const _ of slow.stream("q", "a")) { count += 1; await new Promise((resolve) => setTimeout(resolve, 60)); }
check("slow reader", count === 2);

// What ends on its caller's word ends as that, and the connection is given back.
const stop = new AbortController();
setTimeout(() => stop.abort(), 20);
check("stopped", (await thrown(() => answers(never).until(stop.signal).ask("q", "a"))).name === "AbortError");
cancelled = 0;
for await (const _ of answers(async () => new Response(body(token, token))).stream("q", "a")) break;
check("cancelled", cancelled === 1);

// A key is a key alone, and is shown to nobody.
for (const key of ["", "sk-secret\nid key_1", "sk-secret sk-secret", "sk-secretä"]) {
  const refused = await thrown(async () => new Stoker("http://gate", key));
  check(`key ${key}`, refused instanceof TypeError && !refused.message.includes("sk-secret"));
}
console.log(JSON.stringify(faults));
