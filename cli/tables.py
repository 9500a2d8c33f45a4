"""Jobs and models as tables for people."""

from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.progress import describe_progress, describe_state, format_duration
from cli.reporting import printable
from client.models import Job, Model

STYLES = {"succeeded": "green", "failed": "red", "canceled": "dim", "running": "cyan"}


def print_jobs(jobs: list[Job]) -> None:
    if not jobs:
        _print("There are no jobs yet. Make one: atelier train FOLDER --trigger WORD")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("JOB", "NAME", "STATE", "STEP", "LEFT", "MODEL", "CREATED"):
        table.add_column(heading, no_wrap=heading not in {"NAME", "MODEL"}, overflow="fold")
    for job in jobs:
        state = Text(describe_state(job), style=STYLES.get(job.status, ""))
        name, model = printable(job.name), printable(job.model)
        table.add_row(job.id, name, state, *_describe_steps(job), model, describe_age(job.created_at))
    _print(table)


def _describe_steps(job: Job) -> tuple[str, str]:
    """Steps done of all, and the time left of a running job."""
    progress = job.progress
    if progress is None:
        return "", ""
    left = progress.eta_seconds if job.status == "running" else None
    return f"{progress.step}/{progress.num_steps}", "" if left is None else format_duration(left)


def print_job(job: Job) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for label, value in _describe(job):
        if value:
            table.add_row(label, printable(value))
    _print(table)


def _describe(job: Job) -> list[tuple[str, str]]:
    plan, error = job.plan, job.error
    planned = ("rank", "targets", "steps", "batch_size", "learning_rate", "resolution", "seed")
    return [
        ("job", job.id),
        ("name", job.name),
        ("state", describe_state(job)),
        ("progress", describe_progress(job)),
        ("model", job.model),
        ("dataset", job.dataset),
        ("trigger", str(plan.get("trigger") or "")),
        ("plan", ", ".join(f"{key} {plan[key]}" for key in planned if key in plan)),
        ("attempt", str(job.attempt) if job.attempt > 1 else ""),
        ("created", describe_age(job.created_at)),
        ("error", f"{error.title}. {error.detail}" if error else ""),
    ]


def print_models(models: list[Model]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("MODEL", "FAMILY", "RESOLUTION", "STATE", "DESCRIPTION"):
        table.add_column(heading)
    for model in models:
        table.add_row(
            printable(model.id), model.family, str(model.resolution), model.status, printable(model.description)
        )
    _print(table)


def describe_age(moment: datetime) -> str:
    """Such as ``5 min ago``."""
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _print(content: Table | str) -> None:
    Console(highlight=False).print(content)
