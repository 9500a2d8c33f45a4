// A job's page, kept up to date from its stream; what does not change at every step is read from the API.

import { allows, get, isRemoved, post, remove } from "./api.js";
import { LossChart } from "./chart.js";
import { showPlan, showProofs, showResult } from "./job-about.js";
import { Requests } from "./job-requests.js";
import { Activity, Stream } from "./live.js";
import { Samples } from "./samples.js";
import { t } from "./texts.js";
import { formatDuration } from "./times.js";
import { coalesce, confirm, el, find, once, showError, stateText, toast } from "./ui.js";

const id = find("job").dataset.job, address = `/jobs/${id}`;
const chart = new LossChart(find("chart"), find("readout"), find("smoothing"));
const samples = new Samples(address, showStep);
const requests = new Requests(address);
const run = { name: "", points: [], held: [], marks: [] };
let job = null, steps = [], reason = "", shownPromoted = null;

// --- live -------------------------------------------------------------------------------------------------

function showNews(news) {
  const before = job;
  job = news.job;
  news.events.forEach(showEvent);
  showJob();
  const last = run.points.at(-1)?.step ?? -1;
  run.points.push(...news.metrics.filter((metric) => metric.step > last));
  run.held = news.validations.map(([step, loss]) => ({ step, loss }));
  samples.add(news.samples);
  if (news.samples.length || before?.status !== job.status || !news.has_more && !before) refresh();
  if (news.events.some((event) => event.type === "job.requested_samples") || before?.is_terminal !== job.is_terminal) requests.refresh(job);
  showMarks();
  if (job.is_terminal && !news.has_more) {
    chart.end();
    find("sheet-hint").textContent = t("samples.none");
  }
}

function showJob() {
  const state = find("state"), label = stateText(job.status, job.phase);
  if (state.textContent !== label) state.textContent = label;
  state.dataset.status = job.status;
  document.title = `${job.is_terminal ? `${job.name} ${label}` : `${Math.round(job.percent)} % ${job.name}`} · Atelier`;
  showPhases();
  find("bar").value = job.percent;
  find("step").textContent = t("job.stepOf", { step: job.step, steps: job.num_steps });
  find("loss").textContent = job.loss === null ? "–" : job.loss.toFixed(4);
  find("pace").textContent = job.seconds_per_step === null ? "–" : t("job.perStep", { seconds: job.seconds_per_step.toFixed(2) });
  find("time-label").textContent = t(job.is_terminal ? "job.took" : "job.time");
  find("time").textContent = describeTime();
  find("time-note").textContent = describeActivity();
  const text = describeWait();
  find("waits").hidden = !text;
  find("waits").textContent = text;
  for (const [name, isShown] of Object.entries({ pause: job.can_pause, resume: job.can_resume, cancel: job.can_cancel, delete: job.is_terminal, downloads: job.has_adapter })) {
    if (find(name)) find(name).hidden = !isShown;
  }
  find("error").hidden = !job.error_title;
  find("error-title").textContent = job.error_title ?? "";
  find("error-detail").textContent = job.error_detail ?? "";
}

// Sampling comes before, between and after the steps: it and training are done when the scores are computed.
function showPhases() {
  const items = [...find("phases").children], at = items.findIndex((item) => item.dataset.phase === job.phase);
  const isFinishing = job.phase === "scoring" || job.phase === "exporting";
  items.forEach((item, index) => {
    const { phase } = item.dataset, isCurrent = index === at;
    const isDone = job.status === "succeeded" || (job.phase && index < at && (isFinishing || index < 2));
    if (isCurrent) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
    item.classList.toggle("done", Boolean(isDone));
    item.textContent = t(`phase.${phase}`) + (isCurrent && job.units_total ? ` ${job.units_done}/${job.units_total}` : "");
  });
}

function describeTime() {
  if (job.is_terminal) return job.started_at ? formatDuration((new Date(job.finished_at) - new Date(job.started_at)) / 1000) : "–";
  const isRunning = job.status === "running";
  if (isRunning && job.step >= job.num_steps) return t("job.stepsDone");
  const left = isRunning || job.status === "queued" ? job.eta_seconds : null;
  if (left !== null) return t("job.isLeft", { value: formatDuration(left) });
  if (job.step > 0 || job.estimated_seconds === null) return isRunning ? t("job.unmeasured") : "–";
  return t("job.inAll", { value: formatDuration(job.estimated_seconds) });
}

// What is done between the steps; while steps run, what the time that is left does not cover.
function describeActivity() {
  if (!job.phase) return "";
  if (job.phase === "training") return job.eta_seconds === null ? "" : t("job.after");
  const what = t(`job.doing.${job.phase}`);
  return job.units_total ? t("job.doingOf", { what, done: job.units_done, total: job.units_total }) : what;
}

function describeWait() {
  if (job.status === "queued") {
    const place = job.queue_position;
    const ahead = place > 1 ? t("job.ahead", { count: place - 1 }) : t("home.waiting");
    return [place ? t("home.place", { place }) : null, ahead, reason].filter(Boolean).join(" · ");
  }
  if (job.status === "paused") return t("job.paused");
  return job.status === "running" && job.step >= job.num_steps ? t("job.finishing") : "";
}

