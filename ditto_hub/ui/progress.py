"""A run as it goes: its stages, its charts, and what it wrote before and after, beside what was
shown. Everything is read from the run folder anew, so any page of its owner shows the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ditto_hub import api
from ditto_hub.errors import DittoError
from ditto_hub.runs import Run
from ditto_hub.ui import elsewhere, render, run_charts
from ditto_hub.ui.before import base_texts, texts_for, write_base_texts
from ditto_hub.ui.session import Shared, changed, own_run, token_of, visitor
from ditto_hub.ui.story import Story, Tails
from ditto_hub.ui.words import locale_of, t

WORDS = {
    "run.cancel": "Cancel and keep what it has",
    "run.resume": "Resume",
    "run.again": "Set up another run",
    "run.compare": "Go on to comparing",
    "run.scores": "Candidates",
    "run.voice": "What it writes, for one of your prompts",
    "run.demo": "Demonstration",
    "run.sample": "Another sample",
    "run.base_text": "Let the base model write it too",
}
EVERY_S = 1.0
ALIVE = ("running", "waiting")


@dataclass(frozen=True)
class ProgressParts:
    """Hold the components that show a run; a new number in `lease` begins a GPU lease."""

    view: gr.Column
    status: gr.HTML
    timeline: gr.HTML
    charts: gr.HTML
    scores: gr.HTML
    cancel: gr.Button
    resume: gr.Button
    another: gr.Button
    go_on: gr.Button
    note: gr.HTML
    demo: gr.Dropdown
    sample: gr.Button
    base_text: gr.Button
    voices: gr.HTML
    lease: gr.State


def build(shared: Shared) -> ProgressParts:
    """Build the view of a run; hidden while there is none."""
    with gr.Column(visible=False, elem_id="train-run") as view:
        status = gr.HTML(elem_id="train-status")
        with gr.Row(elem_id="train-actions"):
            cancel = gr.Button(t("run.cancel"), visible=False, elem_id="train-cancel")
            resume = gr.Button(
                t("run.resume"), variant="primary", visible=False, elem_id="train-resume"
            )
            go_on = gr.Button(
                t("run.compare"), variant="primary", visible=False, elem_id="train-next"
            )
            another = gr.Button(t("run.again"), elem_id="train-another")
        note = gr.HTML(elem_id="train-run-note")
        beside = elsewhere.build(shared)
        timeline = gr.HTML(elem_id="train-timeline")
        gr.HTML(t("run.voice"), elem_classes="d-heading")
        with gr.Row(elem_id="train-voice-choice"):
            demo = gr.Dropdown([], label=t("run.demo"), elem_id="train-demo", scale=4)
            sample = gr.Button(t("run.sample"), size="sm", elem_id="train-sample", scale=1)
            base_text = gr.Button(
                t("run.base_text"), size="sm", visible=False, elem_id="train-base-text", scale=1
            )
        voices = gr.HTML(elem_id="train-voices")
        charts = gr.HTML(elem_id="train-charts")
        gr.HTML(t("run.scores"), elem_classes="d-heading")
        scores = gr.HTML(elem_id="train-scores")
    lease = gr.State(0)
    parts = ProgressParts(
        view, status, timeline, charts, scores, cancel, resume, another, go_on, note, demo, sample,
        base_text, voices, lease,
    )  # fmt: skip
    _wire_follow(shared, parts, Tails(), gr.Timer(EVERY_S, active=False))
    _wire_voices(shared, parts)
    _wire_actions(shared, parts)
    elsewhere.wire(shared, beside, lease, note)
    _wire_leases(shared, lease, beside.spend_for)
    return parts


def place_of(shared: Shared, run_id: str) -> int | None:
    """Return a run's place in the line here; 0 while it is worked on, None out of it."""
    return shared.workshop.place(run_id)


