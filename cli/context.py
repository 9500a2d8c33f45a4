"""What all client commands share: the connection, and the messages for errors."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer

from atelier_client import ApiError, AtelierClient, ClientError, ConnectionFailed, InputError
from cli.app import FLAG
from cli.connection import Connection, find_connection, find_moved_url
from cli.errors import CommandError
from cli.invocation import hint
from cli.reporting import Reporter, choose_reporter, print_json
from cli.training import JobStopped

FAILED, USAGE, INTERRUPTED = 1, 2, 130

JsonOption = Annotated[bool, typer.Option("--json", metavar=FLAG, help="Print JSON lines only.")]
LimitOption = Annotated[int, typer.Option(min=1, metavar="N", help="How many, newest first.")]
Options = Mapping[str, str]
"""JSON pointer -> the option or argument that the caller typed for it."""


@dataclass(frozen=True)
class Context:
    client: AtelierClient
    connection: Connection
    reporter: Reporter
    as_json: bool


@contextmanager
def open_context(as_json: bool, options: Options | None = None) -> Iterator[Context]:
    """Gives the client, and turns every failure into one message and an exit code."""
    reporter = choose_reporter(as_json)
    try:
        connection = find_connection(os.environ)
        find_url = partial(find_moved_url, os.environ)
        with AtelierClient(connection.url, connection.api_key, find_url=find_url) as client:
            yield Context(client, connection, reporter, as_json)
    except ApiError as error:
        problem = error.problem
        extra = {"type": problem.type, "title": problem.title, "status": problem.status, "errors": dict(problem.errors)}
        reporter.fail(explain(error, options or {}), **extra)
        raise typer.Exit(exit_code_of(problem.status)) from error
    except ConnectionFailed as error:
        reporter.fail(f"{error} {_advise_on_address()}".rstrip())
        raise typer.Exit(FAILED) from error
    except ClientError as error:
        reporter.fail(str(error))
        raise typer.Exit(USAGE if isinstance(error, InputError) else FAILED) from error
    except CommandError as error:
        reporter.fail(error.message)
        raise typer.Exit(error.exit_code) from error
    except JobStopped as stopped:
        report_running_job(reporter, stopped.job_id)
        raise typer.Exit(INTERRUPTED) from stopped
    except KeyboardInterrupt:
        reporter.fail("Interrupted.")
        raise typer.Exit(INTERRUPTED) from None


def _advise_on_address() -> str:
    """Where neither an address nor a home is set, the service may be one of another folder's."""
    if os.environ.get("ATELIER_URL") or os.environ.get("ATELIER_HOME"):
        return ""
    return "If it runs with another home than ./.atelier, set ATELIER_HOME to that."


def report_running_job(reporter: Reporter, job_id: str) -> None:
    lines = [
        f"Interrupted; job {job_id} goes on.",
        f"  watch it:      {hint('watch', job_id)}",
        f"  get the file:  {hint('download', job_id)}   (once it has succeeded)",
        f"  end it:        {hint('cancel', job_id)}",
    ]
    reporter.say("interrupted", "\n".join(lines), job=job_id)


def explain(error: ApiError, options: Options) -> str:
    """The detail, then each field that is wrong and that it does not name. Fields are spelled as they were typed."""
    detail, errors = str(error), error.problem.errors
    fields = [
        f"  {spell_field(pointer, options)}: {message}"
        for pointer, messages in errors.items()
        for message in messages
        if message not in detail or (pointer not in detail and len(errors) > 1)
    ]
    advice = []
    if error.problem.status == 401:
        advice = ["Set ATELIER_API_KEY, or run this where the service's home is (ATELIER_HOME, default ./.atelier)."]
    return "\n".join([_spell_fields(detail, errors, options), *fields, *advice])


def _spell_fields(detail: str, pointers: Mapping[str, Any], options: Options) -> str:
    """A detail names fields by RFC 6901 pointers, such as ``/adapter/rank``."""
    spelled = {pointer: spell_field(pointer, options) for pointer in pointers if pointer}
    if not spelled:
        return detail
    longest_first = sorted(map(re.escape, spelled), key=len, reverse=True)
    pattern = rf"(?<![\w/])({'|'.join(longest_first)})(?=[:\s])"
    return re.sub(pattern, lambda match: spelled[match[1]], detail)


def spell_field(pointer: str, options: Options) -> str:
    """``--steps`` for ``/steps`` where it was given by that option; ``adapter.rank`` for what only a spec says."""
    for known, option in options.items():
        if pointer == known or pointer.startswith(f"{known}/"):
            return option
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.strip("/").split("/")]
    if parts[0] == "query":
        return f"--{parts[1]}" if len(parts) > 1 else "the query"
    return "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in parts).removeprefix(".")


def exit_code_of(status: int) -> int:
    """A conflict with a state (409), too many requests and the server's own errors are not usage errors."""
    return USAGE if 400 <= status < 500 and status not in {409, 429} else FAILED


def show_all(rows: list[Any], as_json: bool, print_table: Callable[[list[Any]], None]) -> None:
    if not as_json:
        print_table(rows)
        return
    for row in rows:
        print_json(row.model_dump(mode="json"))


def list_unless_asked(context: typer.Context, list_all: Callable[..., None], as_json: bool) -> None:
    """Lists if a group of commands is called without a subcommand."""
    if context.invoked_subcommand is None:
        list_all(as_json=as_json)
    elif as_json:
        raise typer.BadParameter(f"it goes behind `{context.invoked_subcommand}`", context, param_hint="--json")
