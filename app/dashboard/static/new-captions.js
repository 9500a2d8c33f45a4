// The images of a dataset with their captions, edited in place. Changes become revisions; undoing one goes back to the
// dataset that it was made from.

import { list, post } from "./api.js";
import { formatBytes, has, t } from "./texts.js";
import { confirm, el, find, once, showError, thumbnail, toast } from "./ui.js";

const plain = (text) => text.replace(/\s+/g, " ").trim();

// `edits`: the captions to be saved; `sent`: those that a revision on its way has.
export class CaptionGrid {
  // `onDataset(dataset)`: another revision is to be shown. It answers when that is done. `onOpen(image)`: one is to be
  // shown large.
  constructor(onDataset, onOpen = null) {
    Object.assign(this, { onDataset, onOpen, dataset: null, edits: new Map(), sent: new Map(), cards: new Map(), run: 0, queue: Promise.resolve() });
    this.save = once(() => this.attempt(() => this.saveEdits(t("new.saved"))));
    find("save").addEventListener("click", this.save);
    find("undo").addEventListener("click", once(() => this.attempt(() => this.undo())));
    find("replace").addEventListener("submit", once((event) => this.submit(event, (form) => ({
      find_replace: [{ find: form.get("find"), replace: form.get("replace"), whole_word: form.has("whole_word") }],
    }))));
    find("affixes").addEventListener("submit", once((event) => this.submit(event, (form) => ({
      ...(form.get("prefix") && { prefix: form.get("prefix") }),
      ...(form.get("suffix") && { suffix: form.get("suffix") }),
    }))));
    addEventListener("beforeunload", (event) => this.edits.size && event.preventDefault());
  }

  // Pictures of files that are on their way: [{ name, file }]
  preview(files) {
    this.clear();
    find("grid").replaceChildren(...files.map(({ name, file }) => {
      const url = URL.createObjectURL(file);
      const picture = thumbnail(url, name);
      picture.addEventListener("error", () => picture.replaceWith(el("div", { class: "thumb none" })), { once: true });
      picture.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
      return el("li", { class: "shot pending" }, picture, el("small", { class: "hint name" }, name));
    }));
  }

  clear() {
    this.run++;
    this.dataset = null;
    this.edits.clear();
    this.sent.clear();
    this.cards.clear();
    find("grid").replaceChildren();
    find("captions").hidden = true;
  }

  // Shows a ready dataset. What was typed while it was made of the one before stays. `report.warnings` stand on the
  // images that they name.
  async show(dataset) {
    const run = ++this.run, images = await list(`/datasets/${dataset.id}/images`, { pageSize: 1000 });
    if (run !== this.run) return; // another one is shown meanwhile
    const later = dataset.parent && dataset.parent === this.dataset?.id ? this.readLater() : [];
    this.clear();
    this.dataset = dataset;
    const notes = collectWarnings(dataset.report);
    find("grid").replaceChildren(...images.map((image) => this.card(image, notes.get(image.name) ?? [])));
    find("captions").hidden = false;
    find("count").textContent = t("images", { count: images.length });
    find("undo").disabled = !dataset.parent;
    for (const typed of later) this.retype(typed);
    this.countEdits();
  }

  // What the grid's fields hold beyond the captions that were sent.
  readLater() {
    const known = ({ name, caption }) => (this.sent.has(name) ? this.sent.get(name) : caption) ?? "";
    return [...this.cards.values()].map(({ image, area }) => ({
      name: image.name, text: area.value, isEdit: plain(area.value) !== known(image),
      place: area === document.activeElement ? area.selectionEnd : null,
    })).filter(({ isEdit, place }) => isEdit || place !== null);
  }

  retype({ name, text, place, isEdit }) {
    const { image, area } = this.cards.get(name) ?? {};
    if (!area) return;
    if (isEdit) {
      area.value = text;
      this.edit(image, area);
    }
    if (place === null) return;
    area.focus({ preventScroll: true });
    area.setSelectionRange(place, place);
  }

