// A plain user of the package `openai` who goes the whole way with documents; journey_client.py does the same.

import { obey, require } from "./lines.mjs";

const { OpenAI, toFile } = require("openai");
const ENDED = ["completed", "failed", "expired", "cancelled"];

async function all(pages) {
  const found = [];
  for await (const item of pages) found.push(item);
  return found;
}

// A store, files, searches, answers with sources, a conversation, a batch, and all of it deleted.
async function journey(order) {
  const one = new OpenAI({ baseURL: `${order.url}/v1`, apiKey: order.key, maxRetries: 0, timeout: 120_000 });
  const { model, question, further } = order;
  const store = await one.vectorStores.create({ name: order.name, metadata: { of: "the harbour" } });
  const files = {};
  for (const [name, text] of Object.entries(order.files))
    files[name] = await one.files.create({ file: await toFile(Buffer.from(text), name), purpose: "assistants" });
  const attached = [];
  const texts = {};
  const found = {};
  for (const [name, file] of Object.entries(files)) {
    const made = { file_id: file.id, attributes: { kind: name } };
    attached.push(await one.vectorStores.files.createAndPoll(store.id, made, { pollIntervalMs: 200 }));
    const parts = await all(one.vectorStores.files.content(file.id, { vector_store_id: store.id }));
    texts[file.id] = parts.map((part) => part.text ?? "").join("");
  }
  for (const name of Object.keys(files)) {
    const filters = { type: "eq", key: "kind", value: name };
    const hits = await all(one.vectorStores.search(store.id, { query: question, filters }));
    found[name] = hits.map((hit) => hit.content[0].text);
  }
  const tools = [{ type: "file_search", vector_store_ids: [store.id] }];
  const asked = { model, tools, include: ["file_search_call.results"] };
  const whole = await one.responses.create({ ...asked, input: question });
  const events = await all(await one.responses.create({ ...asked, input: question, stream: true }));
  const talk = await one.conversations.create();
  const said = [];
  for (const input of [question, further])
    said.push((await one.responses.create({ ...asked, input, conversation: talk.id })).output_text);
  const items = await all(one.conversations.items.list(talk.id, { order: "asc" }));
  const asBatch = await batch(one, [question, further].map((input) => ({ ...asked, input })));
  const deleted = [];
  for (const file of Object.values(files)) deleted.push((await one.files.delete(file.id)).deleted);
  deleted.push((await one.vectorStores.delete(store.id)).deleted);
  deleted.push((await one.conversations.delete(talk.id)).deleted);
  return {
    files: Object.fromEntries(Object.entries(files).map(([name, file]) => [name, file.id])),
    attached: attached.map((file) => file.status),
    texts,
    found,
    response: whole,
    output_text: whole.output_text,
    events,
    said,
    items,
    batch: asBatch,
    deleted,
  };
}

// Ask for several responses at once, and wait for them.
async function batch(one, bodies) {
  const lines = bodies.map((body, at) =>
    JSON.stringify({ custom_id: String(at), method: "POST", url: "/v1/responses", body }),
  );
  const file = await one.files.create({
    file: await toFile(Buffer.from(lines.join("\n")), "questions.jsonl"),
    purpose: "batch",
  });
  let made = await one.batches.create({
    input_file_id: file.id,
    endpoint: "/v1/responses",
    completion_window: "24h",
  });
  const limit = performance.now() + 120_000;
  while (!ENDED.includes(made.status) && performance.now() < limit) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    made = await one.batches.retrieve(made.id);
  }
  const out = made.output_file_id ? await (await one.files.content(made.output_file_id)).text() : "";
  return { status: made.status, lines: out.split("\n").filter(Boolean).map((line) => JSON.parse(line)) };
}

await obey({ journey });
