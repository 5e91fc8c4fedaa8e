"""Commands about what came out: generate, evaluate, card, export, pairs, publish."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ditto_hub.cli.program import EXIT_FAILED, main, token
from ditto_hub.cli.terminal import ask_person, show_texts
from ditto_hub.errors import DittoError, describe

if TYPE_CHECKING:
    from ditto_hub.runs.folder import Run
    from ditto_hub.runs.results import Evaluation

log = logging.getLogger(__name__)


@main.command()
@click.argument("target", metavar="RUN|ADAPTER")
@click.argument("prompt")
@click.option("--adapter-off", is_flag=True, help="Write as the base model.")
@click.option("--candidate", metavar="NAME", help="sft, sft-long or round-N [default: the chosen].")
@click.option("--samples", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--temperature", type=click.FloatRange(0, 5), metavar="X",
              help="[default: the run's reading.temperature; that of a base model that recommends"
              " one, else 0.7]")  # fmt: skip
@click.option("--top-p", type=click.FloatRange(0, 1), metavar="X",
              help="[default: the run's reading.top_p; that of a base model that recommends one,"
              " else 0.9]")  # fmt: skip
def generate(target: str, prompt: str, candidate: str | None, **options: Any) -> None:
    """Write an answer to PROMPT with the adapter of a run, a folder, or a Hub repo."""
    from dataclasses import replace

    from ditto_hub.api import load

    asked = {name: options.pop(name) for name in ("temperature", "top_p")}
    voice = load(target, candidate, token())
    given = {name: value for name, value in asked.items() if value is not None}
    voice.reading = replace(voice.reading, **given)
    texts = voice.generate(prompt, **options)
    click.echo("\n\n---\n\n".join(texts))


@main.command()
@click.argument("run")
@click.option(
    "--methods", metavar="A,B,...", help="[default: zero-shot,few-shot,sft,sft-long,ditto]"
)
@click.option(
    "--prompts",
    "prompts_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Prompts that had no part in training [default: the shipped voice's, or new"
    " ones that the model writes].",
)
@click.option(
    "--judge",
    "judges",
    multiple=True,
    metavar="JUDGE",
    help="grammar[:TRAITS_FILE], stylometric, llm:MODEL[@URL], person; may be repeated.",
)
@click.option(
    "--samples",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Answers a method gives to each prompt.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--self-prompt", default="", metavar="TEXT", help="Instructions for self-prompt.")
@click.option("--train-rivals", is_flag=True,
              help="Train spin, dpo-base and dpo-sft first where they are named and not there yet;"
              " an offline judge labels the pairs of the last two.")  # fmt: skip
@click.option("--max-pairs", type=click.IntRange(0), default=0, metavar="N",
              help="Ask a language model or a person about N pairs at most, drawn at random"
              " [default: all; a person 20].")  # fmt: skip
@click.option("--price", type=(click.FloatRange(0), click.FloatRange(0)), metavar="IN OUT",
              help="Of the language model that judges, in dollars for a million tokens read and"
              " written, to say beforehand what it may cost [default: of the Hub's list of"
              " Inference Providers, the dearest].")  # fmt: skip
@click.option("--show", type=click.IntRange(0), default=0, metavar="N",
              help="Print what the methods wrote for the first N prompts.")  # fmt: skip
def evaluate(
    run: str,
    methods: str | None,
    prompts_file: Path | None,
    judges: tuple[str, ...],
    show: int,
    train_rivals: bool,
    **options: Any,
) -> None:
    """Compare a RUN with its baselines; what comes out is saved in the run.

    METHODS: zero-shot, few-shot, self-prompt (your own --self-prompt), style-guide (the model's
    own), sft, sft-long, spin, dpo-base, dpo-sft, ditto, ditto-few-shot, round-N, or rounds for
    all of them. The same command goes on with an evaluation that was interrupted.
    """
    from ditto_hub.api.reports import read_prompts
    from ditto_hub.runs.folder import Run

    opened = Run.load(run)
    named = tuple(m.strip() for m in methods.split(",")) if methods else ()
    if train_rivals:
        train_missing(opened, named, judges)
    show_evaluation(
        opened,
        show,
        methods=named,
        prompts=read_prompts(prompts_file) if prompts_file else (),
        judges=judges,
        token=token(),
        ask=ask_person,
        **options,
    )


def train_missing(run: Run, methods: Sequence[str], judges: Sequence[str]) -> None:
    """Train the rivals among some methods that the run has no adapter of yet."""
    from ditto_hub import api
    from ditto_hub.api.reports import RIVALS
    from ditto_hub.events import StageFinished

    judge = next((j for j in judges if j.partition(":")[0] in ("grammar", "stylometric")), "")
    for name in methods:
        if name not in RIVALS or name in run.candidates():
            continue
        for event in api.train_rival(run, name, judge=judge, token=token()):
            if isinstance(event, StageFinished):
                note = f" ({event.reason})" if event.reason else ""
                stage = f"{event.stage} {(event.round or 0) + 1}{note}"
                click.echo(f"training {name}: {stage}", err=True)


def compare_with_baselines(run: Run, err: bool) -> None:
    """Print the comparison that always comes with a run; a failure of it fails nothing else.

    Args:
        run: a finished one.
        err: whether to print it on stderr.
    """
    try:
        show_evaluation(run, 0, err, samples=2)
    except Exception as error:  # whatever it is, the adapter is there
        what, _ = describe(error)
        again = f"Try again with: ditto-hub evaluate {run.folder}"
        click.echo(f"Not compared with the baselines: {what} {again}", err=True)
        if not isinstance(error, DittoError):
            log.exception("run %s was not compared", run.record.id)


def show_evaluation(run: Run, show: int, err: bool = False, **options: Any) -> None:
    """Drive an evaluation and print its tables, and texts where asked for.

    Raises:
        DittoError: what stopped it, or one of the judges; what there is has been printed.
    """
    from ditto_hub import api
    from ditto_hub.api.notices import notices
    from ditto_hub.runs.results import Evaluation

    latest: dict[str, Evaluation] = {}
    try:
        for item in api.stream_evaluate(run, **options):
            if isinstance(item, Evaluation):
                latest[item.judge] = item
            else:
                words = f" ({item.words})" if item.words else ""
                click.echo(f"{item.step} {item.name}: {item.done}/{item.total}{words}", err=True)
    except DittoError:
        _print_evaluations(run, latest.values(), err)
        raise
    _print_evaluations(run, latest.values(), err)
    for message in notices(run).values():
        click.echo(message, err=True)
    if show and latest:
        show_texts(next(iter(latest.values())), show)


def _print_evaluations(run: Run, found: Collection[Evaluation], err: bool) -> None:
    from ditto_hub.api.choosing import BY_HAND
    from ditto_hub.api.reports import prompting_ahead, to_text

    for evaluation in found:
        click.echo(f"\n{to_text(evaluation)}", err=err)
    record = run.record
    if found and record.chosen and record.chosen_rule != BY_HAND:
        click.echo(
            f"\nThe adapter kept is {record.chosen}, by the rule {record.chosen_rule!r}: neither"
            " the judges above nor the prompts that they count had a part in that.",
            err=err,
        )
    for line in prompting_ahead(found, record.chosen or ""):
        click.echo(line, err=err)


@main.command()
@click.argument("run")
def card(run: str) -> None:
    """Write the model card of a RUN's adapter again, with its pictures."""
    from ditto_hub.api.publishing import write_card
    from ditto_hub.runs.folder import Run

    opened = Run.load(run)
    write_card(opened)
    click.echo(opened.folder / "adapter" / "README.md")


