// The webhooks' signing secret, and what was sent to receivers.

import { get, post } from "./api.js";
import { Activity } from "./live.js";
import { Feed, age, code, copyable, date, facts, guard } from "./service-parts.js";
import { t } from "./texts.js";
import { coalesce, confirm, debounce, dialog, el, find, once, stateBadge, toast } from "./ui.js";

const names = new Map(); // by job

const feed = new Feed({
  columns: [
    { title: t("webhooks.event"), head: true, cell: (delivery) => el("span", { class: "whole" }, delivery.type) },
    { title: t("webhooks.state"), cell: (delivery) => stateBadge(delivery.status) },
    { title: t("webhooks.job"), cell: (delivery) => el("a", { href: `/ui/jobs/${delivery.job}` }, names.get(delivery.job) ?? code(delivery.job)) },
    { title: t("webhooks.answer"), cell: (delivery) => showAnswer(delivery.attempts.at(-1)) },
    { title: t("webhooks.next"), cell: (delivery) => (delivery.next_attempt_at ? date(delivery.next_attempt_at) : "") },
    { title: t("webhooks.created"), cell: (delivery) => age(delivery.created_at) },
    { title: t("actions"), cell: showActions },
  ],
});

function showAnswer(attempt) {
  if (!attempt) return "";
  return attempt.error ?? t("webhooks.answered", { status: String(attempt.status_code), seconds: attempt.duration_seconds });
}

function showActions(delivery) {
  const attempts = t("webhooks.attempts", { count: delivery.attempts.length });
  return el("div", { class: "actions" },
    el("button", { type: "button", id: `log-${delivery.id}`, onclick: () => showLog(delivery) }, attempts),
    el("button", { type: "button", id: `again-${delivery.id}`, onclick: once(() => redeliver(delivery)) }, t("webhooks.again")),
  );
}

async function showLog(delivery) {
  const log = delivery.attempts.map((attempt) => el("li", {}, date(attempt.at), el("span", {}, showAnswer(attempt), attempt.excerpt && el("pre", {}, attempt.excerpt))));
  const about = facts([[t("webhooks.id"), code(delivery.id)], [t("webhooks.seq"), String(delivery.seq)]]);
  const content = el("div", {}, about, log.length ? el("ol", { class: "events" }, log) : el("p", {}, t("webhooks.noAttempt")));
  const buttons = [{ value: "test", label: t("webhooks.test") }, { value: "", label: t("close"), kind: "primary" }];
  if ((await dialog(delivery.type, content, buttons)) !== "test") return;
  if (await guard(() => post(`/jobs/${delivery.job}/deliveries/test`))) toast(t("webhooks.testSent"));
  refresh();
}

async function redeliver(delivery) {
  const sent = await guard(() => post(`/jobs/${delivery.job}/deliveries/${delivery.id}/redeliver`, undefined, { repeatable: true }));
  if (sent) toast(t("webhooks.sentAgain", { type: delivery.type }));
  refresh();
}

async function load() {
  const status = find("status").value;
  await feed.load(`/webhooks/deliveries?${new URLSearchParams(status && { status })}`);
  const unknown = new Set(feed.rows.map((delivery) => delivery.job).filter((id) => !names.has(id)));
  if (!unknown.size) return;
  await Promise.all([...unknown].map(async (id) => names.set(id, (await get(`/jobs/${id}`).catch(() => null))?.plan.name ?? id)));
  feed.show(feed.path, feed.rows, feed.hasMore);
}

function showSecret(secret) {
  find("secret").replaceChildren(copyable(secret.secret, t("webhooks.secret")));
  find("reveal").hidden = true;
  find("previous").hidden = !secret.previous_valid_until;
  if (secret.previous_valid_until) find("previous").replaceChildren(t("webhooks.previous"), " ", date(secret.previous_valid_until));
}

async function rotate() {
  if (!(await confirm(t("webhooks.rotate"), t("webhooks.rotateText"), t("webhooks.rotate")))) return;
  await guard(async () => showSecret(await post("/webhooks/secret/rotate")));
}

const refresh = coalesce(() => guard(load));
find("status").addEventListener("change", refresh);
find("reveal").addEventListener("click", once(() => guard(async () => showSecret(await get("/webhooks/secret")))));
find("rotate").addEventListener("click", once(rotate));
const refreshSoon = debounce(refresh, 250);
new Activity({
  onReady: refresh,
  onChange: (change) => change.resource === "delivery" && refreshSoon(),
  onTrouble: (text) => (find("live").textContent = text),
});
