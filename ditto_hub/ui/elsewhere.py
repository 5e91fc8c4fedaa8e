"""Where a run goes on beside this machine, a Hub Job or the seconds kept back; where it is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from ditto_hub import __version__, api
from ditto_hub.backends.job_order import SETUP_S
from ditto_hub.devices import DEVICES
from ditto_hub.errors import DittoError, HubError
from ditto_hub.events import LeaseRefused
from ditto_hub.runs import Run
from ditto_hub.shapes import SHAPES
from ditto_hub.ui import render
from ditto_hub.ui.estimates import about_time
from ditto_hub.ui.session import Shared, changed, own_run, token_of, visitor
from ditto_hub.ui.story import Story
from ditto_hub.ui.words import locale_of, say, t, tell

WORDS = {
    "where.here": "Here",
    "where.where": "Where it runs",
    "where.where_about": "A Hub Job runs in your own Hugging Face account on hardware that you pay"
    " by the minute. It goes on when this page is closed.",
    "where.offer": "{device}: about {time}, ${usd}",
    "where.flavor": "Hub Job, in your account",
    "where.as_job": "Go on as a Hub Job",
    "where.spend": "Go on now, and spend the seconds kept for trying",
    "where.sign_in": "Sign in with Hugging Face first: a Job runs in your own account.",
    "where.job": "Hub Job on {flavor}: {stage}. It stops by itself after {time} at the latest."
    " Image {image}, ditto-hub {version}.",
    "where.unseen": "A Hub Job works on this run. Sign in to watch it here.",
    "where.kept": "Kept in {repo}, private, as of {time} UTC.",
    "where.not_kept": "It could not be kept in your account; the next stage tries again. {error}",
    "where.to_keep": "It will be kept in a private repo of yours after its next stage.",
    "where.disk": "This run lies on this Space's disk alone, which is emptied when the Space"
    " restarts.",
    "where.keep": "Keep it in a private repo of mine while it trains",
    "where.keep_about": "Signed in only. This Space's disk is emptied whenever it restarts; what is"
    " kept after each stage you find under My runs from any device.",
}
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

    def spend(run_id: str, number: int) -> tuple[str, int]:
        return run_id, number + 1

    parts.spend.click(
        spend,
        [shared.run_id, lease],
        [parts.spend_for, lease],
        show_progress="hidden",
        api_visibility="private",
    )


def _wire_look(shared: Shared, parts: ElsewhereParts) -> None:
    def look(
        run_id: str,
        secret: str,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        token: gr.OAuthToken | None,
    ) -> tuple[Any, ...]:
        if not run_id:
            return "", *[gr.update(visible=False)] * 3
        asking = visitor(request, profile, secret)
        run, mine = own_run(run_id, asking), token_of(token)
        if api.has_job(run) and mine:
            follow_job(shared, run, mine, asking.locale)
        idle = run.record.status != "finished" and shared.workshop.place(run_id) is None
        choices = _offers(run, asking.locale) if idle and offers_jobs(shared) else []
        return (
            told(shared, run, bool(mine), asking.locale),
            gr.update(visible=idle and _kept_back(run)),
            gr.update(
                choices=choices, value=choices[0][1] if choices else None, visible=bool(choices)
            ),
            gr.update(visible=bool(choices)),
        )

    shared.run_changed.change(
        look,
        [shared.run_id, shared.secret],
        [parts.told, parts.spend, parts.flavor, parts.as_job],
        show_progress="hidden",
        api_visibility="private",
    )


def _wire_job(shared: Shared, parts: ElsewhereParts, note: gr.HTML) -> None:
    def send(
        run_id: str,
        flavor: str,
        secret: str,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        token: gr.OAuthToken | None,
    ) -> tuple[Any, str]:
        try:
            run = own_run(run_id, visitor(request, profile, secret))
            start_job(shared, run, flavor, token_of(token), locale_of(request))
        except DittoError as error:
            return gr.skip(), render.told(error, locale_of(request))
        return changed(run_id), ""

    parts.as_job.click(
        send,
        [shared.run_id, parts.flavor, shared.secret],
        [shared.run_changed, note],
        show_progress_on=note,
        api_visibility="private",
    )


def start_job(shared: Shared, run: Run, flavor: str, token: str | None, locale: str) -> None:
    """Send a run to a Hub Job of its visitor's, and follow it here.

    Raises:
        HubError: nobody is signed in, or the Hub refused; the run is as it was.
        DittoError: it would not work; nothing was sent.
    """
    if not token or not offers_jobs(shared):
        raise HubError(say("where.sign_in", locale))
    api.submit(run, flavor, token, keep=api.how_kept(run) is not None)
    follow_job(shared, run, token, locale)


def follow_job(shared: Shared, run: Run, token: str | None, locale: str) -> None:
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
    offers = api.job_offers(run.demos(), base, run.config) if base in SHAPES else []
    if not offers:
        return 0.0
    first = offers[0]
    seconds = SETUP_S + (first.seconds - SETUP_S) * (1 - story.progress.fraction)
    return first.usd * seconds / first.seconds


def _kept_back(run: Run) -> bool:
    """Tell whether a run stopped before the seconds that are kept for trying its result."""
    last = next(reversed(run.events()), None)
    return isinstance(last, LeaseRefused) and last.reason == "kept"


def _offers(run: Run, locale: str) -> list[tuple[str, str]]:
    found = api.job_offers(run.demos(), str(run.record.base_model["id"]), run.config)
    return [
        (
            say("where.offer", locale, device=tell(o.words, locale),
                time=about_time(o.seconds, locale), usd=f"{o.usd:.2f}"),
            o.flavor,
        )
        for o in found
    ]  # fmt: skip


def told(shared: Shared, run: Run, signed_in: bool, locale: str) -> str:
    """Say what job works on a run and where the run is kept."""
    lines = [*_job_lines(run, signed_in, locale), *_kept_lines(shared, run, locale)]
    return "".join(f'<p class="d-note">{escape(line)}</p>' for line in lines)


def _job_lines(run: Run, signed_in: bool, locale: str) -> Iterator[str]:
    if not api.has_job(run):
        return
    job = run.record.job
    yield say(
        "where.job", locale, flavor=job["flavor"], stage=job.get("stage", ""), image=job["image"],
        time=about_time(job["timeout_s"], locale), version=__version__,
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
        return (say("where.not_kept", locale, error=tell(found.error, locale)),)
    if not found.repo_id:
        return (say("where.to_keep", locale),)
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(found.at))
    return (say("where.kept", locale, repo=found.repo_id, time=when),)
