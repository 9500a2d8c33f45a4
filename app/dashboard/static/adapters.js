// The library of adapters: search, paging, import.

import { get, upload } from "./api.js";
import { coverOf } from "./covers.js";
import { Activity } from "./live.js";
import { formatBytes, t } from "./texts.js";
import { showAges } from "./times.js";
import { coalesce, debounce, el, find, once, showError, stateBadge } from "./ui.js";

const PAGE = 48;
const search = find("search").elements;
const NAMES = ["text", "model", "trigger", "tag"];
const known = new Map(); // by adapter: what is shown, so that it stays
let like = new URLSearchParams(location.search).get("like"), shown = PAGE, file = null;

function readQuery() {
  const query = new URLSearchParams();
  for (const name of NAMES) if (search[name].value.trim()) query.set(name, search[name].value.trim());
  if (like) query.set("like", like);
  return query;
}

async function load() {
  const query = readQuery(), isAll = !query.size, adapters = [];
  history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}`);
  let page;
  do {
    query.set("limit", Math.min(PAGE, shown - adapters.length));
    page = await get(`/adapters?${query}`);
    adapters.push(...page.data);
    query.set("after", page.last_id ?? "");
  } while (page.has_more && adapters.length < shown);
  showError(find("error"), null);
  find("adapters").replaceChildren(...adapters.map(showAdapter));
  find("nothing").hidden = adapters.length > 0 || !isAll;
  find("unmatched").hidden = adapters.length > 0 || isAll;
  find("more").hidden = !page.has_more;
  showAges(find("adapters"));
}

function showAdapter(adapter) {
  const state = JSON.stringify([adapter.status, adapter.name, adapter.cover?.sha256, adapter.trigger, adapter.metrics?.step]);
  const before = known.get(adapter.id);
  if (before?.state === state) return before.item;
  const about = [adapter.trigger, adapter.model].filter(Boolean).join(" · ");
  const caption = el("figcaption", {}, el("span", {}, adapter.name), el("small", {}, about, " · ", el("time", { dateTime: adapter.created_at })),
    adapter.status === "ready" ? null : stateBadge(adapter.status));
  const item = el("li", {}, el("a", { class: "plain", href: `/ui/adapters/${adapter.id}` }, el("figure", {}, coverOf(adapter), caption)));
  known.set(adapter.id, { state, item });
  return item;
}

async function showLike() {
  find("like").hidden = !like;
  if (!like) return;
  const adapter = await get(`/adapters/${encodeURIComponent(like)}`).catch(() => null);
  find("like").textContent = `${t("library.like", { name: adapter?.name ?? like })} ×`;
}

function restart() {
  shown = PAGE;
  reload();
}

// --- import ---------------------------------------------------------------------------------------------

function openImport(chosen = null) {
  find("import").hidden = false;
  if (chosen) {
    file = chosen;
    find("import-file").textContent = `${file.name} · ${formatBytes(file.size)}`;
  }
  find("import-go").disabled = !file;
  find("file").focus();
}

async function send() {
  const form = new FormData();
  for (const name of ["model", "name", "trigger", "tags"]) {
    const value = find("import-form").elements[name].value.trim();
    if (value) form.append(name, value);
  }
  form.append("file", file, file.name);
  find("transfer").hidden = false;
  find("import-go").disabled = true;
  showError(find("import-error"), null);
  try {
    const made = await upload("/adapters", form, { onProgress: showSent });
    location.assign(`/ui/adapters/${made.id}`);
  } catch (error) {
    showError(find("import-error"), error);
    find("transfer").hidden = true;
    find("import-go").disabled = false;
  }
}

function showSent(sent, total) {
  find("transfer-bar").value = total ? sent / total : 0;
  find("transfer-text").textContent = t("new.uploading", { done: formatBytes(sent), total: formatBytes(total) });
}

if (find("import-open")) {
  find("import-open").addEventListener("click", () => openImport());
  find("import-close").addEventListener("click", () => (find("import").hidden = true));
  find("file").addEventListener("change", () => openImport(find("file").files[0]));
  find("import-form").addEventListener("submit", once(async (event) => {
    event.preventDefault();
    if (file) await send();
  }));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) openImport(event.dataTransfer.files[0]);
  });
}

// --- start ----------------------------------------------------------------------------------------------

const say = (text) => (find("live").textContent = text);
const reload = coalesce(() => load().catch((error) => showError(find("error"), error)));
find("search").addEventListener("input", debounce(restart, 250));
find("search").addEventListener("submit", (event) => event.preventDefault());
find("like").addEventListener("click", () => {
  like = null;
  showLike();
  restart();
});
find("reset").addEventListener("click", () => {
  find("search").reset();
  like = null;
  showLike();
  restart();
  search.text.focus();
});
find("more").addEventListener("click", () => {
  shown += PAGE;
  reload();
});

async function begin() {
  const models = (await get("/models")).data.filter((model) => model.status === "ready");
  const options = () => models.map((model) => el("option", { value: model.id }, model.id));
  search.model.append(...options());
  find("import-model").append(...options());
  const query = new URLSearchParams(location.search);
  for (const name of NAMES) search[name].value = query.get(name) ?? "";
  await showLike();
}

await begin().catch((error) => showError(find("error"), error));
new Activity({ onReady: reload, onChange: ({ resource }) => resource === "adapter" && reload(), onTrouble: say });
