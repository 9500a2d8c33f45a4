"""The client commands: `atelier train`, `jobs`, `show`, `watch`, `cancel`, `pause`, `resume`, `delete`, `download`,
`models`.

Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted (the job goes on).
"""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from cli.connection import find_connection
from cli.errors import CommandError
from cli.progress import describe_end
from cli.reporting import Reporter, choose_reporter, print_json
from cli.tables import print_job, print_jobs, print_models
from cli.training import JobStopped, TrainRequest, file_name, follow, read_spec, save_adapter, train
from client import ApiError, AtelierClient, ClientError, InputError
from client.models import AdapterFormat, Job

FAILED, USAGE, INTERRUPTED = 1, 2, 130

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines only.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


@dataclass(frozen=True)
class Conversation:
    client: AtelierClient
    reporter: Reporter
    as_json: bool


@contextmanager
def converse(as_json: bool) -> Iterator[Conversation]:
    """Gives the client, and turns every failure into one message and an exit code."""
    reporter = choose_reporter(as_json)
    try:
        connection = find_connection(os.environ)
        with AtelierClient(connection.url, connection.api_key) as client:
            yield Conversation(client, reporter, as_json)
    except ApiError as error:
        problem = error.problem
        extra = {"type": problem.type, "title": problem.title, "status": problem.status, "errors": dict(problem.errors)}
        reporter.fail(explain(error), **extra)
        raise typer.Exit(exit_code_of(problem.status)) from error
    except ClientError as error:
        reporter.fail(str(error))
        raise typer.Exit(USAGE if isinstance(error, InputError) else FAILED) from error
    except CommandError as error:
        reporter.fail(error.message)
        raise typer.Exit(error.exit_code) from error
    except JobStopped as stopped:
        tell_of_running_job(reporter, stopped.job_id)
        raise typer.Exit(INTERRUPTED) from stopped
    except KeyboardInterrupt:
        reporter.fail("Interrupted.")
        raise typer.Exit(INTERRUPTED) from None


def tell_of_running_job(reporter: Reporter, job_id: str) -> None:
    text = (
        f"Interrupted; job {job_id} goes on.\n  watch it:  atelier watch {job_id}\n  end it:    atelier cancel {job_id}"
    )
    reporter.say("interrupted", text, job=job_id)


def explain(error: ApiError) -> str:
    """The detail, then each field that is wrong and that it does not name: of many it names a few."""
    detail, errors = str(error), error.problem.errors
    fields = [
        f"  {pointer.strip('/').replace('/', '.')}: {message}"
        for pointer, messages in errors.items()
        for message in messages
        if message not in detail or (pointer not in detail and len(errors) > 1)
    ]
    hint = []
    if error.problem.status == 401:
        hint = ["Set ATELIER_API_KEY, or run this where the service's home is (ATELIER_HOME, default ./.atelier)."]
    return "\n".join([detail, *fields, *hint])


def exit_code_of(status: int) -> int:
    """A state that does not allow it (409), too many requests and the server's own errors are no usage errors."""
    return USAGE if 400 <= status < 500 and status not in {409, 429} else FAILED


def finish(job: Job, reporter: Reporter) -> NoReturn:
    """Says how the job ended, and exits accordingly."""
    result = {"job": job.id, "status": job.status, "error": job.error.model_dump(mode="json") if job.error else None}
    if job.status == "succeeded":
        reporter.say("done", describe_end(job), **result)
        raise typer.Exit(0)
    reporter.fail(describe_end(job), **result)
    raise typer.Exit(FAILED)


