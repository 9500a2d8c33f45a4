"""A job's progress for people: a bar that moves on a terminal, single lines anywhere else."""

import contextlib
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
    TransferSpeedColumn,
)
from rich.text import Text

from client import Update
from client.models import Job, JobEvent

LINES_PER_JOB = 10


class TrainingColumn(ProgressColumn):
    """Step, loss, seconds per step and time left, where they are known."""

    def render(self, task: Task) -> Text:
        job = task.fields["job"]
        return Text(describe_progress(job), style="cyan" if job.status == "running" else "")


def describe_progress(job: Job) -> str:
    """Such as ``120/300  loss 0.0712  0.18 s/step  0:32 left``."""
    progress = job.progress
    if progress is None or not progress.num_steps:
        return ""
    if job.status == "queued":
        return describe_wait(job)
    if progress.units_total and job.phase != "training":
        return f"{progress.units_done}/{progress.units_total}"
    parts = [f"{progress.step}/{progress.num_steps}"]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if progress.seconds_per_step is not None:
        parts.append(f"{progress.seconds_per_step:.2f} s/step")
    if progress.eta_seconds is not None and not job.is_terminal:
        parts.append(f"{format_duration(progress.eta_seconds)} left")
    return "  ".join(parts)


def describe_wait(job: Job) -> str:
    """Such as ``place 2 in the queue  12:05 left``, of a job that waits."""
    eta = job.progress.eta_seconds if job.progress else None
    left = f"{format_duration(eta)} left" if eta is not None else ""
    place = f"place {job.queue_position} in the queue" if job.queue_position else ""
    return "  ".join(part for part in (place, left) if part)


def describe_state(job: Job) -> str:
    return job.phase if job.status == "running" and job.phase else job.status


def describe_end(job: Job) -> str:
    """One sentence of how an ended job ended, with what to do where it failed."""
    if job.status == "succeeded":
        took = job.finished_at - job.started_at if job.finished_at and job.started_at else None
        end = f"Job {job.id} succeeded" + (f" after {format_duration(took.total_seconds())}." if took else ".")
        return " ".join([end, *(job.result or {}).get("warnings", [])])
    if job.status == "canceled" or job.error is None:
        return f"Job {job.id} was {job.status}."
    return f"Job {job.id} {job.status}. {job.error.title}: {job.error.detail}"


def format_duration(seconds: float) -> str:
    """``0:32``, ``12:05`` or ``3:07:00``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def describe_event(event: JobEvent) -> str | None:
    """A line worth leaving on the screen, or None for what the bar shows already."""
    match event.type:
        case "job.samples":
            return f"  sample pictures at step {event.data.get('step')}"
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
    def checking(self) -> Iterator[None]:
        with self.console.status("Checking the images"):
            yield

    @contextlib.contextmanager
    def following(self, job: Job) -> Iterator[Callable[[Update], None]]:
        columns = (SpinnerColumn(), TextColumn("{task.description:<9}"), BarColumn(), TrainingColumn())
        with Progress(*columns, console=self.console, transient=True) as bars:
            task = bars.add_task(describe_state(job), total=None, job=job)

            def hear(update: Update) -> None:
                if isinstance(update, JobEvent):
                    line = describe_event(update)
                    if line is not None:
                        bars.console.print(Text(line, style="dim"))
                    if update.type == "job.phase":
                        bars.update(task, description=str(update.data.get("phase", "")))
                    return
                progress = update.progress
                total, step = (progress.num_steps, progress.step) if progress and progress.num_steps else (None, 0)
                bars.update(task, description=describe_state(update), total=total, completed=step, job=update)

            yield hear


class LineProgress:
    """For a log file or a pipe: each phase, and some LINES_PER_JOB lines of training."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.state = ""
        self.tenth = -1

    @contextlib.contextmanager
    def following(self, job: Job) -> Iterator[Callable[[Update], None]]:
        self.tell_state(job)
        yield self.hear

    def hear(self, update: Update) -> None:
        if isinstance(update, Job):
            self.tell_state(update)
            self.tell_progress(update)
            return
        line = describe_event(update)
        if line is not None:
            self.console.print(Text(line))

    def tell_state(self, job: Job) -> None:
        state = describe_state(job)
        if state != self.state and not job.is_terminal:
            self.console.print(Text(state))
        self.state = state

    def tell_progress(self, job: Job) -> None:
        if job.progress is None or not job.progress.num_steps or not job.progress.step:
            return
        tenth = job.progress.step * LINES_PER_JOB // job.progress.num_steps
        if tenth > self.tenth:
            self.tenth = tenth
            self.console.print(Text(f"  {describe_progress(job)}"))
