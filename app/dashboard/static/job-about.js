// What a job's page says of its plan, its result and its load proof.

import { formatBytes, formatNumber, has, t } from "./texts.js";
import { el, find } from "./ui.js";

// A word whose meaning, which the page holds, unfolds below it.
const term = (label, id) => el("details", { class: "term" }, el("summary", {}, label), el("p", {}, find(id).textContent));

export const row = (label, ...value) => el("div", {}, el("dt", {}, label), el("dd", {}, ...value));

// A value of a plan or a spec, as text.
export function describe(value) {
  if (value === "auto") return t("plan.auto");
  if (value === true || value === false) return t(value ? "new.yes" : "new.no");
  if (typeof value === "number") return Number.isInteger(value) ? formatNumber(value) : String(Number(value.toPrecision(6)));
  if (Array.isArray(value)) return value.map(describe).join(", ");
  if (value && typeof value === "object") return Object.entries(value).map(([key, inner]) => `${key} ${describe(inner)}`).join(", ");
  return value === null ? "–" : String(value);
}

const FIRST = ["steps", "batch_size", "num_images", "resolution", "learning_rate", "optimizer", "schedule", "adapter_type", "rank", "alpha", "targets", "text_encoder_rank", "prior_num_images", "precision", "seed"];
const APART = new Set(["name", "trigger", "model", ...FIRST, "sample_prompts"]);
const isOff = (value) => value === null || value === "" || (Array.isArray(value) && !value.length);

export function showPlan({ plan, spec }) {
  const label = (key) => (has(`plan.${key}`) ? t(`plan.${key}`) : key.replaceAll("_", " "));
  const first = FIRST.filter((key) => !isOff(plan[key])).map((key) => row(label(key), describe(plan[key])));
  if (spec.preset) first.unshift(row(t("new.preset"), spec.preset));
  find("plan-rows").replaceChildren(...first, ...(plan.sample_prompts ?? []).map((prompt, index) => row(t("plan.prompt", { number: index + 1 }), prompt)));
  find("plan-rest").replaceChildren(...Object.keys(plan).filter((key) => !APART.has(key)).map((key) => row(label(key), describe(plan[key]))));
}

export function showResult({ result }) {
  find("result").hidden = !result;
  if (!result) return;
  const { metrics } = result;
  const rows = [
    row(term(t("result.step"), "means-promoted"), t("job.stepOf", { step: metrics.step, steps: metrics.num_steps })),
    metrics.validation_loss !== null && row(term(t("chart.heldLoss"), "means-held"), describeHeld(metrics)),
    metrics.retention !== null && row(term(t("result.retention"), "means-retention"), t("result.kept", { percent: Math.round(metrics.retention * 100) })),
    row(term(t("result.loss"), "means-loss"), metrics.loss.toFixed(4)),
    row(t("result.parameters"), formatNumber(metrics.num_parameters)),
    metrics.peak_memory_bytes && row(t("result.memory"), formatBytes(metrics.peak_memory_bytes)),
    ...Object.entries(result.adapter).map(([format, file]) => row(t("result.file", { format }), formatBytes(file.size), el("small", { class: "sha" }, file.sha256))),
  ];
  find("result-rows").replaceChildren(
    ...(result.note ? [el("p", {}, result.note)] : []),
    ...result.warnings.map((warning) => el("p", { class: "message" }, warning)),
    el("dl", { class: "plan" }, rows.filter(Boolean)),
  );
}

function describeHeld({ validation_loss: loss, base_validation_loss: base }) {
  if (!base) return loss.toFixed(4);
  const percent = Math.round((1 - loss / base) * 100);
  return t(percent >= 0 ? "result.lower" : "result.higher", { loss: loss.toFixed(4), base: base.toFixed(4), percent: Math.abs(percent) });
}

export function showProofs(proofs) {
  const found = Object.entries(proofs);
  find("proof").hidden = !found.length;
  find("proof-rows").replaceChildren(...found.map(([format, proof]) => el("div", {}, el("h3", {}, t("result.file", { format })),
    el("ul", { class: "proofs" }, proof.tools.map(showTool)))));
}

function showTool(tool) {
  const verdict = tool.verdict ?? (tool.loads ? "loads" : "nothing");
  const isGood = verdict === "same" || verdict === "loads" || verdict === "differs";
  const reasons = [...tool.notes, ...new Set(tool.dropped.map((one) => one.reason))];
  return el("li", { class: isGood ? "good" : tool.required ? "bad" : "other" },
    el("strong", {}, tool.tool), " ", t(`proof.${verdict}`, { done: tool.num_resolved, all: tool.num_keys }),
    tool.measured ? ` ${t("proof.measured", { same: tool.measured.num_same, all: tool.measured.num_layers })}` : "",
    tool.offered ? "" : ` ${t("proof.hidden")}`,
    reasons.length ? el("details", {}, el("summary", {}, t("proof.why")), el("ul", {}, reasons.map((reason) => el("li", {}, reason)))) : null);
}
