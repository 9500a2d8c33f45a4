"""What tests of the studio's pages share: pictures to upload, and looks at pages."""

import time
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from scripts.draw_blip import PICTURES
from tests.fixtures.scripted_job import draw_png


def write_pictures(folder: Path, num_images: int = 6, *, captions: bool = True) -> list[Path]:
    """Pictures with captions beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(num_images):
        (folder / f"blip-{index}.png").write_bytes(draw_png(index))
        if captions:
            (folder / f"blip-{index}.txt").write_text(PICTURES[index % len(PICTURES)].caption)
    return sorted(folder.iterdir())


def choose_files(browser: Chrome, paths: list[Path]) -> None:
    """By the file field, as a user who picks them."""
    browser.find_element(By.ID, "files").send_keys("\n".join(map(str, paths)))


def type_into(field: WebElement, text: str) -> None:
    field.clear()
    field.send_keys(text)


def drop_paths(browser: Chrome, target: WebElement, *paths: Path) -> None:
    """As a user who drags files and folders from another program."""
    box = target.rect
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "data": data}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, **where})


def resize(browser: Chrome, width: int) -> None:
    """In CSS pixels."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def settle(browser: Chrome) -> None:
    """Until the page has loaded, and its scripts have fetched nothing more for half a second."""
    ready = "return [document.readyState, performance.getEntriesByType('resource').length]"
    before = None
    while (now := browser.execute_script(ready)) != before or now[0] != "complete":
        before = now
        time.sleep(0.5)


def find_violations(browser: Chrome, *, impacts: tuple[str, ...] = ("serious", "critical")) -> list[str]:
    """What axe-core finds on the page: rule, and the element. Skipped where its package is not installed."""
    package = pytest.importorskip("axe_core_python", reason="needs axe-core-python: make test installs it")
    script = Path(str(package.__file__)).with_name("axe.min.js").read_text(encoding="utf-8")
    browser.execute_script(script)
    result = browser.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    found = [violation for violation in result["violations"] if violation["impact"] in impacts]
    return [f"{violation['id']}: {node['html'][:200]}" for violation in found for node in violation["nodes"]]


def set_dark(browser: Chrome, is_dark: bool) -> None:
    scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
