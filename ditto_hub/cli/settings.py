"""Commands about what goes in: check, settings; and the options that settle a run."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from ditto_hub.cli.program import EXIT_FAILED, main, token

if TYPE_CHECKING:
    from ditto_hub.config import RunConfig


PRESET_NAMES = ("pocket", "small", "fast", "paper")


texts_option = click.option(
    "--texts-alone",
    is_flag=True,
    help="Take texts without prompts; the base model writes a prompt for each.",
)


def run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that settle what a run is."""
    options = [
        click.option("--base-model", default="pocket", show_default=True, metavar="ID",
                     help="pocket (embedded), smollm2, a Hub id, or a folder."),
        click.option("--preset", "preset_name", type=click.Choice(PRESET_NAMES),
                     help="Settings to start from [default: by the base model's size]."),
        click.option("--set", "settings", multiple=True, metavar="SECTION.FIELD=JSON",
                     help="Change one setting; `ditto-hub settings` lists them all."),
        click.option("--seed", type=int, default=0, show_default=True, help="Of the whole run."),
        click.option("--held-out", type=click.IntRange(0, 25), metavar="N",
                     help="Demonstrations held out [default: 0 under 4, 1 for 4 to 7, else 2]."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def read_config(
    base_model: str,
    preset_name: str | None,
    settings: tuple[str, ...],
    seed: int,
    held_out: int | None,
    start: RunConfig | None = None,
) -> RunConfig:
    """Return the settings that the options ask for."""
    from dataclasses import replace

    from ditto_hub.api import default_config
    from ditto_hub.config import preset

    config = preset(preset_name, seed) if preset_name else start
    config = replace(config or default_config(base_model, seed), seed=seed)
    for text in settings:
        config = config.with_setting(text)
    return config if held_out is None else config.with_value("selection.held_out", held_out)


@main.command("check")
@click.argument("demos")
@texts_option
@click.option("--base-model", metavar="ID", help="Count lengths in this base model's tokens.")
def check_command(demos: str, texts_alone: bool, base_model: str | None) -> None:
    """Say what is wrong with DEMOS and what could be better."""
    from ditto_hub.api import check_demos
    from ditto_hub.api.estimating import with_stand_ins
    from ditto_hub.demos.importers import load_texts

    given = with_stand_ins(load_texts([demos]))[0] if texts_alone else demos
    found, findings = check_demos(given, base_model, token=token())
    click.echo(f"{len(found)} {'texts' if texts_alone else 'demonstrations'}.")
    for finding in findings:
        about = f" [{', '.join(finding.ids)}]" if finding.ids else ""
        click.echo(f"{finding.level}: {finding.message}{about}")
    if any(f.level == "error" for f in findings):
        raise SystemExit(EXIT_FAILED)
    if not findings:
        click.echo("No problems found.")


@main.command("settings")
@click.option("--preset", "preset_name", default="pocket", show_default=True,
              type=click.Choice(PRESET_NAMES))  # fmt: skip
def settings_command(preset_name: str) -> None:
    """List every setting with its value in a preset, its meaning and its range."""
    from ditto_hub.config import SECTIONS, dials, preset

    config = preset(preset_name)
    for section in SECTIONS:
        for name, dial in dials(section).items():
            value = json.dumps(getattr(getattr(config, section), name))
            click.echo(f"{section}.{name}={value}")
            click.echo(textwrap.indent(textwrap.fill(str(dial), 92), "    "))
