// Keys and people: who may do what, within which limits, and what administrators did.

import { all, at, del, get, patch, post, put, reaches, signedIn, withQuery } from "./api.js";
import { fill, h } from "./dom.js";
import { moment } from "./format.js";
import { longList } from "./list.js";
import { badge, button, code, confirmed, copied, dialog, empty, field, form, iconButton, input, loading, notice, searchInput, section, select, table, tabs, toast } from "./parts.js";

const ROLES = { reader: "reader: search, ask, read", ingest: "ingest: put documents in", member: "member: use models and documents", manager: "manager: all of the tenant", admin: "admin: everything" };
const SUBJECTS = 100; // offered to be given limits
const RANKS = ["reader", "ingest", "member", "manager", "admin"];

export default function page(main, [tab]) {
  const pages = [
    ["keys", "Keys", keysTab],
    ["users", "Users", usersTab],
    ["teams", "Teams", teamsTab],
    ["budgets", "Budgets", budgetsTab],
    ["audit", "Audit", auditTab],
  ];
  fill(main, h("h1", {}, "Keys and people"), tabs(pages, tab, (name) => history.replaceState(null, "", `#/keys/${name}`), "Keys and people"));
}

/** The roles that whoever is signed in may give. */
const givable = () => RANKS.slice(0, RANKS.indexOf(signedIn().role) + 1).map((role) => [role, ROLES[role]]);

function listed(label, path, kind, columns, cells, none, head, { searched = true } = {}) {
  const list = longList({ label, path, columns, cells, none: (query) => (query.name ? empty("None found", "No name holds these signs.") : none()) });
  list.element.querySelector(".list").classList.add(`list-${kind}`);
  list.reload();
  const search = searched && searchInput(`Find ${label.toLowerCase()} by a part of their name`, "Part of a name", (name) => list.reload({ name }));
  return [head(list), search, list.element];
}

function keysTab() {
  const state = (key) => {
    if (key.revoked_at) return badge("revoked", "bad");
    if (key.expires_at && key.expires_at * 1000 <= Date.now()) return badge("expired", "warn");
    return badge(key.expires_at ? "ends later" : "live", "good");
  };
  const cells = (key, list) => [
    h("span", { title: key.name }, key.name),
    h("code", {}, `${key.prefix}…`),
    key.role,
    moment(key.created_at),
    state(key),
    key.revoked_at || !reaches(key.role)
      ? ""
      : h("div", { class: "acts" }, iconButton("edit", `Change ${key.name}`, () => changeKey(key, list)), iconButton("retry", `Rotate ${key.name}`, () => rotateKey(key, list)), iconButton("trash", `Revoke ${key.name}`, () => revokeKey(key, list))),
  ];
  const columns = [["Name", "clip"], ["Key", "clip"], ["Role", ""], ["Made", "clip muted"], ["State", ""], ["", ""]];
  return listed("Keys", "/v1/admin/keys", "keys", columns, cells, () => empty("No keys", "Make one for each program and colleague."), (list) => h("div", { class: "row between" }, h("p", { class: "muted" }, "Each program and colleague gets a key of their own, with limits of its own."), button("New key", () => newKey(list), { kind: "primary", drawing: "plus" })));
}

async function newKey(list) {
  const made = await dialog("New key", (close) => {
    const name = input({ required: true, maxlength: 200, name: "name" });
    const role = select(givable(), { value: "member" });
    const expires = select([["", "never"], ["86400", "in a day"], ["604800", "in a week"], ["2592000", "in 30 days"], ["7776000", "in 90 days"], ["31536000", "in a year"]]);
    const local = input({ type: "checkbox" });
    const limits = limitFields({ rpm: 60, tpm: 100_000, parallel: 10 });
    const submit = async () => close(await post("/v1/admin/keys", { name: name.value.trim(), role: role.value, limits: limits.read(), ...(expires.value ? { expires_in_s: Number(expires.value) } : {}), ...(local.checked ? { local_only: true } : {}) }));
    return [form(submit, field("What it is for", name), h("div", { class: "fields" }, field("Role", role), field("It ends", expires)), limits.element, h("label", { class: "check" }, local, h("span", {}, "Its text never leaves the house")), h("div", { class: "row end" }, button("Make the key", null, { kind: "primary", type: "submit" })))];
  });
  if (!made) return;
  await shownOnce(made);
  await list.reload();
}

const shownOnce = (made) =>
  dialog("The new key", (close) => [
    notice("It is shown this once. Copy it now: nobody can show it again.", "info"),
    h("div", { class: "secret" }, h("code", { "data-secret": true }, made.key), button("Copy", () => copied(made.key), { kind: "small", drawing: "copy" })),
    h("div", { class: "row end" }, button("I have it", () => close(), { kind: "primary" })),
  ], { kind: "once" });

