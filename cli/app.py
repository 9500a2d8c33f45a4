"""How the help shows commands: arguments and options look the same, whichever module they come from."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from cli.errors import CommandError

FLAG = ""
"""The metavar of an option without a value: typer would show ``<bool>``."""


class Command(TyperCommand):
    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Shows ``PATH`` for a required argument, as manual pages do; typer would show ``{PATH}``."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def get_params(self, ctx: Any) -> Any:
        """Shows arguments without a type; typer would add ``<str>`` or ``<path>``."""
        params = super().get_params(ctx)
        for param in params:
            if isinstance(param, TyperArgument):
                vars(param)["display_type_rich"] = _show_no_type
        return params

    def get_help_option(self, ctx: Any) -> Any:
        return _without_type(super().get_help_option(ctx))


class Group(TyperGroup):
    def get_help_option(self, ctx: Any) -> Any:
        return _without_type(super().get_help_option(ctx))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CommandError as error:
            typer.echo(f"Error: {error.message}", err=True)
            raise typer.Exit(error.exit_code) from error


class App(typer.Typer):
    """A group of commands; each is shown as ``Command`` has it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(cls=Group, **options)

    def command(self, name: str | None = None, **options: Any) -> Callable[..., Any]:
        return super().command(name, cls=Command, **options)


def _show_no_type(ctx: Any) -> None:
    """Replaces ``TyperArgument.display_type_rich``."""


def _without_type(option: Any) -> Any:
    if option is not None:
        option.metavar = FLAG
    return option


def print_version(wanted: bool) -> None:
    """For an eager ``--version``."""
    if wanted:
        typer.echo(f"atelier {find_version()}")
        raise typer.Exit


def find_version() -> str:
    try:
        return version("atelier")
    except PackageNotFoundError:
        return "(not installed)"
