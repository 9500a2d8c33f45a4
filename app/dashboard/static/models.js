// The base models, and the form that registers one.

import { get, post } from "./api.js";
import { Activity } from "./live.js";
import { describeMemory, describeSize, describeTime } from "./model-texts.js";
import { guard, showFaults } from "./service-parts.js";
import { t } from "./texts.js";
import { coalesce, el, find, once, stateBadge, table, toast } from "./ui.js";

const form = find("form");
const columns = [
  { title: t("models.id"), head: true, cell: (model) => [el("a", { href: `/ui/models/${encodeURIComponent(model.id)}`, id: `m-${model.id}` }, model.id), about(model)] },
  { title: t("models.state"), cell: (model) => stateBadge(model.status) },
  { title: t("models.family"), cell: (model) => model.family ? t(`family.${model.family}`) : "" },
  { title: t("models.resolution"), cell: (model) => model.resolution ? t("pixels", { side: model.resolution }) : "" },
  { title: t("models.size"), cell: (model) => describeSize(model) ?? "" },
  { title: t("models.memory"), cell: (model) => describeMemory(model, "cuda") ?? describeMemory(model, "cpu") ?? unknown(model) },
  { title: t("models.time"), cell: (model) => describeTime(model) ?? unknown(model) },
];

const unknown = (model) => (model.status === "ready" ? t("models.unknown") : "");

// Why it was rejected, or what its owner says of it.
function about(model) {
  if (model.error) return el("span", { class: "under fault" }, model.error.detail);
  return model.description && el("span", { class: "under hint" }, model.description);
}

async function load() {
  const { data: models } = await get("/models");
  const focused = document.activeElement?.id;
  find("list").replaceChildren(...(models.length ? [table(columns, models)] : []));
  find("empty").hidden = models.length > 0;
  if (form && !models.length) find("register").open = true;
  if (focused && find("list").contains(find(focused))) find(focused).focus();
}

function chooseSource() {
  const source = form.elements.source.value;
  form.elements.place.dataset.pointer = `/${source}`;
  find("place-help").textContent = source === "path" ? t("models.path.help") : t("models.hub.help");
}

async function register(event) {
  event.preventDefault();
  const { source, place, id, description, prediction_type: prediction, resolution } = form.elements;
  const body = { [source.value]: place.value.trim(), id: id.value.trim(), description: description.value.trim(), prediction_type: prediction.value, resolution: Number(resolution.value) };
  for (const [name, value] of Object.entries(body)) if (!value && name !== source.value) delete body[name];
  find("submit").disabled = true;
  try {
    const model = await post("/models", body);
    form.reset();
    chooseSource();
    showFaults(form, find("form-error"), null);
    toast(t(model.status === "ready" ? "models.registered" : "models.isChecked", { id: model.id }));
    refresh();
  } catch (error) {
    showFaults(form, find("form-error"), error);
  } finally {
    find("submit").disabled = false;
  }
}

form?.addEventListener("submit", once(register));
form?.addEventListener("change", chooseSource);
const refresh = coalesce(() => guard(load));
new Activity({
  onReady: refresh,
  onChange: (change) => change.resource === "model" && refresh(),
  onTrouble: (text) => (find("live").textContent = text),
});
