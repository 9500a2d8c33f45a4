"""A job's progress for people: a bar that moves on a terminal, single lines anywhere else."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.table import Column
from rich.text import Text

from atelier_client import Update
from atelier_client.models import Job, JobEvent
from cli.durations import format_duration
from cli.pulse import Pulse

LINES_PER_JOB = 10
BAR_COLUMNS = 40
TEXT_COLUMNS = 72
"""Of all that stands beside a job's bar, at its longest."""
COUNTED = {"caching": "images, class images and captions", "sampling": "pictures", "scoring": "pictures"}
"""What the units of a phase are."""


class TrainingColumn(ProgressColumn):
    """Step, loss, seconds per step and time left, where they are known."""

    def render(self, task: Task) -> Text:
        job = task.fields["job"]
        return Text(describe_progress(job), style="cyan" if job.status == "running" else "")


class DetailColumn(ProgressColumn):
    """What is known beyond the time."""

    def __init__(self, detail: Callable[[], str]) -> None:
        super().__init__()
        self.detail = detail

    def render(self, task: Task) -> Text:
        return Text(self.detail(), style="dim")


def describe_progress(job: Job) -> str:
    """Such as ``120/300  loss 0.0712  0.18 s/step  0:32 left``; the time alone while the job is queued."""
    progress = job.progress
    if progress is None or not progress.num_steps:
        return ""
    parts = []
    if job.status != "queued":
        parts.append(f"{progress.step}/{progress.num_steps}")
        if progress.loss is not None:
            parts.append(f"loss {progress.loss:.4f}")
        if progress.seconds_per_step is not None:
            parts.append(f"{progress.seconds_per_step:.2f} s/step")
    if progress.eta_seconds is not None and not job.is_terminal:
        parts.append(f"{format_duration(progress.eta_seconds)} left")
    return "  ".join(parts)


def describe_state(job: Job) -> str:
    """Such as ``training``, ``caching 3/12`` or ``queued, place 2``."""
    if job.status == "queued" and job.queue_position:
        return f"queued, place {job.queue_position}"
    progress = job.progress
    if job.phase == "training" or progress is None or not progress.units_total:
        return name_state(job)
    return f"{name_state(job)} {progress.units_done or 0}/{progress.units_total}"


def name_state(job: Job) -> str:
    """As ``describe_state``, without what counts up."""
    return job.phase if job.status == "running" and job.phase else job.status


def describe_units(job: Job) -> str:
    """As ``describe_state``, with what is counted: ``caching 3/12 images, class images and captions``."""
    state = describe_state(job)
    return f"{state} {COUNTED.get(job.phase or '', '')}".rstrip() if state != name_state(job) else state


def describe_phase(phase: str) -> str:
    """As it begins."""
    return f"{phase}: the {COUNTED[phase]} are prepared for training" if phase == "caching" else phase


def describe_end(job: Job) -> str:
    """One sentence of how an ended job ended, with what to do where it failed."""
    if job.status == "succeeded":
        took = job.finished_at - job.started_at if job.finished_at and job.started_at else None
        end = f"Job {job.id} succeeded" + (f" after {format_duration(took.total_seconds())}." if took else ".")
        return " ".join([end, *(job.result or {}).get("warnings", [])])
    if job.status == "canceled" or job.error is None:
        return f"Job {job.id} was {job.status}."
    return f"Job {job.id} {job.status}. {job.error.title}: {job.error.detail}"


def describe_event(event: JobEvent) -> str | None:
    """A line worth leaving on the screen, or None for what the bar shows already."""
    match event.type:
        case "job.samples":
            return f"  sample pictures at step {event.data.get('step')}"
        case "job.requested_samples":
            return f"  requested sample pictures at step {event.data.get('step')}"
        case "job.checkpoint":
            return f"  checkpoint at step {event.data.get('step')}"
        case "job.notice":
            return f"  {event.data.get('message', '')}"
        case "job.queued" if event.attempt:
            reason = event.data.get("reason")
            return f"  put back into the queue: {reason}" if reason else "  put back into the queue"
        case _:
            return None


