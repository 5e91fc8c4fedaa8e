"""The command that makes a demo set out of files of other things: texts, logs, mail, tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ditto_hub.cli.program import main, token
from ditto_hub.cli.settings import texts_option
from ditto_hub.words import told

if TYPE_CHECKING:
    from ditto_hub.demos.demonstrations import DemoSet
    from ditto_hub.demos.importers import Choice

SNIPPET = 60


@main.command()
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--rows", metavar="1,4,7", help="Which ones to take, by their numbers.")
@click.option(
    "--voice",
    default="",
    metavar="WHO",
    help="Whose writing: assistant or user of a chat export, a sender's address of mail.",
)
@click.option("--prompt-column", default="", metavar="NAME", help="Of a table: where prompts are.")
@click.option("--completion-column", default="", metavar="NAME", help="Where completions are.")
@texts_option
@click.option("--base-model", default="smollm2", show_default=True, metavar="ID",
              help="Writes the prompts, with --texts-alone.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of the written prompts.")
@click.option("--output", type=click.Path(path_type=Path), metavar="DEMOS",
              help="Write what is picked to this file, for check and train.")  # fmt: skip
def pick(
    files: tuple[Path, ...],
    rows: str | None,
    voice: str,
    prompt_column: str,
    completion_column: str,
    texts_alone: bool,
    base_model: str,
    seed: int,
    output: Path | None,
) -> None:
    """Show what FILES offer: JSONL, CSV, a chat export, an mbox; or pick from it into DEMOS.

    With --texts-alone FILES hold texts without prompts: plain text, a column of a table, mail.
    """
    from ditto_hub.demos.importers import Choice, pick_demos, save_demos

    choice = Choice(prompt_column, completion_column, voice, numbers(rows), texts_alone)
    if len(files) > 1 and not texts_alone:
        raise click.UsageError("several files are read with --texts-alone only")
    if texts_alone and output is not None:
        written = read_texts(files, base_model, choice, seed)
        save_demos(written, output)
        click.echo(
            f"{len(written)} demonstrations in {output}. Their prompts are not yours: read and edit"
            " them there, then train on it.",
            err=True,
        )
        return
    if output is None:
        for file in files:
            show_offer(file, replace(choice, whole=len(files) > 1))
        return
    found = pick_demos(files[0], choice)
    save_demos(found, output)
    say_notices(found)
    click.echo(f"{len(found)} demonstrations in {output}", err=True)


def read_texts(
    files: Sequence[str | Path], base_model: str, choice: Choice | None = None, seed: int = 0
) -> DemoSet:
    """Read texts without prompts and let a base model write these; show what it wrote.

    Raises:
        DittoError: as the words say.
    """
    from ditto_hub.api.base_models import choose_smollm2
    from ditto_hub.api.prompting import require_texts, stream_prompts
    from ditto_hub.demos.importers import load_texts

    texts = load_texts(files, choice)
    require_texts(tuple(texts), base_model)
    base_model = choose_smollm2(base_model, lambda said: click.echo(said, err=True))
    click.echo(f"{base_model} writes a prompt for each of {len(texts)} texts ...", err=True)
    steps = stream_prompts(texts, base_model, seed=seed, token=token())
    said: set[str] = set()
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            demos: DemoSet = end.value
            break
        click.echo(f"{step.done}/{step.count} {step.demo.id}: {step.demo.prompt_text}", err=True)
        for line in map(told, step.notices):
            click.echo(f"    {line}", err=True)
            said.add(line)
    for line in map(told, demos.notices):
        if line not in said:
            click.echo(line, err=True)
    return demos


def say_notices(demos: DemoSet) -> None:
    """Print what a reader should know of demonstrations."""
    for notice in demos.notices:
        click.echo(told(notice), err=True)


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
    voice = choice.voice or next(iter(found.voices), "")
    rows = list(found.of_voice(voice))
    whose = f", those by {voice}" if voice else ""
    click.echo(f"{found.total} found, {len(rows)} shown{whose}.", err=True)
    for row in rows:
        click.echo(f"{row.number:4} {snippet(row.prompt_text)} -> {snippet(row.completion)}")


def snippet(text: str) -> str:
    """Return the beginning of a text in one line."""
    plain = " ".join(text[: SNIPPET * 4].split())
    return plain if len(plain) <= SNIPPET else f"{plain[:SNIPPET]}..."
