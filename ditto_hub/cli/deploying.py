"""The command that puts a Space on the Hub."""

from __future__ import annotations

from pathlib import Path

import click

from ditto_hub.cli.program import main, token


@main.command()
@click.argument("space_id")
@click.option(
    "--hardware",
    default="zero-a10g",
    show_default=True,
    metavar="NAME",
    help="zero-a10g (each visitor's own quota), cpu-basic (free), or a GPU that you pay for, such"
    " as l4x1, a10g-small, l40sx1, a100-large.",
)
@click.option("--base-model", metavar="ID", help="Offered first [default: the hardware's own].")
@click.option("--public", is_flag=True, help="Let everybody see a Space that is made anew.")
@click.option("--dry-run", is_flag=True, help="Write the folder and send nothing.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Of the dry run [default: space-NAME here].",
)
def deploy(
    space_id: str,
    hardware: str,
    base_model: str | None,
    public: bool,
    dry_run: bool,
    output: Path | None,
) -> None:
    """Create the Space SPACE_ID (USER/NAME), or bring it up to date, from this installation."""
    from ditto_hub.api.spaces import deploy_steps, plan_space

    plan = plan_space(hardware, base_model)
    if not dry_run:
        for step in deploy_steps(plan, space_id, token=token(), public=public):
            click.echo(step.words)
        return
    folder = output or Path(f"space-{space_id.rpartition('/')[2]}")
    plan.write(folder)
    click.echo(f"{folder}: {len(plan.files)} files, profile {plan.profile.name}, on {hardware}.")
    for key, value in plan.variables.items():
        click.echo(f"variable {key}={value}")
    if plan.sleep_time_s:
        click.echo(f"sleeps after {plan.sleep_time_s} s idle")
    for words in plan.notes:
        click.echo(words)
