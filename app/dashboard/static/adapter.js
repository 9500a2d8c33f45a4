// One adapter: how it was made, its files, and what is said of it.

import { allows, get, isRemoved, patch } from "./api.js";
import { findCover } from "./covers.js";
import { Activity } from "./live.js";
import { setUpSharing } from "./adapter-share.js";
import { setUpTools } from "./adapter-tools.js";
import { formatBytes, formatNumber, t } from "./texts.js";
import { showAges } from "./times.js";
import { coalesce, el, find, once, showError, stateBadge, toast } from "./ui.js";

const id = find("adapter").dataset.id, path = `/adapters/${id}`;
const FIELDS = ["name", "description", "notes", "license", "tags"];
let adapter = null;

export async function attempt(work) {
  showError(find("error"), null);
  try {
    await work();
  } catch (error) {
    showError(find("error"), error);
    if (!find("error").hidden) find("error").scrollIntoView({ block: "nearest" });
  }
}

async function load() {
  adapter = await get(path);
  document.title = `${adapter.name} · Atelier`;
  find("title").textContent = adapter.name;
  find("state").replaceChildren(stateBadge(adapter.status));
  const reason = adapter.error ? `${adapter.error.title}: ${adapter.error.detail}` : adapter.status === "checking" ? adapter.waiting_reason ?? t("adapter.checking") : null;
  find("reason").hidden = !reason;
  find("reason").className = adapter.error ? "message bad" : "message";
  find("reason").textContent = reason ?? "";
  if (find("try")) find("try").hidden = adapter.status !== "ready";
  showMade();
  showFiles();
  if (!isEdited()) writeAbout(); // before anything is awaited, or it would overwrite what is typed meanwhile
  await showCover();
  tools?.show(adapter);
  await sharing?.show();
}

async function showCover() {
  const address = await findCover(adapter);
  const shown = find("cover").firstElementChild;
  if (address && shown?.getAttribute("src") === address) return;
  find("cover").replaceChildren(address ? el("img", { src: address, alt: t("adapter.coverOf", { name: adapter.name }) }) : el("p", { class: "hint" }, t("adapter.uncovered")));
}

// --- how it was made ------------------------------------------------------------------------------------

function showMade() {
  const { merge, metrics, trigger } = adapter;
  const rows = [
    [t("adapter.source"), sourceOf()],
    [t("new.base"), adapter.model],
    [t("new.trigger"), trigger ? el("span", {}, el("code", {}, trigger), " ", copyButton(trigger)) : t("adapter.noTrigger")],
    [t("adapter.type"), adapter.type ? t("adapter.ofRank", { type: adapter.type, rank: adapter.rank }) : null],
    [t("adapter.trained"), metrics?.step ? t("steps", { count: metrics.step }) : null],
    [t("chart.heldLoss"), metrics?.validation_loss ?? null],
    [t("adapter.loss"), metrics?.loss ?? null],
    [t("adapter.retention"), metrics?.retention != null ? formatNumber(metrics.retention) : null],
    [t("adapter.deviation"), merge?.error ? `${formatNumber(merge.error.total * 100)} %` : null],
    [t("jobs.created"), el("time", { dateTime: adapter.created_at })],
  ];
  find("made").replaceChildren(...rows.filter(([, value]) => value !== null).map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))));
  find("notes-made").replaceChildren(...remarks());
  showAges(find("made"));
}

function sourceOf() {
  if (adapter.job) return el("a", { href: `/ui/jobs/${adapter.job}` }, t("adapter.byJob"));
  if (!adapter.merge) return t("adapter.byImport");
  const kind = adapter.merge.method === "extract" ? "models" : "adapters";
  const tree = adapter.merge.sources.map((one) => el("li", {}, el("a", { href: `/ui/${kind}/${encodeURIComponent(one.id)}` }, one.name), ` × ${one.weight}`));
  return el("span", {}, t("adapter.byMerge", { method: adapter.merge.method }), el("ul", { class: "tree" }, tree));
}

function remarks() {
  const { conversion, ignored, num_ignored: count } = adapter;
  return [
    conversion && el("p", { class: "message" }, t("adapter.converted", { kind: conversion.kind, layers: conversion.num_layers, rank: conversion.rank, error: conversion.error * 100 })),
    count > 0 && el("details", { class: "message" }, el("summary", {}, t("adapter.ignored", { count })), el("ul", {}, ignored.map((one) => el("li", {}, `${one.key}: ${one.reason}`)))),
  ].filter(Boolean);
}

