"""From a folder of images to a finished adapter: what `atelier train` and the demo do, over HTTP alone."""

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atelier_client import AtelierClient, ConnectionFailed, Selection, select_files
from atelier_client.models import AdapterFormat, Dataset, Job, Plan
from cli.durations import format_duration
from cli.errors import UsageError
from cli.reporting import Reporter
from cli.tables import describe_plan
from core.domain.counts import counted

MAX_NAMES = 5
MAX_NAME_CHARS = 200
MAX_NAME_BYTES = 100
"""Of a file: 255 are allowed, and what is being written has more in its name."""


class JobStopped(Exception):
    """Ctrl-C while a job was followed. The job goes on."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id


@dataclass(frozen=True)
class TrainRequest:
    """``spec`` is the body of ``POST /jobs`` without the dataset. ``upload_again``: even if the service has the
    files."""

    path: Path
    spec: Mapping[str, Any]
    out: Path
    upload_again: bool = False

    @property
    def name(self) -> str:
        """Of the job and the files; the service takes MAX_NAME_CHARS."""
        name = self.spec.get("name") or self.spec.get("trigger") or self.path.resolve().stem or "adapter"
        return str(name)[:MAX_NAME_CHARS]


def train(client: AtelierClient, request: TrainRequest, reporter: Reporter) -> Job:
    """Uploads, trains, follows and downloads. Returns the ended job, which may have failed.

    Raises ClientError, CommandError, and JobStopped on Ctrl-C once there is a job.
    """
    selection = select_files(request.path)
    check_target(request.out)
    body, _ = prepare(client, selection, request, reporter)
    job = client.create_job(body)
    reporter.say("job", describe_job(job), id=job.id, status=job.status, model=job.model, dataset=job.dataset)
    ended = follow(client, job, reporter)
    if ended.status == "succeeded":
        collect(client, ended, request.out, reporter)
    return ended


def show_plan(client: AtelierClient, request: TrainRequest, reporter: Reporter) -> None:
    """What ``train`` would do: it uploads, and makes no job. Raises ClientError, CommandError."""
    body, planned = prepare(client, select_files(request.path), request, reporter)
    reporter.say("plan", describe_dry_run(planned, body), dataset=body["dataset"], **planned.model_dump(mode="json"))


def prepare(
    client: AtelierClient, selection: Selection, request: TrainRequest, reporter: Reporter
) -> tuple[dict[str, Any], Plan]:
    """The body of the job, with a dataset of these files, and its plan. What can be refused before the upload, is."""
    body = {"name": request.name, **request.spec}
    check_captions(selection, request)
    client.check_spec(body)
    body |= {"dataset": provide_dataset(client, selection, reporter, upload_again=request.upload_again).id}
    planned = client.plan_job(body)
    for advice in planned.warnings:
        reporter.warn(advice.code, advice.message, files=list(advice.files))
    return body, planned


def check_target(out: Path) -> None:
    """Before an hour of training: the folder for what comes of it. Raises UsageError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The folder {out} for the adapter cannot be made: {error.strerror}.") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise UsageError(f"The folder {out} for the adapter may not be written to. Name another with --out.")


def check_captions(selection: Selection, request: TrainRequest) -> None:
    """Before the upload: whether anything says what the images show. Raises UsageError."""
    captions = request.spec.get("captions")
    template = captions.get("template") if isinstance(captions, Mapping) else None
    if str(request.spec.get("trigger") or "").strip() or template or selection.may_have_captions():
        return
    raise UsageError(
        f"Nothing says what the images of {request.path} show: there is no trigger and no caption. Add --trigger "
        "WORDS, the phrase that is to call the concept, or put a caption x.txt beside each x.png."
    )


def provide_dataset(
    client: AtelierClient, selection: Selection, reporter: Reporter, *, upload_again: bool = False
) -> Dataset:
    """A ready dataset of these files: one that is there, or else a new one."""
    warn_of_skipped(selection, reporter)
    known = None if upload_again else client.find_dataset(selection)
    sent = known or send_files(client, selection, reporter)
    with reporter.waiting("Checking the images"):
        dataset = client.wait_for_dataset(sent.id, on_waiting=lambda why: reporter.warn("waiting", why))
    report_dataset(dataset, reporter, is_reused=known is not None)
    return dataset


def send_files(client: AtelierClient, selection: Selection, reporter: Reporter) -> Dataset:
    with reporter.uploading(selection.size) as count:
        return client.upload_dataset(selection, name=dataset_name(selection), on_bytes=count)


def dataset_name(selection: Selection) -> str | None:
    """That of the folder or file, in characters that the service takes."""
    printable = "".join(letter if letter.isprintable() else " " for letter in selection.name)
    return printable[:MAX_NAME_CHARS].strip() or None


def warn_of_skipped(selection: Selection, reporter: Reporter) -> None:
    if selection.skipped:
        text = f"Not sent, because they are neither images nor captions: {shorten(selection.skipped)}"
        reporter.warn("skipped", text, files=list(selection.skipped))


