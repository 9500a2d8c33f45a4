// Loss curves: each step faintly, a running mean in front of it, and held-out losses as dots on an axis of their own, on
// the right. One run or several over one another. Drawn with SVG, read with the pointer or the arrow keys.

import { t } from "./texts.js";

const SVG = "http://www.w3.org/2000/svg";
const MAX_POINTS = 4000;

export class LossChart {
  // `smoothing`: a range input from 0 to 100, or nothing.
  constructor(svg, readout, smoothing = null) {
    Object.assign(this, { svg, readout, smoothing, runs: [], numSteps: 0, at: null, waiting: false, ended: false });
    svg.addEventListener("pointermove", (event) => this.point(event.offsetX));
    svg.addEventListener("pointerleave", () => this.select(null));
    svg.addEventListener("keydown", (event) => this.press(event));
    svg.addEventListener("blur", () => this.select(null));
    smoothing?.addEventListener("input", () => this.request());
    new ResizeObserver(() => this.request()).observe(svg);
  }

  // runs: [{ name, points: [{ step, loss }], held: [{ step, loss }], marks: [{ step, text }] }], with at least one point
  show(runs, numSteps) {
    Object.assign(this, { runs: runs.filter((run) => run.points.length), numSteps });
    for (const run of this.runs) if (run.points.length > MAX_POINTS) run.points = halve(run.points);
    this.request();
  }

  end() {
    this.ended = true;
    this.request();
  }

  request() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  draw() {
    this.svg.replaceChildren();
    const count = Math.max(0, ...this.runs.map((run) => run.points.length));
    this.svg.classList.toggle("bare", count < 2);
    const { width, height } = this.svg.getBoundingClientRect();
    if (!width) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (count < 2) return this.text(0, height / 2, t(this.ended ? "chart.none" : "chart.waits"), "start");
    const strength = (Number(this.smoothing?.value ?? 40) / 100) ** 2;
    for (const run of this.runs) run.smooth = runningMean(run.points.map((point) => point.loss), 1 + (strength * run.points.length) / 5);
    this.scale(width, height);
    this.axes();
    this.runs.forEach((run, index) => this.curve(run, index, width));
    this.runs.forEach((run) => this.marks(run));
    if (this.at !== null) this.cursor();
    const [first] = this.runs;
    this.svg.setAttribute("aria-label", t("chart.label", { steps: this.right, first: first.smooth[0].toFixed(4), last: first.smooth.at(-1).toFixed(4) }));
  }

  // The top leaves out the highest two in a hundred, which would flatten all the rest; they run out at the edge.
  scale(width, height) {
    const losses = this.runs.flatMap((run) => run.points.map((point) => point.loss)).sort((a, b) => a - b);
    const means = this.runs.map((run) => run.smooth.reduce((a, b) => Math.max(a, b)));
    const top = Math.max(losses[Math.floor((losses.length - 1) * 0.98)], ...means) * 1.04;
    const held = this.runs.flatMap((run) => run.held.map((point) => point.loss));
    const room = (held.length && Math.max(...held) - Math.min(...held)) || 0.02;
    this.box = { left: 52, right: width - (held.length ? 56 : 14), top: 26, bottom: height - 26 };
    this.right = Math.max(this.numSteps, ...this.runs.map((run) => run.points.at(-1).step));
    this.left = axis(Math.max(0, losses[0] - (top - losses[0]) * 0.06), top, this.box);
    this.other = held.length ? axis(Math.min(...held) - room * 0.08, Math.max(...held) + room * 0.08, this.box) : null;
    this.x = (step) => this.box.left + ((this.box.right - this.box.left) * step) / this.right;
    this.stepAt = (x) => ((x - this.box.left) / (this.box.right - this.box.left)) * this.right;
  }

  axes() {
    const { left, right, top, bottom } = this.box;
    for (const { value, text } of this.left.ticks) {
      this.shape("line", { class: "gridline", x1: left, x2: right, y1: this.left.y(value), y2: this.left.y(value) });
      this.text(left - 8, this.left.y(value) + 4, text, "end", "left-tick");
    }
    for (const { value, text } of this.other?.ticks ?? []) this.text(right + 8, this.other.y(value) + 4, text, "start", "held-tick");
    for (const step of makeTicks(0, this.right, Math.max(3, Math.floor((right - left) / 120)))) {
      this.text(this.x(step), bottom + 20, step.toLocaleString(), "middle");
    }
    this.text(0, top - 14, t("chart.training"), "start", "axis-title");
    if (this.other) this.text(right + 56, top - 14, t("chart.held"), "end", "axis-title held-title");
  }

  curve(run, index, width) {
    const raw = run.points.map((point) => [this.x(point.step), this.left.y(point.loss)]);
    const mean = run.points.map((point, at) => [this.x(point.step), this.left.y(run.smooth[at])]);
    this.shape("polyline", { class: `raw run-${index}`, points: join(thin(raw, width)) });
    this.shape("polyline", { class: `smooth run-${index}`, points: join(thin(mean, width)) });
    if (!this.other) return;
    const held = run.held.map(({ step, loss }) => [this.x(step), this.other.y(loss)]);
    if (held.length > 1) this.shape("polyline", { class: `held run-${index}`, points: join(held) });
    for (const [cx, cy] of held) this.shape("circle", { class: `held-dot run-${index}`, cx, cy, r: 3 });
  }

