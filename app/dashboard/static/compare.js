// Two jobs over one another: curves, what differs in their plans and results, samples of the same prompts side by side.
// The address names them: ?jobs=job_a,job_b.

import { get, list } from "./api.js";
import { LossChart } from "./chart.js";
import { describe } from "./job-about.js";
import { Activity } from "./live.js";
import { whenClosed } from "./selects.js";
import { t } from "./texts.js";
import { coalesce, el, find, showError, stateBadge, table, throttle } from "./ui.js";

const MAX_CHOICES = 200;
const POINTS = 1500;
const pickers = [find("first"), find("second")];
const chart = new LossChart(find("chart"), find("readout"), find("smoothing"));
let ids = (new URLSearchParams(location.search).get("jobs") ?? "").split(",").slice(0, 2), sides = [], chosen = [null, null], sliders = [];

const nameOf = (job) => `${job.plan.name} (${job.id.slice(-8)})`;

// Again when there are others, with what is chosen.
async function fillPickers() {
  const jobs = await list("/jobs", { limit: MAX_CHOICES });
  for (const id of ids.filter((id) => id && !jobs.some((job) => job.id === id))) jobs.push(await get(`/jobs/${encodeURIComponent(id)}`));
  whenClosed(pickers, () => pickers.forEach((picker, at) => {
    while (picker.options.length > 1) picker.remove(1);
    picker.append(...jobs.map((job) => el("option", { value: job.id }, `${nameOf(job)} · ${job.model} · ${new Date(job.created_at).toLocaleString()}`)));
    picker.value = ids[at] ?? "";
  }));
}

async function read(id) {
  const address = `/jobs/${encodeURIComponent(id)}`;
  const [job, metrics, samples] = await Promise.all([get(address), get(`${address}/metrics?points=${POINTS}`), get(`${address}/samples`)]);
  const held = metrics.data.filter((point) => point.validation_loss !== null).map(({ step, validation_loss }) => ({ step, loss: validation_loss }));
  return { job, points: metrics.data, held, samples: samples.data };
}

const refresh = coalesce(async () => {
  const isComplete = Boolean(ids[0] && ids[1]);
  find("hint").hidden = isComplete;
  find("comparison").hidden = !isComplete;
  showError(find("error"), null);
  if (!isComplete) return;
  try {
    sides = await Promise.all(ids.map(read));
    showCurves();
    showDifferences();
    showSamples();
  } catch (error) {
    find("comparison").hidden = true;
    showError(find("error"), error);
  }
});

const refreshSoon = throttle(refresh, 3000); // not at every step of a training

// A run without any step has no curve; the others keep their colours.
function showCurves() {
  const runs = sides.map(({ job, points, held }) => ({ name: nameOf(job), points, held }));
  chart.show(runs, Math.max(...sides.map(({ job }) => job.plan.steps)));
  chart.end();
  find("legend").replaceChildren(...sides.map(({ job }, at) => el("li", { class: `key-${at}` },
    el("a", { href: `/ui/jobs/${job.id}` }, nameOf(job)), " ", stateBadge(job.status, job.phase))));
}

function showDifferences() {
  const [a, b] = sides.map(({ job }) => ({ [t("compare.dataset")]: job.dataset, ...job.plan }));
  const rows = [...new Set([...Object.keys(a), ...Object.keys(b)])]
    .filter((key) => JSON.stringify(a[key]) !== JSON.stringify(b[key]) && key !== "name")
    .map((key) => ({ key: key.replaceAll("_", " "), values: [a[key], b[key]] }));
  const measures = { "chart.heldLoss": "validation_loss", "result.retention": "retention", "result.step": "step", "result.loss": "loss" };
  for (const [label, key] of Object.entries(measures)) {
    const values = sides.map(({ job }) => job.result?.metrics[key] ?? null);
    if (values.some((value) => value !== null)) rows.push({ key: t(label), values });
  }
  const columns = [{ title: t("compare.option"), cell: (row) => row.key, head: true },
    ...sides.map(({ job }, at) => ({ title: nameOf(job), cell: (row) => describe(row.values[at] ?? null) }))];
  find("differences").replaceChildren(rows.length ? table(columns, rows) : el("p", { class: "hint" }, t("compare.same")));
}

