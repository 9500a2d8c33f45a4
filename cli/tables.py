"""Jobs, models, adapters and keys as tables for people."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.progress import describe_progress, describe_state, format_duration
from cli.reporting import printable
from client.models import Adapter, Dataset, Job, Key, Model, Tenant

PIPED_WIDTH = 1000
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
    return f"{progress.step}/{progress.num_steps}", format_duration(left) if left is not None else ""


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
        *_describe_result(job.result or {}),
        ("error", f"{error.title}. {error.detail}" if error else ""),
    ]


def _describe_result(result: dict[str, Any]) -> list[tuple[str, str]]:
    metrics = result.get("metrics") or {}
    named = ("validation_loss", "base_validation_loss", "retention")
    measured = [f"{name.replace('_', ' ')} {metrics[name]:.3g}" for name in named if metrics.get(name) is not None]
    files = [f"{name} ({file['size'] / 1e6:.1f} MB)" for name, file in (result.get("adapter") or {}).items()]
    return [
        ("result", str(result.get("note") or "")),
        *(("warning", str(warning)) for warning in result.get("warnings") or []),
        ("measured", ", ".join(measured)),
        ("adapter", " ".join([str(result.get("adapter_id") or ""), *files]).strip()),
    ]


def print_datasets(datasets: list[Dataset]) -> None:
    if not datasets:
        _print("There are no datasets yet. Make one: atelier train FOLDER --trigger WORD")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("DATASET", "NAME", "STATE", "IMAGES", "CREATED", ""):
        table.add_column(heading, no_wrap=heading == "DATASET", overflow="fold")
    for dataset in datasets:
        why = dataset.setback or (dataset.error.detail if dataset.error else "")
        images = "" if dataset.num_images is None else str(dataset.num_images)
        texts = (dataset.name or "", dataset.status, images, describe_age(dataset.created_at), why)
        table.add_row(dataset.id, *map(printable, texts))
    _print(table)


def print_models(models: list[Model]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("MODEL", "FAMILY", "RESOLUTION", "STATE", "DESCRIPTION"):
        table.add_column(heading)
    for model in models:
        table.add_row(
            printable(model.id),
            model.family or "",
            str(model.resolution or ""),
            model.status,
            printable(model.description),
        )
    _print(table)


def print_adapters(adapters: list[Adapter]) -> None:
    if not adapters:
        _print("There are no adapters yet. A job makes one; or: atelier adapters import FILE --model MODEL")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("ADAPTER", "NAME", "TRIGGER", "STATE", "KIND", "MODEL", "TAGS", "CREATED"):
        table.add_column(heading, no_wrap=heading == "ADAPTER", overflow="fold")
    for adapter in adapters:
        texts = (adapter.name, adapter.trigger, adapter.status, _describe_kind(adapter), adapter.model)
        tags = printable(", ".join(adapter.tags))
        table.add_row(adapter.id, *map(printable, texts), tags, describe_age(adapter.created_at))
    _print(table)


def print_adapter(adapter: Adapter) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    scores = {key: value for key, value in (adapter.metrics or {}).items() if isinstance(value, float)}
    for label, value in [
        ("adapter", adapter.id),
        ("name", adapter.name),
        ("state", adapter.status),
        ("kind", _describe_kind(adapter)),
        ("trigger", adapter.trigger),
        ("description", adapter.description),
        ("tags", ", ".join(adapter.tags)),
        ("model", f"{adapter.model} ({adapter.family})"),
        ("job", adapter.job or "imported"),
        ("formats", ", ".join(adapter.files)),
        ("measured", ", ".join(f"{key} {scores[key]:.3g}" for key in scores)),
        ("created", describe_age(adapter.created_at)),
        ("error", adapter.error.detail if adapter.error else ""),
    ]:
        if value:
            table.add_row(label, printable(value))
    _print(table)


def _describe_kind(adapter: Adapter) -> str:
    return f"{adapter.type}, rank {adapter.rank}" if adapter.type else ""


def print_keys(keys: list[Key]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("KEY", "NAME", "BEGINS", "SCOPES", "STATE", "USED", "CREATED"):
        table.add_column(heading, no_wrap=heading == "KEY", overflow="fold")
    for key in keys:
        used = describe_age(key.last_used_at) if key.last_used_at else "never"
        texts = (key.name, key.prefix, ", ".join(key.scopes), _describe_validity(key))
        table.add_row(key.id, *map(printable, texts), used, describe_age(key.created_at))
    _print(table)


def _describe_validity(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is None:
        return "valid"
    end = key.expires_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"until {end}" if key.expires_at > datetime.now(UTC) else "expired"


def print_tenants(tenants: list[Tenant]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("TENANT", "NAME", "CREATED"):
        table.add_column(heading, no_wrap=heading == "TENANT", overflow="fold")
    for tenant in tenants:
        table.add_row(tenant.id, printable(tenant.name), describe_age(tenant.created_at))
    _print(table)


def describe_age(moment: datetime) -> str:
    """Such as ``5 min ago``."""
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _print(content: Table | str) -> None:
    """A row is one line where another program reads it."""
    console = Console(highlight=False)
    console.print(content, width=None if console.is_terminal else PIPED_WIDTH)