async function changeKey(key, list) {
  const now = await dialog(`Change ${key.name}`, (close) => {
    const name = input({ required: true, maxlength: 200, value: key.name });
    const role = select(givable(), { value: key.role });
    const limits = limitFields(key.limits || {});
    const submit = async () => close(await patch(at`/v1/admin/keys/${key.id}`, { name: name.value.trim(), role: role.value, limits: limits.read() }));
    return [form(submit, field("What it is for", name), field("Role", role), limits.element, h("div", { class: "row end" }, button("Keep", null, { kind: "primary", type: "submit" })))];
  });
  if (now) list.replace(key.id, now);
}

async function rotateKey(key, list) {
  const overlap = await dialog(`Rotate ${key.name}`, (close) => {
    const time = select([["0", "at once"], ["3600", "after an hour"], ["86400", "after a day"], ["604800", "after a week"]], { value: "3600" });
    return [form(() => close(time.value), h("p", {}, "A successor with the same role, scopes and limits takes its place."), field("The old key ends", time), h("div", { class: "row end" }, button("Rotate", null, { kind: "primary", type: "submit" })))];
  });
  if (overlap === undefined) return;
  await shownOnce(await post(at`/v1/admin/keys/${key.id}/rotate`, { overlap_s: Number(overlap) }));
  await list.reload();
}

async function revokeKey(key, list) {
  if (!(await confirmed("Revoke this key?", `${key.name} is refused from its next request on. This cannot be undone.`, "Revoke"))) return;
  list.replace(key.id, await del(at`/v1/admin/keys/${key.id}`));
  toast("The key is revoked");
}

/** Fields of limits; empty means none. */
function limitFields(limits) {
  const number = (name) => input({ type: "number", min: 1, value: limits[name] ?? "", name });
  const money = (name) => input({ inputmode: "decimal", pattern: "[0-9]+([.][0-9]{1,9})?", title: "such as 12.50", value: limits[name] ?? "", name });
  const fields = { rpm: number("rpm"), tpm: number("tpm"), parallel: number("parallel"), usd_per_day: money("usd_per_day"), usd_per_month: money("usd_per_month") };
  const names = { rpm: "Requests a minute", tpm: "Tokens a minute", parallel: "At the same time", usd_per_day: "US dollars a day", usd_per_month: "US dollars a month" };
  const element = h("div", { class: "stack" }, h("p", { class: "hint" }, "Limits; an empty field is none."), h("div", { class: "fields" }, Object.entries(fields).map(([name, element]) => field(names[name], element))));
  const read = () => Object.fromEntries(Object.entries(fields).map(([name, { value }]) => [name, value === "" ? null : name.startsWith("usd") ? value : Number(value)]));
  return { element, read };
}

function usersTab() {
  const cells = (user, list) => [
    h("span", { title: user.name }, user.name),
    user.role,
    user.groups.join(", ") || "–",
    moment(user.created_at),
    user.disabled_at ? badge("disabled", "bad") : badge("live", "good"),
    reaches(user.role) && h("div", { class: "acts" }, iconButton("edit", `Change ${user.name}`, () => userDialog(list, user)), user.disabled_at ? iconButton("retry", `Let ${user.name} in again`, async () => list.replace(user.id, await patch(at`/v1/admin/users/${user.id}`, { disabled: false }))) : iconButton("trash", `Disable ${user.name}`, () => disableUser(user, list))),
  ];
  const columns = [["Name", "clip"], ["Role", ""], ["Groups", "clip"], ["Made", "clip muted"], ["State", ""], ["", ""]];
  return listed("Users", "/v1/admin/users", "users", columns, cells, () => empty("No users yet", "Who signs in by an identity provider comes here by themselves."), (list) => h("div", { class: "row between" }, h("p", { class: "muted" }, "A user's keys and tokens share the user's role, groups and limits."), button("New user", () => userDialog(list, null), { kind: "primary", drawing: "plus" })));
}

async function userDialog(list, user) {
  const teams = await all("/v1/admin/teams");
  const now = await dialog(user ? `Change ${user.name}` : "New user", (close) => {
    const name = input({ required: true, maxlength: 200, value: user?.name || "" });
    const role = select(givable(), { value: user?.role || "member" });
    const team = select([["", "none"], ...teams.map((each) => [each.id, each.name])], { value: user?.team || "" });
    const groups = input({ value: (user?.groups || []).join(", ") });
    const submit = async () => {
      const said = { name: name.value.trim(), role: role.value, team: team.value || null, groups: groups.value.split(",").map((each) => each.trim()).filter(Boolean) };
      close(await (user ? patch(at`/v1/admin/users/${user.id}`, said) : post("/v1/admin/users", said)));
    };
    return [form(submit, field("Name", name), h("div", { class: "fields" }, field("Role", role), field("Team", team)), field("Groups", groups, "Separated by commas; documents name who may read them by these."), h("div", { class: "row end" }, button("Keep", null, { kind: "primary", type: "submit" })))];
  });
  if (now) await list.reload();
}