  card(image, warnings) {
    const area = el("textarea", { rows: 3, maxLength: 2000, value: image.caption ?? "", placeholder: t("noCaption"), "aria-label": t("new.captionOf", { name: image.name }) });
    area.addEventListener("input", () => this.edit(image, area));
    const leave = el("button", { type: "button", class: "quiet leave", title: t("new.exclude", { name: image.name }), "aria-label": t("new.exclude", { name: image.name }) }, "×");
    leave.addEventListener("click", once(() => this.attempt(() => this.exclude(image))));
    const about = `${image.name} · ${image.width}×${image.height} · ${formatBytes(image.size)}`;
    const card = el("li", { class: warnings.length ? "shot warned" : "shot" },
      this.picture(image), leave,
      area, el("small", { class: "hint name" }, about), warnings.map((text) => el("small", { class: "warning" }, text)),
    );
    this.cards.set(image.name, { image, area });
    return card;
  }

  picture(image) {
    const picture = thumbnail(image.thumbnail_url, image.caption ?? image.name, image);
    return this.onOpen ? el("button", { type: "button", class: "plain open", onclick: () => this.onOpen(image) }, picture) : picture;
  }

  edit(image, area) {
    const text = plain(area.value);
    if (text === (image.caption ?? "")) this.edits.delete(image.name);
    else this.edits.set(image.name, text || null);
    this.countEdits();
  }

  countEdits() {
    const count = this.edits.size;
    find("save").disabled = !count;
    find("unsaved").textContent = count ? t("new.unsaved", { count }) : "";
  }

  async attempt(work) {
    showError(find("captions-error"), null);
    try {
      await work();
    } catch (error) {
      showError(find("captions-error"), error);
    }
  }

  async submit(event, read) {
    event.preventDefault();
    const form = event.target, edits = read(new FormData(form));
    if (!Object.keys(edits).length) return;
    await this.attempt(async () => {
      await this.revise(edits, t("new.saved"));
      form.reset();
    });
  }

  // Before a job starts, too.
  async saveEdits(text = null) {
    await this.revise({}, text);
  }

  async exclude(image) {
    this.edits.delete(image.name);
    await this.revise({ exclude: [image.name] }, t("new.excluded", { name: image.name }));
  }

  // One change after the other, each of the dataset that the one before made.
  queued(work) {
    return (this.queue = this.queue.catch(() => {}).then(work));
  }

  // Unsaved captions go along.
  revise(edits, text) {
    return this.queued(() => this.makeRevision(edits, text));
  }

  async makeRevision(edits, text) {
    if (!this.edits.size && !Object.keys(edits).length) return;
    const place = scrollY;
    this.sent = new Map(this.edits);
    const captions = this.sent.size ? { captions: Object.fromEntries(this.sent) } : {};
    try {
      await this.onDataset(await post(`/datasets/${this.dataset.id}/revisions`, { ...captions, ...edits }));
    } catch (error) {
      this.sent.clear();
      throw error;
    }
    scrollTo({ top: place, behavior: "instant" });
    if (text) toast(text, { label: t("undo"), run: () => this.attempt(() => this.undo()) });
  }

  undo() {
    return this.queued(async () => {
      if (!this.dataset?.parent || !(await this.mayDrop())) return;
      await this.onDataset({ id: this.dataset.parent });
      toast(t("new.undone"));
    });
  }

  // Asks before what was typed is lost.
  async mayDrop() {
    return !this.edits.size || confirm(t("new.dropTitle"), t("new.dropText"), t("new.discard"));
  }
}

// By image: what the report says of it. That there are few images is said once, above.
export function collectWarnings(report) {
  const found = new Map();
  for (const { code, message, files } of report?.warnings ?? []) {
    if (code === "few-images") continue;
    const text = has(`warning.${code}`) ? t(`warning.${code}`) : message;
    for (const file of files) found.set(file, [...(found.get(file) ?? []), text]);
  }
  return found;
}
