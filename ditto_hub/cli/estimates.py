"""The command that says what a run will take, here or on hardware that is not at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ditto_hub.cli.program import main
from ditto_hub.cli.settings import read_config, run_options, texts_option
from ditto_hub.tokens import Token

if TYPE_CHECKING:
    from ditto_hub.cost.estimates import Estimate
    from ditto_hub.cost.roofline import Job
    from ditto_hub.demos.demonstrations import DemoSet


@main.command()
@click.argument("demos")
@run_options
@texts_option
@click.option(
    "--device",
    metavar="here|all|NAME",
    help="here measures a few steps on this machine; a name such as a10g-small or zero-a10g, or"
    " all, is computed [default: here for pocket, smollm2 and folders, else all].",
)
def estimate(demos: str, device: str | None, texts_alone: bool, **options: Any) -> None:
    """Say what a run on DEMOS will take: seconds, memory, money, a day's quota."""
    from ditto_hub.api import estimate_run, planned_job
    from ditto_hub.demos.importers import load_texts

    base, config = options["base_model"], read_config(**options)
    here = base in ("pocket", "smollm2") or Path(base).is_dir()
    device = device or ("here" if here else "all")
    given = load_texts([demos]) if texts_alone else demos
    if device == "here":
        _show_here(estimate_run(given, base, config))
    elif device == "all":
        _show_all(given, base, config)
    else:
        job = planned_job(given, base, config, device, _token())
        _show_one(estimate_run(given, base, config, device, token=_token()), job)


def _token() -> Token:
    from ditto_hub.cli.program import token

    return token()


def _show_stages(found: Estimate) -> None:
    from ditto_hub.runs.progress import clock

    for stage, seconds in found.seconds.items():
        click.echo(f"{stage:12} {clock(seconds):>8}")
    click.echo(f"{'in all':12} {clock(found.total_seconds):>8}")
    click.echo(f"memory       {found.memory_bytes / 2**30:7.1f} GiB")


def _show_here(found: Estimate) -> None:
    _show_stages(found)
    click.echo(f"Rates {found.basis}; a run may stop earlier.")


def _show_one(found: Estimate, job: Job) -> None:
    click.echo(f"{found.words}:")
    _show_stages(found)
    if found.price_usd is not None:
        click.echo(f"price        {found.price_usd:7.2f} USD")
    _tell_room(found)
    if found.budget is not None:
        _show_budget(found, job)
    click.echo(f"Rates {found.basis}; a run may stop earlier.")


def _tell_room(found: Estimate) -> None:
    if found.fits:
        return
    if found.possible:
        click.echo("It does not fit as it is: batches would be halved on the way. Better:")
    else:
        click.echo("It does not fit, even in the smallest batches. What would:")
    for remedy in found.remedies:
        click.echo(f"  {remedy}")


def _show_budget(found: Estimate, job: Job) -> None:
    """Print the sum of a day's quota, and what would bring it under a free account's."""
    from ditto_hub.cost.devices import QUOTAS
    from ditto_hub.cost.quota import fit_quota, fitting_words

    spent = found.budget
    if spent is None:
        return
    rows = {"drafting": spent.drafting, "prompts": spent.prompts, "training": spent.training,
            "comparing": spent.comparing, "trying": spent.trying}  # fmt: skip
    if not spent.prompts:
        del rows["prompts"]
    click.echo(f"Seconds of ZeroGPU quota, {spent.start_s:.0f} s of them to begin each lease:")
    for name, seconds in rows.items():
        leases = f"  in {spent.leases} leases" if name == "training" else ""
        click.echo(f"  {name:10} {seconds:6.0f}{leases}")
    click.echo(f"  {'in all':10} {spent.total:6.0f}")
    for quota in QUOTAS.values():
        days = -(-spent.total // quota.seconds)
        fits = "fits" if spent.fits(quota.seconds) else f"takes {days:.0f} days"
        click.echo(f"  {quota.name + ' account':22} {quota.seconds:5} s a day: {fits}")
    free = QUOTAS["free"].seconds
    if spent.fits(free):
        return
    words, settings = fitting_words(job, free), fit_quota(job, free)
    if words:
        click.echo(f"  It would fit {free} s with completions of up to {words} words,")
    if settings:
        click.echo(f"  or with {' '.join(f'--set {text}' for text in settings)}.")
    click.echo("  A run that outlasts the day stands paused and goes on in the next one.")


def _show_all(demos: DemoSet | str, base: str, config: Any) -> None:
    from ditto_hub.api import estimate_devices, live_prices, planned_job
    from ditto_hub.cost.devices import PRICES_DATE
    from ditto_hub.runs.progress import clock

    job = planned_job(demos, base, config, "zero-a10g", _token())
    prices = live_prices(_token())
    found = estimate_devices(demos, base, config, prices=prices, token=_token())
    texts = job.work
    click.echo(
        f"{base}, preset {config.preset}: {texts.train} demonstrations of about"
        f" {texts.completion_tokens:.0f} tokens, {texts.held_out} held out."
    )
    click.echo(f"{'device':17} {'time':>9} {'memory':>9} {'USD':>6}  fits")
    for one in found:
        usd = "quota" if one.budget else f"{one.price_usd:.2f}" if one.price_usd else "-"
        fits = "yes" if one.fits else "in smaller batches" if one.possible else "no"
        click.echo(
            f"{one.device:17} {clock(one.total_seconds):>9}"
            f" {one.memory_bytes / 1e9:6.1f} GB {usd:>6}  {fits}"
        )
    for one in found:
        if not one.fits and one.remedies and not one.possible:
            click.echo(f"On {one.device}: {one.remedy}.")
    for one in found:
        if one.device == "zero-a10g":
            click.echo(f"On {one.words}:")
            _show_budget(one, job)
    where = "the Hub, now" if prices else f"the table of {PRICES_DATE}"
    click.echo(
        f"Computed from data sheets, measured on none of these GPUs; prices are those of {where}."
        " `--device NAME` tells more."
    )
