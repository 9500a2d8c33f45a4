"""Takes a picture of every page of the dashboard, on a service with data in it, into docs/images/studio.

    python -m scripts.screenshots [--only models usage] [--into FOLDER]

Pages are those of the menu and those named in DETAILS and OUTSIDE; each is taken light and dark, at 1200 and at 375
pixels. The files are named `<page>-<desktop or phone>-<light or dark>.png`. Needs Debian's chromium and
chromium-driver.
"""

import argparse
import base64
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.support.expected_conditions import url_to_be
from selenium.webdriver.support.wait import WebDriverWait

import migrations
from app.dashboard.navigation import ENTRIES, SERVICE_ENTRIES
from cli.local.embedded.postgres import API, APP
from tests.dashboard.conftest import open_chromium
from tests.dashboard.studio import resize, set_dark, settle
from tests.fixtures.filled import beat, fill
from tests.fixtures.running_api import RunningApi, serve_api
from tests.fixtures.servers import start_postgres, start_valkey

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "studio"
SIZES = {"desktop": 1200, "phone": 375}
NUM_COLORS = 128
MAX_HEIGHT = 2400
DETAILS = {
    "job": "/ui/jobs/{job}", "running": "/ui/jobs/{running}", "compare": "/ui/compare?jobs={job},{other}",
    "dataset": "/ui/datasets/{dataset}", "filled-form": "/ui/new?dataset={dataset}",
    "adapter": "/ui/adapters/{adapter}", "stacked": "/ui/playground?adapter={adapter}", "model": "/ui/models/{model}",
    "error": "/ui/nothing",
}  # fmt: skip
"""Pages of one thing; ``fill`` gives the ids."""
OUTSIDE = {"login": "/ui/login", "shared": "/share/{secret}", "unshared": "/share/nothing"}
"""Pages for those who are not logged in."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", metavar="PAGE")
    parser.add_argument("--into", type=Path, default=OUTPUT)
    wanted = parser.parse_args()
    wanted.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="screenshots-") as folder, serve(Path(folder)) as api:
        ids = fill(api)
        with open_chromium() as chrome:
            take_all(chrome, api, {name: path.format(**ids) for name, path in OUTSIDE.items()}, wanted)
            chrome.get(api.login_link())
            WebDriverWait(chrome, 60).until(url_to_be(f"{api.url}/ui"))
            take_all(chrome, api, list_pages(ids), wanted)


@contextmanager
def serve(folder: Path) -> Iterator[RunningApi]:
    """The API on servers of its own."""
    postgres, valkey = start_postgres(folder), start_valkey(folder)
    try:
        migrations.upgrade(postgres.url_owner, APP, API)
        home = folder / "home"
        home.mkdir()
        with serve_api(postgres.url_app, postgres.url_api, valkey.url, home) as api:
            yield api
    finally:
        valkey.stop()
        postgres.stop()


def list_pages(ids: dict[str, str]) -> dict[str, str]:
    """Name -> path, of those for who is logged in."""
    menu = {entry.section: entry.path for entry in (*ENTRIES, *SERVICE_ENTRIES)}
    return {**menu, **{name: path.format(**ids) for name, path in DETAILS.items()}}


def take_all(chrome: Chrome, api: RunningApi, pages: dict[str, str], wanted: argparse.Namespace) -> None:
    for name, path in pages.items():
        if not wanted.only or name in wanted.only:
            beat(api)
            take(chrome, api.url + path, wanted.into, name)


def take(chrome: Chrome, url: str, folder: Path, name: str) -> None:
    for size, width in SIZES.items():
        for is_dark in (False, True):
            resize(chrome, width)
            set_dark(chrome, is_dark)
            chrome.get(url)
            settle(chrome)
            path = folder / f"{name}-{size}-{'dark' if is_dark else 'light'}.png"
            path.write_bytes(shoot(chrome, width))
            print(path)


def shoot(chrome: Chrome, width: int) -> bytes:
    """The whole page, with few colours: a PNG of some tens of kilobytes."""
    height = int(chrome.execute_script("return document.documentElement.scrollHeight"))
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, MAX_HEIGHT), "scale": 1}
    shot = chrome.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    with Image.open(io.BytesIO(base64.b64decode(shot["data"]))) as image:
        buffer = io.BytesIO()
        image.convert("RGB").quantize(NUM_COLORS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
