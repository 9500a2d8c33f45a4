// A dataset's page: its images with their captions, its revisions as a line, and one image large with what a base makes of
// it. A change makes a revision, which the page then shows in its place.

import { allows, get, isRemoved, list, remove } from "./api.js";
import { CaptionGrid, collectWarnings } from "./new-captions.js";
import { Activity } from "./live.js";
import { formatBytes, t } from "./texts.js";
import { showAges } from "./times.js";
import { coalesce, confirm, el, find, once, showError, stateBadge } from "./ui.js";

const MAX_CHAIN = 30;
const grid = new CaptionGrid(goTo, openLarge);
let dataset = null, shown = null, framed = [], at = 0, chain = []; // chain: from the first ancestor to the dataset

const idOf = () => decodeURIComponent(location.pathname.split("/").pop());

async function goTo({ id }) {
  if (id !== idOf()) history.pushState(null, "", `/ui/datasets/${encodeURIComponent(id)}`);
  await show();
}

// One after the other, so that the last one is of the present address.
let showing = Promise.resolve();
const inOrder = (work) => () => (showing = showing.catch(() => {}).then(work));
const show = inOrder(showNow);

async function showNow() {
  const address = `/datasets/${encodeURIComponent(idOf())}`;
  dataset = await get(address);
  const name = dataset.name ?? dataset.id;
  document.title = `${name} · Atelier`;
  find("title").textContent = name;
  find("id").textContent = dataset.id;
  for (const part of document.querySelectorAll(".heading .actions")) part.hidden = false; // of one that was deleted they are not shown
  find("dataset-state").replaceChildren(stateBadge(dataset.status));
  find("count").textContent = dataset.num_images === null ? "" : t("images", { count: dataset.num_images });
  find("created").dateTime = dataset.created_at;
  showAges();
  if (find("delete")) find("delete").hidden = false;
  const isReady = dataset.status === "ready";
  find("zips").hidden = !isReady;
  for (const layout of ["kohya", "imagefolder"]) find(layout).href = `${address}/download?layout=${layout}`;
  if (find("train")) {
    find("train").hidden = !isReady;
    find("train").href = `/ui/new?dataset=${encodeURIComponent(dataset.id)}`;
  }
  showError(find("page-error"), dataset.error?.detail ?? null);
  showError(find("waiting"), dataset.waiting_reason);
  showNotes();
  if (isReady && shown !== dataset.id) await grid.show(dataset);
  if (isReady) shown = dataset.id;
  else grid.clear();
  if (!allows("jobs")) makeReadOnly();
  find("dataset").dataset.dataset = dataset.id;
  await showChain();
}

function makeReadOnly() {
  find("captions").hidden = true;
  for (const area of find("grid").querySelectorAll("textarea")) area.readOnly = true;
  for (const button of find("grid").querySelectorAll(".leave")) button.remove();
}

function showNotes() {
  const { notes = [], warnings = [], left_out: left = [] } = dataset.report ?? {};
  find("notes").replaceChildren(
    ...notes.map((note) => el("p", { class: "message", role: "note" }, note)),
    ...warnings.filter((one) => one.code !== "left-out").map((one) =>
      el("p", { class: "message" }, one.message, one.files.length ? ` (${t("images", { count: one.files.length })})` : "")),
    ...(left.length ? [el("details", { class: "message", open: left.length < 6 }, el("summary", {}, `${t("new.leftOut")}: ${t("files", { count: left.length })}`),
      el("dl", { class: "plan" }, left.map((one) => el("div", {}, el("dt", {}, one.file), el("dd", {}, one.reason)))))] : []),
  );
}

// --- revisions ------------------------------------------------------------------------------------------------

async function readAncestors() {
  const found = [dataset];
  while (found[0].parent && found.length < MAX_CHAIN) {
    const parent = await get(`/datasets/${found[0].parent}`).catch(() => null);
    if (!parent) break;
    found.unshift(parent);
  }
  chain = found;
}

// From the first ancestor to the revisions of this one.
async function showChain() {
  if (chain.at(-1)?.id !== dataset.id) await readAncestors();
  const children = await list(`/datasets?parent=${encodeURIComponent(dataset.id)}`, { limit: MAX_CHAIN });
  find("revisions").hidden = chain.length + children.length < 2;
  const link = (one) => el("li", {}, el("a", { href: `/ui/datasets/${one.id}`, "aria-current": one.id === dataset.id ? "page" : undefined },
    one.name ?? one.id, el("small", {}, one.num_images === null ? "" : `${t("images", { count: one.num_images })} · `, el("time", { dateTime: one.created_at }))));
  find("revisions").replaceChildren(el("ol", {}, [...chain, ...children.reverse()].map(link)));
  showAges(find("revisions"));
}