@main.command()
@click.argument("run")
@click.option("--gguf", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Write the adapter alone as a GGUF file, for llama.cpp and Ollama.")  # fmt: skip
@click.option("--merged", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Write the base model with the adapter merged in, as safetensors.")  # fmt: skip
@click.option("--candidate", metavar="NAME", help="sft, sft-long or round-N [default: the chosen].")
def export(run: str, gguf: Path | None, merged: Path | None, candidate: str | None) -> None:
    """Write a RUN's adapter for other programs, with a Modelfile and a README.txt.

    Give --gguf or --merged. FOLDER is new or empty, and is written whole or not at all.
    """
    from ditto_hub import api
    from ditto_hub.runs.folder import Run

    folder = gguf or merged
    if folder is None or (gguf and merged):
        raise click.UsageError("Give either --gguf FOLDER or --merged FOLDER.")
    made = api.export(
        Run.load(run), folder, form="gguf" if gguf else "merged", candidate=candidate, token=token()
    )
    for path in sorted(made.iterdir()):
        click.echo(path)


@main.command()
@click.argument("run")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the pairs to this file [default: print them].")  # fmt: skip
@click.option("--kind", "kinds", multiple=True, metavar="KIND",
              help="online, intermodel, edit or vote; may be repeated [default: all].")  # fmt: skip
def pairs(run: str, output: Path | None, kinds: tuple[str, ...]) -> None:
    """Write a RUN's comparisons and blind votes as preference data, one JSON object a line.

    The form is TRL's: prompt, chosen and rejected as lists of messages; beside them the kind of
    the pair and its round. The file holds your demonstrations.
    """
    from ditto_hub import api
    from ditto_hub.api.preferences import KINDS
    from ditto_hub.runs.folder import Run
    from ditto_hub.runs.storage import write_atomic

    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise click.BadParameter(
            f"{unknown[0]!r} is none of {', '.join(KINDS)}", param_hint="--kind"
        )
    data = api.preferences_bytes(Run.load(run), kinds or KINDS)
    if output is None:
        click.echo(data, nl=False)
        return
    write_atomic(output, data)
    click.echo(f"{len(data.splitlines())} pairs in {output}", err=True)


@main.command()
@click.argument("run")
@click.argument("repo_id")
@click.option("--public", is_flag=True, help="Everybody may see it; private otherwise.")
@click.option(
    "--include-demos",
    is_flag=True,
    help="Put the demonstrations into the repo: whoever may see it can read them.",
)
@click.option("--include-outputs", is_flag=True, help="Show sample outputs in the card.")
@click.option("--candidate", metavar="NAME", help="sft, sft-long or round-N [default: the chosen].")
@click.option("--base-model-id", metavar="ID", help="Of a base in a folder: its id on the Hub.")
@click.option("--replaces", metavar="REPO_ID",
              help="Of a new repo: the repo of the earlier version, whose card then names the new"
              " one.")  # fmt: skip
@click.option("--dry-run", is_flag=True,
              help="Write the folder and show the card; with a token the Hub is read, never"
              " written to.")  # fmt: skip
def publish(run: str, repo_id: str, dry_run: bool, **options: Any) -> None:
    """Publish a RUN's adapter with a model card to REPO_ID on the Hub; check that it loads.

    To a repo that holds another run's adapter it is published as the next version: a commit of
    its own with a tag, v2, v3, ..., and a card that says what changed.
    """
    from ditto_hub import api
    from ditto_hub.api.publishing import PublishOptions, receipt_words
    from ditto_hub.runs.folder import Run

    opened = Run.load(run)
    if dry_run:
        options["dry_run"] = opened.folder / "publish"
        shutil.rmtree(options["dry_run"], ignore_errors=True)
    steps = api.stream_publish(opened, repo_id, PublishOptions(**options), token=token())
    while True:
        try:
            click.echo(f"{next(steps).message} ...", err=True)
        except StopIteration as end:
            receipt = end.value
            break
    if dry_run:
        click.echo((opened.folder / "publish" / "README.md").read_text("utf-8"))
    click.echo(receipt_words(receipt))
    if not receipt.good:
        raise SystemExit(EXIT_FAILED)
