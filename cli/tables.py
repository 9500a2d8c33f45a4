"""Jobs, models, adapters and keys as tables for people.

On a terminal a row is one line of its width: ids are shortened, and what does not fit ends in an ellipsis. Elsewhere,
as before `grep` or `awk`, a row is one line however long, with everything in it whole.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from atelier_client.captions import Captioner
from atelier_client.checks import AdapterCheck
from atelier_client.models import Adapter, Conversion, Dataset, Job, Key, Merge, Model, Tenant
from atelier_client.sharing import AdapterLink
from cli.durations import format_age, format_duration
from cli.ids import shorten_ids
from cli.invocation import hint
from cli.progress import describe_progress, describe_state
from cli.proofs import describe_proofs
from cli.reporting import printable
from core.domain.counts import counted

PIPED_WIDTH = 100_000
STYLES = {
    "succeeded": "green", "ready": "green", "failed": "red", "rejected": "red", "canceled": "dim", "running": "cyan",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """An ``is_elastic`` one gives way where a terminal is narrow; the others are never cut."""

    heading: str
    is_elastic: bool = False
    is_number: bool = False


Cell = str | Text


def print_jobs(jobs: list[Job]) -> None:
    if not jobs:
        _print(f"There are no jobs yet. Make one: {hint('train', 'FOLDER', '--trigger', 'WORD')}")
        return
    columns = (
        Column("JOB"), Column("NAME", is_elastic=True), Column("STATE"), Column("STEP", is_number=True),
        Column("LEFT", is_number=True), Column("MODEL", is_elastic=True), Column("CREATED", is_number=True),
    )  # fmt: skip
    rows: list[Sequence[Cell]] = [
        (
            job.id, job.name, Text(describe_state(job), style=STYLES.get(job.status, "")), *_describe_steps(job),
            job.model, describe_age(job.created_at),
        )
        for job in jobs
    ]  # fmt: skip
    print_rows(columns, rows)


def _describe_steps(job: Job) -> tuple[str, str]:
    """Steps done of all, and the time left of a running job."""
    progress = job.progress
    if progress is None:
        return "", ""
    left = progress.eta_seconds if job.status == "running" else None
    return f"{progress.step}/{progress.num_steps}", format_duration(left) if left is not None else ""


def print_job(job: Job) -> None:
    print_fields(_describe(job))


def _describe(job: Job) -> list[tuple[str, str]]:
    plan, error = job.plan, job.error
    return [
        ("job", job.id),
        ("name", job.name),
        ("state", describe_state(job)),
        ("progress", describe_progress(job)),
        ("model", job.model),
        ("dataset", job.dataset),
        ("trigger", str(plan.get("trigger") or "")),
        ("plan", describe_plan(plan)),
        ("attempt", str(job.attempt) if job.attempt > 1 else ""),
        ("created", describe_age(job.created_at)),
        *_describe_result(job.result or {}),
        ("error", f"{error.title}. {error.detail}" if error else ""),
    ]


def describe_plan(plan: Mapping[str, Any]) -> str:
    """Such as ``adapter_type lora, rank 16, …``."""
    planned = ("adapter_type", "rank", "targets", "steps", "batch_size", "learning_rate", "resolution", "seed")
    return ", ".join(f"{key} {plan[key]}" for key in planned if key in plan)


def _describe_result(result: dict[str, Any]) -> list[tuple[str, str]]:
    files = [f"{name} ({file['size'] / 1e6:.1f} MB)" for name, file in (result.get("adapter") or {}).items()]
    return [
        ("result", str(result.get("note") or "")),
        *(("warning", str(warning)) for warning in result.get("warnings") or []),
        ("measured", describe_measures(result)),
        ("adapter", " ".join([str(result.get("adapter_id") or ""), *files]).strip()),
        *describe_proofs(result.get("proofs") or {}),
    ]


def describe_measures(result: dict[str, Any]) -> str:
    """Such as ``validation loss 0.69, retention 0.95``; empty where nothing was measured."""
    metrics = result.get("metrics") or {}
    named = ("validation_loss", "base_validation_loss", "retention")
    return ", ".join(f"{name.replace('_', ' ')} {metrics[name]:.3g}" for name in named if metrics.get(name) is not None)


def print_datasets(datasets: list[Dataset]) -> None:
    if not datasets:
        _print(f"There are no datasets yet. Make one: {hint('train', 'FOLDER', '--trigger', 'WORD')}")
        return
    columns = (
        Column("DATASET"), Column("NAME", is_elastic=True), Column("STATE"), Column("IMAGES", is_number=True),
        Column("CREATED", is_number=True), Column("REASON", is_elastic=True),
    )  # fmt: skip
    rows: list[Sequence[Cell]] = []
    for dataset in datasets:
        why = dataset.waiting_reason or (dataset.error.detail if dataset.error else "")
        images = "" if dataset.num_images is None else str(dataset.num_images)
        state = Text(dataset.status, style=STYLES.get(dataset.status, ""))
        rows.append((dataset.id, dataset.name or "", state, images, describe_age(dataset.created_at), why))
    print_rows(columns, rows)


def print_models(models: list[Model]) -> None:
    columns = (
        Column("MODEL"), Column("FAMILY"), Column("PIXELS", is_number=True), Column("STATE"),
        Column("DESCRIPTION", is_elastic=True),
    )  # fmt: skip
    rows: list[Sequence[Cell]] = [
        (
            model.id, model.family or "", str(model.resolution or ""),
            Text(model.status, style=STYLES.get(model.status, "")),
            model.error.detail if model.error else model.description,
        )
        for model in models
    ]  # fmt: skip
    print_rows(columns, rows)


def print_captioners(captioners: list[Captioner]) -> None:
    if not captioners:
        _print(f"There are no captioners yet. Add one: {hint('captioners', 'add', 'FOLDER_OR_HUB_ID')}")
        return
    columns = (
        Column("CAPTIONER"), Column("KIND"), Column("PROMPT"), Column("STATE"),
        Column("DESCRIPTION", is_elastic=True),
    )  # fmt: skip
    rows: list[Sequence[Cell]] = [
        (
            captioner.id, captioner.kind or "", "yes" if captioner.takes_prompt else "",
            Text(captioner.status, style=STYLES.get(captioner.status, "")),
            captioner.error.detail if captioner.error else captioner.description,
        )
        for captioner in captioners
    ]  # fmt: skip
    print_rows(columns, rows)


def print_captioner(captioner: Captioner) -> None:
    parameters = f"{captioner.num_parameters / 1e6:,.0f} million" if captioner.num_parameters else ""
    print_fields(
        [
            ("captioner", captioner.id),
            ("state", captioner.status),
            ("reason", captioner.error.detail if captioner.error else captioner.waiting_reason or ""),
            ("kind", captioner.kind or ""),
            ("model", captioner.architecture or ""),
            ("prompt", "" if captioner.takes_prompt is None else "yes" if captioner.takes_prompt else "no"),
            ("parameters", parameters),
            ("tags", f"{captioner.num_tags:,}" if captioner.num_tags else ""),
            ("size", f"{captioner.size / 1e6:,.1f} MB" if captioner.size else ""),
            ("sha256", captioner.sha256 or ""),
            ("description", captioner.description),
        ]
    )


def print_model(model: Model) -> None:
    parameters = f"{model.num_parameters / 1e6:,.0f} million in the U-Net" if model.num_parameters else ""
    print_fields(
        [
            ("model", model.id),
            ("state", model.status),
            ("reason", model.error.detail if model.error else ""),
            ("family", model.family or ""),
            ("resolution", f"{model.resolution} pixels" if model.resolution else ""),
            ("parameters", parameters),
            ("description", model.description),
            ("sha256", model.sha256 or ""),
            ("of the file", model.file_sha256 or ""),
            ("created", describe_age(model.created_at) if model.created_at else ""),
        ]
    )


def print_adapters(adapters: list[Adapter], *, is_search: bool = False) -> None:
    if not adapters and is_search:
        _print("No adapter matches.")
        return
    if not adapters:
        _print(
            f"There are no adapters yet. A job makes one; or: {hint('adapters', 'import', 'FILE', '--model', 'MODEL')}"
        )
        return
    columns = (
        Column("ADAPTER"), Column("NAME", is_elastic=True), Column("TRIGGER", is_elastic=True), Column("STATE"),
        Column("KIND"), Column("MODEL", is_elastic=True), Column("TAGS", is_elastic=True),
        Column("CREATED", is_number=True),
    )  # fmt: skip
    rows: list[Sequence[Cell]] = [
        (
            adapter.id, adapter.name, adapter.trigger, Text(adapter.status, style=STYLES.get(adapter.status, "")),
            _describe_kind(adapter), adapter.model, ", ".join(adapter.tags),
            describe_age(adapter.created_at),
        )
        for adapter in adapters
    ]  # fmt: skip
    print_rows(columns, rows)


def describe_conversion(made: Conversion) -> str:
    layers = counted(made.num_layers, f"{made.kind} layer")
    return f"from {layers}, to a rank of up to {made.rank}; what rounding costs: {made.error:.1g} of the update"


def print_adapter(adapter: Adapter) -> None:
    scores = {key: value for key, value in (adapter.metrics or {}).items() if isinstance(value, float)}
    print_fields(
        [
            ("adapter", adapter.id),
            ("name", adapter.name),
            ("state", adapter.status),
            ("kind", _describe_kind(adapter)),
            ("trigger", adapter.trigger),
            ("description", adapter.description),
            ("notes", adapter.notes),
            ("licence", adapter.license or ""),
            ("tags", ", ".join(adapter.tags)),
            ("cover", "yes" if adapter.cover else ""),
            ("model", f"{adapter.model} ({adapter.family})"),
            ("job", adapter.job or ("" if adapter.merge else "imported")),
            ("made from", _describe_merge(adapter.merge) if adapter.merge else ""),
            ("converted", describe_conversion(adapter.conversion) if adapter.conversion else ""),
            ("formats", ", ".join(adapter.files)),
            *(("not taken", f"{one.key}: {one.reason}") for one in adapter.ignored),
            ("", f"and {more} more" if (more := adapter.num_ignored - len(adapter.ignored)) > 0 else ""),
            ("measured", ", ".join(f"{key} {scores[key]:.3g}" for key in scores)),
            *describe_proofs(adapter.proofs),
            ("created", describe_age(adapter.created_at)),
            ("error", adapter.error.detail if adapter.error else ""),
        ]
    )


def _describe_kind(adapter: Adapter) -> str:
    return f"{adapter.type}, rank {adapter.rank}" if adapter.type else ""


def _describe_merge(merge: Merge) -> str:
    """``ad_… (blip) × 1, …; concat, error 0.03 %``."""
    sources = ", ".join(f"{one.id} ({one.name}) × {one.weight:g}" for one in merge.sources)
    error = f", error {merge.error.total:.2%}" if merge.error else ""
    return f"{sources}; {merge.method}{f' of rank {merge.rank}' if merge.rank else ''}{error}"


def print_links(links: list[AdapterLink]) -> None:
    columns = (
        Column("LINK"), Column("STATE"), Column("VIEWS", is_number=True), Column("DOWNLOADS", is_number=True),
        Column("USED", is_number=True), Column("CREATED", is_number=True),
    )  # fmt: skip
    rows: list[Sequence[Cell]] = [
        (
            link.id, "expired" if link.expired else f"until {link.expires_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
            str(link.num_views), str(link.num_downloads),
            describe_age(link.last_used_at) if link.last_used_at else "never", describe_age(link.created_at),
        )
        for link in links
    ]  # fmt: skip
    print_rows(columns, rows)


def print_check(check: AdapterCheck) -> None:
    """Each adapter's fit, each pair's cosine, and the whole in words."""
    assert check.result is not None
    columns = Column("ADAPTER"), Column("FITS"), Column("LAYERS", is_number=True), Column("WHY NOT", is_elastic=True)
    rows: list[Sequence[Cell]] = [
        (one.id, "yes" if one.fits else "no", f"{one.num_layers}", one.reason or "") for one in check.result.adapters
    ]
    print_rows(columns, rows)
    if check.result.pairs:
        _print("")
        columns = Column("ADAPTER"), Column("WITH"), Column("COSINE", is_number=True), Column("THEY", is_elastic=True)
        print_rows(
            columns, [(*pair.adapters, _describe_cosine(pair.cosine), pair.relation) for pair in check.result.pairs]
        )
    _print(f"\n{check.result.summary}")


def _describe_cosine(cosine: float | None) -> str:
    return "" if cosine is None else f"{cosine:.3f}"


def print_keys(keys: list[Key]) -> None:
    columns = (
        Column("KEY"), Column("NAME", is_elastic=True), Column("PREFIX"), Column("SCOPES", is_elastic=True),
        Column("STATE"), Column("USED", is_number=True), Column("CREATED", is_number=True),
    )  # fmt: skip
    rows: list[Sequence[Cell]] = [
        (
            key.id, key.name, key.prefix, ", ".join(key.scopes), _describe_validity(key),
            describe_age(key.last_used_at) if key.last_used_at else "never", describe_age(key.created_at),
        )
        for key in keys
    ]  # fmt: skip
    print_rows(columns, rows)


def _describe_validity(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is None:
        return "valid"
    end = key.expires_at.astimezone(UTC).strftime("%Y-%m-%d")
    return f"until {end}" if key.expires_at > datetime.now(UTC) else "expired"


def print_tenants(tenants: list[Tenant]) -> None:
    columns = (Column("TENANT"), Column("NAME", is_elastic=True), Column("CREATED", is_number=True))
    print_rows(columns, [(tenant.id, tenant.name, describe_age(tenant.created_at)) for tenant in tenants])


def describe_age(moment: datetime) -> str:
    """Such as ``5 min ago``."""
    return f"{format_age((datetime.now(UTC) - moment).total_seconds())} ago"


def print_rows(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], console: Console | None = None) -> None:
    """The first cell of a row is its id."""
    console = console or _open_console()
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.heading, no_wrap=not column.is_elastic, justify="right" if column.is_number else "left")
    short = shorten_ids([str(row[0]) for row in rows]) if console.is_terminal else {}
    for row in rows:
        table.add_row(*map(_flatten, (short.get(str(row[0]), row[0]), *row[1:])))
    _print(table, console)


def _flatten(cell: Cell) -> Text:
    """On one line, whatever is in it."""
    text = cell if isinstance(cell, Text) else printable(" ".join(cell.split()))
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """One a line; those that are empty are left out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in fields:
        if value:
            table.add_row(label, printable(value))
    _print(table)


def _open_console() -> Console:
    """As wide as the terminal; without one, wider than any row."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPED_WIDTH)


def _print(content: Table | str, console: Console | None = None) -> None:
    """Without the blanks that fill up a table's last column."""
    console = console or _open_console()
    with console.capture() as capture:
        console.print(content)
    for line in capture.get().splitlines():
        sys.stdout.write(f"{line.rstrip()}\n")
    sys.stdout.flush()
