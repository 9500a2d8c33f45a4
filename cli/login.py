"""`atelier login`: a fresh link to the dashboard of the running service, opened where there is a browser."""

import os
import sys
import webbrowser
from collections.abc import Mapping
from typing import Annotated

import typer

from cli.app import FLAG
from cli.context import JsonOption, open_context
from cli.durations import format_age


def login(
    no_browser: Annotated[
        bool, typer.Option("--no-browser", metavar=FLAG, help="Only print the link; open nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Open the dashboard of the running service, by a link that works once."""
    with open_context(as_json) as context:
        link = context.client.create_login_link()
        opened = not no_browser and not as_json and has_browser(os.environ) and webbrowser.open(link.url)
        first = "The dashboard was opened in your browser." if opened else "Open this link in a browser:"
        lifetime = f"The link works once, within {format_age(link.expires_in_seconds)}."
        text = f"{first}\n\n  {link.url}\n\n{lifetime}"
        context.reporter.say("login", text, url=link.url, expires_in_seconds=link.expires_in_seconds, opened=opened)


def has_browser(environ: Mapping[str, str]) -> bool:
    """Whether somebody sits before a screen on which this machine may open a window. Not over SSH, nor for a program
    that reads the output; a browser in the terminal would take the terminal away."""
    if not sys.stdout.isatty() or "SSH_CONNECTION" in environ:
        return False
    return bool(sys.platform == "darwin" or environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))
