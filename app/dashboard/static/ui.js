// Small pieces of pages. Texts become text nodes: nothing here reads markup.

import { t } from "./texts.js";

export const find = (id) => document.getElementById(id);

// el("a", { href: "/ui", class: "button", dataset: { id: "x" }, onclick: f }, "text", otherElement)
export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "dataset") Object.assign(element.dataset, value);
    else if (key === "class") element.className = value;
    else if (key in element && key !== "list") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// A status, with the phase of a running job.
export function stateText(status, phase = null) {
  return phase && status === "running" ? `${t("status.running")} · ${t(`phase.${phase}`)}` : t(`status.${status}`);
}

export function stateBadge(status, phase = null) {
  return el("span", { class: "state", dataset: { status } }, stateText(status, phase));
}

// A picture that loads when it comes near the screen. A service's path or a blob: address.
export function thumbnail(src, alt, { width, height } = {}) {
  return el("img", { src, alt, width, height, loading: "lazy", decoding: "async", class: "thumb" });
}

// columns: [{ title, cell: (row) => node or text, head: true for the row's heading }]
export function table(columns, rows) {
  const head = el("tr", {}, columns.map((column) => el("th", { scope: "col" }, column.title)));
  const body = rows.map((row) =>
    el("tr", {}, columns.map((column) =>
      el(column.head ? "th" : "td", { scope: column.head ? "row" : undefined, dataset: { label: column.title } }, column.cell(row)),
    )),
  );
  return el("div", { class: "card table" }, el("table", {}, el("thead", {}, head), el("tbody", {}, body)));
}

// A field with its label and one line of help.
export function field(id, label, control, help = "") {
  control.id = id;
  if (help) control.setAttribute("aria-describedby", `${id}-help`);
  return el("p", { class: "field" }, el("label", { for: id, htmlFor: id }, label), control, help && el("small", { class: "hint", id: `${id}-help` }, help));
}

// Says what the user's own action did; `action` is { label, run }. It goes by itself, unless it has an action in focus.
export function toast(text, action = null) {
  const tray = find("toasts") ?? document.body.appendChild(el("div", { id: "toasts", role: "status" }));
  const note = el("div", { class: "toast" }, el("span", {}, text));
  if (action) note.append(el("button", { type: "button", onclick: () => { note.remove(); action.run(); } }, action.label));
  note.append(el("button", { type: "button", class: "quiet", "aria-label": t("close"), onclick: () => note.remove() }, "×"));
  tray.append(note);
  const leave = () => (note.matches(":hover, :focus-within") ? setTimeout(leave, 2000) : note.remove());
  setTimeout(leave, 6000);
}

// Shows an error where it belongs; an empty text hides it.
export function showError(element, error) {
  if (error?.name === "AbortError") return;
  element.hidden = !error;
  element.textContent = error ? error.message ?? String(error) : "";
}

// Resolves to the value of the button that closed it, "" for Escape. buttons: [{ value, label, kind }]
export function dialog(title, content, buttons) {
  return new Promise((resolve) => {
    const box = el("dialog", { "aria-label": title },
      el("form", { method: "dialog" }, el("h2", {}, title), content,
        el("div", { class: "actions" }, buttons.map(({ value, label, kind = "" }) => el("button", { value, class: kind }, label)))),
    );
    box.addEventListener("close", () => {
      box.remove();
      resolve(box.returnValue);
    });
    document.body.append(box);
    box.showModal();
  });
}

export async function confirm(title, text, label, kind = "danger") {
  const buttons = [{ value: "", label: t("cancel") }, { value: "yes", label, kind }];
  return (await dialog(title, el("p", {}, text), buttons)) === "yes";
}

export async function confirmLogin() {
  const link = el("a", { href: "/ui/login", target: "_blank", rel: "noopener" }, t("session.logIn"));
  const content = el("div", {}, el("p", {}, t("session.text")), el("p", {}, link));
  const buttons = [{ value: "", label: t("cancel") }, { value: "yes", label: t("session.goOn"), kind: "primary" }];
  return (await dialog(t("session.title"), content, buttons)) === "yes";
}

// Calls the function once, `milliseconds` after the last call.
export function debounce(work, milliseconds) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), milliseconds);
  };
}

// Calls the function at the first call, and then at most once in `milliseconds`: for what shows progress.
export function throttle(work, milliseconds) {
  let timer = 0, last = -Infinity;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      last = performance.now();
      work();
    }, last + milliseconds - performance.now());
  };
}

// Runs one thing at a time: clicks while it runs do nothing, and a form is never sent by the browser itself.
export function once(work) {
  let isRunning = false;
  return async (...values) => {
    if (values[0]?.type === "submit") values[0].preventDefault();
    if (isRunning) return;
    isRunning = true;
    try {
      await work(...values);
    } finally {
      isRunning = false;
    }
  };
}

// Runs one at a time, and once more afterwards if it was called meanwhile: for showing what has changed.
export function coalesce(work) {
  let isRunning = false, isStale = false;
  return async () => {
    isStale = true;
    if (isRunning) return;
    isRunning = true;
    try {
      while (isStale) {
        isStale = false;
        await work();
      }
    } finally {
      isRunning = false;
    }
  };
}
