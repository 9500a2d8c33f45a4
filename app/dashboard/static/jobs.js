// Keeps the list of jobs fresh while the page is visible.

import { showAges } from "./times.js";

const PERIOD_MS = 2000;
const rows = document.getElementById("rows");
const live = document.getElementById("live");
let shown = null;

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(rows.dataset.source, { headers: { Accept: "text/html" } });
    // Without TLS browsers do not mark requests of scripts, and the redirect to the login page is followed.
    if (answer.status === 401 || answer.redirected) return location.reload();
    if (!answer.ok) throw new Error(answer.statusText);
    replace(await answer.text());
    live.textContent = "";
  } catch {
    live.textContent = "The service does not respond; trying again.";
  }
}

function replace(html) {
  if (html === shown) return;
  shown = html;
  const focused = document.activeElement?.id;
  rows.innerHTML = html;
  showAges(rows);
  if (focused && rows.contains(document.getElementById(focused))) document.getElementById(focused).focus();
}

async function keepFresh() {
  await refresh();
  setTimeout(keepFresh, PERIOD_MS);
}

document.addEventListener("visibilitychange", refresh);
setTimeout(keepFresh, PERIOD_MS);
