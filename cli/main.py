"""The entry point of `atelier`: registers the commands, and turns what they raise into messages."""

from typing import Annotated

import typer

from cli import adapters, captioners, captioning, commands, datasets, generating, keys, login, models, sharing, steps
from cli.app import FLAG, App, print_version
from cli.doctor import doctor
from cli.local import processes
from cli.local.up import up

TRAIN, MANAGE, SERVE = "Train", "Look after what is there", "Run the service"

app = App(
    name="atelier",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Train LoRA adapters from a few images, on your own machines.",
)


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", metavar=FLAG, callback=print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Train LoRA adapters from a few images, on your own machines."""


app.command(rich_help_panel=SERVE)(up)
app.command("login", rich_help_panel=SERVE)(login.login)
app.command(rich_help_panel=SERVE)(doctor)
commands.register(app, TRAIN)
steps.register(app, TRAIN)
captioning.register(app, TRAIN)
generating.register(app, TRAIN)
sharing.register(app, TRAIN)
app.add_typer(models.models, name="models", rich_help_panel=MANAGE)
app.add_typer(datasets.datasets, name="datasets", rich_help_panel=MANAGE)
app.add_typer(adapters.adapters, name="adapters", rich_help_panel=MANAGE)
app.add_typer(captioners.captioners, name="captioners", rich_help_panel=MANAGE)
app.add_typer(keys.keys, name="keys", rich_help_panel=MANAGE)
app.add_typer(keys.tenants, name="tenants", rich_help_panel=MANAGE)
app.command(rich_help_panel=SERVE)(processes.api)
app.add_typer(processes.worker, name="worker", rich_help_panel=SERVE)
app.command(rich_help_panel=SERVE)(processes.steward)
app.command(rich_help_panel=SERVE)(processes.migrate)

if __name__ == "__main__":
    app()
