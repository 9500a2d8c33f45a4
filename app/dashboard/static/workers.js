// The training workers, with what each does, and the jobs that wait for one.

import { get, list } from "./api.js";
import { Activity } from "./live.js";
import { age, facts, guard } from "./service-parts.js";
import { formatBytes, t } from "./texts.js";
import { formatDuration, showAges } from "./times.js";
import { coalesce, el, find, stateBadge, throttle } from "./ui.js";

const MAX_WAITING = 50;
const HELD = ["running", "pausing", "canceling"];

async function load() {
  const [workers, waiting, ...held] = await Promise.all([
    get("/workers"), list("/jobs?status=queued", { limit: MAX_WAITING }), ...HELD.map((status) => list(`/jobs?status=${status}`, { limit: 100 })),
  ]);
  const jobs = new Map(held.flat().map((job) => [job.id, job]));
  find("list").replaceChildren(...workers.data.map((worker) => showWorker(worker, jobs.get(worker.job))));
  find("empty").hidden = workers.data.length > 0;
  waiting.sort((a, b) => (a.queue_position ?? Infinity) - (b.queue_position ?? Infinity));
  find("waiting").replaceChildren(...waiting.map(showWaiting));
  find("no-waiting").hidden = waiting.length > 0;
  showAges(find("list"));
}

function showWorker(worker, job) {
  return el("li", { class: "card" },
    el("div", { class: "row" }, el("h2", {}, worker.id), stateBadge(worker.job ? "running" : "ready")),
    facts([
      [t("workers.device"), worker.device_name ? `${worker.device_name} (${worker.device})` : worker.device],
      [t("workers.memory"), worker.memory_bytes ? formatBytes(worker.memory_bytes) : t("workers.memoryUnknown")],
      [t("workers.warm"), worker.warm_models.join(", ") || t("workers.noWarm")],
      [t("workers.job"), worker.job ? el("a", { href: `/ui/jobs/${worker.job}` }, job?.plan.name ?? worker.job) : t("workers.noJob")],
      [t("workers.progress"), job && `${job.progress.step}/${job.progress.num_steps}`],
      [t("workers.seen"), age(worker.seen_at)],
    ]),
  );
}

function showWaiting(job) {
  const seconds = job.progress.eta_seconds;
  const parts = [job.model, job.queue_position && t("home.place", { place: job.queue_position }), seconds !== null && t("about", { value: formatDuration(seconds) })];
  return el("li", {},
    el("div", { class: "row" }, el("a", { href: `/ui/jobs/${job.id}` }, job.plan.name), el("span", { class: "hint numbers" }, parts.filter(Boolean).join(" · "))),
  );
}

const refresh = coalesce(() => guard(load));
const refreshSoon = throttle(refresh, 2000); // not at every step of a training
new Activity({
  onReady: refresh,
  onChange: (change) => ["job", "worker"].includes(change.resource) && refreshSoon(),
  onTrouble: (text) => (find("live").textContent = text),
});
