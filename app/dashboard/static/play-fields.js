// Two parts of the playground's form: the size, and the two settings of a sheet.

import { t } from "./texts.js";
import { el, find } from "./ui.js";

const SHAPES = [[1, 1], [4, 3], [3, 4], [3, 2], [2, 3], [16, 9], [9, 16]];
const OF_ENTRIES = ["weight", "step", "adapter"];
const EXAMPLES = { weight: "0.4, 0.8, 1.2", seed: "1, 2, 3", guidance_scale: "3, 5, 7.5", num_steps: "10, 20, 40", step: "100, 200, 300", adapter: "ad_…, ad_…" };

// Shapes with about as many pixels as the base was trained with.
export function showShapes(model) {
  const shapes = model ? SHAPES.map(([across, up]) => sizeOf(model, across, up)) : [];
  find("shape").replaceChildren(el("option", { value: "" }, model ? t("play.shapeOwn", { size: model.resolution }) : ""), ...shapes.map(({ width, height, name }) =>
    el("option", { value: `${width}x${height}` }, `${name} · ${width} × ${height}`)));
  for (const id of ["width", "height"]) Object.assign(find(id), { placeholder: model ? t("new.defaultOf", { value: model.resolution }) : "", step: model?.resolution_step ?? 8 });
}

function sizeOf({ resolution, resolution_step: step }, across, up) {
  const fit = (side) => Math.max(step, Math.round((resolution * side) / step) * step);
  const ratio = Math.sqrt(across / up);
  return { width: fit(ratio), height: fit(1 / ratio), name: `${across}:${up}` };
}

export function readSize() {
  const [width, height] = [find("width").value, find("height").value];
  return { ...(width && { width: Number(width) }), ...(height && { height: Number(height) }) };
}

export function writeSize({ width, height }) {
  find("width").value = width ?? "";
  find("height").value = height ?? "";
}

find("shape").addEventListener("change", () => {
  const [width, height] = find("shape").value.split("x");
  writeSize({ width, height });
  find("width").dispatchEvent(new Event("input", { bubbles: true }));
});

export class Sheets {
  // `model()`: the id of the base, whose adapters can be chosen.
  constructor(stack, model, onChange) {
    Object.assign(this, { stack });
    for (const axis of ["x", "y"]) {
      find(`${axis}-field`).addEventListener("change", () => {
        find(`${axis}-values`).value = "";
        onChange();
      });
      find(`${axis}-choose`).addEventListener("click", async () => {
        const { pickAdapter } = await import("./picker.js");
        const adapter = await pickAdapter({ title: t("play.add"), model: model() });
        if (!adapter) return;
        const values = find(`${axis}-values`);
        values.value = [values.value, adapter.id].filter(Boolean).join(", ");
        onChange();
      });
    }
  }

  // { grid }, or nothing.
  read() {
    const x = this.readAxis("x"), y = this.readAxis("y");
    return x ? { grid: { x, ...(y && { y }) } } : {};
  }

  readAxis(axis) {
    const field = find(`${axis}-field`).value;
    const values = find(`${axis}-values`).value.split(",").map((text) => text.trim()).filter(Boolean);
    if (!field || !values.length) return null;
    const entry = OF_ENTRIES.includes(field) ? { entry: Number(find(`${axis}-entry`).value || 0) } : {};
    return { field, values: field === "adapter" ? values : values.map(Number), ...entry };
  }

  write(grid) {
    for (const axis of ["x", "y"]) {
      find(`${axis}-field`).value = grid?.[axis]?.field ?? "";
      find(`${axis}-values`).value = (grid?.[axis]?.values ?? []).join(", ");
    }
    this.draw();
    for (const axis of ["x", "y"]) find(`${axis}-entry`).value = grid?.[axis]?.entry ?? 0;
  }

  // Which fields there are depends on the stack, and on what was chosen.
  draw() {
    const entries = this.stack.entries;
    for (const axis of ["x", "y"]) {
      const field = find(`${axis}-field`), select = find(`${axis}-entry`), chosen = select.value;
      for (const option of field.options) option.disabled = OF_ENTRIES.includes(option.value) && !entries.length;
      select.replaceChildren(...entries.map(({ adapter }, place) => el("option", { value: place }, adapter.name)));
      if (chosen && chosen < entries.length) select.value = chosen;
      find(`${axis}-of`).hidden = !OF_ENTRIES.includes(field.value) || entries.length < 2;
      find(`${axis}-choose`).hidden = field.value !== "adapter";
      find(`${axis}-values`).placeholder = EXAMPLES[field.value] ?? "";
      find(`${axis}-values`).disabled = !field.value;
    }
  }
}
