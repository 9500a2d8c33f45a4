// What the pages about the service share: lists that grow, facts, fields with faults, and what can be copied.

import { ApiError, get } from "./api.js";
import { t } from "./texts.js";
import { showAges } from "./times.js";
import { el, find, showError, table, toast } from "./ui.js";

// [[term, text or node]]: those without a value are left out.
export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", { class: "plan" }, known.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))));
}

export function card(title, ...content) {
  return el("section", { class: "card" }, el("h2", {}, title), ...content);
}

// Shown as an age, with the reader's own time as its title; "–" for none.
export function age(moment) {
  return moment ? el("time", { dateTime: moment }) : "–";
}

// A time to come, or one whose date matters.
export function date(moment) {
  const text = new Date(moment).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  return el("time", { dateTime: moment, dataset: { fixed: "" } }, text);
}

export function code(text) {
  return el("code", {}, text);
}

// A text that is shown whole, with a button that copies it.
export function copyable(text, label) {
  const field = el("input", { value: text, readOnly: true, "aria-label": label, class: "code", onfocus: () => field.select() });
  const copy = async () => {
    field.select();
    // Only secure origins have a clipboard: elsewhere the old command copies the selection.
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else document.execCommand("copy");
    toast(t("copied"));
  };
  return el("div", { class: "copyable" }, field, el("button", { type: "button", onclick: copy }, t("copy")));
}

// For what no stream tells: calls the function when the reader comes back to the page.
export function onReturn(work) {
  document.addEventListener("visibilitychange", () => document.hidden || work());
  addEventListener("focus", work);
}

// Shows the error of some work at the top of the page; whether there was none.
export async function guard(work) {
  try {
    await work();
    showError(find("error"), null);
    return true;
  } catch (error) {
    showError(find("error"), error);
    return false;
  }
}

// Marks the fields that the service refused, by their data-pointer; the rest is said below the form.
export function showFaults(form, place, error) {
  const faults = error instanceof ApiError ? error.errors : {};
  let first = null;
  for (const field of form.querySelectorAll("[data-pointer]")) {
    const fault = faults[field.dataset.pointer];
    field.toggleAttribute("aria-invalid", Boolean(fault));
    if (fault) {
      field.setAttribute("aria-invalid", "true");
      first ??= field;
    }
  }
  const texts = Object.entries(faults).map(([pointer, fault]) => `${pointer.slice(1)}: ${[fault].flat().join(", ")}`);
  showError(place, error && (texts.length ? `${error.message} (${texts.join("; ")})` : error.message));
  first?.focus();
}

// A list of the API that grows by a button. `path`: with its filters; `columns`: as of ui.js's table.
export class Feed {
  constructor({ columns, pageSize = 50 }) {
    Object.assign(this, { columns, pageSize, path: "", rows: [], hasMore: false, run: 0, wanted: pageSize });
    find("more")?.addEventListener("click", () => guard(() => this.grow()));
  }

  // From the start, as many rows as were asked for before if the filters are the same.
  async load(path) {
    if (path !== this.path) this.wanted = this.pageSize;
    const run = ++this.run, { wanted } = this;
    let rows = [], hasMore = true;
    while (hasMore && rows.length < wanted) {
      const page = await this.fetch(path, rows, Math.min(100, wanted - rows.length));
      rows = rows.concat(page.data);
      hasMore = page.has_more;
    }
    if (run === this.run) this.show(path, rows, hasMore); // unless the filters were changed meanwhile
  }

  async grow() {
    const run = ++this.run;
    this.wanted = this.rows.length + this.pageSize; // also of a loading that begins before the answer
    const page = await this.fetch(this.path, this.rows, this.pageSize);
    if (run === this.run) this.show(this.path, this.rows.concat(page.data), page.has_more);
  }

  fetch(path, rows, limit) {
    const after = rows.length ? `&after=${encodeURIComponent(rows.at(-1).id)}` : "";
    return get(`${path}${path.includes("?") ? "&" : "?"}limit=${limit}${after}`);
  }

  show(path, rows, hasMore) {
    Object.assign(this, { path, rows, hasMore });
    const focused = document.activeElement?.id;
    find("list").replaceChildren(...(rows.length ? [table(this.columns, rows)] : []));
    find("empty").hidden = rows.length > 0;
    find("more").hidden = !hasMore;
    showAges(find("list"));
    if (focused) find(focused)?.focus();
  }
}
