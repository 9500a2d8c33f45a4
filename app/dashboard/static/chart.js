// The loss curve: each step faintly, a running mean in front of it, and the held-out loss as dots on a line of their
// own. Drawn with SVG, read with pointer or arrow keys.

const SPACE = { top: 12, right: 14, bottom: 26, left: 48 };
const SVG = "http://www.w3.org/2000/svg";

export class LossChart {
  constructor(svg, readout) {
    Object.assign(this, { svg, readout, points: [], held: [], numSteps: 0, at: null, waiting: false, ended: false });
    svg.addEventListener("pointermove", (event) => this.point(event.offsetX));
    svg.addEventListener("pointerleave", () => this.select(null));
    svg.addEventListener("keydown", (event) => this.press(event));
    svg.addEventListener("blur", () => this.select(null));
    new ResizeObserver(() => this.request()).observe(svg);
  }

  add(metrics, validations, numSteps) {
    this.held = validations.map(([step, loss]) => ({ step, loss }));
    const last = this.points.at(-1)?.step ?? -1;
    this.points.push(...metrics.filter((metric) => metric.step > last));
    this.numSteps = numSteps;
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
    this.svg.classList.toggle("bare", this.points.length < 2);
    const { width, height } = this.svg.getBoundingClientRect();
    if (!width) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (this.points.length < 2) {
      return this.text(0, height / 2, this.ended ? "No step was trained." : "The curve appears when training starts.", "start");
    }
    this.smooth = runningMean(this.points.map((point) => point.loss));
    this.scale(width, height);
    this.axes(width, height);
    const raw = this.points.map((point) => [this.x(point.step), this.y(point.loss)]);
    const mean = this.points.map((point, index) => [this.x(point.step), this.y(this.smooth[index])]);
    this.shape("polyline", { class: "raw", points: join(thin(raw, width)) });
    this.shape("polyline", { class: "smooth", points: join(thin(mean, width)) });
    this.heldOut(height);
    if (this.at !== null) this.mark(height);
    const first = this.smooth[0].toFixed(4), last = this.smooth.at(-1).toFixed(4);
    const count = this.points.length, steps = count === 1 ? "1 step" : `${count} steps`;
    this.svg.setAttribute("aria-label", `Training loss over ${steps}, from ${first} to ${last}. Arrow keys read single steps.`);
  }

  // On a scale of its own, since it is another loss: its whole range, the first and the last value written beside it.
  heldOut(height) {
    if (!this.held.length) return;
    const losses = this.held.map((point) => point.loss), highest = Math.max(...losses), lowest = Math.min(...losses);
    const inner = height - SPACE.top - SPACE.bottom, range = highest - lowest || 1;
    const held = this.held.map(({ step, loss }) => [this.x(step), SPACE.top + inner * (0.1 + (0.8 * (highest - loss)) / range)]);
    if (held.length > 1) this.shape("polyline", { class: "held", points: join(held) });
    for (const [cx, cy] of held) this.shape("circle", { class: "held-dot", cx, cy, r: 3 });
    this.text(held[0][0] + 6, held[0][1] - 7, losses[0].toFixed(4), "start", "held-value");
    if (held.length > 1) this.text(held.at(-1)[0], held.at(-1)[1] - 7, losses.at(-1).toFixed(4), "end", "held-value");
  }

  // The top leaves out the highest two in a hundred, which would flatten all the rest; they run out at the edge.
  scale(width, height) {
    const losses = this.points.map((point) => point.loss).sort((a, b) => a - b);
    const top = Math.max(losses[Math.floor((losses.length - 1) * 0.98)], ...this.smooth) * 1.04;
    const bottom = Math.max(0, losses[0] - (top - losses[0]) * 0.06);
    const right = Math.max(this.numSteps, this.points.at(-1).step);
    const inner = { width: width - SPACE.left - SPACE.right, height: height - SPACE.top - SPACE.bottom };
    this.bounds = { top: top > bottom ? top : bottom + 1, bottom, right };
    this.x = (step) => SPACE.left + (inner.width * step) / right;
    this.y = (loss) => SPACE.top + inner.height * (1 - (Math.min(loss, this.bounds.top) - bottom) / (this.bounds.top - bottom));
    this.stepAt = (x) => ((x - SPACE.left) / inner.width) * right;
  }

  axes(width, height) {
    const { top, bottom, right } = this.bounds;
    const losses = ticks(bottom, top, 4), decimals = Math.max(0, Math.ceil(-Math.log10(losses[1] - losses[0]) - 1e-9));
    for (const loss of losses) {
      this.shape("line", { class: "gridline", x1: SPACE.left, x2: width - SPACE.right, y1: this.y(loss), y2: this.y(loss) });
      this.text(SPACE.left - 8, this.y(loss) + 4, loss.toFixed(decimals), "end");
    }
    for (const step of ticks(0, right, Math.max(2, Math.floor(width / 160)))) {
      this.text(this.x(step), height - 6, step.toLocaleString(), "middle");
    }
  }

  mark(height) {
    const point = this.points[this.at], x = this.x(point.step);
    this.shape("line", { class: "cursor", x1: x, x2: x, y1: SPACE.top, y2: height - SPACE.bottom });
    this.shape("circle", { class: "dot", cx: x, cy: this.y(this.smooth[this.at]), r: 5 });
  }

  point(x) {
    if (this.points.length < 2 || !this.stepAt) return;
    const wanted = this.stepAt(x);
    let low = 0, high = this.points.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.points[middle].step < wanted) low = middle + 1;
      else high = middle;
    }
    this.select(low);
  }

  press(event) {
    const last = this.points.length - 1, now = this.at ?? last, leap = Math.max(1, Math.round(last / 20));
    const moves = { ArrowLeft: now - 1, ArrowRight: now + 1, PageDown: now - leap, PageUp: now + leap, Home: 0, End: last };
    if (!(event.key in moves) || last < 1) return;
    event.preventDefault();
    this.select(Math.min(last, Math.max(0, moves[event.key])));
  }

  select(index) {
    this.at = index;
    const point = index === null ? null : this.points[index];
    const held = point && this.held.findLast((candidate) => candidate.step <= point.step);
    const judged = held ? ` · held-out loss ${held.loss.toFixed(4)} at step ${held.step}` : "";
    this.readout.textContent = point ? `Step ${point.step} · loss ${point.loss.toFixed(4)} · mean ${this.smooth[index].toFixed(4)}${judged}` : "";
    this.request();
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

// An exponential mean that starts unbiased (as Adam's moments do), over about a thirtieth of the run.
function runningMean(values) {
  const keep = 1 - 1 / Math.max(5, Math.min(200, values.length / 30));
  let mean = 0, weight = 0;
  return values.map((value) => {
    mean = keep * mean + (1 - keep) * value;
    weight = keep * weight + (1 - keep);
    return mean / weight;
  });
}

// At most the lowest and the highest point of each pixel column: 100,000 steps draw like 1,000.
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

function join(points) {
  return points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
}

function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const found = [];
  for (let value = Math.ceil(low / size) * size; value <= high * 1.0001; value += size) found.push(value);
  return found;
}
