// The page for a new job: images, captions, options, plan, start.

import { get, list, makeIdempotencyKey, post, upload } from "./api.js";
import { formatBytes, formatNumber, t } from "./texts.js";
import { Activity } from "./live.js";
import { setUpAutomaticCaptions } from "./new-auto.js";
import { CaptionGrid } from "./new-captions.js";
import { readDrop, readExample, readInput, sift } from "./new-files.js";
import { markFaults, readSpec, showDefaults, writeSpec } from "./new-spec.js";
import { whenClosed } from "./selects.js";
import { formatDuration } from "./times.js";
import { coalesce, debounce, el, find, once, showError, stateBadge } from "./ui.js";

const DRAFT = "new-job";
const query = new URLSearchParams(location.search);
const kinds = JSON.parse(find("drop").dataset.kinds);
const grid = new CaptionGrid(useDataset);
let dataset = null, kept = {}, selection = null, transfer = null, run = 0; // run: an answer to an older one is stale

// --- images ---------------------------------------------------------------------------------------------

async function take(found) {
  selection = sift(found, kinds);
  if (!selection.files.length) return showError(find("images-error"), t("new.nothing"));
  await send();
}

async function send() {
  const { files, title, isImage } = selection;
  const form = new FormData();
  form.append("name", title ?? t("new.untitled"));
  for (const { name, file } of files) form.append("files", file, name);
  transfer = new AbortController();
  showError(find("images-error"), null);
  find("notes").replaceChildren();
  showTransfer(true);
  grid.preview(files.filter(({ name }) => isImage(name)));
  try {
    await useDataset(await upload("/datasets", form, { signal: transfer.signal, onProgress: showSent }));
  } catch (error) {
    showError(find("images-error"), error);
    find("retry").hidden = find("others").hidden = false;
    find("stop").hidden = true;
  } finally {
    transfer = null;
  }
}

function showTransfer(isShown) {
  find("choose").hidden = isShown;
  find("transfer").hidden = !isShown;
  find("stop").hidden = false;
  find("retry").hidden = true;
}

function showSent(sent, total) {
  find("transfer-bar").value = total ? sent / total : 0;
  const text = sent < total ? t("new.uploading", { done: formatBytes(sent), total: formatBytes(total) }) : t("new.uploaded");
  find("transfer-text").textContent = text;
}

function startOver() {
  transfer?.abort();
  run++;
  dataset = selection = null;
  grid.clear();
  showTransfer(false);
  for (const id of ["images-error", "others", "captions"]) find(id).hidden = true;
  find("notes").replaceChildren();
  find("dataset-state").replaceChildren();
  remember({ dataset: null, example: null });
  showExisting();
  plan();
}

// --- the dataset ----------------------------------------------------------------------------------------

async function useDataset({ id }) {
  const mine = ++run, found = await get(`/datasets/${encodeURIComponent(id)}`);
  if (mine !== run) return;
  dataset = found;
  remember({ dataset: dataset.id, example: null });
  await showDataset();
}

async function showDataset() {
  const shown = dataset;
  find("dataset-state").replaceChildren(stateBadge(shown.status));
  find("others").hidden = false;
  const isChecking = shown.status === "validating";
  find("choose").hidden = true;
  find("transfer").hidden = !isChecking;
  find("stop").hidden = true;
  if (isChecking) {
    find("transfer-bar").removeAttribute("value");
    find("transfer-text").textContent = shown.waiting_reason ?? t("new.uploaded");
  }
  showError(find("images-error"), shown.status === "rejected" ? shown.error?.detail ?? t("new.rejected") : null);
  showNotes(shown.report);
  if (shown.status === "ready") await grid.show(shown);
  else if (!isChecking) grid.clear();
  plan();
}

