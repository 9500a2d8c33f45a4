"""How many hostile inputs are tried against each threat: as many as were asked for, and as docs/security.md says."""

import functools
import re
from collections.abc import Mapping

from cli.local.programs import ROOT
from core.domain.keys import make_api_key
from tests.app import (
    test_bodies,
    test_isolation,
    test_keyed_requests,
    test_keys,
    test_monstrous_specs,
    test_races,
    test_rates,
)
from tests.fixtures.receiver import Message
from tests.hostile import (
    addresses,
    images,
    polyglots,
    scripts,
    test_csrf,
    test_presigned,
    test_running_service,
    weights,
)
from tests.hostile.headers import list_headers
from tests.worker.datasets import hostile
from tests.worker.webhooks.test_courier import forge

DOCUMENT = (ROOT / "docs" / "security.md").read_text()
TITLE = "## Hostile inputs"


def count_forged() -> int:
    def tell(number: int) -> Message:
        headers = {
            "webhook-id": f"evt_{number}", "webhook-timestamp": "1700000000", "webhook-signature": f"v1,{'A' * 43}=",
        }  # fmt: skip
        return Message("/hook", headers, b'{"type": "job.queued", "data": {}}' * 5, verified=True)

    return len(list(forge(tell(1), tell(2))))


def count_keys() -> int:
    return len(test_keys.list_hostile(make_api_key(), [make_api_key(), make_api_key()]))


def count_specs() -> int:
    specs = test_monstrous_specs
    return len(list(specs.monstrous())) + len(specs.RATES) * len(specs.NO_NUMBERS) + len(specs.WHOLE)


# Threat, as the table in docs/security.md names it -> how many were asked for, and how many there are.
@functools.cache
def count_tried() -> Mapping[str, tuple[int, int]]:
    return {
        "archives that are bombs, overlap, or hold archives": (40, len(hostile.BOMBS)),
        "archives that lead out, link, or have colliding names": (60, len(hostile.NAMES_AND_KINDS)),
        "pictures that are bombs, broken, or of other formats": (80, len(images.list_images())),
        "pictures that are something else as well, or say too much": (50, len(polyglots.list_polyglots())),
        "weights that are pickles, or anything but .safetensors": (
            30,
            len(weights.list_pickled()) + len(weights.NAMES),
        ),
        "headers of .safetensors that are broken or deceive": (60, len(list_headers())),
        "requests forged through the service": (100, len(addresses.FORBIDDEN)),
        "addresses that can be read in two ways": (0, len(addresses.UNREADABLE)),
        "forged webhooks": (30, count_forged()),
        "stolen and guessed keys": (40, count_keys()),
        "another tenant's things": (28, len(test_isolation.WITH_IDS)),
        "replays and races for one `Idempotency-Key`": (
            50 * 20,
            test_races.KEYS * test_races.RACERS + len(test_keyed_requests.CREATIONS) * test_keyed_requests.RACERS,
        ),
        "floods": (10, len(test_rates.FLOODS)),
        "huge and slow bodies": (20, len(test_bodies.CASES)),
        "monstrous specs": (200, count_specs()),
        "forged presigned addresses": (20, len(test_presigned.FORGED) + len(test_presigned.FORGED_DOWNLOADS)),
        "requests from other sites": (
            40,
            2 * len(test_csrf.FOREIGN_HEADERS) + len(test_csrf.FORGED_TOKENS) + len(test_csrf.FORGED_AT_THE_API),
        ),
        "scripts in names, captions and prompts": (60, len(scripts.TEXTS)),
    }


def read_table() -> dict[str, list[str]]:
    """The rows of the section, by their first cell."""
    section = DOCUMENT.partition(TITLE)[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:2] == "| "
    ]
    return {row[0].removeprefix("| "): row for row in rows}


def test_as_many_are_tried_as_were_asked_for() -> None:
    assert {threat: counts for threat, counts in count_tried().items() if counts[1] < counts[0]} == {}


def test_the_documentation_says_how_many() -> None:
    table = read_table()
    documented = {threat: table[threat][3] if threat in table else None for threat in count_tried()}
    assert documented == {threat: f"{tried:,}" for threat, (_, tried) in count_tried().items()}


def test_the_documentation_names_tests_that_there_are() -> None:
    files = re.findall(r"tests/[\w/]+\.py", DOCUMENT.partition(TITLE)[2].partition("\n## ")[0])
    assert len(set(files)) > 20
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_the_documentation_says_how_much_memory_it_takes() -> None:
    stated = re.search(r"stays below (\d+) MiB resident, .* below ([\d,]+) MiB", DOCUMENT.replace("\n", " "))
    assert stated
    said = [int(number.replace(",", "")) << 20 for number in stated.groups()]
    assert said == [test_running_service.API_BYTES, test_running_service.WORKER_BYTES]