def report_dataset(dataset: Dataset, reporter: Reporter, *, is_reused: bool) -> None:
    report = dataset.report
    images = report.num_images if report else 0
    detail = {"id": dataset.id, "reused": is_reused, "report": report.model_dump(mode="json") if report else None}
    reused = ", sent before and not sent again" if is_reused else ""
    reporter.say("dataset", f"Dataset {dataset.id}: {counted(images, 'image')}{reused}", **detail)
    if is_reused and report and report.left_out:
        reporter.say("note", "Files that were left out then are left out now; --upload-again has them checked again.")
    for note in report.notes if report else ():
        reporter.say("note", note)
    for item in report.left_out if report else ():
        reporter.warn("left-out", f"{item.file} was left out: {item.reason}", file=item.file, reason=item.reason)
    for warning in report.warnings if report else ():
        if warning.code != "left-out":
            text = f"{warning.message} {shorten(warning.files)}".rstrip()
            reporter.warn("warning", text, code=warning.code, files=list(warning.files))


def shorten(names: tuple[str, ...]) -> str:
    rest = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def describe_job(job: Job) -> str:
    estimate = job.estimate
    steps = f", {counted(estimate.steps, 'step')}" if estimate else ""
    time = f", about {format_duration(estimate.seconds)}" if estimate and estimate.seconds else ""
    return f"Job {job.id} on {job.model}{steps}{time}"


def describe_dry_run(planned: Plan, body: Mapping[str, Any]) -> str:
    estimate = planned.estimate
    time = f"about {format_duration(estimate.seconds)}" if estimate.seconds is not None else "not known"
    memory, size = estimate.peak_memory_bytes, estimate.adapter_bytes
    lines = [
        f"Plan on {body['model']}: {describe_plan(planned.plan)}",
        f"  time:     {time}" + (f" ({estimate.basis})" if estimate.basis else ""),
        *([f"  memory:   about {memory / 1e9:.1f} GB"] if memory else []),
        *([f"  adapter:  {size / 1e6:.1f} MB"] if size else []),
        f"No job was made. The images are uploaded, as dataset {body['dataset']}: a training will use it.",
    ]
    return "\n".join(lines)


def follow(client: AtelierClient, job: Job, reporter: Reporter) -> Job:
    """Returns the job when it has ended. Raises JobStopped on Ctrl-C."""

    def warn_of_outage() -> None:
        reporter.warn("outage", "The service does not respond. Its jobs go on when it is back; trying for 2 minutes.")

    try:
        updates = client.watch(job.id, on_outage=warn_of_outage)
        with reporter.following(job) as on_update, closing(updates):
            for update in updates:
                on_update(update)
                if isinstance(update, Job):
                    job = update
        return job
    except ConnectionFailed as error:
        hint = f"Job {job.id} was not canceled. Once the service runs again: atelier watch {job.id}"
        raise ConnectionFailed(f"{error} {hint}") from error
    except KeyboardInterrupt:
        raise JobStopped(job.id) from None


def collect(
    client: AtelierClient, job: Job, out: Path, reporter: Reporter, adapter_format: AdapterFormat = "kohya"
) -> None:
    """Writes ``<name>.safetensors`` or ``<name>-diffusers.safetensors``, and ``<name>-grid.png`` of its own step's
    samples, into ``out``."""
    stem = choose_stem(job, out)
    ending = "" if adapter_format == "kohya" else f"-{adapter_format}"
    save_adapter(client, job, out / f"{stem}{ending}.safetensors", adapter_format, reporter)
    samples = (job.result or {}).get("samples")
    if samples:
        grid = out / f"{stem}-grid.png"
        sha256 = client.download_grid(job.id, samples["step"], grid)
        reporter.say("grid", f"Samples  {grid}", path=str(grid), sha256=sha256, step=samples["step"])


def choose_stem(job: Job, out: Path) -> str:
    """The job's name; with the end of its id where another job's adapter is called so already."""
    stem = file_name(job.name)
    there = out / f"{stem}.safetensors"
    adapter = (job.result or {}).get("adapter") or {}
    if not there.is_file() or hash_file(there) == (adapter.get("kohya") or {}).get("sha256"):
        return stem
    return f"{stem}-{job.id[-6:]}"


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_adapter(
    client: AtelierClient, job: Job, target: Path, adapter_format: AdapterFormat, reporter: Reporter
) -> None:
    sha256 = client.download_adapter(job.id, target, adapter_format)
    size = target.stat().st_size
    text = f"Adapter  {target} ({size / 1e6:.1f} MB)"
    reporter.say("adapter", text, path=str(target), sha256=sha256, size=size, format=adapter_format)


def file_name(name: str, default: str = "adapter") -> str:
    """A name as one file's: it may hold slashes, dots or spaces, and letters of several bytes each. ``default``: where
    nothing of it is left."""
    short = re.sub(r"[^\w.-]+", "-", name).strip("-.").encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    return short or default
