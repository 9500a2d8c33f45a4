// Keeps a list fresh: its rows are fetched when one of its things or a filter has changed. The address holds the filters.

import { Activity } from "./live.js";
import { showAges } from "./times.js";
import { coalesce, debounce, find } from "./ui.js";

const rows = find("rows"), filters = find("filters");
let shown = null, after = rows.dataset.after;

const given = (pairs) => [...pairs].filter(([name, value]) => name !== "after" && value.trim());
const differ = (one, other) => `${given(one).sort()}` !== `${given(other).sort()}`;

function makeQuery() {
  const query = new URLSearchParams(filters ? given(new FormData(filters)) : []);
  if (after) query.set("after", after);
  return query.size ? `?${query}` : "";
}

async function fetchRows() {
  const answer = await fetch(`${location.pathname}/rows${makeQuery()}`, { headers: { Accept: "text/html" } }).catch(() => null);
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
const filter = debounce(() => {
  after = "";
  history.replaceState(null, "", location.pathname + makeQuery());
  refresh();
}, 200);

// Chosen before this script was there, or put back by the browser.
if (filters && differ(new FormData(filters), new URLSearchParams(location.search))) filter();
filters?.addEventListener("input", filter);
filters?.addEventListener("submit", (event) => {
  event.preventDefault();
  filter();
});
new Activity({
  onReady: refresh,
  onChange: (change) => change.resource === rows.dataset.resource && refresh(),
  onTrouble: (text) => (find("live").textContent = text),
});
