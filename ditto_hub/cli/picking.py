"""The command that makes a demo set out of a file of other things: logs, mail, tables."""

from __future__ import annotations

from pathlib import Path

import click

from ditto_hub.cli.program import main

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
    from ditto_hub.importers import LONGEST_PREVIEW, Choice, load_demos, save_demos

    if output is None:
        show_offer(file, voice, prompt_column.lower(), completion_column.lower())
        return
    choice = Choice(prompt_column, completion_column, voice, numbers(rows))
    found = load_demos(file, choice, limit=LONGEST_PREVIEW)
    save_demos(found, output)
    click.echo(f"{len(found)} demonstrations in {output}", err=True)


def numbers(text: str | None) -> tuple[int, ...]:
    """Read row numbers such as 1,4,7."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise click.BadParameter("whole numbers with commas, as 1,4,7", param_hint="--rows") from (
            error
        )


def show_offer(file: Path, voice: str, prompt: str, completion: str) -> None:
    """Print the first demonstrations a file offers, numbered, and what there is to choose."""
    from ditto_hub.importers import preview

    found = preview(file)
    if completion:
        found = found.from_columns(prompt, completion)
    for notice in found.notices:
        click.echo(notice, err=True)
    if found.columns and not found.rows:
        click.echo(f"Columns: {', '.join(found.columns)}", err=True)
    if found.voices:
        click.echo(f"Voices: {', '.join(found.voices)}", err=True)
    click.echo(f"{found.total} found, {len(found.rows)} shown.", err=True)
    for row in found.of_voice(voice or next(iter(found.voices), "")):
        click.echo(f"{row.number:4} {snippet(row.prompt_text)} -> {snippet(row.completion)}")


def snippet(text: str) -> str:
    """Return the beginning of a text in one line."""
    plain = " ".join(text[: SNIPPET * 4].split())
    return plain if len(plain) <= SNIPPET else f"{plain[:SNIPPET]}..."
