// The conversations of whoever is signed in, the newest first.

import { at, del, get, post, withQuery } from "./api.js";
import { fill, h } from "./dom.js";
import { moment } from "./format.js";
import { button, confirmed, dialog, field, form, iconButton, input } from "./parts.js";

/** @param {{keeps: boolean, onNew: () => void}} how `keeps`: the key may keep conversations. */
export function conversationList({ keeps, onNew }) {
  const list = h("ul", {});
  const more = h("div", {});
  let shown = null;
  const fresh = button("New chat", onNew, { kind: "wide", drawing: "plus" });
  const body = h("div", { class: "conversations-body" }, fresh, list, more);
  const element = h("details", { class: "conversations", open: matchMedia("(min-width: 1100px)").matches }, h("summary", {}, "Conversations"), body);

  function row(one) {
    const title = one.title || "Untitled";
    const link = h("a", { href: `#/chat/${encodeURIComponent(one.id)}`, "aria-current": one.id === shown ? "true" : null, title: `${title}, ${moment(one.created_at)}` }, title);
    const rename = iconButton("edit", `Rename ${title}`, () => renamed(one));
    const remove = iconButton("trash", `Delete ${title}`, () => removed(one, title));
    return h("li", {}, link, rename, remove);
  }

  async function renamed(one) {
    const title = await dialog("Rename the conversation", (close) => {
      const name = input({ value: one.title || "", required: true, maxlength: 200 });
      return [form(() => close(name.value.trim()), field("Title", name), h("div", { class: "row end" }, button("Rename", null, { kind: "primary", type: "submit" })))];
    });
    if (!title) return;
    await post(at`/v1/conversations/${one.id}`, { title });
    await refresh(shown);
  }

  async function removed(one, title) {
    if (!(await confirmed("Delete this conversation?", `“${title}” will be gone for good.`, "Delete"))) return;
    await del(at`/v1/conversations/${one.id}`);
    if (one.id === shown) onNew();
    else await refresh(shown);
  }

  async function load(after) {
    const page = await get(withQuery("/v1/conversations", { limit: 30, after }));
    const rows = page.data.map(row);
    if (after) list.append(...rows);
    else fill(list, rows.length ? rows : h("li", { class: "muted" }, "None yet."));
    fill(more, page.has_more ? button("More", () => load(page.last_id), { kind: "small" }) : null);
  }

  /** Fetch anew, with this conversation as the one that is open. */
  async function refresh(id) {
    shown = id;
    if (keeps) await load(null);
    else fill(list, h("li", { class: "muted" }, "Your key keeps no conversations: it lacks the scope conversations."));
  }

  return { element, refresh };
}
