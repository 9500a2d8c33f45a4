// What can be done with an adapter: a cover, a check against another one, a lower rank, deletion.

import { get, patch, post, remove, upload } from "./api.js";
import { t } from "./texts.js";
import { confirm, dialog, el, find, once, thumbnail, toast } from "./ui.js";

const WAIT_SECONDS = 30;

export function setUpTools({ path, attempt, reload, mayChange }) {
  let adapter = null;

  function show(found) {
    adapter = found;
    find("check").disabled = adapter.status !== "ready";
    if (!mayChange) return;
    find("cover-sample").hidden = !adapter.job;
    find("cover-none").hidden = !adapter.cover;
    find("rank").max = Math.max(1, (adapter.rank ?? 2) - 1);
    find("resize").hidden = adapter.status !== "ready" || adapter.rank < 2;
  }

  // --- the cover ------------------------------------------------------------------------------------------

  async function chooseSample() {
    const samples = (await get(`/jobs/${adapter.job}/samples`)).data.filter((sample) => sample.step > 0).reverse();
    const choices = samples.flatMap((sample) => sample.images.map((image, index) => ({ step: sample.step, index, image })));
    const buttons = choices.map(({ step, image }, place) => el("li", {}, el("button", { value: String(place) }, thumbnail(image.url, image.prompt), el("small", { class: "hint" }, t("play.step", { step })))));
    const chosen = await dialog(t("adapter.fromSamples"), el("div", { class: "picker" }, el("ul", { class: "picks" }, buttons)), [{ value: "", label: t("cancel") }]);
    if (!chosen) return;
    const { step, index } = choices[chosen];
    await patch(path, { cover: { step, index } });
    await reload();
  }

  async function sendPicture(file) {
    const say = (text) => (find("cover-state").textContent = text);
    say(t("adapter.coverSent"));
    try {
      let sent = await upload(`${path}/cover`, new Blob([file], { type: "application/octet-stream" }), { method: "PUT" });
      while (sent.status === "checking") sent = await get(`${sent.urls.self}?wait=${WAIT_SECONDS}`);
      if (sent.error) throw new Error(`${sent.error.title}: ${sent.error.detail}`);
      await reload();
    } finally {
      say("");
    }
  }

  // --- others ---------------------------------------------------------------------------------------------

  async function check() {
    const { pickAdapter } = await import("./picker.js");
    const other = await pickAdapter({ title: t("adapter.check"), model: adapter.model, exclude: [adapter.id] });
    if (!other) return;
    find("check-result").replaceChildren(el("p", { class: "hint" }, t("adapter.comparing", { name: other.name })));
    try {
      let found = await post(`/adapters/check?wait=${WAIT_SECONDS}`, { adapters: [adapter.id, other.id] });
      while (found.status === "checking") found = await get(`${found.urls.self}?wait=${WAIT_SECONDS}`);
      if (found.error) throw new Error(`${found.error.title}: ${found.error.detail}`);
      const { summary, pairs, differences } = found.result;
      find("check-result").replaceChildren(
        el("p", {}, el("strong", {}, other.name)), el("p", {}, summary),
        ...pairs.filter(({ sentence }) => !summary.includes(sentence)).map(({ sentence }) => el("p", {}, sentence)),
        ...(differences.length ? [el("p", { class: "hint" }, t("adapter.differences", { count: differences.length }))] : []),
      );
    } catch (error) {
      find("check-result").replaceChildren();
      throw error;
    }
  }

  async function resize() {
    const made = await post(`${path}/resize`, { rank: Number(find("rank").value) });
    toast(t("merge.made", { name: made.name }), { label: t("merge.see"), run: () => location.assign(`/ui/adapters/${made.id}`) });
  }

  async function erase() {
    const text = adapter.job ? t("adapter.ofJob") : t("adapter.deleteText");
    if (adapter.job) {
      const go = await dialog(t("adapter.deleteTitle", { name: adapter.name }), el("p", {}, text), [{ value: "", label: t("close") }, { value: "job", label: t("adapter.toJob") }]);
      if (go) location.assign(`/ui/jobs/${adapter.job}`);
    } else if (await confirm(t("adapter.deleteTitle", { name: adapter.name }), text, t("adapter.delete"))) {
      await remove(path);
      location.assign("/ui/adapters");
    }
  }

  const run = (work) => once(() => attempt(work));
  find("check").addEventListener("click", run(check));
  if (mayChange) {
    find("cover-sample").addEventListener("click", run(chooseSample));
    find("cover-none").addEventListener("click", run(async () => {
      await patch(path, { cover: null });
      await reload();
    }));
    find("cover-file").addEventListener("change", once(async () => {
      await attempt(() => sendPicture(find("cover-file").files[0]));
      find("cover-file").value = "";
    }));
    find("resize").addEventListener("submit", once(async (event) => {
      event.preventDefault();
      await attempt(resize);
    }));
    find("delete").addEventListener("click", run(erase));
  }
  return { show };
}
