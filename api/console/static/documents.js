// Collections, and what is in one: its documents, searches, settings, and how good its search is.

import { all, at, del, get, may, patch, post, reaches, signedIn } from "./api.js";
import { fill, h } from "./dom.js";
import { evaluationTab } from "./evaluation.js";
import { moment, plural, whole } from "./format.js";
import { longList } from "./list.js";
import { badge, button, confirmed, dialog, empty, field, form, iconButton, input, notice, searchInput, section, select, tabs, toast } from "./parts.js";
import { openReader } from "./reader.js";
import { searchTab } from "./search.js";
import { uploads } from "./uploads.js";

export default async function page(main, [name, tab]) {
  if (signedIn().role === "ingest" || !may("collections:read")) return sendOnly(main);
  return name ? collectionPage(main, name, tab) : listPage(main);
}

async function listPage(main) {
  const found = await all("/v1/collections", 1000);
  const writes = reaches("member") && may("collections:write");
  const make = () => writes && button("New collection", newCollection, { kind: "primary", drawing: "plus" });
  fill(
    main,
    h("div", { class: "page-head" }, h("h1", {}, "Documents"), found.length ? make() : null),
    found.length
      ? h("ul", { class: "grid" }, found.map((each) => h("li", {}, card(each))))
      : empty("No collection yet", "A collection is a named set of documents that are searched together.", make()),
  );
}

function card(each) {
  return h(
    "a",
    { class: "collection", href: `#/documents/${encodeURIComponent(each.name)}` },
    h("h2", {}, each.title || each.name),
    each.description && h("p", { class: "clip" }, each.description),
    h("p", {}, `${plural(each.documents, "document")}, ${plural(each.chunks, "passage")}`),
    h("p", { class: "badges" }, badge(each.language), each.local_only && badge("stays in the house", "good"), each.reindex && badge("being indexed anew", "warn")),
  );
}

async function newCollection() {
  const made = await dialog("New collection", (close) => {
    const name = input({ required: true, maxlength: 200, name: "name" });
    const about = h("textarea", { rows: 2, maxlength: 2000 });
    const language = select(["english", "german", "french", "spanish", "italian", "dutch", ["none", "several, or another"]]);
    const local = input({ type: "checkbox" });
    const go = button("Make it", null, { kind: "primary", type: "submit" });
    const submit = async () => close(await post("/v1/collections", { name: name.value.trim(), description: about.value, language: language.value, ...(local.checked ? { local_only: true } : {}) }));
    return [form(submit, field("Name", name), field("What is in it", about), field("Language of its texts", language, "It is kept for ever: words are cut to their stems by it."), h("label", { class: "check" }, local, h("span", {}, "Its text never leaves the house, whatever else is allowed")), h("div", { class: "row end" }, go))];
  });
  if (made) location.hash = `#/documents/${encodeURIComponent(made.name)}`;
}

async function collectionPage(main, name, tab) {
  const collection = await get(at`/v1/collections/${name}`);
  const counts = h("p", { class: "muted" });
  const count = (one) => fill(counts, `${plural(one.documents, "document")}, ${plural(one.chunks, "passage")}, version ${whole(one.version)}, embedded by ${one.embedding_model}`);
  count(collection);
  const recount = async () => count(await get(at`/v1/collections/${name}`));
  const ends = [];
  const pages = [["documents", "Documents", () => documentsTab(name, recount, ends)]];
  if (may("search")) pages.push(["search", "Search", () => searchTab(name)]);
  if (reaches("member") && may("collections:write")) pages.push(["settings", "Settings", () => settingsTab(collection)]);
  if (reaches("manager")) pages.push(["evaluation", "Evaluation", () => evaluationTab(name)]);
  const onChange = (shown) => history.replaceState(null, "", `#/documents/${encodeURIComponent(name)}/${shown}`);
  const acts = reaches("reader") && may("query") && h("a", { class: "button", href: "#/chat/new" }, "Ask it");
  fill(
    main,
    h("p", { class: "back" }, h("a", { href: "#/documents" }, "All collections")),
    h("div", { class: "page-head" }, h("div", { class: "clip-box" }, h("h1", {}, collection.title || name), counts), acts),
    collection.description && h("p", { class: "lead" }, collection.description),
    tabs(pages, tab, onChange, "Parts of the collection"),
  );
  return () => ends.forEach((end) => end());
}

const KINDS = { ready: "good", failed: "bad", cancelled: "warn" };