def _wire_follow(shared: Shared, parts: ProgressParts, tails: Tails, timer: gr.Timer) -> None:
    """Show a run when it is opened, and then every second while it goes on."""
    outputs = [parts.status, parts.timeline, parts.charts, parts.scores, parts.cancel,
               parts.resume, parts.go_on, timer]  # fmt: skip
    seen = gr.State("")

    def follow(
        run_id: str, before: str, secret: str, request: gr.Request,
        profile: gr.OAuthProfile | None,
    ) -> tuple[Any, ...]:  # fmt: skip
        if not run_id:
            return (*[gr.skip()] * (len(outputs) - 1), gr.Timer(active=False), "", gr.skip())
        asking = visitor(request, profile, secret)
        run = own_run(run_id, asking)
        place = place_of(shared, run_id)
        story, state = tails.story(run), render.state_of(run, place)
        mark = f"{run_id} {state} {place} {story.seen} {asking.locale}"
        if mark == before:
            return (*[gr.skip()] * (len(outputs) + 2),)
        ended = state not in ALIVE and before.split(" ")[1:2] and before.split(" ")[1] in ALIVE
        return (
            *shown(run, story, state, place, asking.locale, elsewhere.rest_usd(shared, run, story)),
            gr.Timer(active=state in ALIVE),
            mark,
            changed(run_id) if ended else gr.skip(),
        )

    def opened(
        run_id: str, before: str, secret: str, request: gr.Request,
        profile: gr.OAuthProfile | None,
    ) -> tuple[Any, ...]:  # fmt: skip
        return follow(run_id, "", secret, request, profile)

    inputs = [shared.run_id, seen, shared.secret]
    every = [*outputs, seen, shared.run_changed]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    timer.tick(follow, inputs, every, **quiet)
    shared.run_changed.change(opened, inputs, every, **quiet)


def shown(
    run: Run,
    story: Story,
    state: str,
    place: int | None,
    locale: str,
    job_usd: float | None = None,
) -> tuple[Any, ...]:
    """Return what a run's components show, buttons last."""
    resumable = run.record.status != "finished" and state not in ALIVE
    return (
        render.status(story, state, place, locale, job_usd),
        render.timeline(story, state, locale),
        run_charts.charts(story, locale),
        render.scores(story, locale),
        gr.update(visible=state in ALIVE),
        gr.update(visible=resumable),
        gr.update(visible=(run.folder / "adapter").is_dir()),
    )


def _wire_voices(shared: Shared, parts: ProgressParts) -> None:
    """Show what the run wrote for one demonstration, and again whenever a candidate is scored."""
    number = gr.State(0)

    def choices(
        run_id: str, chosen: str, secret: str, request: gr.Request,
        profile: gr.OAuthProfile | None,
    ) -> tuple[Any, Any]:  # fmt: skip
        if not run_id:
            return gr.skip(), gr.skip()
        run = own_run(run_id, visitor(request, profile, secret))
        demos = run.demos().train
        names = [(f"{n}. {shorten(d.prompt_text)}", d.id) for n, d in enumerate(demos, start=1)]
        kept = chosen if chosen in [name for _, name in names] else names[0][1]
        base = shared.profile.backend == "zerogpu" and not base_texts(run)
        return gr.update(choices=names, value=kept), gr.update(visible=base)

    def voices(
        run_id: str, demo: str, sample: int, secret: str, request: gr.Request,
        profile: gr.OAuthProfile | None,
    ) -> str:  # fmt: skip
        if not run_id or not demo:
            return ""
        asking = visitor(request, profile, secret)
        run = own_run(run_id, asking)
        return render.voices(texts_for(run, demo, sample, asking.locale), asking.locale)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    shared.run_changed.change(
        choices, [shared.run_id, parts.demo, shared.secret], [parts.demo, parts.base_text], **quiet
    )
    gr.on(
        [parts.demo.change, number.change, parts.scores.change, shared.run_changed.change],
        voices,
        [shared.run_id, parts.demo, number, shared.secret],
        parts.voices,
        trigger_mode="always_last",
        **quiet,
    )
    parts.sample.click(lambda n: n + 1, number, number, **quiet)
    _wire_base_text(shared, parts)


