"""Where a run goes on beside this machine, a Hub Job or the seconds kept back; where it is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from ditto_hub import api
from ditto_hub.cost.devices import DEVICES
from ditto_hub.cost.job_price import SETUP_S
from ditto_hub.cost.shapes import SHAPES
from ditto_hub.errors import HubError
from ditto_hub.events import LeaseRefused
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY, Token
from ditto_hub.ui.html.estimates import about_time
from ditto_hub.ui.html.story import Story
from ditto_hub.ui.i18n.words import t
from ditto_hub.ui.serving.events import Asker, Outputs, on
from ditto_hub.ui.serving.session import Shared, changed
from ditto_hub.version import VERSION
from ditto_hub.words import say, told

GPUS = [d for d in DEVICES.values() if d.price_usd_h and not d.name.startswith("cpu-")]


@dataclass(frozen=True)
class Wish:
    """Hold how a run is to begin: its job's hardware, "" for here; whether it is to be kept."""

    flavor: str = ""
    keep: bool = False


@dataclass(frozen=True)
class ElsewhereParts:
    """Hold the components; `spend_for` is the run that may use the seconds kept back."""

    told: gr.HTML
    spend: gr.Button
    flavor: gr.Dropdown
    as_job: gr.Button
    spend_for: gr.State


def offers_jobs(shared: Shared) -> bool:
    """Tell whether a visitor may send a run to a Job: a Job needs that visitor's own sign-in."""
    return shared.profile.offers_jobs and shared.sign_in


def build_wish(shared: Shared) -> tuple[gr.Dropdown, gr.Checkbox]:
    """Build what the form asks: where the run is to execute, and whether to keep it."""
    flavors = [(f"{d.words}, ${d.price_usd_h:.2f}/h", d.name) for d in GPUS]
    where = gr.Dropdown(
        [(t("where.here"), ""), *flavors], value="", label=t("where.where"),
        info=t("where.where_about"), visible=offers_jobs(shared), elem_id="train-where",
    )  # fmt: skip
    keep = gr.Checkbox(
        True, label=t("where.keep"), info=t("where.keep_about"),
        visible=shared.sign_in and shared.profile.name != "own", elem_id="train-keep",
    )  # fmt: skip
    return where, keep


def build(shared: Shared) -> ElsewhereParts:
    """Build what stands under a run's status."""
    told = gr.HTML(elem_id="train-elsewhere")
    hidden: dict[str, Any] = {"visible": False}
    with gr.Row(elem_id="train-where-on"):
        spend = gr.Button(t("where.spend"), size="sm", elem_id="train-spend", **hidden)
        flavor = gr.Dropdown([], label=t("where.flavor"), elem_id="train-flavor", **hidden)
        as_job = gr.Button(t("where.as_job"), size="sm", elem_id="train-as-job", **hidden)
    return ElsewhereParts(told, spend, flavor, as_job, gr.State(""))


def wire(shared: Shared, parts: ElsewhereParts, lease: gr.State, note: gr.HTML) -> None:
    """Show what can be done with the run that is shown, and do it."""
    _wire_look(shared, parts)
    _wire_job(shared, parts, note)

    def spend(asker: Asker, run_id: str, number: int) -> Outputs:
        return {parts.spend_for: run_id, lease: number + 1}

    on(shared, parts.spend.click, spend, [shared.run_id, lease], [parts.spend_for, lease])


def _wire_look(shared: Shared, parts: ElsewhereParts) -> None:
    def look(asker: Asker, run_id: str) -> Outputs:
        hidden = gr.update(visible=False)
        if not run_id:
            return {parts.told: "", **dict.fromkeys((parts.spend, *job), hidden)}
        run, mine = asker.run(run_id), asker.hub_token
        if api.has_job(run) and mine:
            follow_job(shared, run, mine, asker.locale)
        idle = run.record.status != "finished" and shared.workshop.place(run_id) is None
        choices = _offers(run, mine, asker.locale) if idle and offers_jobs(shared) else []
        first = choices[0][1] if choices else None
        return {
            parts.told: whereabouts(shared, run, bool(mine), asker.locale),
            parts.spend: gr.update(visible=idle and _kept_back(run)),
            parts.flavor: gr.update(choices=choices, value=first, visible=bool(choices)),
            parts.as_job: gr.update(visible=bool(choices)),
        }

    job = (parts.flavor, parts.as_job)
    on(shared, shared.run_changed.change, look, [shared.run_id], [parts.told, parts.spend, *job])


