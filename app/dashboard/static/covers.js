// Pictures of adapters: the chosen cover, else a sample of the adapter's job. They are looked up when they come near the
// screen.

import { get } from "./api.js";
import { el, thumbnail } from "./ui.js";

const found = new Map(); // by adapter and cover: a promise of the address, or of null
const first = new Map(); // by adapter: the SHA-256 of the cover that the page showed first
const awaited = new WeakMap();
const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    observer.unobserve(target);
    fill(target, awaited.get(target));
  }
}, { rootMargin: "300px" });

// A square with the adapter's picture, or with nothing. `alt` is empty where the name stands beside it.
export function coverOf(adapter, alt = "") {
  const frame = el("div", { class: "thumb none cover", "aria-hidden": alt ? undefined : "true" });
  awaited.set(frame, { adapter, alt });
  observer.observe(frame);
  return frame;
}

async function fill(frame, { adapter, alt }) {
  const address = await findCover(adapter);
  if (address) frame.replaceWith(thumbnail(address, alt));
}

export function findCover(adapter) {
  const key = `${adapter.id} ${adapter.cover?.sha256} ${adapter.metrics?.step}`;
  if (!found.has(key)) found.set(key, adapter.cover ? findChosen(adapter) : findSample(adapter));
  return found.get(key);
}

// Within one page a browser keeps to what an address had first: another cover at the same one is fetched apart.
async function findChosen({ id, cover }) {
  if (!first.has(id)) first.set(id, cover.sha256);
  if (first.get(id) === cover.sha256) return cover.url;
  const answer = await fetch(cover.url, { cache: "no-cache" });
  return answer.ok ? URL.createObjectURL(await answer.blob()) : null;
}

// The first sample of the step that the adapter has.
async function findSample(adapter) {
  if (!adapter.job) return null;
  const samples = await get(`/jobs/${adapter.job}/samples`).catch(() => null);
  const drawn = (samples?.data ?? []).filter((sample) => sample.step > 0);
  const chosen = drawn.find((sample) => sample.step === adapter.metrics?.step) ?? drawn.at(-1);
  return chosen?.images[0]?.url ?? null;
}