def train_command(
    path: Annotated[Path, typer.Argument(help="A folder of images with their captions, or an archive of one.")],
    model: Annotated[str | None, typer.Option(help="The base to train on.  [default: tiny]")] = None,
    trigger: Annotated[str | None, typer.Option(help="The phrase that calls the concept in prompts.")] = None,
    spec: Annotated[Path | None, typer.Option(help="A TrainingSpec, in JSON or YAML; options win over it.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps; by default chosen from the images.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same adapter.")] = None,
    name: Annotated[str | None, typer.Option(help="The adapter's name.")] = None,
    out: Annotated[Path, typer.Option(help="Where the adapter and its sample grid go.")] = Path("out"),
    as_json: JsonOption = False,
) -> None:
    """Train an adapter on a folder of images, and download it."""
    with converse(as_json) as talk:
        given = {"model": model, "trigger": trigger, "steps": steps, "seed": seed, "name": name}
        fields: dict[str, Any] = {"model": "tiny", **(read_spec(spec) if spec else {})}
        fields |= {key: value for key, value in given.items() if value is not None}
        finish(train(talk.client, TrainRequest(path, fields, out), talk.reporter), talk.reporter)


def jobs(
    status: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs on this base.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    with converse(as_json) as talk:
        found = list(itertools.islice(talk.client.list_jobs(status=status, model=model), limit))
        show_all(found, as_json, print_jobs)


def models(as_json: JsonOption = False) -> None:
    """List the bases that can be trained on."""
    with converse(as_json) as talk:
        show_all(list(talk.client.list_models()), as_json, print_models)


def show_all(rows: list[Any], as_json: bool, print_table: Callable[[list[Any]], None]) -> None:
    if not as_json:
        print_table(rows)
        return
    for row in rows:
        print_json(row.model_dump(mode="json"))


def list_unless_asked(context: typer.Context, list_all: Callable[..., None], as_json: bool) -> None:
    """For a group of commands: on its own it lists."""
    if context.invoked_subcommand is None:
        list_all(as_json=as_json)
    elif as_json:
        raise typer.BadParameter(f"it goes behind `{context.invoked_subcommand}`", context, param_hint="--json")


def show(job: JobArgument, as_json: JsonOption = False) -> None:
    """Show one job."""
    with converse(as_json) as talk:
        show_all([talk.client.get_job(job)], as_json, lambda rows: print_job(rows[0]))


def watch(job: JobArgument, as_json: JsonOption = False) -> None:
    """Follow a job to its end. Ctrl-C stops the watching, not the job."""
    with converse(as_json) as talk:
        found = talk.client.get_job(job)
        finish(found if found.is_terminal else follow(talk.client, found, talk.reporter), talk.reporter)


def cancel(job: JobArgument, as_json: JsonOption = False) -> None:
    """End a job for good."""
    ask_for(AtelierClient.cancel_job, job, as_json)


def delete(job: JobArgument, as_json: JsonOption = False) -> None:
    """Delete a job that has ended, with its files and its adapter."""
    with converse(as_json) as talk:
        talk.client.delete_job(job)
        talk.reporter.say("deleted", f"Job {job} is deleted.", id=job)


def pause(job: JobArgument, as_json: JsonOption = False) -> None:
    """Have a job write a checkpoint and make room for others."""
    ask_for(AtelierClient.pause_job, job, as_json)


def resume(job: JobArgument, as_json: JsonOption = False) -> None:
    """Put a paused job back into the queue."""
    ask_for(AtelierClient.resume_job, job, as_json)


def ask_for(change: Callable[[AtelierClient, str], Job], job_id: str, as_json: bool) -> None:
    with converse(as_json) as talk:
        job = change(talk.client, job_id)
        talk.reporter.say("job", f"Job {job.id} is {job.status}.", id=job.id, status=job.status)


def download(
    job: JobArgument,
    adapter_format: Annotated[AdapterFormat, typer.Option("--format", help="Whose key names it has.")] = "kohya",
    out: Annotated[Path, typer.Option(help="Where it goes.")] = Path("out"),
    as_json: JsonOption = False,
) -> None:
    """Download a finished job's adapter."""
    with converse(as_json) as talk:
        found = talk.client.get_job(job)
        ending = "" if adapter_format == "kohya" else f"-{adapter_format}"
        target = out / f"{file_name(found.name)}{ending}.safetensors"
        save_adapter(talk.client, found, target, adapter_format, talk.reporter)


def register(app: typer.Typer) -> None:
    """Adds the client commands to the `atelier` command."""
    app.command("train")(train_command)
    for command in (jobs, show, watch, cancel, pause, resume, delete, download, models):
        app.command()(command)
