// Who did what: the audit log, with its filters in the page's address.

import { list } from "./api.js";
import { Feed, code, date, guard, onReturn } from "./service-parts.js";
import { offerTenants, tenantQuery } from "./tenants.js";
import { t } from "./texts.js";
import { coalesce, el, find } from "./ui.js";

const PAGES = { job: "jobs", ds: "datasets" };
const keys = new Map();

const feed = new Feed({
  columns: [
    { title: t("audit.time"), cell: (entry) => date(entry.created_at) },
    { title: t("audit.action"), head: true, cell: (entry) => el("span", { title: entry.action }, t(`audit.action.${entry.action}`)) },
    { title: t("audit.target"), cell: (entry) => showTarget(entry.target) },
    { title: t("audit.key"), cell: (entry) => keys.get(entry.key) ?? code(entry.key) },
    { title: t("audit.address"), cell: (entry) => entry.address },
  ],
});

function showTarget(id) {
  const page = PAGES[id.split("_")[0]];
  const name = keys.get(id) ?? code(id);
  return page && id.includes("_") ? el("a", { href: `/ui/${page}/${encodeURIComponent(id)}` }, name) : name;
}

async function load() {
  const action = find("action").value;
  history.replaceState(null, "", action ? `?action=${encodeURIComponent(action)}` : location.pathname);
  await guard(async () => {
    for (const key of await list(`/keys${tenantQuery()}`)) keys.set(key.id, key.name);
    await feed.load(`/audit?${new URLSearchParams({ ...(action && { action }) })}${tenantQuery("&")}`);
  });
}

find("action").value = new URLSearchParams(location.search).get("action") ?? "";
if (!find("action").value) find("action").value = "";
find("action").addEventListener("change", load);
await guard(() => offerTenants(load));
load();
onReturn(coalesce(load));
