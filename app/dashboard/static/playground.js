// The playground: pictures of a base with a stack of adapters.

import { allows, get, makeIdempotencyKey, patch, post, remove } from "./api.js";
import { Activity } from "./live.js";
import { Card, isActive, isTwin } from "./play-card.js";
import { Stack } from "./play-stack.js";
import { readSize, showShapes, Sheets, writeSize } from "./play-fields.js";
import { view } from "./play-viewer.js";
import { t } from "./texts.js";
import { showAges } from "./times.js";
import { coalesce, confirm, debounce, dialog, el, field, find, once, showError, toast } from "./ui.js";

const DRAFT = "playground", PAGE = 12;
const mayDraw = allows("jobs");
const query = new URLSearchParams(location.search);
const generations = new Map(), cards = new Map();
let models = [], hasMore = false, limit = PAGE, intention = { text: null, keys: [] };

const stack = new Stack(changed, putTrigger);
const sheets = new Sheets(stack, () => find("model").value, changed);
const value = (id) => find(id).value.trim();
const number = (id) => (value(id) === "" ? undefined : Number(value(id)));

// --- the form -------------------------------------------------------------------------------------------

function readSettings() {
  const prompts = find("prompt").value.split("\n").map((line) => line.trim()).filter(Boolean);
  const settings = {
    model: find("model").value, prompts, negative_prompt: value("negative"), adapters: stack.read(), seed: number("seed") ?? 0,
    num_steps: number("steps"), guidance_scale: number("guidance"), guidance_rescale: number("rescale"), ...readSize(), ...sheets.read(),
  };
  if (!settings.grid) settings.num_images = number("count") ?? 1;
  return settings;
}

async function writeSettings(settings) {
  const has = models.some((model) => model.id === settings.model);
  if (has) find("model").value = settings.model;
  describeBase();
  find("prompt").value = (settings.prompts ?? []).join("\n");
  find("negative").value = settings.negative_prompt ?? "";
  find("seed").value = settings.seed ?? "";
  if (settings.seed !== undefined) find("keep").checked = true;
  find("steps").value = settings.num_steps ?? "";
  find("guidance").value = settings.guidance_scale ?? "";
  find("rescale").value = settings.guidance_rescale ?? "";
  find("count").value = settings.num_images ?? 1;
  writeSize(settings);
  sheets.write(settings.grid);
  await stack.set(settings.adapters ?? []);
  changed();
  if (settings.model && !has) throw new Error(t("play.otherBase", { model: settings.model }));
}

const base = () => models.find((model) => model.id === find("model").value);

function describeBase() {
  const model = base();
  find("model-help").textContent = model ? [model.description, `${model.resolution} px`].filter(Boolean).join(" · ") : t("new.noBase");
  const defaults = { steps: "num_steps", guidance: "guidance_scale", rescale: "guidance_rescale" };
  for (const [id, key] of Object.entries(defaults)) find(id).placeholder = model ? t("new.defaultOf", { value: model.defaults[`sample_${key}`] }) : "";
  showShapes(model);
}

// A prompt's {trigger} stands for those of the stack.
function putTriggers(prompt, none = "") {
  const triggers = stack.entries.map(({ adapter }) => adapter.trigger).filter(Boolean).join(", ");
  return prompt.replaceAll("{trigger}", triggers || none).trim();
}

function changed() {
  const { prompts, num_images: count, grid } = readSettings();
  const cells = grid ? grid.x.values.length * (grid.y?.values.length ?? 1) : count;
  const canCompare = stack.entries.length > 0 && !grid;
  find("compare").disabled = !canCompare;
  find("count").disabled = Boolean(grid);
  const total = Math.max(1, prompts.length) * cells * (canCompare && find("compare").checked ? 2 : 1);
  find("draw").textContent = t("play.draw", { count: total });
  find("draw").disabled = !base();
  find("prompt").placeholder = putTriggers(base()?.example_prompts[0] ?? "", "…");
  const canMerge = stack.entries.length > 1 && stack.entries.every((entry) => entry.step === null);
  find("merge").hidden = !canMerge;
  const foreign = stack.entries.filter(({ adapter }) => base() && adapter.model !== base().id);
  find("foreign").hidden = !foreign.length;
  find("foreign").textContent = foreign.map(({ adapter }) => t("play.foreign", { name: adapter.name, model: adapter.model })).join(" ");
  sheets.draw();
  saveDraft();
}

const saveDraft = debounce(() => {
  const draft = { ...readSettings(), isKept: find("keep").checked, compares: find("compare").checked };
  sessionStorage.setItem(DRAFT, JSON.stringify(draft));
}, 200);

function putTrigger(text) {
  const area = find("prompt"), [start, end] = [area.selectionStart, area.selectionEnd];
  const before = area.value.slice(0, start), after = area.value.slice(end);
  const left = before && !/\s$/.test(before) ? " " : "", right = after && !/^[\s,.]/.test(after) ? " " : "";
  area.setRangeText(`${left}${text}${right}`, start, end, "end");
  area.focus();
  changed();
}

