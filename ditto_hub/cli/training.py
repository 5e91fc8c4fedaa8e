"""Commands that work on a run: train, resume."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ditto_hub.cli.jobs import backend_for, job_options, require_options
from ditto_hub.cli.picking import read_texts
from ditto_hub.cli.program import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PAUSED, main, token
from ditto_hub.cli.results import compare_with_baselines
from ditto_hub.cli.settings import read_config, run_options, texts_option
from ditto_hub.cli.terminal import Bar, JsonLines, first_interrupt_pauses, how_to_load

if TYPE_CHECKING:
    from ditto_hub.demos.demonstrations import DemoSet
    from ditto_hub.events import Event
    from ditto_hub.runs.folder import Run
from ditto_hub.words import Text, told


@main.command()
@click.argument("demos")
@run_options
@texts_option
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
@job_options
@click.option("--json", "as_json", is_flag=True, help="One event a line on stdout, nothing else.")
@click.option("--compare/--no-compare", default=True, show_default=True,
              help="Compare with the baselines when the run has finished.")  # fmt: skip
def train(
    demos: str,
    output: Path | None,
    parent: str | None,
    texts_alone: bool,
    as_json: bool,
    compare: bool,
    **options: Any,
) -> None:
    """Turn DEMOS into a LoRA adapter."""
    from ditto_hub import api
    from ditto_hub.api.base_models import choose_smollm2
    from ditto_hub.runs.folder import Run

    if api.assisting(token()):
        return
    where = {name: options.pop(name) for name in ("backend", "flavor", "namespace", "keep_repo")}
    require_options(where["backend"], where["flavor"], where["namespace"])
    mother = Run.load(parent) if parent else None
    config = read_config(**options, start=mother.config if mother else None)
    if mother is None:
        options["base_model"] = choose_smollm2(options["base_model"], say_on_stderr)
    else:
        options["base_model"] = str(mother.record.base_model["id"])
    given: DemoSet | str = demos
    if texts_alone:
        given = read_texts([demos], options["base_model"], seed=options["seed"])
        say_on_stderr(
            "Training on these prompts. To edit them first: ditto-hub pick"
            f" {shlex.quote(demos)} --texts-alone --output demos.jsonl"
        )
    run = api.create_run(
        given, options["base_model"], config, output=output, parent=mother, token=token()
    )
    if options["base_model"] == "pocket":
        for finding in api.outside_pocket(run.demos()):
            say_on_stderr(f"warning: {finding.message} [{', '.join(finding.ids)}]")
    for notice in run.record.notices:
        say_on_stderr(f"warning: {told(notice['message'])}")
    work_on(run, as_json, where)
    conclude(run, compare, err=as_json)


def say_on_stderr(words: Text) -> None:
    """Print a line that is no result."""
    click.echo(words, err=True)


@main.command()
@click.argument("run")
@job_options
@click.option("--json", "as_json", is_flag=True, help="One event a line on stdout, nothing else.")
@click.option("--compare/--no-compare", default=True, show_default=True,
              help="Compare with the baselines when the run has finished.")  # fmt: skip
def resume(run: str, as_json: bool, compare: bool, **where: Any) -> None:
    """Go on with a RUN that was paused, cancelled, interrupted or has failed, or watch its job."""
    from ditto_hub import api
    from ditto_hub.runs.folder import Run

    if api.assisting(token()):
        return
    opened = Run.load(run)
    work_on(opened, as_json, where)
    conclude(opened, compare, err=as_json)


def conclude(run: Run, compare: bool, err: bool) -> None:
    """Say how a finished run compares, which method is right in its regime, and how to load it.

    Args:
        run: that has come to its end.
        compare: whether to compare it with its baselines first.
        err: whether to say it on stderr, where stdout is for events alone.
    """
    from ditto_hub.api.reports import advice
    from ditto_hub.runs.folder import Run

    run = Run.load(run.folder)  # a job may have worked on it
    if compare:
        compare_with_baselines(run, err)
    for line in advice(len(run.demos().train), str(run.record.base_model["id"])):
        click.echo(line, err=err)
    click.echo(how_to_load(run), err=err)


def work_on(run: Run, as_json: bool, where: dict[str, Any]) -> None:
    """Drive a run, showing its progress, and leave with the exit code its end asks for."""
    from ditto_hub import api
    from ditto_hub.events import RunCancelled, RunFailed, RunPaused

    click.echo(f"Run {run.record.id} in {run.folder}", err=True)
    backend = backend_for(run, **where)
    last: Event | None = None
    with first_interrupt_pauses() as should_stop:
        show = JsonLines() if as_json else Bar(run)
        show.catch_up(run.events())
        for event in api.drive(run, backend=backend, should_stop=should_stop, token=token()):
            show.see(event)
            last = event
        show.close()
        interrupted = should_stop()
    if isinstance(last, RunPaused | RunCancelled):
        word = "Cancelled" if isinstance(last, RunCancelled) else f"Paused: {last.reason}"
        click.echo(f"{word}. Go on with: ditto-hub resume {run.folder}", err=True)
        raise SystemExit(EXIT_INTERRUPTED if interrupted else EXIT_PAUSED)
    if isinstance(last, RunFailed):  # in a job; here its error is raised
        click.echo(f"Failed. Once that is mended: ditto-hub resume {run.folder}", err=True)
        raise SystemExit(EXIT_FAILED)
    if interrupted and backend is not None:
        click.echo(f"The job goes on. Watch it with: ditto-hub resume {run.folder}", err=True)
        raise SystemExit(EXIT_INTERRUPTED)
