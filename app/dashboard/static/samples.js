// The contact sheet: a row per prompt, a column per step; the base comes first. An image opens beside the base's.

export class Sheet {
  constructor(root, gridLink, address) {
    Object.assign(this, { root, gridLink, address, samples: [], viewer: null });
  }

  add(samples) {
    if (!samples.length) return;
    const have = new Set(this.samples.map((sample) => sample.step));
    this.samples.push(...samples.filter((sample) => !have.has(sample.step)));
    this.samples.sort((a, b) => a.step - b.step);
    this.draw();
    this.gridLink.href = `${this.address}/${this.samples.at(-1).step}/grid.png`;
    this.gridLink.hidden = false;
  }

  draw() {
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    head.append(document.createElement("td"));
    for (const sample of this.samples) head.append(heading("col", nameOf(sample.step)));
    const body = table.createTBody();
    this.samples[0].prompts.forEach((prompt, index) => body.append(this.row(prompt, index)));
    const distance = this.root.scrollLeft;
    this.root.replaceChildren(table);
    this.root.scrollLeft = distance;
  }

  row(prompt, index) {
    const row = document.createElement("tr");
    row.append(heading("row", prompt));
    for (const sample of this.samples) {
      const cell = row.insertCell();
      if (sample.step === 0) cell.className = "base";
      if (index < sample.prompts.length) cell.append(this.button(sample, index));
    }
    return row;
  }

  button(sample, index) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(this.picture(sample.step, index, `${sample.prompts[index]}: ${nameOf(sample.step)}`));
    button.addEventListener("click", () => this.open(sample.step, index));
    return button;
  }

  picture(step, index, alt) {
    const image = new Image();
    image.alt = alt;
    image.src = `${this.address}/${step}/${index}.png`;
    return image;
  }

  open(step, index) {
    this.viewer ??= document.body.appendChild(Object.assign(document.createElement("dialog"), { className: "viewer" }));
    const steps = step === 0 || this.samples[0].step !== 0 ? [step] : [0, step];
    const pair = Object.assign(document.createElement("div"), { className: "pair" });
    pair.append(...steps.map((each) => this.figure(each, index)));
    const prompt = Object.assign(document.createElement("p"), { textContent: this.samples[0].prompts[index] });
    const close = Object.assign(document.createElement("button"), { textContent: "Close", autofocus: true });
    close.addEventListener("click", () => this.viewer.close());
    this.viewer.setAttribute("aria-label", prompt.textContent);
    this.viewer.replaceChildren(pair, prompt, close);
    this.viewer.showModal();
  }

  figure(step, index) {
    const figure = document.createElement("figure");
    const caption = Object.assign(document.createElement("figcaption"), { textContent: nameOf(step) });
    figure.append(this.picture(step, index, nameOf(step)), caption);
    return figure;
  }
}

function nameOf(step) {
  return step === 0 ? "base" : `step ${step}`;
}

function heading(scope, text) {
  return Object.assign(document.createElement("th"), { scope, textContent: text });
}