const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;

// --- drawing --------------------------------------------------------------------------------------------

async function draw() {
  if (!find("keep").checked || value("seed") === "") find("seed").value = randomSeed();
  const settings = readSettings();
  settings.prompts = settings.prompts.map(putTriggers);
  const compares = find("compare").checked && !find("compare").disabled;
  const wanted = compares ? [{ ...settings, adapters: [] }, settings] : [settings];
  const text = JSON.stringify(wanted);
  if (intention.text !== text) intention = { text, keys: wanted.map(makeIdempotencyKey) };
  find("draw").disabled = true;
  markFaults(null);
  try {
    for (const [place, one] of wanted.entries()) {
      const made = await post("/generations", one, { idempotencyKey: intention.keys[place] });
      generations.set(made.id, made);
    }
    intention = { text: null, keys: [] };
    show();
    if (matchMedia("(max-width: 900px)").matches) find("stage").scrollIntoView();
  } catch (error) {
    markFaults(error);
  } finally {
    find("draw").disabled = false;
    saveDraft();
  }
}

const FIELDS = { model: "model", prompts: "prompt", negative_prompt: "negative", seed: "seed", num_steps: "steps", guidance_scale: "guidance", guidance_rescale: "rescale", num_images: "count", width: "width", height: "height", grid: "x-values" };

function markFaults(error) {
  for (const id of Object.values(FIELDS)) find(id).removeAttribute("aria-invalid");
  showError(find("error"), error);
  const reasons = Object.entries(error?.errors ?? {});
  for (const [pointer] of reasons) find(FIELDS[pointer.split("/")[1]])?.setAttribute("aria-invalid", "true");
  if (reasons.length) find("error").append(el("ul", {}, reasons.flatMap(([pointer, texts]) => texts.map((text) => el("li", {}, `${pointer.split("/")[1]}: ${text}`)))));
}

async function merge() {
  const name = el("input", { maxLength: 100 }), method = el("select", {}, el("option", { value: "concat" }, t("merge.concat")), el("option", { value: "svd" }, t("merge.svd")));
  const rank = el("input", { type: "number", min: 1, max: 1024, value: 16 });
  const rankField = field("merge-rank", t("merge.rank"), rank);
  rankField.hidden = true;
  method.addEventListener("change", () => (rankField.hidden = method.value !== "svd"));
  const content = el("div", {}, el("p", { class: "hint" }, t("merge.text")), field("merge-name", t("new.name"), name), field("merge-method", t("merge.method"), method), rankField);
  const buttons = [{ value: "", label: t("cancel") }, { value: "yes", label: t("merge.go"), kind: "primary" }];
  if ((await dialog(t("merge.title"), content, buttons)) !== "yes") return;
  await attempt(async () => {
    const body = { adapters: stack.read(), method: method.value, ...(method.value === "svd" && { rank: Number(rank.value) }), ...(name.value.trim() && { name: name.value.trim() }) };
    const made = await post("/adapters/merge", body);
    toast(t("merge.made", { name: made.name }), { label: t("merge.see"), run: () => location.assign(`/ui/adapters/${made.id}`) });
  });
}

// --- what was drawn -------------------------------------------------------------------------------------

const actions = {
  use: (generation) => attempt(async () => {
    await writeSettings(settingsOf(generation));
    toast(t("play.used"));
    find("prompt").focus();
  }),
  cancel: ({ generation, twin }) => attempt(async () => {
    for (const one of [generation, twin]) if (one && isActive(one)) take(await post(`/generations/${one.id}/cancel`, undefined, { repeatable: true }));
  }),
  remove: ({ generation, twin }) => attempt(async () => {
    if (!(await confirm(t("play.deleteTitle"), t("play.deleteText"), t("play.delete")))) return;
    for (const one of [generation, twin]) if (one) await remove(`/generations/${one.id}`), generations.delete(one.id);
    show();
  }),
  open: (card, generation, image) => view(generation === card.twin ? { generation } : { generation: card.generation, twin: card.twin }, image, {
    onSeed: mayDraw ? keepSeed : null,
    onCover: mayDraw ? (id, { id: drawn }, index) => attempt(async () => {
      const { name } = await patch(`/adapters/${id}`, { cover: { generation: drawn, index } });
      toast(t("play.isCover", { name }));
    }) : null,
  }),
};

function settingsOf(generation) {
  const adapters = generation.adapters.map(({ id, job, step, weight }) => (id ? { id, weight } : { job, step, weight }));
  return { ...generation, adapters, grid: null };
}

function keepSeed(seed) {
  find("seed").value = seed;
  find("keep").checked = true;
  changed();
}

function take(generation) {
  generations.set(generation.id, generation);
  show();
}

