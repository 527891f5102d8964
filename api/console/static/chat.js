// The chat: questions to a model, or to the documents of a collection, in conversations that the gateway keeps.

import { all, ApiError, at, del, get, may, post, reaches } from "./api.js";
import { answerView, questionView } from "./answer.js";
import { ask } from "./asking.js";
import { conversationList } from "./conversations.js";
import { fill, h, tell } from "./dom.js";
import { button, complain, field, iconButton, input, newId, notice, select } from "./parts.js";

const PLAIN = ""; // no collection: the model is asked alone

export default async function page(main, [id]) {
  const [models, collections] = await Promise.all([
    may("models") ? get("/v1/models") : { data: [] },
    may("collections:read") ? all("/v1/collections", 1000) : [],
  ]);
  const chat = new Chat(models.data.filter((each) => each.kind === "chat"), collections);
  fill(main, chat.element);
  await chat.open(id && id !== "new" ? id : null);
  return () => chat.leave();
}

class Chat {
  constructor(models, collections) {
    this.id = null; // of the conversation; null: it begins with the next question
    this.said = []; // {role, text, kept, element, view}
    this.asked = []; // names of the collections that this conversation has asked
    this.running = null; // of the answer that is being made
    this.working = false;
    this.left = false; // for another page: what is still on its way shows nothing any more
    this.keeps = may("conversations:write") && may("conversations:read");
    const plain = reaches("member") && may("chat") && models.length;
    this.model = select([...(plain ? [] : [["", "the server's choice"]]), ...models.map((each) => each.id)], { name: "model" });
    this.collection = select([...(plain ? [[PLAIN, "no documents"]] : []), ...collections.map((each) => each.name)], { name: "collection" });
    this.tokens = input({ type: "number", min: 1, max: 4096, placeholder: "as usual", name: "max_tokens" });
    this.cached = input({ type: "checkbox", checked: true });
    this.rewrite = input({ type: "checkbox" });
    this.thread = h("div", { class: "thread", role: "region", "aria-label": "Conversation", tabindex: "0" });
    this.question = h("textarea", { rows: 1, name: "question", placeholder: "Ask something…", "aria-label": "Your question", autocomplete: "off" });
    this.go = iconButton("send", "Send", null, { type: "submit", class: "button primary icon-only round" });
    this.halt = iconButton("stop", "Stop the answer", () => this.stop(), { class: "button icon-only round", hidden: true });
    this.edited = h("div", { class: "edited" });
    this.list = conversationList({ keeps: this.keeps, onNew: () => (location.hash === "#/chat/new" ? this.open(null) : (location.hash = "#/chat/new")) });
    this.element = this.built();
    this.editing = null;
  }