class LiveProgress:
    """For a terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextlib.contextmanager
    def uploading(self, num_bytes: int) -> Iterator[Callable[[int], None]]:
        columns = (TextColumn("Uploading"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=self.console, transient=True) as bars:
            task = bars.add_task("", total=num_bytes)
            yield lambda amount: bars.advance(task, amount)

    @contextlib.contextmanager
    def waiting(self, text: str, detail: Callable[[], str]) -> Iterator[None]:
        columns = (
            SpinnerColumn(),
            TextColumn(text.replace("{", "{{").replace("}", "}}"), markup=False),
            TimeElapsedColumn(),
            DetailColumn(detail),
        )
        with Progress(*columns, console=self.console, transient=True) as bars:
            bars.add_task("", total=None)
            yield

    @contextlib.contextmanager
    def following(self, job: Job) -> Iterator[Callable[[Update], None]]:
        with open_job_bar(self.console) as bars:
            task = bars.add_task(describe_state(job), total=None, job=job)

            def on_update(update: Update) -> None:
                if isinstance(update, JobEvent):
                    line = describe_event(update)
                    if update.type == "job.phase":
                        phase = str(update.data.get("phase", ""))
                        bars.update(task, description=phase)
                        line = f"  {describe_phase(phase)}" if phase == "caching" else None
                    if line is not None:
                        bars.console.print(Text(line, style="dim"))
                    return
                progress = update.progress
                total, step = (progress.num_steps, progress.step) if progress and progress.num_steps else (None, 0)
                bars.update(task, description=describe_state(update), total=total, completed=step, job=update)

            yield on_update


def open_job_bar(console: Console) -> Progress:
    """On one line, however narrow: the bar gives way first, then what stands behind it."""
    bar_width = min(BAR_COLUMNS, max(5, console.width - TEXT_COLUMNS))
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<9}", markup=False),
        BarColumn(bar_width),
        TrainingColumn(table_column=Column(no_wrap=True, overflow="ellipsis")),
        console=console,
        transient=True,
    )


class LineProgress:
    """For a log file or a pipe: each phase, some LINES_PER_JOB lines of training, and a sign of life between them.

    Phases come as events, which keep their order, and steps with the job, which is read beside them. What happened
    since the training is held back until a job is heard that is as new, so that its steps stand before it.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.state = ""
        self.tenth = -1
        self.job: Job | None = None
        self.held: list[tuple[str, str]] = []  # the state after each line, and the line
        self.lock = threading.RLock()  # the pulse is a thread of its own
        self.pulse = Pulse(self.print_pulse)

    @contextlib.contextmanager
    def uploading(self, num_bytes: int) -> Iterator[Callable[[int], None]]:
        sent = 0

        def count(amount: int) -> None:
            nonlocal sent
            sent += amount

        with Pulse(lambda _: self.print(f"  uploading, {sent / 1e6:.1f} of {num_bytes / 1e6:.1f} MB")):
            yield count

    @contextlib.contextmanager
    def waiting(self, text: str, detail: Callable[[], str]) -> Iterator[None]:
        def beat(seconds: float) -> None:
            parts = (text, f"{format_duration(seconds)} so far", detail())
            self.print("  " + ", ".join(filter(None, parts)))

        with Pulse(beat):
            yield

    @contextlib.contextmanager
    def following(self, job: Job) -> Iterator[Callable[[Update], None]]:
        self.job = job
        self.print_place(job)
        with self.pulse:
            yield self.on_update
        self.release(len(self.held))

    def on_update(self, update: Update) -> None:
        with self.lock:
            if isinstance(update, JobEvent):
                self.hold(update)
            else:
                self.hear(update)

    def hear(self, update: Job) -> None:
        self.job = update
        trained = max((at for at, (state, _) in enumerate(self.held, start=1) if state == "training"), default=0)
        self.release(trained)
        if self.state == "training":
            self.print_progress(update)
        if update.phase != "training":
            self.release(len(self.held))
        self.print_place(update)

    def hold(self, event: JobEvent) -> None:
        state = self.held[-1][0] if self.held else self.state
        line = describe_event(event)
        match event.type:
            case "job.phase":
                entered = str(event.data.get("phase", ""))
                line = describe_phase(entered) if entered != state else None
                state = entered
            case "job.running":
                state = line = "loading"
            case "job.pausing" | "job.paused" | "job.canceling":
                state = line = event.type.removeprefix("job.")
            case "job.queued":
                state = "queued"
        if line is not None:
            self.held.append((state, line))

    def release(self, number: int) -> None:
        for state, line in self.held[:number]:
            self.state = state
            self.print(line)
        del self.held[:number]

    def print_place(self, job: Job) -> None:
        """In the queue, when it has come there; no event says it."""
        if job.status == "queued" and not self.held and self.state != describe_state(job):
            self.state = describe_state(job)
            self.print(self.state)

    def print_progress(self, job: Job) -> None:
        if job.progress is None or not job.progress.num_steps or not job.progress.step:
            return
        tenth = job.progress.step * LINES_PER_JOB // job.progress.num_steps
        if tenth > self.tenth:
            self.tenth = tenth
            self.print(f"  {describe_progress(job)}")

    def print_pulse(self, seconds: float) -> None:
        assert self.job is not None
        with self.lock:
            self.release(len(self.held))
        steps = describe_progress(self.job) if self.job.phase == "training" else ""
        parts = (describe_units(self.job), steps, f"{format_duration(seconds)} so far")
        self.print("  " + ", ".join(filter(None, parts)))

    def print(self, line: str) -> None:
        self.pulse.touch()
        self.console.print(Text(line))
