"""The whole corpus against the service as a user starts it: each gets its answer, memory stays within what
docs/security.md states, and afterwards the service does what it is for.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from safetensors.numpy import save

from tests.acceptance.conftest import Atelier
from tests.acceptance.test_main_job import upload_blip
from tests.fixtures.pictures import png
from tests.fixtures.servers import state_dir_for_tests
from tests.fixtures.service import up
from tests.hostile.headers import list_headers
from tests.hostile.images import FOREIGN, list_costly, list_images
from tests.hostile.polyglots import list_polyglots
from tests.hostile.weights import NAMES, list_pickled
from tests.worker.datasets.hostile import Case, all_cases

MEBIBYTE = 1 << 20
MAX_UPLOAD_BYTES = 4 * MEBIBYTE
"""As the archives of the corpus are made for."""
SETTINGS = {
    "ATELIER_MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES),
    "ATELIER_MAX_PIXELS": str(MEBIBYTE),
    "ATELIER_RATE_PER_MINUTE": "1000000",
    "ATELIER_RATE_BURST": "1000000",
}
API_BYTES, WORKER_BYTES = 384 * MEBIBYTE, 1024 * MEBIBYTE
"""Resident, of the API's process and of the CPU worker's with all its children: docs/security.md says the same."""
CLIENTS = 4


class Watch:
    """The most that processes had resident together, looked at twenty times a second."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.peaks = dict.fromkeys(pids, 0)
        self._processes = {role: psutil.Process(pid) for role, pid in pids.items()}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            for role, process in self._processes.items():
                self.peaks[role] = max(self.peaks[role], measure(process))


def measure(process: psutil.Process) -> int:
    total = 0
    for member in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += member.memory_info().rss
    return total


@pytest.fixture(scope="module")
def atelier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    home = tmp_path_factory.mktemp("corpus") / "home"
    with pytest.MonkeyPatch.context() as patch, state_dir_for_tests():
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        with up(home, tmp_path_factory.mktemp("cwd")) as service:
            headers = {"Authorization": f"Bearer {(home / 'admin.key').read_text().strip()}"}
            with httpx.Client(base_url=service.url, headers=headers, timeout=300) as http:
                yield Atelier(http, home)
            service.process.terminate()
            assert service.process.wait(120) == 0


def post_files(atelier: Atelier, *files: tuple[str, bytes]) -> httpx.Response:
    return atelier.http.post("/datasets", files=[("files", file) for file in files])


def outcome(atelier: Atelier, *files: tuple[str, bytes]) -> tuple[int, str]:
    """The status of the answer, and the problem's type: of the answer, or of what became of the set."""
    answer = post_files(atelier, *files)
    if answer.status_code != 202:
        return answer.status_code, str(answer.json()["type"]).removeprefix("/problems/")
    dataset: Any = atelier.wait_for_dataset(answer.json()["id"])
    return 202, str(dataset["error"]["type"]).removeprefix("/problems/") if dataset["error"] else str(dataset["status"])


def expect(case: Case) -> set[tuple[int, str]]:
    if len(case.data) > MAX_UPLOAD_BYTES:
        return {(413, "too-large")}
    if case.words == "left out":
        return {(202, "dataset-rejected")}
    return {(422, "archive-rejected"), (202, "archive-rejected")}


def send_archives(atelier: Atelier) -> None:
    cases = all_cases()
    with ThreadPoolExecutor(CLIENTS) as pool:
        outcomes = list(pool.map(lambda case: outcome(atelier, (case.filename, case.data)), cases))
    wrong = {case.id: found for case, found in zip(cases, outcomes, strict=True) if found not in expect(case)}
    assert wrong == {}
    assert sum(found == (202, "archive-rejected") for found in outcomes) > 150, "by the worker"


def send_images(atelier: Atelier) -> None:
    """Each alone, where the upload tells; the others together with a good one."""
    images = list_images()
    foreign = {what: data for what, (data, words) in images.items() if words == FOREIGN}
    for what, data in foreign.items():
        assert outcome(atelier, ("a.png", data)) == (422, "image-rejected"), what
    others = {f"{number}.png": data for number, (what, (data, _)) in enumerate(images.items()) if what not in foreign}
    report = read_report(atelier, ("good.png", png(1)), *others.items())
    assert report["num_images"] == 1
    assert {item["file"] for item in report["left_out"]} == set(others)
    assert outcome(atelier, *list(others.items())[:3]) == (202, "dataset-rejected")
    strange = [
        *((f"costly-{number}.jpg", data) for number, data in enumerate(list_costly().values())),
        *((f"{number}{suffix}", data) for number, (suffix, data) in enumerate(list_polyglots().values())),
    ]
    report = read_report(atelier, *strange)
    assert (report["num_images"], report["left_out"]) == (len(strange), [])


