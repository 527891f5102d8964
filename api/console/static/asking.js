// A question on its way: to a model alone, or to a collection's documents. Both tell the same events.

import { call, events, get, signedIn } from "./api.js";

const RATES = ["limit-requests", "remaining-requests", "limit-tokens", "remaining-tokens"];

let rates = { of: null };

/** What the last answer to whoever is signed in said of the rates that are left, by name; null: nothing. */
export const ratesLeft = () => (rates.of && rates.of === signedIn() ? rates : null);

/**
 * Ask, and tell what comes.
 * @param {object} asked
 * @param {string} asked.question
 * @param {string} asked.collection empty: the model is asked alone.
 * @param {string} asked.model empty: the server's choice, where documents answer.
 * @param {string | null} asked.conversation its id.
 * @param {{role: string, content: string}[]} asked.before what was said, where no conversation keeps it.
 * @param {{rewrite: boolean, useCache: boolean, maxTokens: number | null}} asked.how
 * @param {AbortSignal} asked.signal
 * @yields {{kind: "begun" | "text" | "citation" | "done", [field: string]: any}}
 */
export async function* ask(asked) {
  const answer = await call("POST", asked.collection ? "/v1/query" : "/v1/chat/completions", {
    body: asked.collection ? queryBody(asked) : chatBody(asked),
    signal: asked.signal,
    accept: "text/event-stream",
  });
  note(answer);
  yield { kind: "begun", requestId: answer.headers.get("x-request-id"), cache: answer.headers.get("x-cache") };
  yield* asked.collection ? queryEvents(answer) : chatEvents(answer);
}

/** What a request cost; the ledger has it about a second after the answer. Null: it has no line of it. */
export async function costOf(requestId) {
  for (const waited of [600, 1200, 2400, 4800]) {
    await new Promise((resolve) => setTimeout(resolve, waited));
    try {
      return await get(`/v1/usage/requests/${encodeURIComponent(requestId)}`);
    } catch (error) {
      if (error.code !== "request_not_found") return null;
    }
  }
  return null;
}

function chatBody({ question, model, conversation, before, how }) {
  const messages = [...(conversation ? [] : before), { role: "user", content: question }];
  return {
    model,
    messages,
    stream: true,
    stream_options: { include_usage: true },
    ...(how.maxTokens ? { max_tokens: how.maxTokens } : {}),
    ...(conversation ? { conversation_id: conversation } : { cache: how.useCache ? "exact" : "off" }),
  };
}

function queryBody({ question, collection, model, conversation, before, how }) {
  const work = how.rewrite && (conversation || before.length) ? { query_work: { rewrite: true } } : {};
  return {
    query: question,
    collection,
    stream: true,
    use_cache: how.useCache,
    ...(model ? { model } : {}),
    ...(how.maxTokens ? { max_tokens: how.maxTokens } : {}),
    ...(conversation ? { conversation_id: conversation } : before.length ? { messages: before.slice(-20) } : {}),
    ...work,
  };
}

async function* queryEvents(answer) {
  for await (const { name, data } of events(answer)) {
    if (name === "token") yield { kind: "text", text: data.text, supported: data.supported !== false };
    else if (name === "citation") yield { kind: "citation", citation: data };
    else if (name === "error") throw new Error(data.error.message);
    else if (name === "done") {
      yield { kind: "done", whole: true, model: data.model, usage: data.usage, cache: data.cache, timings: data.timings_ms, degraded: data.degraded ? data.degraded_reason : null, cut: data.finish_reason === "length", text: data.answer, citations: data.citations };
      return;
    }
  }
  throw new Error("the answer broke off; ask again");
}

async function* chatEvents(answer) {
  const seen = { kind: "done", whole: true, model: null, usage: null, timings: null, degraded: null, cut: false };
  for await (const { data } of events(answer)) {
    if (data === "[DONE]") {
      yield seen;
      return;
    }
    if (data?.error) throw new Error(data.error.message);
    seen.model = data?.model || seen.model;
    seen.usage = data?.usage || seen.usage;
    const choice = data?.choices?.[0];
    if (choice?.delta?.content) yield { kind: "text", text: choice.delta.content, supported: true };
    if (choice?.finish_reason === "length") seen.cut = true;
  }
  throw new Error("the answer broke off; ask again");
}

function note(answer) {
  const found = RATES.map((name) => [name, answer.headers.get(`x-ratelimit-${name}`)]).filter(([, value]) => value !== null);
  if (found.length) rates = { of: signedIn(), ...Object.fromEntries(found) };
}
