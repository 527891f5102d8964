// A plain user of the package `openai` who knows the address and the key, nothing else; openai_client.py does the same.

import { browserFetch } from "./browser.mjs";
import { cached, obey, partly, require } from "./lines.mjs";

const { OpenAI } = require("openai");

const client = cached(({ url, key, retries, timeout_s, origin }) => {
  const page = origin ? { fetch: browserFetch(origin), dangerouslyAllowBrowser: true } : {};
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: retries, timeout: timeout_s * 1000, ...page });
});

function asked({ model, text = "", messages = [{ role: "user", content: text }], fields = {} }) {
  const { extra_body, ...known } = fields; // what the package has no name for, as Python's calls it
  return { model, messages, ...known, ...extra_body };
}

function usageOf(usage) {
  return usage ? [usage.prompt_tokens, usage.completion_tokens] : null;
}

async function version() {
  return { version: require("openai/version").VERSION };
}

async function models(order) {
  const ids = [];
  for await (const model of client(order).models.list()) ids.push(model.id);
  return { models: ids.sort() };
}

async function model(order) {
  return { model: (await client(order).models.retrieve(order.model)).id };
}

async function whole(order) {
  const answer = await client(order).chat.completions.create(asked(order));
  return { text: answer.choices[0].message.content, usage: usageOf(answer.usage), request_id: answer._request_id };
}

async function raw(order) {
  const { data, response } = await client(order).chat.completions.create(asked(order)).withResponse();
  return { headers: Object.fromEntries(response.headers), text: data.choices[0].message.content };
}

async function stream(order) {
  const text = [];
  let usage = null;
  let withoutChoice = 0;
  try {
    for await (const chunk of await client(order).chat.completions.create({ ...asked(order), stream: true })) {
      usage = chunk.usage ?? usage;
      withoutChoice += chunk.choices.length === 0;
      for (const choice of chunk.choices) text.push(choice.delta.content ?? "");
    }
  } catch (error) {
    return partly(text, error);
  }
  return { text: text.join(""), usage: usageOf(usage), without_choice: withoutChoice };
}

// The helper that gathers a stream.
async function helper(order) {
  const text = [];
  try {
    const events = client(order).chat.completions.stream(asked(order)).on("content", (delta) => text.push(delta));
    const final = await events.finalChatCompletion();
    return { text: text.join(""), final: final.choices[0].message.content, usage: usageOf(final.usage) };
  } catch (error) {
    return partly(text, error);
  }
}

// Leave streams in the middle, then ask again on the same client.
async function leave(order) {
  const one = client(order);
  for (let turn = 0; turn < order.times; turn++)
    for await (const chunk of await one.chat.completions.create({ ...asked(order), stream: true }))
      if (chunk.choices[0]?.delta.content) break;
  const messages = [{ role: "user", content: "still here" }];
  const answer = await one.chat.completions.create({ model: order.model, messages, max_tokens: 8 });
  return { text: answer.choices[0].message.content };
}

async function completion({ model, text, fields, ...order }) {
  const answer = await client(order).completions.create({ model, prompt: text, ...fields });
  return { text: answer.choices[0].text, usage: usageOf(answer.usage) };
}

async function embed(order) {
  const answer = await client(order).embeddings.create({ model: order.model, input: order.texts });
  return { vectors: answer.data.map((item) => Array.from(item.embedding)) };
}

// An answer from documents: whole, streamed and by the helper that gathers a stream, with its sources.
async function cited(order) {
  const one = client(order);
  const answer = await one.chat.completions.create(asked(order));
  const streamed = { ...asked(order), stream: true, stream_options: { include_usage: true } };
  const chunks = [];
  for await (const chunk of await one.chat.completions.create(streamed)) chunks.push(chunk);
  const final = await one.chat.completions.stream(asked(order)).finalChatCompletion();
  const said = answer.choices[0].message;
  const ended = chunks.find((chunk) => chunk.choices[0]?.finish_reason);
  const addresses = (message) => (message.annotations ?? []).map((note) => [note.type, note.url_citation.url]);
  return {
    text: said.content,
    streamed: chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""),
    final: final.choices[0].message.content,
    addresses: addresses(said),
    final_addresses: addresses(final.choices[0].message),
    citations: said.citations,
    streamed_citations: ended.choices[0].delta.citations,
    usage: usageOf(answer.usage),
    streamed_usage: usageOf(chunks.at(-1).usage),
  };
}

await obey({ version, models, model, whole, raw, stream, helper, leave, completion, embed, cited });