// What concerns no single picture of the grid.
function showNotes(report) {
  const left = report?.left_out ?? [];
  const general = (report?.warnings ?? []).filter((warning) => warning.code !== "left-out" && !warning.files.length);
  const named = (report?.warnings ?? []).filter((warning) => warning.code !== "left-out" && warning.files.length);
  find("notes").replaceChildren(
    ...(report?.notes ?? []).map((note) => el("p", { class: "message" }, note)),
    ...general.map((warning) => el("p", { class: "message" }, warning.message)),
    ...named.map((warning) => el("p", { class: "message" }, `${warning.message} (${t("images", { count: warning.files.length })})`)),
    ...(left.length ? [el("details", { class: "message" }, el("summary", {}, `${t("new.leftOut")}: ${t("files", { count: left.length })}`),
      el("ul", {}, left.map((item) => el("li", {}, `${item.file}: ${item.reason}`))))] : []),
  );
}

async function showExisting() {
  const ready = await list("/datasets?status=ready", { limit: 100 }).catch(() => []);
  const picker = find("datasets");
  whenClosed([picker], () => {
    find("existing").hidden = !ready.length;
    picker.replaceChildren(el("option", { value: "" }, t("new.pick")), ...ready.map((one) =>
      el("option", { value: one.id }, `${one.name ?? one.id} · ${t("images", { count: one.num_images ?? 0 })} · ${new Date(one.created_at).toLocaleString()}`)));
  });
}

