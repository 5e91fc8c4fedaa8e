"""A run as it goes: its stages, its charts, and what it wrote before and after, beside what was
shown. Everything is read from the run folder anew, so any page of its owner shows the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ditto_hub import api
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import Token
from ditto_hub.ui.html import render, run_charts
from ditto_hub.ui.html.render import notice
from ditto_hub.ui.html.story import Story, Tails
from ditto_hub.ui.i18n.words import t
from ditto_hub.ui.serving.events import Asker, Outputs, go_to, on
from ditto_hub.ui.serving.samples import (
    base_texts,
    texts_for,
    verdict_of,
    write_base_texts,
)
from ditto_hub.ui.serving.session import Shared, changed
from ditto_hub.ui.steps import remote
from ditto_hub.words import say

EVERY_S = 1.0
ALIVE = ("running", "waiting")


@dataclass(frozen=True)
class ProgressParts:
    """Hold the components that show a run; a new number in `lease` begins a GPU lease."""

    view: gr.Column
    status: gr.HTML
    verdict: gr.HTML
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
    at: gr.Slider
    voices: gr.HTML
    lease: gr.State

    @property
    def shown(self) -> list[Any]:
        """What shows how far a run is."""
        return [self.status, self.verdict, self.timeline, self.charts, self.scores,
                self.cancel, self.resume, self.go_on]  # fmt: skip


def build(shared: Shared) -> ProgressParts:
    """Build the view of a run; hidden while there is none."""
    with gr.Column(visible=False, elem_id="train-run") as view:
        verdict = gr.HTML(elem_id="train-verdict")
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
        beside = remote.build(shared)
        gr.HTML(t("run.voice"), elem_classes="d-heading")
        with gr.Row(elem_id="train-voice-choice"):
            demo = gr.Dropdown([], label=t("run.demo"), elem_id="train-demo", scale=4)
            sample = gr.Button(t("run.sample"), size="sm", elem_id="train-sample", scale=1)
            base_text = gr.Button(
                t("run.base_text"), size="sm", visible=False, elem_id="train-base-text", scale=1
            )
        at = gr.Slider(
            1, 2, value=1, step=1, label=t("run.round_slider"), visible=False, elem_id="train-at"
        )
        voices = gr.HTML(elem_id="train-voices")
        gr.HTML(t("run.scores"), elem_classes="d-heading")
        scores = gr.HTML(elem_id="train-scores")
        charts = gr.HTML(elem_id="train-charts")
        timeline = gr.HTML(elem_id="train-timeline")
    lease = shared.lease
    parts = ProgressParts(
        view, status, verdict, timeline, charts, scores, cancel, resume, another, go_on, note,
        demo, sample, base_text, at, voices, lease,
    )  # fmt: skip
    _wire_follow(shared, parts, Tails(), gr.Timer(EVERY_S, active=False))
    _wire_voices(shared, parts)
    _wire_actions(shared, parts)
    remote.wire(shared, beside, lease, note)
    _wire_leases(shared, lease, beside.spend_for)
    return parts


def place_of(shared: Shared, run_id: str) -> int | None:
    """Return a run's place in the line here; 0 while it is worked on, None out of it."""
    return shared.workshop.place(run_id)


def _wire_follow(shared: Shared, parts: ProgressParts, tails: Tails, timer: gr.Timer) -> None:
    """Show a run when it is opened, and then every second while it goes on."""
    seen = gr.State("")

    def follow(asker: Asker, run_id: str, before: str) -> Outputs:
        if not run_id:
            return {timer: gr.Timer(active=False), seen: ""}
        run, locale = asker.run(run_id), asker.locale
        place = place_of(shared, run_id)
        story, state = tails.story(run), render.state_of(run, place)
        mark = f"{run_id} {state} {place} {story.seen} {locale}"
        if mark == before:
            return {}
        ended = state not in ALIVE and before.split(" ")[1:2] and before.split(" ")[1] in ALIVE
        usd = remote.rest_usd(shared, run, story)
        return {
            **shown(parts, run, story, state, place, locale, usd),
            timer: gr.Timer(active=state in ALIVE),
            seen: mark,
            **({shared.run_changed: changed(run_id), parts.note: ""} if ended else {}),
        }

    def opened(asker: Asker, run_id: str) -> Outputs:
        return follow(asker, run_id, "")

    every = [*parts.shown, timer, seen, shared.run_changed, parts.note]
    on(shared, timer.tick, follow, [shared.run_id, seen], every)
    on(shared, shared.run_changed.change, opened, [shared.run_id], every)


def shown(
    parts: ProgressParts, run: Run, story: Story, state: str, place: int | None, locale: str,
    job_usd: float | None = None,
) -> Outputs:  # fmt: skip
    """Return what a run's components show."""
    resumable = run.record.status != "finished" and state not in ALIVE
    return {
        parts.status: render.stepper(story, state, locale)
        + render.status(story, state, place, locale, job_usd),
        parts.verdict: render.verdict(verdict_of(run, locale)) if state == "finished" else "",
        parts.timeline: render.timeline(story, state, locale),
        parts.charts: run_charts.charts(story, locale),
        parts.scores: render.scores(story, locale),
        parts.cancel: gr.update(visible=state in ALIVE),
        parts.resume: gr.update(visible=resumable),
        parts.go_on: gr.update(visible=(run.folder / "adapter").is_dir()),
    }


