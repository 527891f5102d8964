// A document's normalised text with a span of it marked: what a citation or a passage points to.

import { ApiError, at, call, withQuery } from "./api.js";
import { fill, h } from "./dom.js";
import { unitsOf, whole } from "./format.js";
import { badge, button, dialog, loading, notice } from "./parts.js";

const BEFORE = 3_000;
const AFTER = 5_000;
const MORE = 20_000;

/**
 * Open it beside the page.
 * @param {string[]} collections those in which the document may stand.
 * @param {{document_id: string, document_version: number, filename: string, page?: number, start: number, end: number, quote?: string, text?: string, whole?: boolean}} cited
 *   `whole`: no span is meant, but the document.
 */
export async function openReader(collections, cited) {
  const body = h("div", { class: "reader" }, loading("Reading the document…"));
  const shown = dialog(cited.filename, () => [body], { kind: "drawer" });
  try {
    showText(body, await textOf(collections, cited), cited);
  } catch (error) {
    fill(body, notice(error.status === 404 ? "This version of the document is not kept any more, or you may not read it." : error.message));
  }
  return shown;
}

async function textOf(collections, cited) {
  let missing = new ApiError(404);
  for (const name of collections) {
    try {
      const path = at`/v1/collections/${name}/documents/${cited.document_id}/content`;
      return await (await call("GET", withQuery(path, { version: cited.document_version }))).text();
    } catch (error) {
      if (error.status !== 404) throw error;
      missing = error;
    }
  }
  throw missing;
}

function showText(body, text, cited) {
  const [start, end] = unitsOf(text, [cited.start, cited.end]);
  const quote = cited.quote ?? cited.text;
  const holds = text.slice(start, end) === quote;
  let from = Math.max(0, start - BEFORE);
  let to = Math.min(text.length, end + AFTER);
  const marked = h("mark", { tabindex: "-1" }, text.slice(start, end));
  const before = document.createTextNode("");
  const after = document.createTextNode("");
  const earlier = button("Earlier text", () => widen(from - MORE, to), { kind: "small" });
  const later = button("Later text", () => widen(from, to + MORE), { kind: "small" });

  function widen(wantedFrom, wantedTo) {
    from = wholeSign(text, Math.max(0, wantedFrom));
    to = wholeSign(text, Math.min(text.length, wantedTo));
    before.data = text.slice(from, start);
    after.data = text.slice(end, to);
    earlier.hidden = from === 0;
    later.hidden = to === text.length;
  }

  widen(from, to);
  const about = [
    cited.page ? badge(`page ${cited.page}`) : null,
    badge(`version ${cited.document_version}`),
    cited.whole ? null : badge(`characters ${whole(cited.start)} to ${whole(cited.end)}`),
    cited.whole ? null : badge(holds ? "the quote stands here, word for word" : "the quote does not stand here", holds ? "good" : "bad"),
  ];
  fill(body, h("p", { class: "badges" }, about), earlier, h("pre", { class: "document-text", tabindex: "0", "aria-label": "Text of the document" }, before, marked, after), later);
  if (cited.whole) return;
  marked.scrollIntoView({ block: "center" });
  marked.focus({ preventScroll: true });
}

/** The same place, or one before it where that would cut a sign in two. */
const wholeSign = (text, place) => (place > 0 && /[\udc00-\udfff]/.test(text[place] ?? "") ? place - 1 : place);
