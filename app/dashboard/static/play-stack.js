// The stack of a playground: up to five adapters with their weights.

import { get } from "./api.js";
import { t } from "./texts.js";
import { el, find } from "./ui.js";

export const MAX_ADAPTERS = 5;
const [LOW, HIGH] = [-4, 4]; // what the API takes
const [SLIDE_LOW, SLIDE_HIGH] = [-1, 2]; // what makes sense

export class Stack {
  // `onChange()`: something was added, removed or weighed. `onTrigger(text)`: a chip was pressed.
  constructor(onChange, onTrigger) {
    Object.assign(this, { onChange, onTrigger, entries: [] });
  }

  // `entry`: { id } or { job, step }, with a weight. Raises ApiError for one that is not there.
  async add({ id, job, step, weight = 1 }) {
    const adapter = id ? await get(`/adapters/${encodeURIComponent(id)}`) : await this.ofStep(job, step);
    if (this.entries.length >= MAX_ADAPTERS) return null;
    const entry = { adapter, step: step ?? null, weight: Math.min(HIGH, Math.max(LOW, weight)), steps: [] };
    this.entries.push(entry);
    this.draw();
    this.onChange();
    await this.findSteps(entry);
    return adapter;
  }

  // What is known of a job's step, in the form of an adapter. Its own id is null.
  async ofStep(job, step) {
    const found = await get(`/jobs/${encodeURIComponent(job)}`);
    return { id: null, job: found.id, name: found.plan.name, trigger: found.plan.trigger, model: found.model, step };
  }

  async findSteps(entry) {
    if (!entry.adapter.job) return;
    entry.steps = await get(`/jobs/${entry.adapter.job}/steps`).then((page) => page.data, () => []);
    if (entry.steps.length) entry.place.replaceChildren(this.stepsOf(entry));
  }

  async set(adapters) {
    this.entries = [];
    this.draw();
    const failed = [];
    for (const one of adapters) await this.add(one).catch((error) => failed.push(error));
    this.onChange();
    if (failed.length) throw failed[0];
  }

  read() {
    return this.entries.map(({ adapter, step, weight }) =>
      step === null ? { id: adapter.id, weight } : { job: adapter.job, step, weight });
  }

  draw() {
    for (const entry of this.entries) entry.row ??= this.row(entry);
    find("stack").replaceChildren(...this.entries.map((entry) => entry.row));
    find("no-stack").hidden = this.entries.length > 0;
    find("add").disabled = this.entries.length >= MAX_ADAPTERS;
  }

  row(entry) {
    const { adapter } = entry;
    const weigh = (value) => {
      if (!Number.isFinite(value)) return;
      entry.weight = Math.min(HIGH, Math.max(LOW, value));
      this.onChange();
    };
    entry.place = el("span", {}, this.stepsOf(entry));
    const label = t("play.weightOf", { name: adapter.name });
    const slider = el("input", { type: "range", min: SLIDE_LOW, max: SLIDE_HIGH, step: 0.05, value: entry.weight, "aria-label": label });
    const number = el("input", { type: "number", min: LOW, max: HIGH, step: 0.05, value: entry.weight, "aria-label": label });
    slider.addEventListener("input", () => weigh(Number((number.value = slider.value))));
    number.addEventListener("input", () => weigh(Number((slider.value = number.value))));
    return el("li", {},
      el("div", { class: "row" },
        el("a", { href: adapter.id ? `/ui/adapters/${adapter.id}` : `/ui/jobs/${adapter.job}` }, adapter.name),
        el("button", { type: "button", class: "quiet", "aria-label": t("play.leaveOut", { name: adapter.name }), onclick: () => this.remove(entry) }, "×"),
      ),
      el("div", { class: "row" },
        adapter.trigger && el("button", { type: "button", class: "chip", title: t("play.useTrigger"), onclick: () => this.onTrigger(adapter.trigger) }, adapter.trigger),
        entry.place,
      ),
      el("div", { class: "weight" }, slider, number),
    );
  }

  // Which step of the job the adapter is from; the first choice is the adapter as it is.
  stepsOf(entry) {
    const { adapter, steps } = entry;
    if (!steps.length) return entry.step === null ? "" : el("span", { class: "hint" }, t("play.step", { step: entry.step }));
    const choices = steps.map(({ step }) => el("option", { value: step, selected: entry.step === step }, t("play.step", { step })));
    const own = adapter.id ? [el("option", { value: "", selected: entry.step === null }, t("play.own"))] : [];
    const select = el("select", { class: "step", "aria-label": t("play.stepOf", { name: adapter.name }) }, own, choices);
    select.addEventListener("change", () => {
      entry.step = select.value ? Number(select.value) : null;
      this.onChange();
    });
    return select;
  }

  remove(entry) {
    this.entries.splice(this.entries.indexOf(entry), 1);
    this.draw();
    this.onChange();
    (find("stack").querySelector("button, a") ?? find("add")).focus();
  }
}
