"""The command that makes a demo set out of a file of other things: logs, mail, tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ditto_hub.cli.program import main

if TYPE_CHECKING:
    from ditto_hub.demos.importers import Choice

SNIPPET = 60


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--rows", metavar="1,4,7", help="Which ones to take, by their numbers.")
@click.option(
    "--voice",
    default="",
    metavar="WHO",
    help="Whose writing: assistant or user of a chat export, a sender's address of mail.",
)
@click.option("--prompt-column", default="", metavar="NAME", help="Of a table: where prompts are.")
@click.option("--completion-column", default="", metavar="NAME", help="Where completions are.")
@click.option("--output", type=click.Path(path_type=Path), metavar="DEMOS",
              help="Write what is picked to this file, for check and train.")  # fmt: skip
def pick(
    file: Path,
    rows: str | None,
    voice: str,
    prompt_column: str,
    completion_column: str,
    output: Path | None,
) -> None:
    """Show what FILE offers: JSONL, CSV, a chat export, an mbox; or pick from it into DEMOS."""
    from ditto_hub.demos.importers import Choice, pick_demos, save_demos

    choice = Choice(prompt_column, completion_column, voice, numbers(rows))
    if output is None:
        show_offer(file, choice)
        return
    found = pick_demos(file, choice)
    save_demos(found, output)
    for notice in found.notices:
        click.echo(str(notice), err=True)
    click.echo(f"{len(found)} demonstrations in {output}", err=True)


def numbers(text: str | None) -> tuple[int, ...]:
    """Read row numbers such as 1,4,7."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise click.BadParameter("whole numbers with commas, as 1,4,7", param_hint="--rows") from (
            error
        )


def show_offer(file: Path, choice: Choice) -> None:
    """Print the first demonstrations a file offers, numbered, and what there is to choose."""
    from ditto_hub.demos.importers import preview

    found = preview(file, choice=choice)
    for notice in found.notices:
        click.echo(str(notice), err=True)
    if found.columns and not found.rows:
        click.echo(f"Columns: {', '.join(found.columns)}", err=True)
    if found.voices:
        click.echo(f"Voices: {', '.join(found.voices)}", err=True)
    click.echo(f"{found.total} found, {len(found.rows)} shown.", err=True)
    for row in found.of_voice(choice.voice or next(iter(found.voices), "")):
        click.echo(f"{row.number:4} {snippet(row.prompt_text)} -> {snippet(row.completion)}")


def snippet(text: str) -> str:
    """Return the beginning of a text in one line."""
    plain = " ".join(text[: SNIPPET * 4].split())
    return plain if len(plain) <= SNIPPET else f"{plain[:SNIPPET]}..."