def _wire_job(shared: Shared, parts: ElsewhereParts, note: gr.HTML) -> None:
    def send(asker: Asker, run_id: str, flavor: str) -> Outputs:
        start_job(shared, asker.run(run_id), flavor, asker.hub_token, asker.locale)
        return {shared.run_changed: changed(run_id), note: ""}

    on(
        shared,
        parts.as_job.click,
        send,
        [shared.run_id, parts.flavor],
        [shared.run_changed, note],
        busy=parts.as_job,
        kind="queued",
        refused=note,
        show_progress="full",
        show_progress_on=note,
    )


def start_job(shared: Shared, run: Run, flavor: str, token: Token | str, locale: str) -> None:
    """Send a run to a Hub Job of its visitor's, and follow it here.

    Raises:
        HubError: nobody is signed in, or the Hub refused; the run is as it was.
        DittoError: it would not work; nothing was sent.
    """
    if not token or not offers_jobs(shared):
        raise HubError(say("where.sign_in", locale))
    api.submit(run, flavor, token, keep=api.how_kept(run) is not None)
    follow_job(shared, run, token, locale)


def follow_job(shared: Shared, run: Run, token: Token | str, locale: str) -> None:
    """Watch a run's job on a thread of the server, whether a page listens or not; once.

    Raises:
        HubError: nobody is signed in, and this machine's own token is not asked for.
    """
    if not token and shared.profile.name != "own":
        raise HubError(say("where.sign_in", locale))
    shared.workshop.aside(
        run.record.id, lambda: api.keep_along(run, api.attach(run, token), token, between=False)
    )


def rest_usd(shared: Shared, run: Run, story: Story) -> float | None:
    """Return what the rest of a refused run costs as the cheapest Job, 0 where nobody can tell."""
    if not isinstance(story.lease, LeaseRefused) or not offers_jobs(shared):
        return None
    base = str(run.record.base_model["id"])
    offers = api.job_offers(run.demos(), base, run.config, NOBODY) if base in SHAPES else []
    if not offers:
        return 0.0
    first = offers[0]
    seconds = SETUP_S + (first.seconds - SETUP_S) * (1 - story.progress.fraction)
    return first.usd * seconds / first.seconds


def _kept_back(run: Run) -> bool:
    """Tell whether a run stopped before the seconds that are kept for trying its result."""
    last = next(reversed(run.events()), None)
    return isinstance(last, LeaseRefused) and last.reason == "kept"


def _offers(run: Run, token: Token, locale: str) -> list[tuple[str, str]]:
    found = api.job_offers(run.demos(), str(run.record.base_model["id"]), run.config, token)
    return [
        (
            say("where.offer", locale, device=told(o.words, locale),
                time=about_time(o.seconds, locale), usd=f"{o.usd:.2f}"),
            o.flavor,
        )
        for o in found
    ]  # fmt: skip


def whereabouts(shared: Shared, run: Run, signed_in: bool, locale: str) -> str:
    """Say what job works on a run and where the run is kept."""
    lines = [*_job_lines(run, signed_in, locale), *_kept_lines(shared, run, locale)]
    return "".join(f'<p class="d-note">{escape(line)}</p>' for line in lines)


def _job_lines(run: Run, signed_in: bool, locale: str) -> Iterator[str]:
    if not api.has_job(run):
        return
    job = run.record.job
    yield say(
        "where.job", locale, flavor=job.get("flavor", ""), stage=job.get("stage", ""),
        image=job.get("image", ""), time=about_time(job.get("timeout_s") or 0, locale),
        version=VERSION,
    )  # fmt: skip
    if job.get("url"):
        yield str(job["url"])
    if not signed_in:
        yield say("where.unseen", locale)


def _kept_lines(shared: Shared, run: Run, locale: str) -> Sequence[str]:
    if shared.profile.name == "own":
        return ()
    found = api.how_kept(run)
    if found is None:
        return () if api.has_job(run) else (say("where.disk", locale),)
    if found.error:
        return (say("where.not_kept", locale, error=told(found.error, locale)),)
    if not found.repo_id:
        return (say("where.to_keep", locale),)
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(found.at))
    return (say("where.kept", locale, repo=found.repo_id, time=when),)
