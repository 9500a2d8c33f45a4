// A generation as the playground shows it. Pictures are added as they are drawn; what is there stays where it is.

import { t } from "./texts.js";
import { el, stateBadge, thumbnail } from "./ui.js";

const MAX_EMPTY = 16;

export const isActive = (generation) => ["queued", "running"].includes(generation.status);

// Whether the one is the other without its adapters.
export function isTwin(generation, other) {
  const settings = (one) => JSON.stringify([one.model, one.prompts, one.negative_prompt, one.num_steps, one.guidance_scale,
    one.guidance_rescale, one.seed, one.num_images, one.width, one.height]);
  return generation.adapters.length > 0 && other?.adapters.length === 0 && !generation.grid && !other.grid && settings(generation) === settings(other);
}

export class Card {
  // `actions`: { use, cancel, remove, open }, each a function of the generation; null for readers.
  constructor(actions, mayDraw) {
    Object.assign(this, { actions, mayDraw, shown: new Map() });
    this.head = el("div", { class: "card-head" });
    this.reason = el("p", { class: "message", hidden: true });
    this.pictures = el("div", { class: "pictures" });
    this.facts = el("p", { class: "hint facts-line" });
    this.buttons = el("p", { class: "row" });
    this.element = el("li", { class: "card drawing" }, this.head, this.reason, this.pictures, this.facts, this.buttons);
  }

  update(generation, twin = null) {
    const was = this.generation;
    Object.assign(this, { generation, twin });
    this.element.dataset.id = generation.id;
    this.element.dataset.status = generation.status;
    if (!was) this.head.append(el("h3", {}, generation.prompts.join(" / ")), el("span", { class: "row" }));
    this.head.lastChild.replaceChildren(stateBadge(generation.status), el("time", { class: "hint", dateTime: generation.created_at }));
    this.showReason();
    this.fill("twin", twin, t("play.without"));
    this.fill("own", generation, twin ? t("play.with") : null);
    this.facts.textContent = describe(generation);
    this.showButtons();
  }

  showReason() {
    const { generation } = this;
    const text = generation.error ? `${generation.error.title}: ${generation.error.detail}` : isActive(generation) ? generation.waiting_reason : null;
    this.reason.hidden = !text;
    this.reason.className = generation.error ? "message bad" : "message";
    this.reason.textContent = text ?? "";
  }

  // One row of pictures: `name` is own or twin.
  fill(name, generation, title) {
    let row = this.shown.get(name);
    if (!generation) {
      row?.element.remove();
      this.shown.delete(name);
      return;
    }
    if (!row) {
      row = { element: el("div", { class: "set" }), title: el("h4", {}), list: el("ul", { class: "drawn" }), images: new Map(), sheets: new Map() };
      row.element.append(row.title, row.list);
      if (name === "twin") this.pictures.prepend(row.element);
      else this.pictures.append(row.element);
      this.shown.set(name, row);
    }
    row.title.textContent = title ?? "";
    row.title.hidden = !title;
    for (const sheet of generation.sheets) this.addSheet(row, generation, sheet);
    for (const image of generation.images) this.addImage(row, generation, image);
    this.showEmpty(row, generation);
  }

  addImage(row, generation, image) {
    if (row.images.has(image.index)) return;
    const caption = generation.grid ? cellOf(generation, image.index) : t("play.seedOf", { seed: String(image.seed) });
    const picture = thumbnail(image.url, `${image.prompt}, ${caption}`, generation);
    const item = el("li", {}, el("button", { type: "button", onclick: () => this.actions.open(this, generation, image) }, picture), el("small", { class: "hint" }, caption));
    row.images.set(image.index, item);
    const next = [...row.images].filter(([index]) => index > image.index).sort(([a], [b]) => a - b)[0];
    row.list.insertBefore(item, next?.[1] ?? row.list.querySelector(".empty-picture"));
  }

  addSheet(row, generation, sheet) {
    if (row.sheets.has(sheet.prompt)) return;
    const picture = el("img", { src: sheet.url, alt: t("play.sheetOf", { prompt: generation.prompts[sheet.prompt] }), loading: "lazy" });
    const link = el("a", { class: "xy", href: sheet.url, download: `${generation.id}-${sheet.prompt}.png` }, picture);
    row.sheets.set(sheet.prompt, link);
    row.element.insertBefore(link, row.list);
  }

  // As many empty frames as there are pictures to come.
  showEmpty(row, generation) {
    const missing = isActive(generation) ? Math.min(MAX_EMPTY, generation.num_total - generation.num_drawn) : 0;
    const frames = [...row.list.querySelectorAll(".empty-picture")];
    for (const frame of frames.slice(missing)) frame.remove();
    for (let place = frames.length; place < missing; place++) row.list.append(el("li", { class: "empty-picture", "aria-hidden": "true" }, el("div", { class: "thumb none" })));
  }

  showButtons() {
    const { generation, actions, mayDraw } = this;
    const button = (label, work, kind = "") => el("button", { type: "button", class: kind, onclick: work }, label);
    const wanted = mayDraw ? [
      button(t("play.use"), () => actions.use(generation)),
      isActive(generation) ? button(t("play.cancel"), () => actions.cancel(this)) : button(t("play.delete"), () => actions.remove(this), "danger"),
    ] : [];
    const state = JSON.stringify([generation.status, Boolean(this.twin)]);
    if (this.buttons.dataset.state === state) return; // the one that has the focus stays
    this.buttons.dataset.state = state;
    this.buttons.replaceChildren(...wanted);
  }
}

function cellOf(generation, index) {
  const { columns, rows } = generation.grid, cell = index % (columns.length * Math.max(1, rows.length));
  return [columns[cell % columns.length], rows[Math.floor(cell / columns.length)]].filter(Boolean).join(", ");
}

function describe(generation) {
  const stack = generation.adapters.map((one) => `${one.name} × ${one.weight}`);
  return [generation.model, ...stack, t("steps", { count: generation.num_steps }), t("play.guidanceOf", { scale: generation.guidance_scale }),
    t("play.size", { width: String(generation.width), height: String(generation.height) }), t("play.seedOf", { seed: String(generation.seed) })].join(" · ");
}