  built() {
    const options = h("details", { class: "options" }, h("summary", { class: "button small" }, "Options"), h("div", { class: "options-box" }, field("Tokens at most", this.tokens), check(this.cached, "Use answers that were given before"), check(this.rewrite, "Understand questions by what was said before (documents; asks the model once more)")));
    const head = h("header", { class: "chat-head" }, h("h1", { class: "visually-hidden" }, "Chat"), inlineField("Model", this.model), inlineField("Documents", this.collection), options);
    const composer = h("form", { class: "composer", on: { submit: (event) => this.submitted(event) } }, this.edited, h("div", { class: "composer-box" }, this.question, this.halt, this.go));
    this.question.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) this.submitted(event);
      if (event.key === "Escape") this.stop();
    });
    this.question.addEventListener("input", () => this.grow());
    return h("div", { class: "chat" }, this.list.element, h("div", { class: "chat-main" }, head, this.thread, composer));
  }

  grow() {
    this.question.style.height = "auto";
    this.question.style.height = `${Math.min(this.question.scrollHeight, 200)}px`;
  }

  async open(id) {
    this.stop();
    this.id = id;
    this.said = [];
    this.list.refresh(id);
    if (id) await this.load(id);
    if (!this.said.length) fill(this.thread, this.welcome());
    this.thread.scrollTop = this.thread.scrollHeight;
    if (matchMedia("(min-width: 760px)").matches) this.question.focus();
  }

  async load(id) {
    const [conversation, items] = await Promise.all([get(at`/v1/conversations/${id}`), this.items(id)]);
    this.asked = readNames(conversation.metadata?.collections);
    if (this.asked.length && [...this.collection.options].some((each) => each.value === this.asked[0])) this.collection.value = this.asked[0];
    fill(this.thread);
    for (const item of items) {
      const text = textOf(item);
      if (item.role === "user") this.addQuestion(text, true);
      else this.addKept(text, item.content.flatMap((part) => part.annotations || []));
    }
  }

  /** The messages, the oldest first; the newest thousand. */
  async items(id) {
    const found = await all(at`/v1/conversations/${id}/items`, 1000, { order: "desc" });
    return found.filter((item) => item.type === "message" && (item.role === "user" || item.role === "assistant")).reverse();
  }

  welcome() {
    return h("div", { class: "empty" }, h("h2", {}, "What would you like to know?"), h("p", {}, this.collection.options.length > 1 ? "Choose documents above, and each answer shows the places that it stands on." : "The model answers from what it knows. Put documents in, and answers show where they come from."), !this.collection.options.length && notice("Your key may ask documents only, and there is no collection yet.", "info"));
  }

  addQuestion(text, kept) {
    const one = { role: "user", text, kept };
    one.element = questionView(text, () => this.edit(one));
    this.add(one);
    return one;
  }

  addKept(text, annotations) {
    const cited = annotations.filter((each) => each.type === "file_citation" && each.document_id);
    const one = { role: "assistant", text, kept: true };
    const view = answerView({ collections: cited.length ? this.asked : [], onRetry: () => this.again(one) });
    view.push({ text, supported: true });
    for (const citation of cited) view.push({ citation });
    view.end({ kept: true });
    one.element = view.element;
    this.add(one);
  }

  add(one) {
    if (!this.said.length) fill(this.thread);
    this.said.push(one);
    this.thread.append(one.element);
  }

  async submitted(event) {
    event.preventDefault();
    const text = this.question.value.trim();
    if (!text || this.working) return;
    if (!this.collection.value && !this.model.value) {
      complain("there is no model to ask: choose documents, or have one configured");
      return;
    }
    const changed = this.editing;
    this.edit(null);
    this.question.value = "";
    this.grow();
    await this.alone(async () => {
      try {
        if (changed) await this.cutFrom(changed);
      } catch (error) {
        this.edit(changed, text); // what was typed stays
        throw error;
      }
      await this.send(text);
    });
  }

  /** One thing at a time: what comes meanwhile is not done. */
  async alone(act) {
    if (this.working) return;
    this.working = true;
    this.busy(true);
    try {
      await act();
    } catch (error) {
      complain(error);
    } finally {
      this.working = false;
      this.busy(false);
    }
  }

  /** @param {{anew: boolean}} how `anew`: whoever asks again wants no answer that was given before. */
  async send(text, { anew } = { anew: false }) {
    const collection = this.collection.value;
    const before = this.said.filter((one) => one.kept).map(({ role, text: content }) => ({ role, content }));
    const question = this.addQuestion(text, false);
    const answer = { role: "assistant", text: "", kept: false };
    const view = answerView({ collections: collection ? [collection] : [], onRetry: () => this.again(answer) });
    answer.element = view.element;
    this.add(answer);
    this.scroll(true);
    this.running = new AbortController();
    const how = { requestId: null, model: null };
    try {
      await this.begin(text, collection);
      const asked = { question: text, collection, model: this.model.value, conversation: this.id, before, signal: this.running.signal, how: { rewrite: this.rewrite.checked, useCache: this.cached.checked && !anew, maxTokens: Number(this.tokens.value) || null } };
      for await (const { kind, ...told } of ask(asked)) {
        if (kind === "begun") Object.assign(how, told);
        else if (kind === "done") Object.assign(how, { ...told, cache: told.cache || how.cache });
        else view.push(told);
        this.scroll();
      }
      question.kept = answer.kept = true;
    } catch (error) {
      if (error.name === "AbortError") how.stopped = true;
      else how.failed = error.message;
    } finally {
      this.running = null;
    }
    answer.text = view.text();
    if (this.left) return;
    view.end(how);
    this.scroll();
    tell(how.failed ? "The answer failed" : how.stopped ? "Stopped" : "The answer is there");
    this.list.refresh(this.id);
  }

  /** Have a conversation that keeps what is said, and notes which collections were asked. */
  async begin(text, collection) {
    if (!this.keeps) return;
    const names = collection ? [collection, ...this.asked.filter((each) => each !== collection)].slice(0, 5) : this.asked;
    const metadata = names.length ? { collections: JSON.stringify(names).slice(0, 512) } : {};
    if (!this.id) {
      const made = await post("/v1/conversations", { title: text.replace(/\s+/g, " ").slice(0, 80), metadata });
      this.id = made.id;
      if (!this.left) history.replaceState(null, "", `#/chat/${made.id}`);
    } else if (names[0] !== this.asked[0]) {
      await post(at`/v1/conversations/${this.id}`, { metadata });
    }
    this.asked = names;
  }

  stop() {
    this.running?.abort();
  }

  leave() {
    this.left = true;
    this.stop();
  }

  edit(one, text = one?.text) {
    this.editing = one;
    if (one) {
      this.question.value = text;
      this.grow();
      this.question.focus();
      fill(this.edited, "You change an earlier question; what came after it goes. ", button("Leave it", () => this.edit(null), { kind: "small" }));
    } else {
      fill(this.edited);
    }
  }

  async again(answer) {
    await this.alone(async () => {
      const question = this.said[this.said.indexOf(answer) - 1];
      await this.cutFrom(question);
      await this.send(question.text, { anew: true });
    });
  }

  /** Take a message and all that came after it out of the conversation, here and where it is kept. */
  async cutFrom(one) {
    const place = this.said.indexOf(one);
    const gone = this.said.slice(place);
    if (this.id && this.keeps) {
      const items = await this.items(this.id);
      let kept = 0; // of those that stay; what was stopped at its end here may have been kept there
      for (const each of this.said.slice(0, place)) if (each.kept || begins(items[kept], each)) kept += 1;
      for (const item of items.slice(kept).reverse()) {
        try {
          await del(at`/v1/conversations/${this.id}/items/${item.id}`);
        } catch (error) {
          if (!(error instanceof ApiError) || error.status !== 404) throw error; // it is gone already
        }
      }
    }
    for (const each of gone) each.element.remove();
    this.said.length = place;
  }

  busy(on) {
    this.go.hidden = on;
    this.halt.hidden = !on;
    (on ? this.halt : this.question).focus({ preventScroll: true });
  }

  /** Keep the end in sight, unless the reader has gone up. */
  scroll(always = false) {
    const { scrollHeight, scrollTop, clientHeight } = this.thread;
    if (always || scrollHeight - scrollTop - clientHeight < 160) requestAnimationFrame(() => (this.thread.scrollTop = this.thread.scrollHeight));
  }
}

const textOf = (item) => item.content.map((part) => part.text || "").join("");

/** Whether an item, if there is one, is this message or more of it. */
const begins = (item, said) => item?.role === said.role && textOf(item).startsWith(said.text);

const check = (box, text) => h("label", { class: "check" }, box, h("span", {}, text));

function inlineField(label, element) {
  element.id = newId("choice");
  return h("div", { class: "inline-field" }, h("label", { for: element.id }, label), element);
}

function readNames(text) {
  try {
    const names = JSON.parse(text || "[]");
    return Array.isArray(names) ? names.filter((each) => typeof each === "string") : [];
  } catch {
    return [];
  }
}
