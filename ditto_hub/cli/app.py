"""The command that serves the app on one's own machine."""

from __future__ import annotations

import click

from ditto_hub.cli.program import main


@main.command("app")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True,
              help="Port to listen on; 0 takes any free one.")  # fmt: skip
def app_command(host: str, port: int) -> None:
    """Open the app in a browser: show, train, compare, publish, without an account."""
    from ditto_hub.ui.app import serve

    serve(host, port or None)