async function disableUser(user, list) {
  if (!(await confirmed("Disable this user?", `Every key and token of ${user.name} is refused from its next request on. Nothing is deleted.`, "Disable"))) return;
  list.replace(user.id, await del(at`/v1/admin/users/${user.id}`));
}

function teamsTab() {
  const box = h("div", { class: "stack" });
  const draw = async () => {
    const teams = await all("/v1/admin/teams");
    const rows = teams.map((team) => [team.name, moment(team.created_at), h("code", {}, team.id)]);
    fill(box, h("div", { class: "row between" }, h("p", { class: "muted" }, "A team shares limits and budgets."), button("New team", () => newTeam(draw), { kind: "primary", drawing: "plus" })), section("Teams", table("Teams", ["Name", "Made", "Id"], rows, { none: "No team yet." })));
  };
  draw().catch((error) => fill(box, notice(error.message)));
  return [box];
}

async function newTeam(draw) {
  const made = await dialog("New team", (close) => {
    const name = input({ required: true, maxlength: 200 });
    const submit = async () => close(await post("/v1/admin/teams", { name: name.value.trim() }));
    return [form(submit, field("Name", name), h("div", { class: "row end" }, button("Make it", null, { kind: "primary", type: "submit" })))];
  });
  if (made) await draw();
}

function budgetsTab() {
  const kind = select([["team", "a team"], ["user", "a user"], ["tenant", "the tenant"], ["model", "a model"]], { name: "kind" });
  const subject = select([], { name: "subject" });
  const search = searchInput("Find whom by a part of their name", "Part of a name", () => offer());
  const find = field("Find", search);
  const few = h("p", { class: "hint" });
  const box = h("div", {});
  let turn = 0; // limits are shown, and set, of what was chosen last
  const some = async (path) => {
    const found = await get(withQuery(path, { limit: SUBJECTS, name: search.value.trim() }));
    fill(few, found.has_more && `The newest ${SUBJECTS} are offered; a part of the name finds others.`);
    return found.data.map((each) => [each.id, each.name]);
  };
  const offers = {
    team: () => some("/v1/admin/teams"),
    user: () => some("/v1/admin/users"),
    tenant: () => [[signedIn().tenant, signedIn().tenant]],
    model: async () => (await get("/v1/models")).data.map((each) => [each.id, each.id]),
  };
  const offer = () => latest(async (isLast) => {
    fill(few);
    fill(subject);
    find.hidden = !["team", "user"].includes(kind.value);
    const options = await offers[kind.value]();
    if (!isLast()) return;
    fill(subject, options.map(([value, text]) => h("option", { value }, text)));
    draw();
  });
  const draw = () => latest(async (isLast) => {
    const changes = reaches("admin") || kind.value !== "tenant";
    if (!subject.value) return fill(box, search.value ? empty("None found", "No name holds these signs.") : empty("Nobody to give limits to", "Make a team or a user first."));
    const path = at`/v1/admin/limits/${kind.value}/` + subject.value.split("/").map(encodeURIComponent).join("/");
    const now = await get(path).catch((error) => {
      if (error.status !== 404) throw error;
      return {};
    });
    if (!isLast()) return;
    const limits = limitFields(now);
    const submit = async () => {
      await put(path, limits.read());
      toast("The limits hold from the next request on");
    };
    fill(box, form(submit, limits.element, changes ? h("div", { class: "row" }, button("Keep these limits", null, { kind: "primary", type: "submit" })) : notice("Only admins set a tenant's own limits.", "info")));
  });
  async function latest(act) {
    const mine = (turn += 1);
    fill(box, loading()); // what stood here is of another subject
    try {
      await act(() => mine === turn);
    } catch (error) {
      if (mine === turn) fill(box, notice(error.message));
    }
  }
  kind.addEventListener("change", () => {
    search.value = "";
    offer();
  });
  subject.addEventListener("change", draw);
  offer();
  return [section("Limits and budgets", h("p", { class: "muted" }, "What a key, its user, team and tenant may use holds together: the first that is reached refuses. A key's own stand beside it under Keys."), h("div", { class: "fields" }, field("Of", kind), field("Which", subject), find), few, box)];
}

function auditTab() {
  const cells = (entry) => [moment(entry.at), h("code", { title: entry.actor }, entry.actor), badge(entry.action), h("code", { title: entry.target }, entry.target), iconButton("search", `Details of ${entry.action}`, () => dialog(entry.action, () => [h("p", { class: "muted" }, `${moment(entry.at)}, by ${entry.actor}, request ${entry.request_id}`), code(JSON.stringify(entry.details, null, 2), "Copy the details")]))];
  const columns = [["When", "muted"], ["Who", "clip"], ["What", ""], ["Of what", "clip"], ["", ""]];
  return listed("Audit log", "/v1/admin/audit", "audit", columns, cells, () => empty("Nothing yet", "Acts of administrators stand here, and cannot be changed."), () => h("p", { class: "muted" }, "Each act stands here in the transaction of the act itself; the database lets nobody change an entry."), { searched: false });
}
