// A plain user of the package `@anthropic-ai/sdk` who knows the address and the key; anthropic_client.py does the same.

import { browserFetch } from "./browser.mjs";
import { cached, obey, partly, require } from "./lines.mjs";

const { Anthropic } = require("@anthropic-ai/sdk");

const client = cached(({ url, key, retries, timeout_s, origin }) => {
  const page = origin ? { fetch: browserFetch(origin), dangerouslyAllowBrowser: true } : {};
  return new Anthropic({ baseURL: url, apiKey: key, maxRetries: retries, timeout: timeout_s * 1000, ...page });
});

function asked({ model, text = "", messages = [{ role: "user", content: text }], fields = {} }) {
  const { extra_body, ...known } = fields; // what the package has no name for, as Python's calls it
  return { model, messages, max_tokens: 64, ...known, ...extra_body };
}

function toldWhole(message) {
  return {
    final: message.content.map((block) => block.text ?? "").join(""),
    usage: [message.usage.input_tokens, message.usage.output_tokens],
    reason: message.stop_reason,
  };
}

async function version() {
  return { version: require("@anthropic-ai/sdk/version").VERSION };
}

async function models(order) {
  const ids = [];
  for await (const model of client(order).models.list()) ids.push(model.id);
  return { models: ids.sort() };
}

async function whole(order) {
  const message = await client(order).messages.create(asked(order));
  return { ...toldWhole(message), request_id: message._request_id };
}

async function stream(order) {
  const text = [];
  const kinds = [];
  try {
    for await (const event of await client(order).messages.create({ ...asked(order), stream: true })) {
      kinds.push(event.type);
      if (event.type === "content_block_delta") text.push(event.delta.text);
    }
  } catch (error) {
    return partly(text, error);
  }
  return { text: text.join(""), kinds };
}

// The helper that gathers a stream.
async function helper(order) {
  const text = [];
  try {
    const events = client(order).messages.stream(asked(order)).on("text", (delta) => text.push(delta));
    const final = await events.finalMessage();
    return { text: text.join(""), ...toldWhole(final), request_id: events.request_id };
  } catch (error) {
    return partly(text, error);
  }
}

// Leave streams in the middle, then ask again on the same client.
async function leave(order) {
  const one = client(order);
  for (let turn = 0; turn < order.times; turn++)
    for await (const event of await one.messages.create({ ...asked(order), stream: true }))
      if (event.type === "content_block_delta") break;
  const messages = [{ role: "user", content: "still here" }];
  return toldWhole(await one.messages.create({ model: order.model, messages, max_tokens: 8 }));
}

// An answer from documents: whole, event by event, and by the helper that gathers a stream.
async function cited(order) {
  const one = client(order);
  const message = await one.messages.create(asked(order));
  const kinds = [];
  for await (const event of await one.messages.create({ ...asked(order), stream: true })) kinds.push(event.type);
  const final = await one.messages.stream(asked(order)).finalMessage();
  const blocksOf = ({ content }) => content.map((block) => [block.text, block.citations.map((one) => [one.type, one])]);
  return {
    ...toldWhole(message),
    blocks: blocksOf(message),
    final_blocks: blocksOf(final),
    final_usage: [final.usage.input_tokens, final.usage.output_tokens],
    kinds,
  };
}

await obey({ version, models, whole, stream, helper, leave, cited });
