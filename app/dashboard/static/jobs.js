// Keeps the list of jobs fresh: its rows are fetched when a job has changed.

import { Activity } from "./live.js";
import { showAges } from "./times.js";
import { coalesce } from "./ui.js";

const rows = document.getElementById("rows");
const live = document.getElementById("live");
let shown = null;

async function fetchRows() {
  const answer = await fetch(rows.dataset.source, { headers: { Accept: "text/html" } }).catch(() => null);
  // Without TLS browsers do not mark requests of scripts, and the redirect to the login page is followed.
  if (answer?.status === 401 || answer?.redirected) return location.reload();
  if (answer?.ok) replace(await answer.text());
}

// The service's own rows, in which every name is escaped.
function replace(html) {
  if (html === shown) return;
  shown = html;
  const focused = document.activeElement?.id;
  rows.innerHTML = html;
  showAges(rows);
  if (focused && rows.contains(document.getElementById(focused))) document.getElementById(focused).focus();
}

const refresh = coalesce(fetchRows);
new Activity({
  onReady: refresh,
  onChange: (change) => change.resource === "job" && refresh(),
  onTrouble: (text) => (live.textContent = text),
});
