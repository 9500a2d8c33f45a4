// A dialog that finds an adapter by words.

import { get } from "./api.js";
import { coverOf } from "./covers.js";
import { t } from "./texts.js";
import { coalesce, debounce, dialog, el, showError } from "./ui.js";

const NUM_SHOWN = 24;

// Resolves to an adapter, or to null. `model`: only those of this base; `exclude`: ids that are not offered.
export async function pickAdapter({ title, model = "", exclude = [] }) {
  const known = new Map();
  const results = el("ul", { class: "picks", "aria-label": t("picker.found") });
  const note = el("p", { class: "hint", role: "status" });
  const error = el("p", { class: "message bad", role: "alert", hidden: true });
  const words = el("input", { type: "search", maxLength: 200, autofocus: true, placeholder: t("picker.words"), "aria-label": t("picker.words") });
  const show = coalesce(async () => {
    const query = new URLSearchParams({ limit: NUM_SHOWN, ...(model && { model }), ...(words.value.trim() && { text: words.value.trim() }) });
    try {
      const page = await get(`/adapters?${query}`);
      const shown = page.data.filter((adapter) => adapter.status === "ready" && !exclude.includes(adapter.id));
      for (const adapter of shown) known.set(adapter.id, adapter);
      results.replaceChildren(...shown.map(pick));
      note.textContent = shown.length ? (page.has_more ? t("picker.more") : "") : t("picker.none");
      showError(error, null);
    } catch (failure) {
      showError(error, failure);
    }
  });
  words.addEventListener("input", debounce(show, 200));
  show();
  const id = await dialog(title, el("div", { class: "picker" }, words, error, results, note), [{ value: "", label: t("cancel") }]);
  return known.get(id) ?? null;
}

function pick(adapter) {
  const about = [adapter.trigger, adapter.model].filter(Boolean).join(" · ");
  return el("li", {}, el("button", { value: adapter.id }, coverOf(adapter), el("span", {}, adapter.name, el("small", { class: "hint" }, about))));
}