def _wire_voices(shared: Shared, parts: ProgressParts) -> None:
    """Show what the run wrote for one demonstration, and again whenever a candidate is scored."""
    number = gr.State(0)

    def choices(asker: Asker, run_id: str, chosen: str) -> Outputs:
        if not run_id:
            return {}
        run = asker.run(run_id)
        demos = run.demos().train
        names = [(f"{n}. {shorten(d.prompt_text)}", d.id) for n, d in enumerate(demos, start=1)]
        kept = chosen if chosen in [name for _, name in names] else names[0][1]
        return {parts.demo: gr.update(choices=names, value=kept)}

    def latest(asker: Asker, run_id: str, demo: str, sample: int) -> Outputs:
        if not run_id or not demo:
            return {parts.voices: "", parts.at: gr.update(visible=False)}
        run = asker.run(run_id)
        texts = texts_for(run, demo, sample, asker.locale)
        free = shared.profile.backend == "zerogpu" or run.record.status != "running"
        last = max(1, len(texts) - 2)  # after what was shown and the first that was written
        slider = gr.update(maximum=max(2, last), value=last, visible=last > 1)
        return {
            parts.voices: render.voices(texts, last, asker.locale),
            parts.at: slider,
            parts.base_text: gr.update(visible=free and demo not in base_texts(run)),
        }

    def earlier(asker: Asker, run_id: str, demo: str, sample: int, at: int) -> Outputs:
        if not run_id or not demo:
            return {}
        texts = texts_for(asker.run(run_id), demo, sample, asker.locale)
        return {parts.voices: render.voices(texts, at, asker.locale)}

    on(
        shared, shared.run_changed.change, choices, [shared.run_id, parts.demo], [parts.demo]
    )  # fmt: skip
    on(
        shared,
        [parts.demo.change, parts.scores.change, shared.run_changed.change],
        latest,
        [shared.run_id, parts.demo, number],
        [parts.voices, parts.at, parts.base_text],
        trigger_mode="always_last",
    )
    on(
        shared,
        [parts.at.input, number.change],
        earlier,
        [shared.run_id, parts.demo, number, parts.at],
        [parts.voices],
        trigger_mode="always_last",
    )
    on(shared, parts.sample.click, lambda asker, n: {number: n + 1}, [number], [number])
    _wire_base_text(shared, parts)


def shorten(text: str, most: int = 70) -> str:
    """Return the beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most].rstrip()}…"


def _wire_base_text(shared: Shared, parts: ProgressParts) -> None:
    """Let the base model write for one demonstration, where the run did not ask it by itself."""

    def write(asker: Asker, run_id: str, demo: str) -> Outputs:
        run = asker.run(run_id)
        demos = [d for d in run.demos() if d.id == demo]
        write_base_texts(run, demos, shared.profile, asker.visitor.owner, asker.hub_token)
        texts = texts_for(run, demo, 0, asker.locale)
        return {
            parts.voices: render.voices(texts, 1, asker.locale),
            parts.base_text: gr.update(visible=False),
            parts.note: "",
        }

    on(
        shared,
        parts.base_text.click,
        write,
        [shared.run_id, parts.demo],
        [parts.voices, parts.base_text, parts.note],
        busy=parts.base_text,
        refused=parts.note,
        kind="model",
        show_progress="full",
    )


def _wire_actions(shared: Shared, parts: ProgressParts) -> None:
    """Cancel keeps what there is; resume goes on; then comparing."""

    def cancel(asker: Asker, run_id: str) -> Iterator[Outputs]:
        run = asker.run(run_id)
        yield {parts.note: notice(say("run.stopping", asker.locale), "plain")}
        stop_run(shared, run, asker.hub_token)
        yield {shared.run_changed: changed(run_id)}

    def resume(asker: Asker, run_id: str, lease_number: int) -> Outputs:
        run, mine = asker.run(run_id), asker.hub_token
        found = {shared.run_changed: changed(run_id), parts.note: ""}
        if api.has_job(run):
            remote.follow_job(shared, run, mine, asker.locale)
            return found
        if shared.profile.backend == "local":
            shared.workshop.put(run, asker.visitor.owner, mine)
        return {**found, parts.lease: lease_number + 1}

    on(
        shared, parts.cancel.click, cancel, [shared.run_id], [shared.run_changed, parts.note],
        busy=parts.cancel, kind="queued", refused=parts.note,
    )  # fmt: skip
    on(
        shared,
        parts.resume.click,
        resume,
        [shared.run_id, parts.lease],
        [shared.run_changed, parts.lease, parts.note],
        busy=parts.resume,
        kind="queued",
        refused=parts.note,
    )
    on(shared, parts.go_on.click, go_to(shared, "compare"), outputs=[shared.tabs])


def stop_run(shared: Shared, run: Run, token: Token | str) -> None:
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

    def work(asker: Asker, run_id: str, number: int, spend: str) -> Iterator[Outputs]:
        run = asker.run(run_id)
        goes_on = False
        with shared.workshop.at_work(run_id):
            yield {shared.run_changed: changed(run_id)}  # the page begins to follow
            events = api.work(
                run, shared.profile, visitor=asker.visitor.owner, token=asker.hub_token,
                spend_all=spend == run_id,
            )  # fmt: skip
            for event in events:
                goes_on = bool(getattr(event, "goes_on", False))
                yield {}
        yield {lease: number + 1 if goes_on else gr.skip(), shared.run_changed: changed(run_id)}

    on(
        shared,
        lease.change,
        work,
        [shared.run_id, lease, spend_for],
        [lease, shared.run_changed],
        kind="lease",
    )