function remember(changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) query.delete(name);
    else query.set(name, value);
  }
  history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}`);
  saveDraft();
}

// --- the plan -------------------------------------------------------------------------------------------

let latest = null, intention = { body: null, key: null };

const body = () => ({ ...merge(kept, readSpec()), model: find("model").value, dataset: dataset.id });

function merge(under, over) {
  const merged = { ...under };
  for (const [name, value] of Object.entries(over)) {
    const isPart = value && typeof value === "object" && !Array.isArray(value);
    merged[name] = isPart ? merge(under[name] ?? {}, value) : value;
  }
  return merged;
}

const plan = debounce(dryRun, 350);

async function dryRun() {
  latest?.abort();
  find("start").disabled = true;
  if (dataset?.status !== "ready" || !find("model").value) return showPlan(null);
  const run = (latest = new AbortController());
  find("plan-hint").textContent = t("new.planning");
  try {
    showPlan(await post("/jobs?dry_run=true", body(), { signal: run.signal, repeatable: true }));
  } catch (error) {
    if (error.name === "AbortError") return;
    showPlan(null);
    showFaults(error);
  }
}

function showPlan(answer) {
  find("plan").hidden = !answer;
  find("plan-hint").textContent = answer || dataset?.status === "ready" ? "" : t("new.planWaits");
  find("start").disabled = !answer;
  showError(find("plan-error"), null);
  markFaults({});
  find("plan-basis").textContent = answer ? t("new.basis", { basis: answer.estimate.basis }) : "";
  find("advice").replaceChildren(...(answer?.warnings ?? []).map((one) =>
    el("div", { class: "message" }, el("p", {}, one.message), one.files.length ? el("p", { class: "files" }, one.files.join(", ")) : null)));
  if (!answer) return;
  showDefaults(answer.plan);
  const { steps, seconds, peak_memory_bytes, adapter_bytes } = answer.estimate;
  find("plan-steps").textContent = formatNumber(steps);
  find("plan-time").textContent = seconds === null ? t("new.unmeasured") : t("about", { value: formatDuration(seconds) });
  find("plan-memory").textContent = peak_memory_bytes === null ? t("new.unmeasured") : formatBytes(peak_memory_bytes);
  find("plan-size").textContent = formatBytes(adapter_bytes);
}

function showFaults(error) {
  const others = markFaults(error.errors);
  const isMarked = Object.keys(error.errors).length > others.length;
  showError(find("plan-error"), others.length || !isMarked ? error : t("new.mend"));
}

async function start() {
  find("start").disabled = true;
  try {
    await grid.saveEdits();
    const wanted = body(), text = JSON.stringify(wanted);
    if (intention.body !== text) intention = { body: text, key: makeIdempotencyKey() };
    const job = await post("/jobs", wanted, { idempotencyKey: intention.key });
    sessionStorage.removeItem(DRAFT);
    location.assign(`/ui/jobs/${job.id}`);
  } catch (error) {
    showFaults(error);
    find("start").disabled = false;
  }
}

// --- the form -------------------------------------------------------------------------------------------

async function showModels() {
  const models = (await get("/models")).data;
  const ready = models.filter((model) => model.status === "ready");
  find("model").replaceChildren(...ready.map((model) => el("option", { value: model.id }, model.id)));
  const describe = () => {
    const model = ready.find((one) => one.id === find("model").value);
    find("model-help").textContent = model ? [model.description, `${model.resolution} px`].filter(Boolean).join(" · ") : t("new.noBase");
  };
  find("model").addEventListener("change", describe);
  return describe;
}

function saveDraft() {
  const draft = { search: location.search, model: find("model").value, spec: merge(kept, readSpec()) };
  sessionStorage.setItem(DRAFT, JSON.stringify(draft));
}

// A draft of this very page; else the job that is to be trained again.
async function fill() {
  const draft = JSON.parse(sessionStorage.getItem(DRAFT) ?? "null");
  if (draft?.search === location.search) return draft;
  if (!query.has("from")) return { spec: {} };
  const job = await get(`/jobs/${encodeURIComponent(query.get("from"))}`);
  find("title").textContent = t("new.again");
  const { model, dataset: set, ...spec } = job.spec;
  if (!query.has("dataset")) query.set("dataset", job.dataset);
  return { model: job.model, spec };
}

async function begin() {
  const describe = await showModels();
  const filled = await fill();
  if ([...find("model").options].some((option) => option.value === filled.model)) find("model").value = filled.model;
  kept = writeSpec(filled.spec ?? {});
  describe();
  if (query.has("dataset")) await useDataset({ id: query.get("dataset") });
  else if (query.has("example")) await beginWithExample();
  else await showExisting();
}

async function beginWithExample() {
  if (!find("trigger").value) find("trigger").value = "blip";
  await take(await readExample());
}

find("spec").addEventListener("input", () => {
  saveDraft();
  plan();
});
find("spec").addEventListener("submit", (event) => event.preventDefault());
find("start").addEventListener("click", once(start));
find("stop").addEventListener("click", () => transfer?.abort());
find("retry").addEventListener("click", once(send));
find("others").addEventListener("click", startOver);
find("datasets").addEventListener("change", () => find("datasets").value && attempt(() => useDataset({ id: find("datasets").value })));
for (const id of ["files", "folder"]) {
  find(id).addEventListener("change", async () => {
    await attempt(() => take(readInput(find(id).files)));
    find(id).value = "";
  });
}
const drop = find("drop");
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
drop.addEventListener("dragover", () => drop.classList.add("over"));
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  drop.classList.remove("over");
  attempt(async () => take(await readDrop(event.dataTransfer)));
});
addEventListener("beforeunload", (event) => transfer && event.preventDefault());

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    showError(find("images-error"), error);
  }
}

const refresh = coalesce(async () => {
  if (dataset?.status === "validating") await attempt(() => useDataset(dataset));
});

// Another tab or person has deleted the images. The form stays as it is, for others.
function showGone() {
  startOver();
  showError(find("images-error"), t("new.gone"));
}

function applyChange({ resource, id, status }) {
  if (resource !== "dataset") return;
  if (!dataset) showExisting();
  else if (id === dataset.id) status === null ? showGone() : refresh();
}

await attempt(begin);
setUpAutomaticCaptions(grid);
new Activity({
  onReady: refresh,
  onChange: applyChange,
  onTrouble: (text) => (find("live").textContent = text),
});
