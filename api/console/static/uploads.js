// Sending files, and what becomes of each: its stages as the job's events tell them, and why one failed.

import { ApiError, at, call, events, may, post, reaches, signedIn } from "./api.js";
import { fill, h, tell } from "./dom.js";
import { size } from "./format.js";
import { icon } from "./icons.js";
import { badge, button, complain, iconButton, newId, notice } from "./parts.js";

const STAGES = ["queued", "parsing", "embedding", "indexing", "ready"];
const FILES_AT_ONCE = 20;
const BYTES_AT_ONCE = 40 * 1024 * 1024;
const SHOWN_READY_S = 6;
const LOOKS = 12; // at a job whose events end before it does

/**
 * @param {string} collection
 * @param {() => any} changed called when a job has ended.
 */
export function uploads(collection, changed) {
  const id = newId("file");
  const list = h("ul", { class: "uploads", "aria-label": "Uploads" });
  const picker = h("input", { type: "file", id, multiple: true, class: "visually-hidden", on: { change: () => sent([...picker.files]) } });
  const drop = h(
    "div",
    { class: "drop" },
    icon("upload"),
    h("p", {}, h("label", { for: id, class: "button" }, "Choose files"), picker, " or drop them here"),
    h("p", { class: "hint" }, "PDF, Office and OpenDocument, e-books, e-mail, HTML, Markdown, text, tables, JSON, XML, source code. A file of a known name becomes its next version."),
  );
  const stop = new AbortController();
  for (const [name, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", over);
      if (name === "drop") sent([...event.dataTransfer.files]);
    });
  }

  async function sent(files) {
    picker.value = "";
    const sender = signedIn();
    for (const some of portions(files)) {
      if (signedIn() !== sender) return; // the others are not for whoever is signed in now
      const form = new FormData();
      form.append("collection", collection);
      for (const file of some) form.append("file", file, file.name);
      const waiting = h("li", { class: "upload" }, h("span", { class: "clip" }, some.length === 1 ? some[0].name : `${some.length} files`), h("span", { class: "muted" }, `sending ${size(some.reduce((sum, file) => sum + file.size, 0))}…`));
      list.prepend(waiting);
      try {
        const accepted = await (await call("POST", "/v1/ingest", { form })).json(); // also while another page is shown
        follow(accepted.job_id);
        waiting.remove();
      } catch (error) {
        if (error.name === "AbortError") return;
        fill(waiting, h("span", { class: "clip" }, some.map((file) => file.name).join(", ")), iconButton("close", "Close", () => waiting.remove()), notice(error.message));
      }
    }
  }

  /** Show a job's documents until it has ended. */
  async function follow(jobId) {
    const rows = new Map();
    try {
      for (let look = 1; look <= LOOKS; look += 1) {
        if (await followed(jobId, shown)) return;
        await new Promise((resolve) => setTimeout(resolve, 500 * look));
      }
      throw new Error("nothing is heard of these documents any more; open this page again to see how they are");
    } catch (error) {
      complain(error);
    }

    function shown(one) {
      if (!rows.has(one.id)) {
        rows.set(one.id, h("li", { class: "upload", "data-document": one.id }));
        list.prepend(rows.get(one.id));
      }
      const row = rows.get(one.id);
      row.dataset.status = one.status;
      fill(row, h("span", { class: "clip", title: one.filename }, one.filename), state(one, row), one.error ? notice(one.error) : stages(one));
      if (one.status === "ready") setTimeout(() => row.remove(), SHOWN_READY_S * 1000);
    }

    function state(one, row) {
      if (one.status === "failed" || one.status === "cancelled") {
        const again = async () => {
          await post(at`/v1/jobs/${jobId}/retry`);
          for (const each of rows.values()) each.remove();
          follow(jobId);
        };
        return h("span", { class: "row" }, badge(one.status, "bad"), may("jobs") && reaches("member") ? button("Try again", again, { kind: "small", drawing: "retry" }) : null, iconButton("close", "Close", () => row.remove()));
      }
      if (one.status === "ready") return badge("ready", "good");
      const cancel = may("jobs") && reaches("member") && iconButton("close", `Cancel ${one.filename}`, () => call("DELETE", at`/v1/jobs/${jobId}`));
      return h("span", { class: "row" }, badge(one.progress ? `${one.status} ${Math.round(100 * one.progress)} %` : one.status), cancel);
    }
  }

  /** Tell of a job's documents. Returns whether it has ended; else the connection did, and another look may see more. */
  async function followed(jobId, shown) {
    try {
      const answer = await call("GET", at`/v1/jobs/${jobId}/events`, { accept: "text/event-stream", signal: stop.signal });
      for await (const { name, data } of events(answer)) {
        if (name === "document") shown(data);
        else if (name === "error") throw new Error(data.error.message);
        else if (name === "job") {
          tell(data.status === "succeeded" ? "The documents are ready" : `The job has ${data.status}`);
          await changed();
          return true;
        }
      }
    } catch (error) {
      const passes = error instanceof ApiError && (error.status === 0 || error.status >= 500);
      if (!passes) throw error;
    }
    return false;
  }

  return { element: h("div", { class: "stack" }, drop, list), follow, end: () => stop.abort() };
}

function stages(one) {
  const now = STAGES.indexOf(one.status === "chunking" ? "parsing" : one.status);
  return h("ol", { class: "stages", "aria-label": `Stages of ${one.filename}` }, STAGES.map((name, index) => h("li", { class: index < now || one.status === "ready" ? "done" : index === now ? "now" : "", "aria-current": index === now ? "step" : null }, name)));
}

/** Files in portions that one request takes. */
function portions(files) {
  const found = [];
  let bytes = Infinity;
  for (const file of files) {
    if (bytes + file.size > BYTES_AT_ONCE || found.at(-1).length >= FILES_AT_ONCE) {
      found.push([]);
      bytes = 0;
    }
    found.at(-1).push(file);
    bytes += file.size;
  }
  return found;
}