// Prompts that differ by the trigger alone belong together.
const plain = ({ job }, prompt) => (job.plan.trigger ? prompt.replaceAll(job.plan.trigger, "{trigger}") : prompt);

function showSamples() {
  const prompts = new Map(); // plain -> as each job has it
  for (const side of sides) {
    for (const { prompt } of side.samples[0]?.images ?? []) prompts.set(plain(side, prompt), (prompts.get(plain(side, prompt)) ?? new Set()).add(prompt));
  }
  find("no-samples").hidden = prompts.size > 0;
  showSliders();
  const draw = () => find("stage").replaceChildren(...[...prompts].map(([key, texts]) => el("li", {},
    el("div", { class: "pair" }, sides.map((side, at) => picture(side, at, key))), el("p", { class: "hint" }, [...texts].join(" / ")))));
  find("sliders").oninput = draw;
  draw();
}

// They stay while new samples come: one may be held.
function showSliders() {
  const key = sides.map(({ job }) => job.id).join();
  if (find("sliders").dataset.jobs !== key) find("sliders").replaceChildren(...sides.map(slider));
  find("sliders").dataset.jobs = key;
  sliders.forEach((update) => update());
}

function slider({ job }, at) {
  const range = el("input", { type: "range", min: 0, "aria-label": t("compare.stepOf", { name: nameOf(job) }) });
  const text = el("output");
  const show = () => {
    const sample = sides[at].samples[range.value];
    chosen[at] = sample?.step ?? null;
    text.textContent = sample ? stepName(sample.step) : "–";
    range.setAttribute("aria-valuetext", text.textContent);
  };
  range.addEventListener("input", show);
  sliders[at] = () => {
    const { samples } = sides[at], last = samples.length - 1, known = samples.findIndex((sample) => sample.step === chosen[at]);
    range.max = Math.max(0, last);
    range.value = known < 0 ? last : known;
    range.disabled = last < 1;
    show();
  };
  return el("div", { class: `scrub key-${at}` }, el("span", {}, nameOf(job)), range, text);
}

const stepName = (step) => (step === 0 ? t("samples.base") : t("samples.step", { step }));

function picture(side, at, key) {
  const { job, samples } = side, sample = samples.find((one) => one.step === chosen[at]);
  const image = sample?.images.find((one) => plain(side, one.prompt) === key);
  const shown = image ? el("img", { src: image.url, alt: `${image.prompt}: ${nameOf(job)}, ${stepName(sample.step)}` }) : el("div", { class: "thumb none" });
  return el("figure", { class: `key-${at}` }, shown, el("figcaption", {}, image ? stepName(sample.step) : t("compare.missing")));
}

function choose(next) {
  ids = next;
  chosen = [null, null];
  pickers.forEach((picker, at) => (picker.value = ids[at] ?? ""));
  history.replaceState(null, "", `${location.pathname}?jobs=${ids.join(",")}`);
  refresh();
}

pickers.forEach((picker) => picker.addEventListener("change", () => choose(pickers.map((one) => one.value))));
find("swap").addEventListener("click", () => choose([ids[1] ?? "", ids[0] ?? ""]));
find("choice").addEventListener("submit", (event) => event.preventDefault());
const offer = coalesce(() => fillPickers().catch((error) => showError(find("error"), error)));
const offerSoon = throttle(offer, 3000);
new Activity({
  onReady: async () => {
    await offer();
    await refresh();
  },
  onChange: ({ resource, id }) => resource === "job" && (ids.includes(id) ? refreshSoon() : offerSoon()),
  onTrouble: (text) => (find("live").textContent = text),
});