function showEvent(event) {
  const text = t(`event.${event.key}`, event.values);
  if (event.type === "job.running") showWorker(event.values.worker);
  if (event.type === "job.queued") reason = event.key.startsWith("putBack") ? text : "";
  const moment = new Date(event.created_at), isToday = moment.toDateString() === new Date().toDateString();
  const time = el("time", { dateTime: event.created_at, title: moment.toLocaleString(), dataset: { fixed: "" } },
    isToday ? moment.toLocaleTimeString() : moment.toLocaleString(undefined, { dateStyle: "short", timeStyle: "short" }));
  find("events").prepend(el("li", {}, time, el("span", {}, text)));
}

// Of the last attempt. Its device is known while it is active.
async function showWorker(name) {
  const [link, device] = find("worker").children;
  find("worker").hidden = false;
  link.textContent = name;
  const worker = (await get("/workers").catch(() => null))?.data.find((one) => one.id === name);
  if (link.textContent === name) device.textContent = worker?.device_name ? `(${worker.device_name})` : "";
}

// --- what the API knows beside ------------------------------------------------------------------------------

const refresh = coalesce(async () => {
  try {
    const [found, kept] = await Promise.all([get(address), get(`${address}/steps`)]);
    steps = kept.data;
    showPlan(found);
    showResult(found);
    showProofs(found.result?.proofs ?? {});
    run.promoted = found.result?.metrics.step ?? null;
    showMarks();
    if (samples.chosen !== null) showStep(samples.chosen);
  } catch (error) {
    if (error.status === 404) showGone();
    else showError(find("action-error"), error);
  }
});

// Another tab or person has deleted it.
function showGone() {
  if (isRemoved(address)) return;
  for (const part of document.querySelectorAll(".heading .state, .heading .actions, #take, #step-files, #grid, #requests")) part.hidden = true;
  showError(find("action-error"), t("job.gone"));
}

// An ended job has no news but that it is deleted, or another step promoted.
function watch() {
  new Activity({
    onReady: refresh,
    onChange: (change) => change.id === id && (change.status === null ? showGone() : refresh()),
    onTrouble: (text) => (find("live").textContent = text),
  });
}

function showMarks() {
  const best = run.held.filter((point) => point.step > 0).reduce((low, point) => (!low || point.loss < low.loss ? point : low), null);
  run.marks = [];
  if (best) run.marks.push({ step: best.step, text: t("chart.best") });
  if (run.promoted) run.marks.push({ step: run.promoted, text: t("chart.promoted") });
  const words = new Map();
  for (const { step, text } of run.marks) words.set(step, [...(words.get(step) ?? []), text]);
  if (JSON.stringify([...words]) !== JSON.stringify([...samples.marks])) samples.mark(words);
  if (job.is_terminal && samples.follows && samples.drawn.includes(run.promoted) && shownPromoted !== run.promoted) {
    shownPromoted = run.promoted; // once: the reader may go on to another
    samples.choose(run.promoted);
  }
  chart.show([run], job.num_steps);
}

function showStep(step) {
  const kept = steps.find((one) => one.step === step);
  if (find("take")) find("take").hidden = !kept || kept.is_promoted || job?.status !== "succeeded";
  find("step-files").replaceChildren(...Object.entries(kept?.files ?? {}).map(([format, file]) =>
    el("a", { class: "button", href: file.url, download: "" }, t("steps.file", { step, format }))));
}

// --- actions ------------------------------------------------------------------------------------------------

const attempt = (work) => once(async () => {
  showError(find("action-error"), null);
  try {
    await work();
  } catch (error) {
    showError(find("action-error"), error);
  }
});

const change = (name) => post(`${address}/${name}`, undefined, { repeatable: true });

async function cancel() {
  if (await confirm(t("job.cancelTitle"), t("job.cancelText"), t("job.cancelYes"))) await change("cancel");
}

async function deleteJob() {
  if (!(await confirm(t("job.deleteTitle", { name: job.name }), t("job.deleteText"), t("job.delete")))) return;
  await remove(address);
  location.assign("/ui/jobs");
}

async function take() {
  const step = samples.chosen, button = find("take");
  if (!(await confirm(t("steps.takeTitle", { step }), t("steps.takeText", { before: run.promoted ?? job.step }), t("steps.take")))) return;
  button.disabled = true;
  try {
    let promotion = await post(`${address}/promote?wait=20`, { step });
    while (promotion.status === "checking") promotion = await get(`${address}/promotion?wait=30`);
    if (promotion.status === "failed") throw new Error(promotion.error?.detail ?? t("steps.failed"));
    await refresh();
    toast(t("steps.taken", { step }));
  } finally {
    button.disabled = false;
  }
}

if (allows("jobs")) {
  const works = { pause: () => change("pause"), resume: () => change("resume"), cancel };
  for (const [name, work] of Object.entries(works)) {
    const act = attempt(work);
    find(name).addEventListener("submit", (event) => {
      event.preventDefault();
      act();
    });
  }
  find("delete").addEventListener("click", attempt(deleteJob));
  find("take").addEventListener("click", attempt(take));
}
find("all").open = innerWidth > 700;
get(`/datasets/${find("dataset").textContent}`).then((dataset) => (find("dataset").textContent = dataset.name ?? dataset.id), () => null);
new Stream(address, { onNews: showNews, onEnd: watch, onTrouble: (text) => (find("live").textContent = text) });
