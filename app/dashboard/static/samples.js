// The samples of a job: a slider over its steps with each prompt's picture beside the base's, and below it all of them:
// a row per prompt, a column per step.

import { t } from "./texts.js";
import { el, find } from "./ui.js";

const PLAY_MS = 600;

export const nameOf = (step) => (step === 0 ? t("samples.base") : t("samples.step", { step }));

export class Samples {
  // `onStep(step)`: another one was chosen
  constructor(address, onStep) {
    Object.assign(this, { root: address, onStep, steps: [], prompts: [], chosen: null, follows: true, marks: new Map(), timer: 0 });
    this.nameOf = nameOf;
    this.pictures = new Map(); // they stay loaded while the slider moves
    this.cells = new Map(); // of the sheet: they keep the focus when a step is added
    find("scrub").addEventListener("input", () => this.choose(this.drawn[find("scrub").value]));
    find("play").addEventListener("click", () => (this.timer ? this.stop() : this.play()));
  }

  // The steps that have learned something; the base alone before there are any.
  get drawn() {
    const trained = this.steps.filter((step) => step > 0);
    return trained.length ? trained : this.steps;
  }

  address(step, index) {
    return `${this.root}/samples/${step}/${index}.png`;
  }

  add(samples) {
    const fresh = samples.filter((sample) => !this.steps.includes(sample.step));
    if (!fresh.length) return;
    this.prompts = fresh[0].prompts;
    this.steps = [...this.steps, ...fresh.map((sample) => sample.step)].sort((a, b) => a - b);
    find("samples").hidden = false;
    find("sheet-hint").hidden = true;
    this.drawSheet();
    const scrub = find("scrub");
    scrub.max = this.drawn.length - 1;
    find("play").hidden = scrub.disabled = this.drawn.length < 2;
    this.choose(this.follows || !this.drawn.includes(this.chosen) ? this.drawn.at(-1) : this.chosen);
  }

  // marks: step -> words, such as "best"
  mark(marks) {
    this.marks = marks;
    if (!this.steps.length) return;
    for (const head of find("sheet").querySelectorAll("th[data-step]")) head.replaceChildren(...this.head(Number(head.dataset.step)));
    this.showText();
  }

  choose(step) {
    this.chosen = step === 0 && this.drawn[0] !== 0 ? this.drawn[0] : step;
    this.follows = this.chosen === this.drawn.at(-1);
    const scrub = find("scrub");
    scrub.value = this.drawn.indexOf(this.chosen);
    scrub.setAttribute("aria-valuetext", nameOf(this.chosen));
    this.showText();
    find("grid").href = `${this.root}/samples/${this.chosen}/grid.png`;
    this.drawStage();
    for (const cell of find("sheet").querySelectorAll("[data-step]")) cell.classList.toggle("chosen", Number(cell.dataset.step) === this.chosen);
    this.onStep(this.chosen);
  }

  showText() {
    find("scrub-text").textContent = [nameOf(this.chosen), ...(this.marks.get(this.chosen) ?? [])].join(" · ");
  }

  drawStage() {
    const steps = this.steps[0] === 0 && this.chosen !== 0 ? [0, this.chosen] : [this.chosen], stage = find("stage");
    if (stage.querySelectorAll("button").length !== this.prompts.length * steps.length) {
      stage.replaceChildren(...this.prompts.map((prompt, index) => el("li", {},
        el("div", { class: "pair" }, steps.map(() => el("button", { type: "button", onclick: () => this.open(this.chosen, index) }))),
        el("p", { class: "hint" }, prompt))));
    }
    [...stage.querySelectorAll("button")].forEach((button, at) => {
      const step = steps[at % steps.length];
      button.replaceChildren(this.picture(step, Math.floor(at / steps.length)), el("small", {}, nameOf(step)));
    });
  }

  picture(step, index) {
    const key = `${step}/${index}`;
    if (!this.pictures.has(key)) this.pictures.set(key, el("img", { src: this.address(step, index), alt: `${this.prompts[index]}: ${nameOf(step)}` }));
    return this.pictures.get(key);
  }

  async open(step, index) {
    const { Viewer } = await import("./viewer.js");
    this.viewer ??= new Viewer(this, (shown) => this.choose(shown));
    this.viewer.open(step, index);
  }

  head(step) {
    return [nameOf(step), ...(this.marks.get(step) ?? []).map((word) => el("small", {}, word))];
  }

  cell(step, index) {
    const key = `${step}/${index}`;
    if (!this.cells.has(key)) {
      this.cells.set(key, el("td", { class: step ? "" : "base", dataset: { step } }, el("button", { type: "button", onclick: () => this.open(step, index) },
        el("img", { src: this.address(step, index), alt: `${this.prompts[index]}: ${nameOf(step)}`, loading: "lazy" }))));
    }
    return this.cells.get(key);
  }

  drawSheet() {
    const heads = this.steps.map((step) => el("th", { scope: "col", dataset: { step } }, this.head(step)));
    const rows = this.prompts.map((prompt, index) => el("tr", {}, el("th", { scope: "row" }, prompt), this.steps.map((step) => this.cell(step, index))));
    const sheet = find("sheet"), distance = sheet.scrollLeft, focused = document.activeElement;
    sheet.replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, el("td"), heads)), el("tbody", {}, rows)));
    sheet.scrollLeft = distance;
    if (sheet.contains(focused)) focused.focus({ preventScroll: true });
  }

  play() {
    let at = this.chosen === this.drawn.at(-1) ? 0 : this.drawn.indexOf(this.chosen);
    find("play").textContent = t("samples.stop");
    const next = () => {
      this.choose(this.drawn[at++]);
      if (at >= this.drawn.length) this.stop();
      else this.timer = setTimeout(next, PLAY_MS);
    };
    next();
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = 0;
    find("play").textContent = t("samples.play");
  }
}
