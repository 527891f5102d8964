// Signing in, by key or at an identity provider.

import { get, signIn } from "./api.js";
import { fill, h } from "./dom.js";
import { mark } from "./icons.js";
import { button, busy, field, input, notice } from "./parts.js";

/** @param {() => void} entered called once somebody is signed in. */
export function loginPage(entered, said = "") {
  const told = h("div", { "aria-live": "assertive" }, said && notice(said, "info"));
  const key = input({ type: "password", name: "key", required: true, autocomplete: "current-password", spellcheck: "false", placeholder: "sk-stoker-…" });
  const go = button("Sign in", null, { kind: "primary wide", type: "submit" });
  const submit = (event) => {
    event.preventDefault();
    busy(go, async () => {
      try {
        await signIn(key.value.trim());
        key.value = "";
        entered();
      } catch (error) {
        fill(told, notice(error.message));
        key.select();
      }
    });
  };
  const providers = h("div", { class: "providers" });
  offer(providers);
  queueMicrotask(() => key.focus());
  return h(
    "main",
    { id: "main", class: "login", tabindex: "-1" },
    h(
      "div",
      { class: "login-card" },
      h("div", { class: "brand" }, mark(), h("span", {}, "Stoker")),
      h("h1", {}, "Sign in"),
      told,
      h("form", { on: { submit } }, field("API key", key, "The first admin key lies in .stoker/admin.key where the stack runs. It is exchanged for a session and not kept here."), go),
      providers,
    ),
  );
}

async function offer(box) {
  const { data } = await get("/v1/session/oidc").catch(() => ({ data: [] }));
  if (!data.length) return;
  const links = data.map(({ name }) => h("a", { class: "button wide", href: `/v1/session/oidc/${encodeURIComponent(name)}?return_to=%2F` }, `Sign in with ${name}`));
  fill(box, h("p", { class: "or" }, "or"), links);
}
