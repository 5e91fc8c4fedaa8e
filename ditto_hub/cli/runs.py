"""Commands about the runs there are: list, show, cancel, keep, kept, restore, delete."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ditto_hub.cli.program import main, token
from ditto_hub.cli.terminal import how_to_load, job_words, show_texts
from ditto_hub.errors import HubError
from ditto_hub.words import told

if TYPE_CHECKING:
    from ditto_hub.runs.folder import Run

SHIPPED_TEXTS = 3  # prompts whose answers are shown of a run that comes with the package
TOLD = ("held_out_loss", "held_out_style", "style_distance", "length_ratio", "distinct_2", "kl")


@main.group("runs")
def runs_group() -> None:
    """List, show, cancel, keep, restore and delete runs."""


@runs_group.command("list")
def runs_list() -> None:
    """List the runs under $DITTO_HUB_HOME, newest first."""
    from ditto_hub.runs.examples import example_runs
    from ditto_hub.runs.folder import Run, home

    found = Run.all()
    if not found:
        click.echo(f"No runs in {home() / 'runs'}.")
    for run in found:
        record = run.record
        click.echo(
            f"{record.id}  {record.status:9}  {record.base_model['id']}  {record.chosen or '-'}"
        )
    for name in example_runs():
        click.echo(f"To look at: ditto-hub runs show {name}", err=True)


@runs_group.command("show")
@click.argument("run")
@click.option("--load", is_flag=True, help="Print the lines that load the adapter, and no more.")
@click.option("--texts", type=click.IntRange(0), metavar="N",
              help="Print the comparisons, and what each method wrote for their first N prompts"
              " [default: 0; 3 for the run that comes with the package].")  # fmt: skip
def runs_show(run: str, load: bool, texts: int | None) -> None:
    """Print a run's state, its candidates' scores and which one was kept.

    RUN may be example:smollm2: a finished run on a real language model, shipped with the package.
    """
    from ditto_hub.cost.estimates import compare_used
    from ditto_hub.runs.folder import Run

    opened = Run.load(run)
    if load:
        click.echo(how_to_load(opened))
        return
    record = opened.record
    click.echo(f"{record.id}: {record.status}, base model {record.base_model['id']}")
    if opened.read_only:
        day = datetime.fromtimestamp(record.created, UTC).date()
        click.echo(f"Shipped with the package; made on {day} by benchmarks/example_run.py.")
    if record.parent:
        click.echo(f"Started from run {record.parent}.")
    for name, candidate in record.candidates.items():
        mark = "*" if name == record.chosen else " "
        scores = candidate["scores"]
        line = "  ".join(f"{key} {scores[key]:.3f}" for key in TOLD if key in scores)
        note = f"  ({told(candidate['degenerate'])})" if candidate["degenerate"] else ""
        click.echo(f"{mark} {name:9} {line}{note}")
    if record.chosen:
        click.echo(f"Kept {record.chosen}: {told(record.chosen_reason)}.")
    if record.stopped_early:
        click.echo(f"Stopped early: {told(record.stopped_early)}.")
    if record.error:
        click.echo(f"Failed: {told(record.error['message'])}")
    if record.job:
        click.echo(job_words(record.job))
    for stage, expected, used in compare_used(record.estimate, record.stage_seconds):
        beside = "" if expected is None else f"  (estimated {expected:.1f} s)"
        click.echo(f"  {stage:10} {used:8.1f} s{beside}")
    if record.estimate:
        click.echo(f"  Estimated from: {record.estimate.get('basis', '')}.")
    count = texts if texts is not None else SHIPPED_TEXTS * opened.read_only
    if count:
        show_whole(opened, count)


def show_whole(run: Run, texts: int) -> None:
    """Print a run's demonstrations, its comparisons, and texts of each method.

    Args:
        texts: prompts of the first comparison whose answers are printed.
    """
    from ditto_hub.api.reports import to_text
    from ditto_hub.runs import results

    for demo in run.demos():
        split = " (held out)" if demo.split == "held_out" else ""
        click.echo(f"\n=== Demonstration {demo.id}{split}: {demo.prompt[-1]['content']}\n")
        click.echo(textwrap.indent(demo.completion, "    "))
    found = results.load_all(run)
    for evaluation in found:
        click.echo(f"\n{to_text(evaluation)}")
    if found:
        show_texts(found[0], texts)


@runs_group.command("cancel")
@click.argument("run")
def runs_cancel(run: str) -> None:
    """Cancel a RUN; what it has is kept and it can be resumed."""
    from ditto_hub.api import cancel
    from ditto_hub.runs.folder import Run

    opened = Run.load(run)
    cancel(opened, token())
    click.echo(f"Cancelled. Go on with: ditto-hub resume {opened.folder}")


@runs_group.command("keep")
@click.argument("run")
@click.option("--namespace", metavar="NAME", help="Organisation that keeps it [default: yourself].")
def runs_keep(run: str, namespace: str | None) -> None:
    """Keep a RUN in a private repo of yours, so that it can go on on another machine."""
    from ditto_hub.api import save_run
    from ditto_hub.runs.folder import Run

    opened = Run.load(run)
    repo_id = save_run(opened, token(), namespace)
    click.echo(f"Kept in {repo_id}, private. Elsewhere: ditto-hub runs restore {opened.record.id}")


@runs_group.command("kept")
@click.option("--namespace", metavar="NAME", help="Organisation that keeps them.")
def runs_kept(namespace: str | None) -> None:
    """List the runs that are kept in private repos of yours, newest first."""
    from ditto_hub.api import saved_runs

    found = saved_runs(token(), namespace)
    if not found:
        click.echo("No runs are kept there.")
    for run in found:
        click.echo(f"{run.run_id}  {run.status:9}  {run.base_model}  {run.bytes / 1e6:.1f} MB")


@runs_group.command("restore")
@click.argument("run_id")
@click.option("--namespace", metavar="NAME", help="Organisation that keeps it [default: yourself].")
@click.option("--output", metavar="RUN", help="The run's folder [default: where new runs go].")
def runs_restore(run_id: str, namespace: str | None, output: str | None) -> None:
    """Bring the kept run RUN_ID to this machine."""
    from ditto_hub.api import restore_run

    run = restore_run(run_id, token(), namespace=namespace, output=output)
    click.echo(f"Run {run_id} ({run.record.status}) is in {run.folder}.")


@runs_group.command("delete")
@click.argument("run")
@click.option("--yes", is_flag=True, help="Do not ask.")
def runs_delete(run: str, yes: bool) -> None:
    """Delete a RUN with its demonstrations and everything it made."""
    from ditto_hub.api import forget_job, leave_job
    from ditto_hub.runs.folder import Run

    opened = Run.load(run)
    if not yes:
        click.confirm(f"Delete {opened.folder} and all in it?", abort=True)
    leave_job(opened, token())
    try:
        forget_job(opened, token())
    except HubError as error:
        click.echo(
            f"Its private repo {opened.record.job['repo']} is still there: {error}", err=True
        )
    opened.delete()
    click.echo(f"Deleted {opened.record.id}.")
