// A job's page, kept up to date from the stream.

import { LossChart } from "./chart.js";
import { Stream } from "./live.js";
import { Sheet } from "./samples.js";
import { formatDuration } from "./times.js";

const find = (id) => document.getElementById(id);
const address = `/ui/jobs/${find("job").dataset.job}`;
const chart = new LossChart(find("chart"), find("readout"));
const sheet = new Sheet(find("sheet"), find("grid"), `${address}/samples`);
const visited = new Set();
let job = null;

function showNews(news) {
  job = news.job;
  news.events.forEach(showEvent);
  showJob();
  chart.add(news.metrics, news.validations, job.num_steps);
  find("held-hint").hidden = !news.validations.length;
  sheet.add(news.samples);
  if (!news.has_more) showAbsence();
}

function showJob() {
  const state = find("state");
  if (state.textContent !== job.label) state.textContent = job.label;
  state.dataset.status = job.status;
  document.title = job.is_terminal ? `${job.name} ${job.status} · Atelier` : `${Math.round(job.percent)} % ${job.name} · Atelier`;
  showPhases();
  showProgress();
  showActions();
  showResult();
  find("error").hidden = !job.error_title;
  find("error-title").textContent = job.error_title ?? "";
  find("error-detail").textContent = job.error_detail ?? "";
}

function showPhases() {
  for (const item of find("phases").children) {
    const phase = item.dataset.phase, current = job.phase === phase;
    if (current) visited.add(phase);
    if (current) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
    item.classList.toggle("done", !current && (job.status === "succeeded" || visited.has(phase)));
    const units = current && job.units_total ? ` ${job.units_done}/${job.units_total}` : "";
    item.textContent = phase[0].toUpperCase() + phase.slice(1) + units;
  }
}

function showProgress() {
  find("bar").value = job.percent;
  find("step").textContent = `${job.step} of ${job.num_steps}`;
  find("loss").textContent = job.loss === null ? "–" : job.loss.toFixed(4);
  find("pace").textContent = job.seconds_per_step === null ? "–" : `${job.seconds_per_step.toFixed(2)} s/step`;
  find("time-label").textContent = job.is_terminal ? "Took" : "Time left";
  find("time").textContent = describeTime();
}

function describeTime() {
  if (job.is_terminal) return job.started_at ? formatDuration((new Date(job.finished_at) - new Date(job.started_at)) / 1000) : "–";
  if (job.status === "running" && job.eta_seconds !== null) return formatDuration(job.eta_seconds);
  if (job.status === "queued" && job.eta_seconds !== null) {
    return `about ${formatDuration(job.eta_seconds)}${job.queue_position ? `, place ${job.queue_position} in the queue` : ""}`;
  }
  return job.estimated_seconds && job.step === 0 ? `about ${formatDuration(job.estimated_seconds)}` : "–";
}

function showActions() {
  find("pause").hidden = !job.can_pause;
  find("resume").hidden = !job.can_resume;
  find("cancel").hidden = !job.can_cancel;
  find("downloads").hidden = !job.has_adapter;
}

function showResult() {
  find("result").hidden = !job.result.length;
  find("result-rows").replaceChildren(...job.result.map(([label, value]) => {
    const row = document.createElement("div");
    row.append(
      Object.assign(document.createElement("dt"), { textContent: label }),
      Object.assign(document.createElement("dd"), { textContent: value }),
    );
    return row;
  }));
}

// Removes announcements of parts that will never come.
function showAbsence() {
  if (!job.is_terminal) return;
  const hint = find("sheet-hint");
  if (hint) hint.textContent = "No samples were drawn.";
  chart.end();
}

function showEvent(event) {
  if (event.type === "job.running") visited.add("loading");
  if (event.type === "job.phase") visited.add(event.text.toLowerCase());
  const item = document.createElement("li");
  const moment = new Date(event.created_at);
  const time = Object.assign(document.createElement("time"), { dateTime: event.created_at, textContent: moment.toLocaleTimeString() });
  time.dataset.fixed = "";
  time.title = moment.toLocaleString();
  item.append(time, Object.assign(document.createElement("span"), { textContent: event.text }));
  find("events").prepend(item);
}

function confirmCancel(event) {
  event.preventDefault();
  const dialog = find("confirm");
  dialog.returnValue = "";
  dialog.showModal();
}

find("cancel").addEventListener("submit", confirmCancel);
find("confirm").addEventListener("close", () => {
  if (find("confirm").returnValue === "yes") find("cancel").submit();
});

new Stream(`${address}/stream`, { onNews: showNews, onTrouble: (text) => (find("live").textContent = text) });
