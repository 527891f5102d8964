// What to do first, with lines to copy that hold this gateway's address.

import { get, may, reaches, signedIn } from "./api.js";
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { code, section, tabs } from "./parts.js";

export default async function page(main) {
  const [models, collections] = await Promise.all([
    reaches("reader") && may("models") ? get("/v1/models").catch(() => null) : null,
    reaches("reader") && may("collections:read") ? get("/v1/collections?limit=1").catch(() => null) : null,
  ]);
  const model = models?.data.find((each) => each.kind === "chat")?.id || "MODEL";
  const collection = collections?.data[0]?.name || "NAME";
  fill(
    main,
    h("h1", {}, `Welcome, ${signedIn().name || "to Stoker"}`),
    h("p", { class: "lead" }, "One address for your own models, and answers from your documents with citations that can be checked."),
    h("ol", { class: "steps" }, steps(models, collections)),
    section(
      "Call it from a program",
      h("p", { class: "muted" }, "Put your key into the variable KEY. Whatever speaks OpenAI's form works with this address: ", h("code", {}, `${location.origin}/v1`)),
      tabs(
        [
          ["curl", "curl", () => [code(curl(model), "Copy the curl lines")]],
          ["python", "Python", () => [code(python(model), "Copy the Python lines")]],
          ["node", "Node", () => [code(node(model), "Copy the Node lines")]],
          ["documents", "Ask documents", () => [code(ask(collection), "Copy the lines that ask documents")]],
        ],
        "curl",
        null,
        "Languages",
      ),
    ),
  );
}

function steps(models, collections) {
  const found = [];
  if (models) {
    const chat = models.data.filter((each) => each.kind === "chat");
    found.push([chat.length > 0, "Have a model", chat.length ? `${chat.map((each) => each.id).slice(0, 3).join(", ")} can answer.` : "No chat model is configured: start an engine, or name deployments in stoker.yaml.", reaches("admin") ? "#/operations" : null, "Look at operations"]);
  }
  if (collections) found.push([collections.data.length > 0, "Put documents in", "Drop files into a collection; they are ready within seconds.", "#/documents", "Go to documents"]);
  if (reaches("reader")) found.push([false, "Ask a question", "Choose a collection beside the model, and each answer shows where it comes from.", "#/chat", "Go to the chat"]);
  if (reaches("manager")) found.push([false, "Let colleagues in", "Each gets a key with limits of its own.", "#/keys", "Make a key"]);
  if (signedIn().role === "ingest") found.push([false, "Send documents", "Your key puts documents into collections.", "#/documents", "Send documents"]);
  return found.map(([done, title, text, href, link]) =>
    h("li", { class: done ? "done" : "" }, h("span", { class: "step-mark" }, done && icon("check")), h("div", {}, h("h2", {}, title, done && h("span", { class: "visually-hidden" }, " (done)")), h("p", {}, text), href && h("a", { href }, link))),
  );
}

const curl = (model) => `curl ${location.origin}/v1/chat/completions \\
  -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\
  -d '{"model": "${model}", "messages": [{"role": "user", "content": "What is the capital of France?"}]}'`;

const python = (model) => `import os
from openai import OpenAI

client = OpenAI(base_url="${location.origin}/v1", api_key=os.environ["KEY"])
messages = [{"role": "user", "content": "What is the capital of France?"}]
answer = client.chat.completions.create(model="${model}", messages=messages)
print(answer.choices[0].message.content)`;

const node = (model) => `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${location.origin}/v1", apiKey: process.env.KEY });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const answer = await client.chat.completions.create({ model: "${model}", messages });
console.log(answer.choices[0].message.content);`;

const ask = (collection) => `curl ${location.origin}/v1/query \\
  -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\
  -d '{"query": "Where are the logs?", "collection": "${collection}"}'`;
