"""The command line: parses, calls api, prints.

Exit codes: 0 done, 1 a known failure told in one paragraph, 2 wrong usage, 3 paused and resumable,
130 interrupted, the run kept.
"""

from __future__ import annotations

import json
import os
import shutil
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ditto_hub import __version__
from ditto_hub.errors import DittoError, describe
from ditto_hub.terminal import (
    Bar,
    JsonLines,
    ask_person,
    first_interrupt_pauses,
    how_to_load,
    show_texts,
)

if TYPE_CHECKING:
    from ditto_hub.config import RunConfig
    from ditto_hub.events import Event
    from ditto_hub.runs import Run

EXIT_FAILED, EXIT_PAUSED, EXIT_INTERRUPTED = 1, 3, 130


class Program(click.Group):
    """Tell known failures in one paragraph and give them their exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        quieten_libraries()
        try:
            return super().invoke(ctx)
        except DittoError as error:
            what, remedy = describe(error)
            told = f"Error: {what} {remedy}".strip()
            lines = textwrap.fill(told, 100, break_long_words=False, break_on_hyphens=False)
            click.echo(lines, err=True)
            ctx.exit(EXIT_FAILED)
        except KeyboardInterrupt:
            click.echo("\nInterrupted; what was saved is kept.", err=True)
            ctx.exit(EXIT_INTERRUPTED)


def quieten_libraries() -> None:
    """Keep other libraries' bars and notes off the terminal; errors still come through."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for module in ("transformers", "trl", "peft", "torch", "huggingface_hub"):
        warnings.filterwarnings("ignore", module=module)


def token() -> str | None:
    """Return the Hub token the user has set up on this machine, or None."""
    from huggingface_hub import get_token

    return get_token()


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ditto-hub")
def main() -> None:
    """Show a language model a few examples of your writing; get a LoRA adapter that writes so.

    DEMOS is a file of two to fifty demonstrations: JSON lines with `prompt` and `completion` or
    with `messages`, JSON, or CSV; or example:NAME for a set shipped with the package (harbor,
    gazette, sprout). RUN is a run's id or folder.
    """


# ---- options shared by train and estimate --------------------------------------------------------


