// The API keys: a new one, whose secret is shown once, and the end of old ones.

import { post, remove } from "./api.js";
import { Feed, age, copyable, date, guard, onReturn, showFaults } from "./service-parts.js";
import { offerTenants, tenantQuery } from "./tenants.js";
import { t } from "./texts.js";
import { coalesce, confirm, el, find, once, stateBadge, toast } from "./ui.js";

const form = find("form");
const own = document.querySelector("meta[name=key]").content;

const feed = new Feed({
  columns: [
    { title: t("keys.name"), head: true, cell: (key) => [key.name, key.id === own && el("span", { class: "under hint" }, t("keys.own"))] },
    { title: t("keys.state"), cell: (key) => stateBadge(stateOf(key)) },
    { title: t("keys.prefix"), cell: (key) => el("code", {}, `${key.prefix}…`) },
    { title: t("keys.scopes"), cell: (key) => key.scopes.join(", ") },
    { title: t("keys.used"), cell: (key) => age(key.last_used_at) },
    { title: t("keys.expires"), cell: (key) => (key.expires_at ? date(key.expires_at) : t("keys.never")) },
    { title: t("keys.created"), cell: (key) => age(key.created_at) },
    { title: t("actions"), cell: showActions },
  ],
});

function stateOf(key) {
  if (key.revoked_at) return "revoked";
  return key.expires_at && new Date(key.expires_at) < Date.now() ? "expired" : "active";
}

function showActions(key) {
  if (stateOf(key) !== "active") return "";
  const rotate = el("button", { type: "button", id: `rotate-${key.id}`, "aria-label": t("keys.rotateOf", { name: key.name }), onclick: once(() => askToRotate(key)) }, t("keys.rotate"));
  const revoke = el("button", { type: "button", id: `revoke-${key.id}`, class: "danger", "aria-label": t("keys.revokeOf", { name: key.name }), onclick: once(() => askToRevoke(key)) }, t("keys.revoke"));
  return el("div", { class: "actions" }, rotate, revoke);
}

const load = () => guard(() => feed.load(`/keys${tenantQuery()}`));

async function askToRevoke(key) {
  const text = key.id === own ? t("keys.revokeOwnText") : t("keys.revokeText");
  if (!(await confirm(t("keys.revokeTitle", { name: key.name }), text, t("keys.revoke")))) return;
  if (await guard(() => remove(`/keys/${key.id}${tenantQuery()}`))) toast(t("keys.revoked", { name: key.name }));
  load();
}

async function askToRotate(key) {
  if (!(await confirm(t("keys.rotateTitle", { name: key.name }), t("keys.rotateText"), t("keys.rotate"), "primary"))) return;
  await guard(async () => showSecret(await post(`/keys/${key.id}/rotate${tenantQuery()}`, {})));
  load();
}

async function create(event) {
  event.preventDefault();
  const scopes = [...form.querySelectorAll("[name=scopes]:checked")].map((box) => box.value);
  const days = Number(form.elements.expires.value);
  const end = days ? new Date(Date.now() + days * 86_400_000).toISOString() : null;
  try {
    showSecret(await post(`/keys${tenantQuery()}`, { name: form.elements.name.value.trim(), scopes, expires_at: end }));
    form.reset();
    find("create").open = false;
    showFaults(form, find("form-error"), null);
    load();
  } catch (error) {
    showFaults(form, find("form-error"), error);
  }
}

// --- the secret, while the page shows it ---------------------------------------------------------------

let made = null;

function showSecret(key) {
  made = key;
  find("made-title").textContent = t("keys.madeOf", { name: key.name });
  find("secret").replaceChildren(copyable(key.secret, t("keys.secret")));
  find("link").replaceChildren();
  find("make-link").hidden = !key.scopes.some((scope) => scope !== "jobs");
  find("made").hidden = false;
  find("secret").querySelector("input").focus();
  find("made").scrollIntoView({ block: "nearest" });
}

// With the new key itself: a session makes no links.
async function makeLink() {
  await guard(async () => {
    const answer = await fetch("/ui/tokens", { method: "POST", headers: { Authorization: `Bearer ${made.secret}` } });
    const link = await answer.json();
    if (!answer.ok) throw new Error(link.detail ?? link.title);
    const minutes = Math.round(link.expires_in_seconds / 60);
    find("link").replaceChildren(el("p", {}, t("keys.linkText", { minutes })), copyable(link.url, t("keys.link")));
    find("link").querySelector("input").focus();
  });
}

function forget() {
  made = null;
  find("secret").replaceChildren();
  find("link").replaceChildren();
  find("made").hidden = true;
  find("create").querySelector("summary").focus();
}

form.addEventListener("submit", once(create));
find("make-link").addEventListener("click", once(makeLink));
find("done").addEventListener("click", forget);
addEventListener("beforeunload", (event) => made && event.preventDefault());
await guard(() => offerTenants(load));
load();
onReturn(coalesce(load));
