// The start page: what runs and waits, and the newest adapters as pictures.

import { get, list } from "./api.js";
import { coverOf } from "./covers.js";
import { t } from "./texts.js";
import { Activity } from "./live.js";
import { formatDuration, showAges } from "./times.js";
import { coalesce, el, find, stateBadge } from "./ui.js";

const NUM_ADAPTERS = 12;
const NUM_FAILED = 3;
const FAILED_DAYS = 3;
const CURRENT = ["running", "pausing", "canceling", "queued", "paused"];
const jobs = new Map();

async function load() {
  const [newest, ...current] = await Promise.all([get("/jobs?limit=1"), ...CURRENT.map((status) => list(`/jobs?status=${status}`, { limit: 100 }))]);
  jobs.clear();
  for (const job of current.flat()) jobs.set(job.id, job);
  const adapters = await list("/adapters", { limit: NUM_ADAPTERS });
  const isEmpty = !newest.data.length && !adapters.length;
  find("begin").hidden = !isEmpty;
  find("content").hidden = isEmpty;
  showCurrent();
  showFailed(await list("/jobs?status=failed", { limit: NUM_FAILED }));
  showAdapters(adapters);
}

function showFailed(failed) {
  const recent = failed.filter((job) => Date.now() - new Date(job.finished_at) < FAILED_DAYS * 86_400_000);
  find("failed-card").hidden = !recent.length;
  find("failed").replaceChildren(...recent.map((job) => el("li", {},
    el("div", { class: "row" }, el("a", { href: `/ui/jobs/${job.id}` }, job.plan.name), stateBadge(job.status), el("time", { class: "hint", dateTime: job.finished_at })),
    el("span", {}, `${job.error.title}: ${job.error.detail}`),
  )));
  showAges(find("failed"));
}

function showCurrent() {
  const order = (job) => [CURRENT.indexOf(job.status), job.queue_position ?? 0];
  const shown = [...jobs.values()].filter((job) => CURRENT.includes(job.status));
  shown.sort((a, b) => order(a)[0] - order(b)[0] || order(a)[1] - order(b)[1] || (a.id < b.id ? 1 : -1));
  find("current").replaceChildren(...shown.map(showJob));
  find("no-current").hidden = shown.length > 0;
}

function showJob(job) {
  const { step, num_steps, percent, eta_seconds } = job.progress;
  const parts = [`${step}/${num_steps}`];
  if (job.queue_position) parts.push(t("home.place", { place: job.queue_position }));
  if (["running", "queued"].includes(job.status) && eta_seconds !== null) parts.push(t("home.left", { time: formatDuration(eta_seconds) }));
  else if (job.status === "queued") parts.push(t("home.waiting"));
  return el("li", {},
    el("div", { class: "row" }, el("a", { href: `/ui/jobs/${job.id}` }, job.plan.name), stateBadge(job.status, job.phase), el("span", { class: "hint" }, job.model)),
    el("progress", { max: 100, value: percent, "aria-label": t("jobs.progressOf", { name: job.plan.name }) }),
    el("span", { class: "numbers hint" }, parts.join(" · ")),
  );
}

function showAdapters(adapters) {
  find("no-adapters").hidden = adapters.length > 0;
  find("adapters").replaceChildren(...adapters.map(showAdapter));
  showAges(find("adapters"));
}

function showAdapter(adapter) {
  const caption = el("figcaption", {}, el("span", {}, adapter.name), el("small", {}, adapter.model, " · ", el("time", { dateTime: adapter.created_at })));
  return el("li", {}, el("a", { class: "plain", href: `/ui/adapters/${adapter.id}` }, el("figure", {}, coverOf(adapter), caption)));
}

function applyChange(change) {
  const job = jobs.get(change.id);
  if (change.resource === "job" && job && CURRENT.includes(change.status)) {
    Object.assign(job, { status: change.status, phase: change.phase, queue_position: change.queue_position, progress: change.progress ?? job.progress });
    showCurrent();
  } else if (change.resource === "job" || change.resource === "adapter") {
    reload();
  }
}

const say = (text) => (find("live").textContent = text);
const reload = coalesce(() => load().catch((error) => say(error.message)));
new Activity({ onReady: reload, onChange: applyChange, onTrouble: say });