def run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that settle what a run is."""
    options = [
        click.option("--base-model", default="pocket", show_default=True, metavar="ID",
                     help="pocket (embedded), a Hub id, or a folder."),
        click.option("--preset", "preset_name", type=click.Choice(["pocket", "fast", "paper"]),
                     help="Settings to start from [default: pocket's own for pocket, else fast]."),
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


# ---- demonstrations and settings -----------------------------------------------------------------


@main.command("check")
@click.argument("demos")
@click.option("--base-model", metavar="ID", help="Count lengths in this base model's tokens.")
def check_command(demos: str, base_model: str | None) -> None:
    """Say what is wrong with DEMOS and what could be better."""
    from ditto_hub.api import check_demos

    found, findings = check_demos(demos, base_model)
    click.echo(f"{len(found)} demonstrations.")
    for finding in findings:
        about = f" [{', '.join(finding.ids)}]" if finding.ids else ""
        click.echo(f"{finding.level}: {finding.message}{about}")
    if any(f.level == "error" for f in findings):
        raise SystemExit(EXIT_FAILED)
    if not findings:
        click.echo("Nothing to complain about.")


@main.command("settings")
@click.option("--preset", "preset_name", default="pocket", show_default=True,
              type=click.Choice(["pocket", "fast", "paper"]))  # fmt: skip
def settings_command(preset_name: str) -> None:
    """List every setting with its value in a preset, its meaning and its range."""
    from ditto_hub.config import SECTIONS, dials, preset

    config = preset(preset_name)
    for section in SECTIONS:
        for name, dial in dials(section).items():
            value = json.dumps(getattr(getattr(config, section), name))
            click.echo(f"{section}.{name}={value}")
            click.echo(textwrap.indent(textwrap.fill(str(dial), 92), "    "))


@main.command()
@click.argument("demos")
@run_options
def estimate(demos: str, **options: Any) -> None:
    """Say what a run on DEMOS will take on this machine, from a few measured steps."""
    from ditto_hub.api import estimate_run
    from ditto_hub.progress import clock

    config = read_config(**options)
    found = estimate_run(demos, options["base_model"], config)
    for stage, seconds in found.seconds.items():
        click.echo(f"{stage:12} {clock(seconds):>8}")
    click.echo(f"{'in all':12} {clock(found.total_seconds):>8}")
    click.echo(f"memory       {found.memory_bytes / 2**30:7.1f} GiB")
    click.echo(f"Rates {found.basis}; a run may stop earlier.")


# ---- training ------------------------------------------------------------------------------------


@main.command()
@click.argument("demos")
@run_options
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="The run's folder [default: a new one under $DITTO_HUB_HOME/runs].",
)
@click.option(
    "--parent",
    metavar="RUN",
    help="Start from a finished run's adapter, with its demonstrations before these.",
)
@click.option("--json", "as_json", is_flag=True, help="One event a line on stdout, nothing else.")
@click.option("--compare/--no-compare", default=True, show_default=True,
              help="Compare with the baselines when the run has finished.")  # fmt: skip
def train(
    demos: str,
    output: Path | None,
    parent: str | None,
    as_json: bool,
    compare: bool,
    **options: Any,
) -> None:
    """Turn DEMOS into a LoRA adapter."""
    from ditto_hub import api
    from ditto_hub.runs import Run

    mother = Run.load(parent) if parent else None
    config = read_config(**options, start=mother.config if mother else None)
    run = api.create_run(
        demos, options["base_model"], config, output=output, parent=mother, token=token()
    )
    work_on(run, as_json)
    if compare and not as_json:
        compare_with_baselines(run)
    if not as_json:
        click.echo(how_to_load(run))


@main.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="One event a line on stdout, nothing else.")
def resume(run: str, as_json: bool) -> None:
    """Go on with a RUN that was paused, cancelled, interrupted or has failed."""
    from ditto_hub.runs import Run

    opened = Run.load(run)
    work_on(opened, as_json)
    if not as_json:
        click.echo(how_to_load(opened))


def work_on(run: Run, as_json: bool) -> None:
    """Drive a run, showing its progress, and leave with the exit code its end asks for."""
    from ditto_hub import api
    from ditto_hub.events import RunCancelled, RunPaused

    click.echo(f"Run {run.record.id} in {run.folder}", err=True)
    last: Event | None = None
    with first_interrupt_pauses() as should_stop:
        show = JsonLines() if as_json else Bar(run)
        for event in api.drive(run, should_stop=should_stop, token=token()):
            show.see(event)
            last = event
        show.close()
        interrupted = should_stop()
    if isinstance(last, RunPaused | RunCancelled):
        word = "Cancelled" if isinstance(last, RunCancelled) else "Paused"
        click.echo(f"{word}. Go on with: ditto-hub resume {run.folder}", err=True)
        raise SystemExit(EXIT_INTERRUPTED if interrupted else EXIT_PAUSED)


# ---- writing and comparing -----------------------------------------------------------------------


@main.command()
@click.argument("target", metavar="RUN|ADAPTER")
@click.argument("prompt")
@click.option("--adapter-off", is_flag=True, help="Write as the base model.")
@click.option("--candidate", metavar="NAME", help="sft, sft-long or round-N [default: the chosen].")
@click.option("--samples", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def generate(
    target: str, prompt: str, adapter_off: bool, candidate: str | None, samples: int, seed: int
) -> None:
    """Write an answer to PROMPT with the adapter of a run, a folder, or a Hub repo."""
    from ditto_hub.api import load

    voice = load(target, candidate, token())
    texts = voice.generate(prompt, samples=samples, seed=seed, adapter_off=adapter_off)
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
@click.option("--show", type=click.IntRange(0), default=0, metavar="N",
              help="Print what the methods wrote for the first N prompts.")  # fmt: skip
def evaluate(
    run: str,
    methods: str | None,
    prompts_file: Path | None,
    judges: tuple[str, ...],
    samples: int,
    seed: int,
    self_prompt: str,
    show: int,
) -> None:
    """Compare a RUN with its baselines; what comes out is saved in the run."""
    from ditto_hub.evaluation.prompts import read_prompts
    from ditto_hub.runs import Run

    show_evaluation(
        Run.load(run),
        show,
        methods=tuple(m.strip() for m in methods.split(",")) if methods else (),
        prompts=read_prompts(prompts_file) if prompts_file else (),
        judges=judges,
        samples=samples,
        seed=seed,
        self_prompt=self_prompt,
        token=token(),
        ask=ask_person,
    )


def compare_with_baselines(run: Run) -> None:
    """Print the comparison that always comes with a run; a failure of it fails nothing else."""
    try:
        show_evaluation(run, 0, samples=2)
    except DittoError as error:
        click.echo(f"Not compared with the baselines: {error}", err=True)


def show_evaluation(run: Run, show: int, **options: Any) -> None:
    """Drive an evaluation and print its tables, and texts where asked for."""
    from ditto_hub import api
    from ditto_hub.evaluation.report import to_text
    from ditto_hub.results import Evaluation

    latest: dict[str, Evaluation] = {}
    for item in api.evaluate(run, **options):
        if isinstance(item, Evaluation):
            latest[item.judge] = item
        else:
            click.echo(f"{item.step} {item.name}: {item.done}/{item.total}", err=True)
    for evaluation in latest.values():
        click.echo()
        click.echo(to_text(evaluation))
    if show and latest:
        show_texts(next(iter(latest.values())), show)


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
@click.option("--dry-run", is_flag=True, help="Write the folder and show the card; no network.")
def publish(run: str, repo_id: str, dry_run: bool, **options: Any) -> None:
    """Publish a RUN's adapter with a model card to REPO_ID on the Hub; check that it loads."""
    from ditto_hub import api
    from ditto_hub.hub.receipt import render_receipt
    from ditto_hub.runs import Run

    opened = Run.load(run)
    if dry_run:
        options["dry_run"] = opened.folder / "publish"
        shutil.rmtree(options["dry_run"], ignore_errors=True)
    steps = api.publish(opened, repo_id, token=token(), **options)
    while True:
        try:
            click.echo(f"{next(steps).message} ...", err=True)
        except StopIteration as end:
            receipt = end.value
            break
    if dry_run:
        click.echo((opened.folder / "publish" / "README.md").read_text("utf-8"))
    click.echo(render_receipt(receipt))
    if not receipt.good:
        raise SystemExit(EXIT_FAILED)


