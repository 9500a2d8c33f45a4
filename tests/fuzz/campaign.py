"""One run of Schemathesis against a service, in a process of its own, and what came of it."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.hooks import IDS_VARIABLE

ROOT = Path(__file__).parents[2]
CONFIG = Path(__file__).with_name("schemathesis.toml")
KEYS = "keys.json"


@dataclass
class Campaign:
    """``answers`` counts (operation, status), ``checks`` (check, outcome); ``output`` says what was found."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    checks: Counter[tuple[str, str]] = field(default_factory=Counter)
    exit_code: int = 0
    output: str = ""

    @property
    def num_cases(self) -> int:
        return self.answers.total()

    @property
    def statuses(self) -> set[int]:
        return {status for _, status in self.answers}

    @property
    def operations(self) -> set[str]:
        return {operation for operation, _ in self.answers}

    def draw_table(self) -> str:
        """Operation by operation, in Markdown: how often each status was answered."""
        lines = [
            f"{self.num_cases:,} cases: {dict(self.phases)}",
            "| operation | cases | answers |",
            "| --- | --: | --- |",
        ]
        for operation in sorted(self.operations):
            counts = {status: number for (name, status), number in sorted(self.answers.items()) if name == operation}
            answers = ", ".join(f"{status}: {number:,}" for status, number in counts.items())
            lines.append(f"| `{operation}` | {sum(counts.values()):,} | {answers} |")
        return "\n".join(lines)

    @staticmethod
    def _name(scenario: Mapping[str, Any], case: Mapping[str, str]) -> str:
        """The operation; methods that a path does not take are tried with one that it does."""
        return f"{case['method']} {case['path']}" if scenario["phase"] == "stateful" else scenario["recorder"]["label"]

    def count(self, scenario: Mapping[str, Any]) -> None:
        recorder = scenario["recorder"]
        for case_id, exchange in recorder.get("interactions", {}).items():
            case = recorder["cases"][case_id]["value"]
            status = exchange.get("response", {}).get("status_code", 0)  # 0: none came
            self.answers[self._name(scenario, case), status] += 1
            self.phases[scenario["phase"]] += 1
        for checks in recorder.get("checks", {}).values():
            self.checks.update((check["name"], check["status"]) for check in checks)


def run_campaign(
    url: str,
    ids: Mapping[str, Sequence[str]],
    folder: Path,
    *,
    keys: Mapping[str, str],
    seed: int,
    flags: Sequence[str],
) -> Campaign:
    """``ids``: what there is, by dictionary of schemathesis.toml. ``keys``: of tenants that may not see each other's
    things, by name; or none. ``folder`` keeps what the run leaves.
    """
    write_ids(ids, folder)
    write_config(keys, folder)
    report = folder / "report.ndjson"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / CONFIG.name), "--no-color"),
            *("run", f"{url}/openapi.json", "--seed", str(seed), "--report-ndjson-path", str(report)),
            *flags,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), IDS_VARIABLE: str(folder / "ids")},
        capture_output=True,
        text=True,
        check=False,
    )
    campaign = Campaign(exit_code=done.returncode, output=done.stdout + done.stderr)
    for scenario in read_scenarios(report) if report.exists() else ():
        campaign.count(scenario)
    return campaign


def write_ids(ids: Mapping[str, Sequence[str]], folder: Path) -> None:
    """One in quotes a line, as Schemathesis reads them."""
    (folder / "ids").mkdir(exist_ok=True)
    for name, values in ids.items():
        (folder / "ids" / name).write_text("\n".join(map(json.dumps, values)))


def write_config(keys: Mapping[str, str], folder: Path) -> None:
    config = CONFIG.read_text()
    if keys:
        (folder / KEYS).write_text(json.dumps({"auth": [describe_user(*pair) for pair in keys.items()]}))
        config += f'\n[auth.wfc]\npath = "{folder / KEYS}"\nuser = "{next(iter(keys))}"\n'
    if len(keys) > 1:
        config += f"peers = {json.dumps(list(keys))}\n"
    (folder / CONFIG.name).write_text(config)


def describe_user(name: str, key: str) -> dict[str, Any]:
    """As Web Fuzzing Commons has it."""
    return {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {key}"}]}


def read_scenarios(report: Path) -> Iterator[dict[str, Any]]:
    with report.open() as lines:
        for line in lines:
            event = json.loads(line)
            if "ScenarioFinished" in event:
                yield event["ScenarioFinished"]
