// One picture large, beside the base's: left and right change the prompt, up and down the step. The zoom and the place
// stay while one walks.

import { t } from "./texts.js";
import { el } from "./ui.js";

const ZOOMS = [1, 2, 4, 8];

export class Viewer {
  // sheet: { prompts, steps, address(step, index), nameOf(step) }; `onStep(step)`: another one is shown
  constructor(sheet, onStep = () => {}) {
    Object.assign(this, { sheet, onStep, zoom: 1, dialog: null });
  }

  open(step, index) {
    Object.assign(this, { step, index });
    this.dialog ??= this.build();
    this.show();
    this.dialog.showModal();
  }

  build() {
    const button = (text, label, run) => el("button", { type: "button", title: label, "aria-label": label, onclick: run }, text);
    this.frames = [0, 1].map(() => el("div", { class: "frame", onscroll: (event) => this.follow(event.currentTarget) }));
    this.captions = this.frames.map(() => el("figcaption"));
    this.figures = this.frames.map((frame, at) => el("figure", {}, frame, this.captions[at]));
    this.prompt = el("p", { role: "status" });
    this.close = el("button", { type: "button", class: "primary", onclick: () => this.dialog.close() }, t("close"));
    const tools = el("div", { class: "row tools-row" },
      button("←", t("viewer.previousPrompt"), () => this.move(0, -1)), button("→", t("viewer.nextPrompt"), () => this.move(0, 1)),
      button("↓", t("viewer.earlier"), () => this.move(-1, 0)), button("↑", t("viewer.later"), () => this.move(1, 0)),
      button("−", t("viewer.out"), () => this.scale(-1)), button("+", t("viewer.in"), () => this.scale(1)), this.close);
    const dialog = el("dialog", { class: "viewer" }, el("div", { class: "pair" }, this.figures), this.prompt, tools, el("p", { class: "hint keys" }, t("viewer.keys")));
    dialog.addEventListener("keydown", (event) => this.press(event));
    return document.body.appendChild(dialog);
  }

  press(event) {
    const work = {
      ArrowLeft: () => this.move(0, -1), ArrowRight: () => this.move(0, 1), ArrowUp: () => this.move(1, 0), ArrowDown: () => this.move(-1, 0),
      "+": () => this.scale(1), "=": () => this.scale(1), "-": () => this.scale(-1),
    }[event.key];
    if (!work || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    work();
  }

  move(steps, prompts) {
    const { steps: all, prompts: texts } = this.sheet;
    const clamp = (value, length) => Math.min(length - 1, Math.max(0, value));
    this.step = all[clamp(all.indexOf(this.step) + steps, all.length)];
    this.index = clamp(this.index + prompts, texts.length);
    this.show();
    if (steps) this.onStep(this.step);
  }

  scale(change) {
    const before = this.zoom, [frame] = this.frames.slice(-1);
    this.zoom = ZOOMS[Math.min(ZOOMS.length - 1, Math.max(0, ZOOMS.indexOf(before) + change))];
    const middle = (start, length) => ((start + length / 2) * this.zoom) / before - length / 2;
    const [left, top] = [middle(frame.scrollLeft, frame.clientWidth), middle(frame.scrollTop, frame.clientHeight)];
    this.show();
    frame.scrollTo(left, top);
  }

  follow(frame) {
    for (const other of this.frames) if (other !== frame) other.scrollTo(frame.scrollLeft, frame.scrollTop);
  }

  show() {
    const { sheet, step, index } = this;
    const pair = step === 0 || sheet.steps[0] !== 0 ? [null, step] : [0, step];
    pair.forEach((each, at) => {
      this.figures[at].hidden = each === null;
      if (each === null) return;
      const picture = this.frames[at].firstChild ?? this.frames[at].appendChild(new Image());
      const address = sheet.address(each, index);
      if (picture.getAttribute("src") !== address) picture.src = address;
      picture.alt = sheet.nameOf(each);
      picture.style.width = `${this.zoom * 100}%`;
      this.captions[at].textContent = sheet.nameOf(each);
    });
    this.prompt.textContent = sheet.prompts[index];
    this.dialog.setAttribute("aria-label", sheet.prompts[index]);
  }
}
