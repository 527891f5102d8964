// The shell: who is signed in, which page is shown, and the way between them.

import { may, reaches, resume, signedIn, signOut } from "./api.js";
import { fill, h, tell } from "./dom.js";
import { icon, mark } from "./icons.js";
import { loginPage } from "./login.js";
import { clearOver, complain, iconButton, loading, notice } from "./parts.js";

const PAGES = [
  { name: "start", title: "Start", shown: () => true, load: () => import("./start.js") },
  { name: "chat", title: "Chat", shown: () => reaches("reader") && (may("chat") || may("query")), load: () => import("./chat.js") },
  { name: "documents", title: "Documents", shown: () => may("collections:read") || may("ingest"), load: () => import("./documents.js") },
  { name: "usage", title: "Usage", shown: () => may("usage"), load: () => import("./usage.js") },
  { name: "keys", title: "Keys and people", shown: () => reaches("manager") && may("admin"), load: () => import("./keys.js") },
  { name: "operations", title: "Operations", shown: () => reaches("admin") && may("admin"), load: () => import("./operations.js") },
];

const app = document.getElementById("app");
let leave = null; // what the page that is shown wants done when it goes
let visit = 0;

async function begin() {
  put(h("main", { id: "main", class: "alone" }, loading()));
  try {
    await resume();
  } catch (error) {
    if (error.name === "AbortError") return; // somebody else has signed in meanwhile
    put( h("main", { id: "main", class: "alone" }, notice(error.message)));
    return;
  }
  signedIn() ? shell() : enter();
}

/** Show this in place of everything: nothing of who was signed in before stays. */
function put(all) {
  visit += 1;
  leave?.();
  leave = null;
  clearOver();
  fill(app, all);
}

function enter(said = "") {
  document.title = "Sign in · Stoker";
  put(loginPage(shell, said));
}

function shell() {
  const who = signedIn();
  const links = PAGES.filter((page) => page.shown()).map((page) =>
    h("li", {}, h("a", { href: `#/${page.name}`, "data-page": page.name }, icon(page.name), h("span", {}, page.title))),
  );
  const nav = h("nav", { id: "nav", "aria-label": "Pages" }, h("ul", {}, links));
  const menu = iconButton("menu", "Pages", () => open(menu.getAttribute("aria-expanded") !== "true"), { "aria-expanded": "false", "aria-controls": "nav" });
  menu.classList.add("menu-button");
  const open = (on) => {
    menu.setAttribute("aria-expanded", String(on));
    side.classList.toggle("open", on);
  };
  nav.addEventListener("click", (event) => event.target.closest("a") && open(false));
  const me = h("div", { class: "me" }, h("p", { class: "me-name", title: who.name }, who.name || "signed in"), h("p", { class: "muted" }, who.role));
  const side = h(
    "header",
    { class: "side" },
    h("a", { class: "brand", href: "#/start" }, mark(), h("span", {}, "Stoker")),
    menu,
    nav,
    h("div", { class: "side-foot" }, me, themeButton(), iconButton("out", "Sign out", leaveSession)),
  );
  put(h("div", { class: "shell" }, side, h("main", { id: "main", tabindex: "-1" })));
  show();
}

async function leaveSession() {
  try {
    await signOut();
  } catch (error) {
    if (signedIn()) throw new Error(`You are still signed in: ${error.message}`);
    return; // the session had ended, and the page says so
  }
  location.hash = "";
  enter("You are signed out.");
}

async function show() {
  if (!signedIn()) return;
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  const page = PAGES.find((each) => each.name === name && each.shown()) || PAGES[0];
  const main = document.getElementById("main");
  const mine = (visit += 1);
  leave?.();
  leave = null;
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.page === page.name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${page.title} · Stoker`;
  main.className = `page-${page.name}`;
  const box = h("div", { class: "page" }, loading()); // its own: a page that is left in the middle fills what nobody sees
  fill(main, box);
  try {
    const module = await page.load();
    const end = mine === visit ? await module.default(box, page.name === name ? rest : []) : null;
    if (mine === visit) leave = end || null;
    else end?.();
  } catch (error) {
    fill(box, h("h1", {}, page.title), notice(error.message));
  }
  if (mine !== visit) return;
  tell(page.title);
  if (document.activeElement === document.body || document.activeElement?.closest?.("#nav")) main.focus({ preventScroll: true });
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function themeButton() {
  const dark = () => document.documentElement.dataset.theme === "dark" || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  const name = () => (dark() ? "Use light colours" : "Use dark colours");
  const made = iconButton("theme", name(), () => {
    const chosen = dark() ? "light" : "dark";
    document.documentElement.dataset.theme = chosen;
    try {
      localStorage.setItem("stoker-theme", chosen);
    } catch {
      // It holds until the page is loaded again.
    }
    made.setAttribute("aria-label", name());
    made.title = name();
  });
  return made;
}

addEventListener("hashchange", show);
document.addEventListener("signed-out", (event) => enter(event.detail));
document.addEventListener("session-changed", begin);
addEventListener("pageshow", (event) => event.persisted && begin()); // as it was when it was left, whoever is signed in now
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // its address would be that of a page
  document.getElementById("main").focus();
});
addEventListener("unhandledrejection", (event) => complain(event.reason));
begin();