# ---- runs ----------------------------------------------------------------------------------------


@main.group("runs")
def runs_group() -> None:
    """List, show, cancel and delete runs."""


@runs_group.command("list")
def runs_list() -> None:
    """List the runs under $DITTO_HUB_HOME, newest first."""
    from ditto_hub.runs import Run, home

    found = Run.all()
    if not found:
        click.echo(f"No runs in {home() / 'runs'}.")
    for run in found:
        record = run.record
        click.echo(
            f"{record.id}  {record.status:9}  {record.base_model['id']}  {record.chosen or '-'}"
        )


@runs_group.command("show")
@click.argument("run")
@click.option("--load", is_flag=True, help="Print the lines that load the adapter, and no more.")
def runs_show(run: str, load: bool) -> None:
    """Print a run's state, its candidates' scores and which one was kept."""
    from ditto_hub.runs import Run

    opened = Run.load(run)
    if load:
        click.echo(how_to_load(opened))
        return
    record = opened.record
    click.echo(f"{record.id}: {record.status}, base model {record.base_model['id']}")
    if record.parent:
        click.echo(f"Started from run {record.parent}.")
    for name, candidate in record.candidates.items():
        mark = "*" if name == record.chosen else " "
        scores = candidate["scores"]
        told = ["held_out_loss", "style_distance", "length_ratio", "distinct_2", "kl", "ordered"]
        line = "  ".join(f"{key} {scores[key]:.3f}" for key in told if key in scores)
        note = f"  ({candidate['degenerate']})" if candidate["degenerate"] else ""
        click.echo(f"{mark} {name:9} {line}{note}")
    if record.chosen:
        click.echo(f"Kept {record.chosen}: {record.chosen_reason}.")
    if record.stopped_early:
        click.echo(f"Stopped early: {record.stopped_early}.")
    if record.error:
        click.echo(f"Failed: {record.error['message']}")
    for stage, seconds in record.stage_seconds.items():
        click.echo(f"  {stage:10} {seconds:8.1f} s")


@runs_group.command("cancel")
@click.argument("run")
def runs_cancel(run: str) -> None:
    """Cancel a RUN; what it has is kept and it can be resumed."""
    from ditto_hub.api import cancel
    from ditto_hub.runs import Run

    opened = Run.load(run)
    cancel(opened)
    click.echo(f"Cancelled. Go on with: ditto-hub resume {opened.folder}")


@runs_group.command("delete")
@click.argument("run")
@click.option("--yes", is_flag=True, help="Do not ask.")
def runs_delete(run: str, yes: bool) -> None:
    """Delete a RUN with its demonstrations and everything it made."""
    from ditto_hub.runs import Run

    opened = Run.load(run)
    if not yes:
        click.confirm(f"Delete {opened.folder} and all in it?", abort=True)
    opened.delete()
    click.echo(f"Deleted {opened.record.id}.")


if __name__ == "__main__":
    main()
