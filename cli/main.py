"""The entry point of `atelier`: registers the commands, and turns what they raise into messages."""

from typing import Any

import typer
from typer.core import TyperGroup

from cli import adapters, commands, datasets, keys, processes
from cli.doctor import doctor
from cli.errors import CommandError
from cli.up import up


class Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CommandError as error:
            typer.echo(f"Error: {error.message}", err=True)
            raise typer.Exit(error.exit_code) from error


app = typer.Typer(
    name="atelier",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Train LoRA adapters from a few images, on your own machines.",
)

app.command()(up)
app.command()(processes.api)
app.add_typer(processes.worker, name="worker")
app.command()(processes.steward)
app.command()(processes.migrate)
app.command()(doctor)
commands.register(app)
app.add_typer(datasets.datasets, name="datasets")
app.add_typer(adapters.adapters, name="adapters")
app.add_typer(keys.keys, name="keys")
app.add_typer(keys.tenants, name="tenants")

if __name__ == "__main__":
    app()