function show() {
  const sorted = [...generations.values()].sort((a, b) => (a.id < b.id ? 1 : -1));
  const shown = [];
  for (let place = 0; place < sorted.length; place++) {
    const twin = isTwin(sorted[place], sorted[place + 1]) ? sorted[place + 1] : null;
    shown.push([sorted[place], twin]);
    if (twin) place++;
  }
  const kept = new Set(shown.map(([{ id }]) => id));
  for (const [id, card] of cards) if (!kept.has(id)) card.element.remove(), cards.delete(id);
  let before = null;
  for (const [generation, twin] of shown) {
    if (!cards.has(generation.id)) cards.set(generation.id, new Card(actions, mayDraw));
    const card = cards.get(generation.id);
    card.update(generation, twin);
    const place = before ? before.element.nextSibling : find("history").firstChild;
    if (place !== card.element) find("history").insertBefore(card.element, place);
    before = card;
  }
  find("nothing").hidden = shown.length > 0;
  find("older").hidden = !hasMore;
  showAges(find("history"));
}

async function load() {
  const page = await get(`/generations?limit=${limit}`);
  hasMore = page.has_more;
  generations.clear();
  for (const generation of page.data) generations.set(generation.id, generation);
  show();
}

const stale = new Set();
const refresh = coalesce(async () => {
  for (const id of [...stale]) {
    stale.delete(id);
    const found = await get(`/generations/${id}`).catch((error) => (error.status === 404 ? null : Promise.reject(error)));
    if (found) generations.set(id, found);
    else generations.delete(id);
  }
  show();
});

// --- the settings of a picture ---------------------------------------------------------------------------

async function takePicture(file) {
  const { parseParameters, readParameters, toSettings } = await import("./png-text.js");
  const text = file ? await readParameters(await file.arrayBuffer()) : null;
  if (!text) throw new Error(t("play.noSettings"));
  await writeSettings(toSettings(parseParameters(text)));
  toast(t("play.used"));
}

async function attempt(work) {
  showError(find("error"), null);
  try {
    await work();
  } catch (error) {
    showError(find(mayDraw ? "error" : "live"), error);
  }
}

// --- start ----------------------------------------------------------------------------------------------

async function fill() {
  const asked = query.getAll("adapter").map((one) => {
    const [id, weight] = one.split(":");
    return { id, weight: Number(weight ?? 1) };
  });
  if (query.has("job") && query.has("step")) asked.push({ job: query.get("job"), step: Number(query.get("step")) });
  if (query.has("generation")) return writeSettings(settingsOf(await get(`/generations/${encodeURIComponent(query.get("generation"))}`)));
  if (!asked.length) return restore();
  await stack.set(asked);
  const [first] = stack.entries;
  if (models.some((model) => model.id === first.adapter.model)) find("model").value = first.adapter.model;
  describeBase();
  find("prompt").value = stack.entries.map(({ adapter }) => adapter.trigger).filter(Boolean).join(", ");
  changed();
}

async function restore() {
  const draft = JSON.parse(sessionStorage.getItem(DRAFT) ?? "null");
  if (!draft) return;
  await writeSettings(draft).catch(() => {}); // an adapter of the draft may be gone
  find("keep").checked = draft.isKept;
  find("compare").checked = draft.compares;
  changed();
}

async function addAdapter() {
  const { pickAdapter } = await import("./picker.js");
  const exclude = stack.entries.filter((entry) => entry.step === null).map(({ adapter }) => adapter.id);
  const adapter = await pickAdapter({ title: t("play.add"), model: find("model").value, exclude });
  if (adapter) await attempt(() => stack.add({ id: adapter.id }));
  find("add").focus();
}

async function begin() {
  models = (await get("/models")).data.filter((model) => model.status === "ready");
  find("model").replaceChildren(...models.map((model) => el("option", { value: model.id }, model.id)));
  describeBase();
  stack.draw();
  changed();
  await fill();
}

find("play").addEventListener("input", changed);
find("model").addEventListener("change", describeBase);
find("play").addEventListener("submit", (event) => event.preventDefault());
find("draw").addEventListener("click", once(draw));
find("prompt").addEventListener("keydown", (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && find("draw").click());
find("add").addEventListener("click", once(addAdapter));
find("merge").addEventListener("click", once(merge));
find("random").addEventListener("click", () => keepSeed(randomSeed()));
find("picture").addEventListener("change", async () => {
  await attempt(() => takePicture(find("picture").files[0]));
  find("picture").value = "";
});
find("older").addEventListener("click", once(async () => {
  limit += PAGE;
  await attempt(load);
}));
if (mayDraw) {
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) attempt(() => takePicture(event.dataTransfer.files[0]));
  });
}

if (mayDraw) await attempt(begin);
new Activity({
  onReady: coalesce(() => attempt(load)),
  onChange: ({ resource, id }) => resource === "generation" && stale.add(id) && attempt(refresh),
  onTrouble: (text) => (find("live").textContent = text),
});
