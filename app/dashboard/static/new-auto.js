// Captions that a captioner writes. They end in a revision of the dataset, which is then shown.

import { get, post } from "./api.js";
import { t } from "./texts.js";
import { el, find, once, toast } from "./ui.js";

const WAIT_SECONDS = 30; // the service answers as soon as there is another caption
const isActive = ({ status }) => ["queued", "running"].includes(status);

// `grid`: the CaptionGrid whose dataset is captioned. Nothing is shown where there is no captioner.
export async function setUpAutomaticCaptions(grid) {
  const { data } = await get("/captioners").catch(() => ({ data: [] }));
  const captioners = data.filter((one) => one.status === "ready");
  if (!captioners.length) return;
  const form = find("auto-form"), { captioner, prompt } = form.elements;
  let current = null;
  captioner.replaceChildren(...captioners.map((one) => el("option", { value: one.id }, one.id)));
  const describe = () => (find("auto-prompt").hidden = !captioners.find((one) => one.id === captioner.value).takes_prompt);
  captioner.addEventListener("change", describe);
  describe();
  find("auto").hidden = false;

  async function run() {
    await grid.saveEdits();
    const values = new FormData(form);
    const body = { captioner: values.get("captioner"), only_missing: values.has("only_missing") };
    for (const name of ["prefix", "suffix"]) if (values.get(name)) body[name] = values.get(name);
    if (prompt.value.trim() && !find("auto-prompt").hidden) body.prompt = prompt.value.trim();
    current = await post(`/datasets/${grid.dataset.id}/captions`, body);
    try {
      while (isActive(current)) {
        show();
        current = await get(`${current.urls.self}?wait=${WAIT_SECONDS}`);
      }
    } finally {
      find("auto-run").hidden = true;
      form.hidden = false;
    }
    if (current.error) throw new Error(`${current.error.title}: ${current.error.detail}`);
    if (!current.revision || current.dataset !== grid.dataset?.id) return; // stopped, or another dataset is shown now
    await grid.onDataset({ id: current.revision });
    toast(t("auto.done", { count: current.num_done }), { label: t("undo"), run: () => grid.attempt(() => grid.undo()) });
  }

  function show() {
    form.hidden = true;
    find("auto-run").hidden = false;
    find("auto-bar").value = current.num_images ? current.num_done / current.num_images : 0;
    find("auto-text").textContent = current.waiting_reason ?? t("auto.progress", { done: current.num_done, total: current.num_images });
  }

  form.addEventListener("submit", once(async (event) => {
    event.preventDefault();
    await grid.attempt(run);
  }));
  find("auto-stop").addEventListener("click", once(() => grid.attempt(() => post(`${current.urls.self}/cancel`, undefined, { repeatable: true }))));
}