def read_report(atelier: Atelier, *files: tuple[str, bytes]) -> dict[str, Any]:
    answer = post_files(atelier, *files)
    assert answer.status_code == 202, answer.text
    dataset: Any = atelier.wait_for_dataset(answer.json()["id"])
    assert dataset["status"] == "ready", dataset
    return dict(dataset["report"])


def send_captions(atelier: Atelier) -> None:
    """As much of what costs a reader of lines most as may be sent."""
    for line in (b"x\n", b"\n", b'{"file_name": "a.png"}\n', b"[" * 1000):
        metadata = (line * (MAX_UPLOAD_BYTES // len(line)))[: 3 * MEBIBYTE]
        assert read_report(atelier, ("a.png", png(1)), ("metadata.jsonl", metadata))["num_images"] == 1


def send_weights(atelier: Atelier) -> None:
    def send(name: str, content: bytes) -> tuple[int, str]:
        answer = atelier.http.post("/adapters", data={"model": "tiny"}, files={"file": (name, content)})
        return answer.status_code, answer.json().get("type", "").removeprefix("/problems/")

    wanted = [
        *(("a.safetensors", content, (415, "unsupported-weights")) for content in list_pickled().values()),
        *((name, b"x", (415, "unsupported-weights")) for name in NAMES),
        *(("a.safetensors", content, (422, "weights-rejected")) for content in list_headers().values()),
    ]
    with ThreadPoolExecutor(CLIENTS) as pool:
        found = list(pool.map(lambda case: send(*case[:2]), wanted))
    assert found == [expected for _, _, expected in wanted]
    refuse_what_is_no_adapter(atelier)


def refuse_what_is_no_adapter(atelier: Atelier) -> None:
    """Files that are well-formed and useless go to the worker's program."""
    import numpy as np

    names = ("x", "lora_unet_nowhere.lora_down.weight", "lora_unet_\x00.alpha")
    for name in names:
        content = save({name: np.zeros((4, 4), "f4")})
        sent = atelier.http.post("/adapters", data={"model": "tiny"}, files={"file": ("a.safetensors", content)})
        assert sent.status_code == 202, sent.text
        while (adapter := atelier.http.get(f"/adapters/{sent.json()['id']}").json())["status"] == "checking":
            time.sleep(0.2)
        assert (adapter["status"], adapter["error"]["type"]) == ("rejected", "/problems/adapter-rejected"), name


def train(atelier: Atelier) -> None:
    dataset_id = upload_blip(atelier)
    assert atelier.wait_for_dataset(dataset_id)["status"] == "ready"
    body = {"model": "tiny", "dataset": dataset_id, "trigger": "blip", "steps": 3, "evaluation": "off"}
    body |= {
        "samples": {"prompts": []},
        "validation": {"fraction": 0},
        "loss": {"prior_preservation": {"num_images": 0}},
    }
    answer = atelier.http.post("/jobs", json=body)
    assert answer.status_code == 201, answer.text
    job = atelier.wait_for_job(answer.json()["id"])
    assert job["status"] == "succeeded", job["error"]
    assert atelier.http.get(f"/jobs/{job['id']}/adapter").raise_for_status().content


@pytest.mark.slow
def test_the_whole_corpus(atelier: Atelier) -> None:
    pids = {role: int((atelier.home / "run" / f"{role}.pid").read_text()) for role in ("api", "cpu")}
    begun = {role: psutil.Process(pid).create_time() for role, pid in pids.items()}
    with Watch(pids) as watch:
        for send in (send_archives, send_images, send_captions, send_weights):
            send(atelier)
    assert watch.peaks["api"] < API_BYTES and watch.peaks["cpu"] < WORKER_BYTES, watch.peaks
    assert {role: psutil.Process(pid).create_time() for role, pid in pids.items()} == begun, "none of them died"
    assert "Traceback" not in (atelier.home / "log" / "api.log").read_text()
    assert list(find_leftovers(atelier.home)) == []
    train(atelier)


def find_leftovers(home: Path) -> Iterator[Path]:
    """Uploads of sets and imports that were refused."""
    for folder in ("datasets", "adapters"):
        yield from (path for path in (home / "storage" / folder).rglob("upload*/*") if path.is_file())
