// The routes of the HTTP API, as /openapi.json describes them.

import { get } from "./api.js";
import { fill, h, tell } from "./dom.js";
import { plural } from "./format.js";
import { badge, input, loading, notice, section, table } from "./parts.js";

const main = document.getElementById("main");
const METHODS = { get: "good", post: "", put: "warn", patch: "warn", delete: "bad" };

async function begin() {
  fill(main, loading());
  const schema = await get("/openapi.json");
  const groups = new Map();
  for (const [path, about] of Object.entries(schema.paths)) {
    for (const method of Object.keys(METHODS).filter((each) => about[each])) {
      const tag = about[method].tags?.[0] || "Other";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push({ path, words: `${method} ${path} ${about[method].summary} ${about[method].description}`.toLowerCase(), element: route(schema, method, path, about[method]) });
    }
  }
  const rooms = [...groups].sort().map(([tag, routes]) => ({ routes, element: section(tag, routes.map((each) => each.element)) }));
  const wanted = input({ type: "search", placeholder: "Part of a path or a word", "aria-label": "Find routes" });
  wanted.addEventListener("input", () => {
    const text = wanted.value.trim().toLowerCase();
    let count = 0;
    for (const { routes, element } of rooms) {
      for (const each of routes) each.element.hidden = !each.words.includes(text);
      const left = routes.filter((each) => !each.element.hidden).length;
      element.hidden = left === 0;
      count += left;
    }
    tell(plural(count, "route"));
  });
  fill(
    main,
    h("div", { class: "page-head" }, h("h1", {}, `Routes of ${schema.info.title} ${schema.info.version}`), h("a", { href: "/" }, "Console")),
    h("p", { class: "lead" }, "Send your key as ", h("code", {}, "Authorization: Bearer KEY"), ". The same, for programs: ", h("a", { href: "/openapi.json" }, "/openapi.json"), "."),
    wanted,
    rooms.map((room) => room.element),
  );
}

function route(schema, method, path, about) {
  const bodies = Object.entries(about.requestBody?.content || {});
  const box = h("details", { class: "route" }, h("summary", {}, badge(method.toUpperCase(), METHODS[method]), h("code", {}, path), h("span", { class: "muted" }, about.summary || "")));
  box.addEventListener("toggle", () => {
    if (!box.open || box.children.length > 1) return;
    box.append(
      h("div", { class: "stack" }, about.description && h("p", { class: "route-text" }, about.description), about.parameters?.length ? fields(`Parameters of ${path}`, about.parameters.map((one) => ({ name: one.name, where: one.in, required: one.required, about: { ...one.schema, description: one.description } })), schema) : null, bodies.map(([kind, { schema: form }]) => bodyFields(schema, path, kind, form))),
    );
  });
  return box;
}

function bodyFields(schema, path, kind, form) {
  const { properties = {}, required = [] } = resolved(schema, form);
  const found = Object.entries(properties).map(([name, about]) => ({ name, where: kind, required: required.includes(name), about }));
  return fields(`Fields of ${path} as ${kind}`, found, schema);
}

function fields(caption, found, schema) {
  return table(caption, ["Name", "Where", "What", "About"], found.map(({ name, where, required, about }) => [h("code", {}, name), where, `${kindOf(schema, about)}${required ? ", required" : ""}`, about.description || resolved(schema, about).description || ""]), { none: "It takes any object." });
}

/** The description that a reference stands for. */
const resolved = (schema, about) => (about?.$ref ? about.$ref.split("/").slice(1).reduce((found, name) => found?.[name], schema) || {} : about || {});

function kindOf(schema, about) {
  const found = resolved(schema, about);
  if (found.enum) return found.enum.join(", ");
  if (found.anyOf) return found.anyOf.map((each) => kindOf(schema, each)).join(" or ");
  return found.type === "array" ? `list of ${kindOf(schema, found.items)}` : found.type || "anything";
}

begin().catch((error) => fill(main, notice(error.message)));