// --- one image, large -----------------------------------------------------------------------------------------

async function openLarge(image) {
  await readFramed();
  at = Math.max(0, framed.findIndex((one) => one.name === image.name));
  showLarge();
  find("large").showModal();
}

async function readFramed() {
  const model = find("base").value, query = model ? `?model=${encodeURIComponent(model)}` : "";
  const images = await list(`/datasets/${dataset.id}/images${query}`, { pageSize: 1000 });
  if (find("base").value === model) framed = images;
}

function showLarge() {
  const image = framed[at], { bucket } = image;
  const picture = el("img", { src: image.url, alt: image.caption ?? image.name, width: image.width, height: image.height });
  const shades = bucket ? [["left", bucket.cut_width], ["right", bucket.cut_width], ["top", bucket.cut_height], ["bottom", bucket.cut_height]] : [];
  const box = el("div", { class: "box" }, picture, shades.filter(([, cut]) => cut > 0).map(([side, cut]) => {
    const shade = el("span", { class: `cut ${side}` });
    shade.style[side === "left" || side === "right" ? "width" : "height"] = `${cut * 50}%`;
    return shade;
  }));
  box.style.width = `min(100%, calc(58vh * ${image.width / image.height}))`;
  find("framed").replaceChildren(box);
  find("large-name").textContent = image.name;
  find("large-caption").textContent = image.caption ?? t("noCaption");
  const cut = bucket ? Math.round(Math.max(bucket.cut_width, bucket.cut_height) * 100) : 0;
  const facts = { size: `${image.width}×${image.height} px`, file: formatBytes(image.size), repeats: String(image.repeats) };
  if (bucket) Object.assign(facts, { bucket: `${bucket.width}×${bucket.height} px`, crop: cut ? t("datasets.cut", { percent: cut }) : t("datasets.whole") });
  find("large-facts").replaceChildren(...Object.entries(facts).map(([key, value]) => el("div", {}, el("dt", {}, t(`datasets.${key}`)), el("dd", {}, value))));
  const warnings = collectWarnings(dataset.report).get(image.name) ?? [];
  find("large-warnings").replaceChildren(...warnings.map((text) => el("p", { class: "message" }, text)));
  find("previous").disabled = at === 0;
  find("next").disabled = at === framed.length - 1;
}

function move(by) {
  at = Math.min(framed.length - 1, Math.max(0, at + by));
  showLarge();
}

find("previous").addEventListener("click", () => move(-1));
find("next").addEventListener("click", () => move(1));
find("close").addEventListener("click", () => find("large").close());
find("base").addEventListener("change", async () => {
  await readFramed();
  showLarge();
});
find("large").addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || event.target === find("base")) return;
  event.preventDefault();
  move(by);
});

// --- the page -------------------------------------------------------------------------------------------------

const attempt = (work) => async () => {
  try {
    await work();
  } catch (error) {
    if (error.status === 404) showGone();
    else showError(find("page-error"), error);
  }
};

find("delete")?.addEventListener("click", once(attempt(async () => {
  if (!(await confirm(t("datasets.deleteTitle", { name: dataset.name ?? dataset.id }), t("datasets.deleteText"), t("datasets.delete")))) return;
  await remove(`/datasets/${dataset.id}`);
  location.assign("/ui/datasets");
})));
addEventListener("popstate", attempt(async () => {
  const id = idOf();
  if (grid.edits.size && id !== shown) {
    history.pushState(null, "", `/ui/datasets/${encodeURIComponent(shown)}`);
    if (!(await grid.mayDrop())) return;
  }
  await goTo({ id });
}));
// It was deleted, by another tab or person. What was typed stays, to be copied.
function showGone() {
  if (isRemoved(`/datasets/${dataset?.id}`)) return;
  for (const part of document.querySelectorAll(".heading .state, .heading .actions, #captions, #grid .leave")) part.hidden = true;
  showError(find("page-error"), t("datasets.gone"));
}

function applyChange({ resource, id, status }) {
  if (resource !== "dataset" || !dataset) return;
  if (id !== dataset.id) refreshChain();
  else if (status === null) showGone();
  else refresh();
}

const refresh = coalesce(attempt(show));
const refreshChain = coalesce(attempt(inOrder(showChain))); // another dataset may be a revision of this one
await attempt(show)();
new Activity({
  onReady: refresh,
  onChange: applyChange,
  onTrouble: (text) => (find("live").textContent = text),
});
