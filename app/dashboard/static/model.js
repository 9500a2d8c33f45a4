// One base model: what is known of it, and its deletion.

import { get, remove } from "./api.js";
import { Activity } from "./live.js";
import { describeMemory, describeSize, describeTime, round } from "./model-texts.js";
import { age, card, code, facts, guard } from "./service-parts.js";
import { t } from "./texts.js";
import { showAges } from "./times.js";
import { coalesce, confirm, el, find, once, stateBadge } from "./ui.js";

const { id } = find("model").dataset;
const path = `/models/${encodeURIComponent(id)}`;

async function load() {
  const model = await get(path);
  find("state").replaceChildren(stateBadge(model.status));
  for (const name of ["train", "delete"]) if (find(name)) find(name).hidden = name === "train" && model.status !== "ready";
  find("content").replaceChildren(...describe(model));
  showAges(find("content"));
}

function describe(model) {
  const parts = [];
  if (model.description) parts.push(el("p", {}, model.description));
  if (model.error) parts.push(el("p", { class: "message bad" }, el("strong", {}, model.error.title), ": ", model.error.detail));
  if (model.status === "checking") parts.push(el("p", { class: "message" }, t("models.checkingText")));
  if (!model.family) return parts;
  const columns = [describeBase(model), describeNeeds(model)];
  if (model.example_prompts.length) columns.push(card(t("models.prompts"), el("ul", { class: "prompts" }, model.example_prompts.map((prompt) => el("li", {}, prompt)))));
  columns.push(describeDefaults(model.defaults));
  return [...parts, el("div", { class: "columns" }, el("div", {}, columns.slice(0, -1)), columns.at(-1))];
}

function describeBase(model) {
  return card(t("models.base"), facts([
    [t("models.family"), t(`family.${model.family}`)],
    [t("models.resolution"), t("pixels", { side: model.resolution })],
    [t("models.multiples"), t("models.multiplesOf", { step: model.resolution_step })],
    [t("models.size"), describeSize(model)],
    [t("models.prediction"), model.prediction_type],
    [t("models.sha256"), code(model.sha256)],
    [t("models.fileSha256"), model.file_sha256 && code(model.file_sha256)],
    [t("models.added"), age(model.created_at)],
  ]));
}

function describeNeeds(model) {
  const timed = model.calibration;
  const memory = model.memory ? ["cuda", "cpu"].map((device) => el("p", {}, `${t(`models.on.${device}`)}: ${describeMemory(model, device)}`)) : [el("p", {}, t("models.noMemory"))];
  const time = timed
    ? facts([
      [t("models.device"), timed.device],
      [t("models.step"), describeTime(model)],
      [t("models.start"), t("seconds", { seconds: round(timed.start_seconds) })],
      [t("models.image"), t("seconds", { seconds: round(timed.seconds_per_image) })],
      [t("models.timedAt"), t("pixels", { side: timed.resolution })],
    ])
    : el("p", {}, t("models.noTime"));
  return card(t("models.needs"), el("h3", {}, t("models.memory")), ...memory, model.memory && el("p", { class: "hint" }, t("models.memory.hint")), el("h3", {}, t("models.time")), time);
}

function describeDefaults(defaults) {
  const value = (one) => (typeof one === "number" ? String(one) : one === null ? t("models.none.value") : one);
  const title = (name) => {
    const words = name.replace("num_", "number of ").replaceAll("_", " ");
    return words[0].toUpperCase() + words.slice(1);
  };
  return card(t("models.defaults"), el("p", { class: "hint" }, t("models.defaults.hint")), facts(Object.entries(defaults).map(([name, one]) => [title(name), value(one)])));
}

async function askToDelete() {
  if (!(await confirm(t("models.delete.title", { id }), t("models.delete.text"), t("models.delete")))) return;
  if (await guard(() => remove(path))) location.assign("/ui/models");
}

find("delete")?.addEventListener("click", once(askToDelete));
const refresh = coalesce(() => guard(load));
new Activity({
  onReady: refresh,
  onChange: (change) => change.resource === "model" && change.id === id && refresh(),
  onTrouble: (text) => (find("live").textContent = text),
});