function documentsTab(name, recount, ends) {
  const path = at`/v1/collections/${name}/documents`;
  const list = longList({
    label: `Documents of ${name}`,
    path,
    columns: [["Name", "clip"], ["State", ""], ["Pages", "number"], ["Version", "number"], ["Added", "clip muted"], ["", ""]],
    cells: (one) => [
      one.version > 0 ? h("button", { type: "button", class: "link clip", title: one.filename, on: { click: () => show(one) } }, one.filename) : h("span", { title: one.filename }, one.filename),
      one.error ? h("button", { type: "button", class: "badge bad", on: { click: () => failed(one) } }, `${one.status}: why?`) : badge(one.status, KINDS[one.status]),
      one.pages || "–",
      one.version || "–",
      moment(one.created_at),
      writes ? h("div", { class: "acts" }, iconButton("edit", `Metadata and readers of ${one.filename}`, () => changed(one)), iconButton("trash", `Delete ${one.filename}`, () => removed(one))) : "",
    ],
    none: () => empty("No documents here", "Drop files above to put them in."),
  });
  list.element.classList.add("list-documents-box");
  list.element.querySelector(".list").classList.add("list-documents");
  const writes = reaches("member") && may("collections:write");
  const status = select([["", "every state"], "ready", "failed", "queued", "parsing", "embedding", "indexing", "cancelled"], { "aria-label": "Show documents of one state" });
  const again = () => list.reload({ filename: text.value.trim(), status: status.value });
  const text = searchInput("Find documents by a part of their name", "Part of a file's name", again);
  status.addEventListener("change", again);
  list.reload();

  async function show(one) {
    await openReader([name], { document_id: one.id, document_version: one.version, filename: one.filename, start: 0, end: 0, quote: "", whole: true });
  }

  async function failed(one) {
    const known = await get(`${path}/${encodeURIComponent(one.id)}`);
    const again = await dialog(one.filename, (close) => [notice(known.error || known.status), one.version > 0 && h("p", { class: "muted" }, `Version ${one.version} goes on answering.`), h("div", { class: "row end" }, known.job_id && may("jobs") && reaches("member") ? button("Try again", () => close(true), { kind: "primary", drawing: "retry" }) : null)]);
    if (!again) return;
    await post(at`/v1/jobs/${known.job_id}/retry`);
    send.follow(known.job_id);
  }

  async function removed(one) {
    if (!(await confirmed("Delete this document?", `${one.filename} will be gone from every search and answer.`, "Delete"))) return;
    await del(`${path}/${encodeURIComponent(one.id)}`);
    list.replace(one.id, null);
    await recount();
  }

  async function changed(one) {
    const now = await dialog(`What is said of ${one.filename}`, (close) => {
      const metadata = h("textarea", { rows: 6, spellcheck: "false" }, JSON.stringify(one.metadata, null, 2));
      const users = input({ value: (one.acl?.users || []).join(", ") });
      const groups = input({ value: (one.acl?.groups || []).join(", ") });
      const submit = async () => {
        const acl = users.value.trim() || groups.value.trim() ? { users: listed(users.value), groups: listed(groups.value) } : null;
        close(await patch(`${path}/${encodeURIComponent(one.id)}`, { metadata: read(metadata.value), acl }));
      };
      return [form(submit, field("Metadata, as a JSON object", metadata), field("Users who may read it", users, "Ids, separated by commas; empty beside empty groups: everyone in the tenant."), field("Groups who may read it", groups), h("div", { class: "row end" }, button("Keep", null, { kind: "primary", type: "submit" })))];
    });
    if (now) list.replace(one.id, now);
  }

  const send = uploads(name, async () => {
    await Promise.all([list.reload(), recount()]);
  });
  ends.push(send.end);
  return [may("ingest") && reaches("member") ? send.element : null, h("div", { class: "row" }, h("div", { class: "grow" }, text), h("div", {}, status)), list.element];
}

function read(metadata) {
  try {
    return JSON.parse(metadata || "{}");
  } catch (error) {
    throw new Error(`the metadata is no JSON: ${error.message}`);
  }
}

const listed = (text) => text.split(",").map((each) => each.trim()).filter(Boolean);

function settingsTab(collection) {
  const about = h("textarea", { rows: 2 }, collection.description);
  const mode = select(["hybrid", "dense", "lexical"], { value: collection.search.mode });
  const rerank = input({ type: "checkbox", checked: Boolean(collection.search.rerank) });
  const usual = ["", "as usual"];
  const verify = select([usual, ["strict", "strict: leave it out"], ["mark", "mark it"], ["off", "off: check nothing"]], { value: collection.answers.verify || "" });
  const generate = select([usual, ["model", "a model answers"], ["quote", "quote the best passage"]], { value: collection.answers.generate || "" });
  const prompt = h("textarea", { rows: 5, placeholder: "As usual. Your own holds {sources} and {question}." }, collection.answers.prompt || "");
  const go = button("Keep these settings", null, { kind: "primary", type: "submit" });
  const submit = async () => {
    await patch(at`/v1/collections/${collection.name}`, {
      description: about.value,
      search: { ...collection.search, mode: mode.value, rerank: rerank.checked },
      answers: { verify: verify.value || null, generate: generate.value || null, prompt: prompt.value || null },
    });
    toast("The settings hold from the next question on");
  };
  const remove = async () => {
    if (!(await confirmed("Delete this collection?", `${collection.name} and its ${plural(collection.documents, "document")} will be gone for good.`, "Delete all of it", { typed: collection.name }))) return;
    await del(at`/v1/collections/${collection.name}`);
    location.hash = "#/documents";
  };
  return [
    form(
      submit,
      section("How it is searched", field("What is in it", about), h("div", { class: "fields" }, field("Search by", mode)), h("label", { class: "check" }, rerank, h("span", {}, "Read the question with each candidate again (slower, often better)"))),
      section("How it is answered from", h("div", { class: "fields" }, field("A sentence that no source supports", verify), field("Who answers", generate)), field("What the model is told", prompt, `Version ${collection.prompt_version} is in use; 0 is the built-in one.`)),
      h("div", { class: "row" }, go),
    ),
    section("Delete", h("p", { class: "muted" }, "Documents, index and evaluation go with it."), h("div", {}, button("Delete this collection", remove, { kind: "danger", drawing: "trash" }))),
  ];
}

function sendOnly(main) {
  const name = input({ required: true, placeholder: "Its name" });
  const box = h("div", {});
  let send = null;
  const choose = () => {
    send?.end();
    send = uploads(name.value.trim(), () => {});
    fill(box, send.element);
  };
  fill(main, h("h1", {}, "Send documents"), h("p", { class: "lead" }, "Your key puts documents in; it lists and reads none."), form(choose, field("Collection", name), h("div", { class: "row" }, button("Choose", null, { type: "submit", kind: "primary" }))), box);
  return () => send?.end();
}
