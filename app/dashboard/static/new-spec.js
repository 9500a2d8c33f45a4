// The form's fields as a spec, and back. Each field says where its value stands (data-path) and what it is (data-kind).

import { t } from "./texts.js";

const fields = () => document.querySelectorAll("[data-path]");
const LITERAL = /^(true|false|-?(0|[1-9]\d*)(\.\d+)?([eE]-?\d+)?)$/; // as JSON has it

const READERS = {
  text: (text) => text,
  integer: Number,
  number: Number,
  switch: (text) => text === "true",
  choice: (text) => (LITERAL.test(text) ? JSON.parse(text) : text),
  loose: (text) => (LITERAL.test(text) ? JSON.parse(text) : text),
  list: (text) => text.split("\n").map((line) => line.trim()).filter(Boolean),
  pair: (text) => text.split(/[,;\s]+/).filter(Boolean).map(Number),
};

// Empty fields are left out: the service decides them.
export function readSpec() {
  const spec = {};
  for (const field of fields()) {
    const text = field.value.trim();
    if (!text) continue;
    const parts = field.dataset.path.split("."), last = parts.pop();
    let part = spec;
    for (const name of parts) part = part[name] ??= {};
    part[last] = READERS[field.dataset.kind](text);
  }
  return spec;
}

// Fills the form in. Values that no field shows are returned, as a spec.
export function writeSpec(spec) {
  const rest = structuredClone(spec);
  for (const field of fields()) {
    const parts = field.dataset.path.split("."), last = parts.pop();
    const part = parts.reduce((inner, name) => inner?.[name], rest);
    if (part?.[last] === undefined || part[last] === null) continue;
    field.value = [].concat(part[last]).join(field.dataset.kind === "pair" ? ", " : "\n");
    delete part[last];
    field.closest("details")?.setAttribute("open", "");
  }
  return prune(rest);
}

// What a plan has decided in place of each empty field.
export function showDefaults(plan) {
  for (const field of fields()) {
    if (field.value.trim() || !(field.dataset.plan in plan)) continue;
    const text = t("new.defaultOf", { value: describe(plan[field.dataset.plan]) });
    if (field.options) field.options[0].textContent = text;
    else field.placeholder = text;
  }
}

function describe(value) {
  if (value === null || value === "") return t("new.off");
  if (typeof value === "boolean") return t(value ? "new.yes" : "new.no");
  return Array.isArray(value) ? value.join(typeof value[0] === "number" ? ", " : "\n") || t("new.off") : String(value);
}

function prune(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
  const kept = Object.entries(value).map(([name, inner]) => [name, prune(inner)]);
  return Object.fromEntries(kept.filter(([, inner]) => inner !== null && !(typeof inner === "object" && !Array.isArray(inner) && !Object.keys(inner).length)));
}

// Puts each fault beside the field that its JSON pointer names; returns those that belong to no field.
export function markFaults(errors) {
  for (const mark of document.querySelectorAll(".fault")) mark.remove();
  for (const field of fields()) field.removeAttribute("aria-invalid");
  const others = [];
  for (const [pointer, messages] of Object.entries(errors)) {
    const path = pointer.slice(1).replaceAll("/", ".");
    const field = [...fields()].find((one) => path === one.dataset.path || path.startsWith(`${one.dataset.path}.`));
    if (!field) {
      others.push(...messages);
      continue;
    }
    field.setAttribute("aria-invalid", "true");
    field.closest("details")?.setAttribute("open", "");
    field.after(Object.assign(document.createElement("small"), { className: "fault", textContent: messages.join(" ") }));
  }
  return others;
}
