// What a tenant uses of its limits, as bars; for the operator the limits of every tenant.

import { get, post, put, remove } from "./api.js";
import { Activity } from "./live.js";
import { facts, guard, showFaults } from "./service-parts.js";
import { offerTenants, tenantQuery } from "./tenants.js";
import { formatBytes, formatNumber, t } from "./texts.js";
import { coalesce, confirm, debounce, el, find, once, toast } from "./ui.js";

const BARS = { running_jobs: "running_jobs", queued_jobs: "queued_jobs", stored_bytes: "stored_bytes", steps_today: "steps_per_day" }; // -> limit
const NEAR = 0.85;
const form = find("form");
let usage = null, written = null; // written: the tenant whose limits the form shows

async function load() {
  usage = await get(`/usage${tenantQuery()}`);
  find("bars").replaceChildren(...Object.keys(BARS).map((name) => showBar(name, usage[name])));
  const cap = (name) => usage.caps[name] === null ? t("usage.unlimited") : name === "resolution" ? t("pixels", { side: usage.caps[name] }) : formatNumber(usage.caps[name]);
  find("caps").replaceChildren(facts(Object.keys(usage.caps).map((name) => [t(`limit.${name}`), cap(name)])));
  if (form && (written !== usage.tenant || !form.contains(document.activeElement))) writeForm();
}

function showBar(name, { used, limit }) {
  const show = name === "stored_bytes" ? formatBytes : formatNumber;
  const share = limit ? used / limit : limit === 0 && used ? 1 : 0;
  const text = limit === null ? t("usage.ofUnlimited", { used: show(used) }) : t("usage.of", { used: show(used), limit: show(limit) });
  const kind = share >= 1 ? "over" : share >= NEAR ? "near" : "";
  const label = t(`usage.${name}`);
  return el("div", {},
    el("div", { class: "row" }, el("strong", {}, label), el("span", { class: "numbers" }, text)),
    limit === null ? null : el("progress", { class: `bar ${kind}`, max: 1, value: Math.min(1, share), "aria-label": label }),
    kind && el("p", { class: "hint" }, t(`usage.${kind}`)),
  );
}

function writeForm() {
  written = usage.tenant;
  for (const field of form.elements) if (field.name) field.value = limitOf(field.name) ?? "";
}

function limitOf(name) {
  const bar = Object.keys(BARS).find((one) => BARS[one] === name);
  return bar ? usage[bar].limit : usage.caps[name];
}

async function save(event) {
  event.preventDefault();
  const limits = Object.fromEntries([...form.elements].filter((field) => field.name).map((field) => [field.name, field.value === "" ? null : Number(field.value)]));
  try {
    await put(`/tenants/${written}/quota`, limits);
    showFaults(form, find("form-error"), null);
    toast(t("usage.saved"));
    document.activeElement?.blur();
    await refresh();
  } catch (error) {
    showFaults(form, find("form-error"), error);
  }
}

async function restore() {
  const tenant = written;
  if (!(await confirm(t("usage.restore"), t("usage.restoreText"), t("usage.restore"), "primary"))) return;
  if (await guard(() => remove(`/tenants/${tenant}/quota`))) toast(t("usage.saved"));
  await refresh();
}

async function addTenant(event) {
  event.preventDefault();
  const tenantForm = find("tenant-form");
  try {
    const made = await post("/tenants", { name: tenantForm.elements.name.value.trim() });
    tenantForm.reset();
    showFaults(tenantForm, find("tenant-error"), null);
    await offerTenants(refresh);
    find("tenant").value = made.id;
    toast(t("usage.tenantAdded", { name: made.name }));
    await refresh();
  } catch (error) {
    showFaults(tenantForm, find("tenant-error"), error);
  }
}

const refresh = coalesce(() => guard(load));
form?.addEventListener("submit", once(save));
find("restore")?.addEventListener("click", once(restore));
find("tenant-form")?.addEventListener("submit", once(addTenant));
await guard(() => offerTenants(refresh));
const refreshSoon = debounce(refresh, 500); // storage is counted: not at every step of a training
new Activity({ onReady: refresh, onChange: refreshSoon, onTrouble: (text) => (find("live").textContent = text) });