  // Marks of the same step share a line and a label.
  marks(run) {
    const texts = new Map();
    for (const { step, text } of run.marks ?? []) texts.set(step, [...(texts.get(step) ?? []), text]);
    for (const [step, several] of texts) {
      const x = this.x(step), isRight = x > (this.box.left + this.box.right) / 2;
      this.shape("line", { class: "mark", x1: x, x2: x, y1: this.box.top, y2: this.box.bottom });
      const place = several.includes(t("chart.best")) ? 12 : 28;
      this.text(x + (isRight ? -5 : 5), this.box.top + place, several.join(", "), isRight ? "end" : "start", "mark-text");
    }
  }

  cursor() {
    const x = this.x(this.at);
    this.shape("line", { class: "cursor", x1: x, x2: x, y1: this.box.top, y2: this.box.bottom });
    this.runs.forEach((run, index) => {
      const near = findNear(run.points, this.at), point = run.points[near];
      this.shape("circle", { class: `dot run-${index}`, cx: this.x(point.step), cy: this.left.y(run.smooth[near]), r: 5 });
    });
  }

  // The run with the most steps is the one that the keys walk along.
  get longest() {
    return this.runs.reduce((a, b) => (b.points.at(-1).step > a.points.at(-1).step ? b : a));
  }

  point(x) {
    if (!this.stepAt || this.svg.classList.contains("bare")) return;
    const { points } = this.longest;
    this.select(points[findNear(points, this.stepAt(x))].step);
  }

  press(event) {
    if (this.svg.classList.contains("bare")) return;
    const { points } = this.longest, last = points.length - 1;
    const now = this.at === null ? last : findNear(points, this.at), leap = Math.max(1, Math.round(last / 20));
    const moves = { ArrowLeft: now - 1, ArrowRight: now + 1, PageDown: now - leap, PageUp: now + leap, Home: 0, End: last };
    if (!(event.key in moves)) return;
    event.preventDefault();
    this.select(points[Math.min(last, Math.max(0, moves[event.key]))].step);
  }

  select(step) {
    this.at = step;
    this.readout.textContent = step === null ? "" : [t("chart.step", { step }), ...this.runs.map((run) => this.describe(run, step))].join(" · ");
    this.request();
  }

  describe(run, step) {
    const near = findNear(run.points, step), held = run.held.findLast((point) => point.step <= step);
    const values = { loss: run.points[near].loss.toFixed(4), mean: run.smooth?.[near].toFixed(4) ?? "" };
    const text = t("chart.values", values) + (held ? t("chart.heldAt", { loss: held.loss.toFixed(4), step: held.step }) : "");
    return this.runs.length > 1 ? `${run.name}: ${text}` : text;
  }

  shape(name, attributes) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    this.svg.append(element);
    return element;
  }

  text(x, y, content, anchor, kind = "") {
    this.shape("text", { x, y, "text-anchor": anchor, class: kind }).textContent = content;
  }
}

function axis(low, high, box) {
  const top = high > low ? high : low + 1;
  const values = makeTicks(low, top, 4), size = values.length > 1 ? values[1] - values[0] : top - low;
  const decimals = Math.min(6, Math.max(0, Math.ceil(-Math.log10(size) - 1e-9)));
  return {
    y: (value) => box.bottom - ((box.bottom - box.top) * (Math.min(value, top) - low)) / (top - low),
    ticks: values.map((value) => ({ value, text: value.toFixed(decimals) })),
  };
}

// The index of the point with the nearest step.
function findNear(points, step) {
  let low = 0, high = points.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle].step < step) low = middle + 1;
    else high = middle;
  }
  return low > 0 && step - points[low - 1].step < points[low].step - step ? low - 1 : low;
}

// An exponential mean over about `span` values that starts unbiased, as Adam's moments do.
function runningMean(values, span) {
  const keep = 1 - 1 / span;
  let mean = 0, weight = 0;
  return values.map((value) => {
    mean = keep * mean + (1 - keep) * value;
    weight = keep * weight + (1 - keep);
    return mean / weight;
  });
}

const halve = (points) => points.filter((_, index) => index % 2 || index === points.length - 1);

// At most the lowest and the highest point of each pixel column.
function thin(points, width) {
  if (points.length < width * 3) return points;
  const columns = new Map();
  for (const point of points) {
    const column = Math.round(point[0]), held = columns.get(column);
    if (!held) columns.set(column, [point, point]);
    else columns.set(column, [point[1] < held[0][1] ? point : held[0], point[1] > held[1][1] ? point : held[1]]);
  }
  return [...columns.values()].flat();
}

const join = (points) => points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");

function makeTicks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * 0.999);
  const found = [];
  for (let value = Math.ceil(low / size) * size; value <= high * 1.0001; value += size) found.push(value);
  return found;
}