def shorten(text: str, most: int = 70) -> str:
    """Return the beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most].rstrip()}…"


def _wire_base_text(shared: Shared, parts: ProgressParts) -> None:
    """Let the base model write for one demonstration, where the run did not ask it by itself."""

    def write(
        run_id: str,
        demo: str,
        secret: str,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        token: gr.OAuthToken | None,
    ) -> tuple[str, str]:
        try:
            asking = visitor(request, profile, secret)
            run = own_run(run_id, asking)
            demos = [d for d in run.demos() if d.id == demo]
            write_base_texts(run, demos, shared.profile, asking.owner, token_of(token))
        except DittoError as error:
            return "", render.told(error, locale_of(request))
        return render.voices(texts_for(run, demo, 0, asking.locale), asking.locale), ""

    parts.base_text.click(
        write,
        [shared.run_id, parts.demo, shared.secret],
        [parts.voices, parts.note],
        concurrency_id="model",
        concurrency_limit=1,
        api_visibility="private",
    )


def _wire_actions(shared: Shared, parts: ProgressParts) -> None:
    """Cancel keeps what there is; resume goes on; then comparing."""

    def cancel(
        run_id: str,
        secret: str,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        token: gr.OAuthToken | None,
    ) -> tuple[Any, Any]:
        try:
            run = own_run(run_id, visitor(request, profile, secret))
            stop_run(shared, run, token_of(token))
        except DittoError as error:
            return gr.skip(), render.told(error, locale_of(request))
        return changed(run_id), ""

    def resume(
        run_id: str,
        lease_number: int,
        secret: str,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        token: gr.OAuthToken | None,
    ) -> tuple[Any, Any, Any]:
        try:
            asking = visitor(request, profile, secret)
            run = own_run(run_id, asking)
            mine = token_of(token)
            if api.has_job(run):
                elsewhere.follow_job(shared, run, mine, asking.locale)
                return changed(run_id), gr.skip(), ""
            if shared.profile.backend == "local":
                shared.workshop.put(run, asking.owner, mine)
        except DittoError as error:
            return gr.skip(), gr.skip(), render.told(error, locale_of(request))
        return changed(run_id), lease_number + 1, ""

    private: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    parts.cancel.click(
        cancel, [shared.run_id, shared.secret], [shared.run_changed, parts.note], **private
    )
    parts.resume.click(
        resume,
        [shared.run_id, parts.lease, shared.secret],
        [shared.run_changed, parts.lease, parts.note],
        **private,
    )
    parts.go_on.click(lambda: gr.Tabs(selected="compare"), None, shared.tabs, **private)


def stop_run(shared: Shared, run: Run, token: str | None = None) -> None:
    """Cancel a run wherever it is: in the line, under work here, in a lease, a job, a process.

    Raises:
        RunError: it is finished.
        HubError: its job could not be stopped.
    """
    waiting = shared.workshop.place(run.record.id)
    if shared.workshop.take_out(run.record.id) and not waiting:
        return  # the worker stops at its next checkpoint and says so
    api.cancel(run, token)


def _wire_leases(shared: Shared, lease: gr.State, spend_for: gr.State) -> None:
    """Work on a run one GPU lease an event; a lease that goes on begins the next by its number."""
    if shared.profile.backend == "local":
        return

    def work(
        run_id: str,
        number: int,
        secret: str,
        spend: str,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        token: gr.OAuthToken | None,
    ) -> Iterator[Any]:
        asking = visitor(request, profile, secret)
        run = own_run(run_id, asking)
        goes_on = False
        with shared.workshop.at_work(run_id):
            yield gr.skip(), changed(run_id)  # the page begins to follow
            events = api.work(
                run,
                shared.profile,
                visitor=asking.owner,
                token=token_of(token),
                spend_all=spend == run_id,
            )
            for event in events:
                goes_on = bool(getattr(event, "goes_on", False))
                yield gr.skip(), gr.skip()
        yield (number + 1 if goes_on else gr.skip()), changed(run_id)

    lease.change(
        work,
        [shared.run_id, lease, shared.secret, spend_for],
        [lease, shared.run_changed],
        show_progress="hidden",
        concurrency_id="lease",
        concurrency_limit=None,
        api_visibility="private",
    )
