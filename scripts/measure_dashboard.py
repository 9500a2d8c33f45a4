"""Measures how soon each page of the dashboard is usable on a service with a lot in it.

    python -m scripts.measure_dashboard [--jobs 5000] [--adapters 300] [--images 500] [--metrics 100000] [--runs 3]

A real API, PostgreSQL and headless Chromium on this machine, over loopback. A page is usable when its texts are there:
the last change of its document, the last answer that is not a picture, and the first paint, which is printed too.
The exit status is 1 if a page took longer than a second, by the median of its runs.
"""

import argparse
import hashlib
import statistics
import tempfile
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome
from selenium.webdriver.support.expected_conditions import url_to_be
from selenium.webdriver.support.wait import WebDriverWait
from sqlalchemy import text
from sqlalchemy.orm import Session

from core.db.tables import Adapter, Dataset, Job, JobMetric, JobSample
from core.domain.artifacts import image_key
from scripts.screenshots import list_pages, serve
from tests.dashboard.conftest import open_chromium
from tests.dashboard.studio import settle
from tests.fixtures.filled import fill
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import draw_png

LIMIT_SECONDS = 1.0
COPY = "'{}_' || lpad(n::text, 26, '0')"
"""The id of a copy: smaller than the original's, as if it were older."""
WATCH = """
new MutationObserver(() => { window.lastChange = performance.now(); })
  .observe(document, { subtree: true, childList: true, characterData: true });
"""
READ = """
const answers = performance.getEntriesByType('resource')
  .filter((one) => one.initiatorType !== 'img' && one.responseEnd).map((one) => one.responseEnd);
const paint = performance.getEntriesByName('first-contentful-paint')[0];
return [Math.max(window.lastChange, paint?.startTime ?? 0, ...answers), paint ? paint.startTime : null,
  document.querySelector('h1').textContent, document.querySelectorAll('*').length];
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, number in (("jobs", 5000), ("adapters", 300), ("images", 500), ("metrics", 100_000), ("runs", 3)):
        parser.add_argument(f"--{name}", type=int, default=number, metavar="NUMBER")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dashboard-") as folder, serve(Path(folder)) as api:
        ids = fill(api)
        enlarge(api, ids, wanted)
        with open_chromium() as chrome:
            chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
            chrome.get(api.login_link())
            WebDriverWait(chrome, 60).until(url_to_be(f"{api.url}/ui"))
            pages = list_pages(ids)
            slow = [name for name, path in pages.items() if not measure(chrome, name, f"{api.url}{path}", wanted.runs)]
    return 1 if slow else 0


def measure(chrome: Chrome, name: str, url: str, num_runs: int) -> bool:
    """Whether the page is usable within the limit; prints its figures in milliseconds."""
    runs = []
    for _ in range(num_runs):
        chrome.get("about:blank")
        chrome.get(url)
        settle(chrome)
        runs.append(chrome.execute_script(READ))
    usable, paint = (statistics.median(run[n] or 0 for run in runs) for n in (0, 1))
    print(f"| {name} | {paint:,.0f} | {usable:,.0f} | {runs[-1][3]:,} |", flush=True)
    return usable <= 1000 * LIMIT_SECONDS


def enlarge(api: RunningApi, ids: dict[str, str], wanted: argparse.Namespace) -> None:
    """Copies rows of the filled service until there are as many as wanted. The job of ``ids`` gets the metrics, its
    dataset the images; each of the adapters has a job with samples."""
    with api.sessions.begin() as session:
        of_job = {"job_id": COPY.format("job")}
        copy(session, Job.__table__, f"id = '{ids['job']}'", wanted.jobs, id=COPY.format("job"))
        copy(session, Adapter.__table__, f"id = '{ids['adapter']}'", wanted.adapters, id=COPY.format("ad"), **of_job)
        copy(session, JobSample.__table__, f"job_id = '{ids['job']}'", wanted.adapters, **of_job)
        steps = {"step": "n + 1000", "loss": "0.05 + 0.2 / sqrt(n) + 0.02 * random()"}
        copy(session, JobMetric.__table__, f"job_id = '{ids['job']}' AND step = 1", wanted.metrics, **steps)
        add_images(session, api, ids["dataset"], wanted.images)
        session.execute(text("ANALYZE"))


def copy(session: Session, table: Any, where: str, number: int, **changes: str) -> None:
    """``changes``: column -> SQL with the copy's number, ``n``."""
    names = [column.name for column in table.columns if column.computed is None]
    values = ", ".join(changes.get(name, f'"{name}"') for name in names)
    columns = ", ".join(f'"{name}"' for name in names)
    source = f"{table.name}, generate_series(1, {number}) AS n WHERE {where}"
    session.execute(text(f"INSERT INTO {table.name} ({columns}) SELECT {values} FROM {source}"))  # noqa: S608 - our own


def add_images(session: Session, api: RunningApi, dataset_id: str, number: int) -> None:
    row = session.get_one(Dataset, dataset_id)
    assert row.manifest is not None
    first, images = row.manifest["images"][1], []
    for index in range(number):
        content = draw_png(index) + index.to_bytes(2, "big")  # bytes behind a PNG's end make another file of it
        sha256 = hashlib.sha256(content).hexdigest()
        key = image_key(dataset_id, sha256)
        api.storage.put(key, content)
        images.append({**first, "name": f"image-{index:03}.png", "key": key, "sha256": sha256, "size": len(content)})
    row.manifest = {**row.manifest, "images": images}
    row.report = {**(row.report or {}), "num_images": number}


if __name__ == "__main__":
    raise SystemExit(main())
