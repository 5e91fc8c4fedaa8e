"""The command that serves the app on one's own machine."""

from __future__ import annotations

import os
from dataclasses import replace

import click

from ditto_hub.cli.program import main
from ditto_hub.cli.training import say_on_stderr


@main.command("app")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True,
              help="Port to listen on; 0 takes any free one.")  # fmt: skip
@click.option("--mcp", is_flag=True,
              help="Serve the endpoints as MCP tools too; needs gradio[mcp].")  # fmt: skip
def app_command(host: str, port: int, mcp: bool) -> None:
    """Open the app in a browser: show, train, compare, publish, without an account."""
    from ditto_hub.api.base_models import real_base
    from ditto_hub.cost.profiles import load_profile
    from ditto_hub.ui.app import MCP_VARIABLE, serve

    if mcp:
        os.environ[MCP_VARIABLE] = "true"
    profile = load_profile(os.environ.get("DITTO_HUB_PROFILE") or "own")
    if profile.name == "own":
        profile = replace(profile, default_base_model=real_base(say_on_stderr))
    serve(host, port or None, profile)