export function copyButton(text) {
  return el("button", { type: "button", class: "chip", onclick: () => copy(text) }, t("adapter.copy"));
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // without HTTPS there is no clipboard
    const area = document.body.appendChild(el("textarea", { value: text, class: "skip" }));
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast(t("adapter.copied"));
}

// --- files ----------------------------------------------------------------------------------------------

function showFiles() {
  const files = Object.entries(adapter.files);
  find("files").replaceChildren(...files.map(([format, file]) => el("li", {},
    el("div", { class: "row" }, el("a", { class: "button", href: file.url, download: true }, t("adapter.downloadOf", { format })), el("span", { class: "hint" }, formatBytes(file.size))),
    el("small", { class: "hint sha" }, "sha256 ", el("code", {}, file.sha256)),
  )));
  if (!files.length) find("files").replaceChildren(el("li", { class: "hint" }, t("adapter.noFiles")));
  const proofs = Object.entries(adapter.proofs).flatMap(([format, proof]) => proof.tools.map((tool) => [format, tool]));
  find("proof").replaceChildren(...(proofs.length ? proofs.map(([format, tool]) => proveTool(format, tool)) : [el("li", { class: "hint" }, t("adapter.unproved"))]));
}

function proveTool(format, tool) {
  const counts = { tool: tool.tool, format, done: tool.num_resolved, total: tool.num_keys };
  const isWhole = tool.loads && tool.offered && (tool.verdict === null || ["same", "differs"].includes(tool.verdict));
  const text = !tool.opens_base ? "adapter.proofBase" : isWhole ? "adapter.proofWhole" : tool.loads && !tool.offered ? "adapter.proofHidden" : "adapter.proofPart";
  const measured = tool.measured ? ` ${t("adapter.measured", { same: tool.measured.num_same, layers: tool.measured.num_layers })}` : "";
  return el("li", { class: isWhole ? "holds" : tool.required ? "fails" : "open" }, t(text, counts) + measured, tool.notes.map((note) => el("small", { class: "hint" }, note)));
}

// --- what is said of it ----------------------------------------------------------------------------------

const splitTags = (text) => text.split(",").map((tag) => tag.trim()).filter(Boolean);
const valueOf = (name) => (name === "tags" ? adapter.tags.join(", ") : adapter[name] ?? "");

let written = {};

// `sent`: what was saved; fields that differ from it were edited meanwhile.
function writeAbout(sent = null) {
  for (const name of FIELDS) {
    written[name] = valueOf(name);
    if (!sent || find(name).value === sent[name]) find(name).value = written[name];
  }
  if (find("save")) find("save").disabled = !isEdited();
}

const isEdited = () => FIELDS.some((name) => name in written && find(name).value !== written[name]);

async function save(event) {
  event.preventDefault();
  const changes = {}, sent = Object.fromEntries(FIELDS.map((name) => [name, find(name).value]));
  for (const [name, value] of Object.entries(sent)) {
    if (value === written[name]) continue;
    changes[name] = name === "tags" ? splitTags(value) : name === "license" ? value.trim() || null : value;
  }
  await attempt(async () => {
    adapter = await patch(path, changes);
    writeAbout(sent);
    toast(t("adapter.saved"));
    await load();
  });
}

const reload = coalesce(() => attempt(load));
const tools = setUpTools({ path, attempt, reload, mayChange: allows("jobs") });
const sharing = allows("jobs") ? setUpSharing({ path, attempt, copy }) : null;
find("about").addEventListener("submit", once(save));
find("about").addEventListener("input", () => find("save") && (find("save").disabled = !isEdited()));
addEventListener("beforeunload", (event) => isEdited() && event.preventDefault());
new Activity({
  onReady: reload,
  onChange: (change) => {
    if (change.resource !== "adapter" || change.id !== id || isRemoved(path)) return;
    if (change.status !== null) reload();
    else if (isEdited()) showError(find("error"), t("adapter.gone"));
    else location.assign("/ui/adapters");
  },
  onTrouble: (text) => (find("live").textContent = text),
});
