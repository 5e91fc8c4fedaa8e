"""Train: what to train on and how, what it will take, and the run as it goes."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ditto_hub import api
from ditto_hub.api.estimating import estimate_run
from ditto_hub.api.training import join_demos
from ditto_hub.caps import starting
from ditto_hub.config import RunConfig
from ditto_hub.demos import DemoSet
from ditto_hub.errors import DittoError, RunError
from ditto_hub.runs import Run
from ditto_hub.ui import progress
from ditto_hub.ui.bases import preflight_words, require_base
from ditto_hub.ui.cards import Card, to_demos
from ditto_hub.ui.elsewhere import Wish, build_wish, start_job
from ditto_hub.ui.estimates import estimate_words
from ditto_hub.ui.render import notice, told
from ditto_hub.ui.session import Shared, Visitor, changed, own_run, token_of, visitor
from ditto_hub.ui.settings import Dials, build_dials, read_config
from ditto_hub.ui.words import locale_of, say, t, tell

WORDS = {
    "train.base": "Base model",
    "train.base_about": "The model that learns your voice. Its weights stay as they are.",
    "train.other": "Or any other model",
    "train.other_about": "OWNER/NAME on the Hub: an instruction-tuned causal language model.",
    "train.start": "Start training",
    "train.no_demos": "Write your demonstrations first: step 1, Show.",
    "train.parent": "Goes on from run {run}: training starts from its adapter, and its {n}"
    " demonstrations come before yours.",
    "train.parent_drop": "Start from the base model instead",
    "train.another": "Set up another run",
    "train.back": "Back to the run",
    "train.estimate": "What it will take",
    "train.sign_in": "Sign in with Hugging Face to start a run here.",
}


@dataclass(frozen=True)
class TrainParts:
    """Hold the components of the form; `progress.ProgressParts` holds those of the run."""

    form: gr.Column
    base: gr.Radio
    other: gr.Textbox
    base_note: gr.HTML
    parent_note: gr.HTML
    parent_drop: gr.Button
    dials: Dials
    where: gr.Dropdown
    keep: gr.Checkbox
    estimate: gr.HTML
    start: gr.Button
    note: gr.HTML
    back: gr.Button


def build(shared: Shared) -> TrainParts:
    """Build the step."""
    profile = shared.profile
    offer = profile.base(profile.default_base_model)
    start_preset = offer.preset if offer else "fast"
    with gr.Column(elem_id="train-form") as form:
        back = gr.Button(t("train.back"), size="sm", visible=False, elem_id="train-back")
        parent_note = gr.HTML(visible=False, elem_id="train-parent")
        parent_drop = gr.Button(
            t("train.parent_drop"), size="sm", visible=False, elem_id="train-parent-drop"
        )
        base = gr.Radio(
            [b.id for b in profile.base_models], value=profile.default_base_model,
            label=t("train.base"), info=t("train.base_about"), elem_id="train-base",
        )  # fmt: skip
        other = gr.Textbox(
            label=t("train.other"), info=t("train.other_about"), max_length=400,
            visible=profile.any_base_model, elem_id="train-base-other",
        )  # fmt: skip
        base_note = gr.HTML(t(offer.words) if offer else "", elem_id="train-base-note")
        dials = build_dials(start_preset)
        where, keep = build_wish(shared)
        estimate = gr.HTML(elem_id="train-estimate")
        start = gr.Button(t("train.start"), variant="primary", elem_id="train-start")
        note = gr.HTML(elem_id="train-note")
    parts = TrainParts(
        form, base, other, base_note, parent_note, parent_drop, dials, where, keep, estimate, start,
        note, back,
    )  # fmt: skip
    run_parts = progress.build(shared)
    _wire_base(shared, parts)
    _wire_estimate(shared, parts)
    _wire_start(shared, parts, run_parts.lease)
    _wire_views(shared, parts, run_parts)
    return parts


def _wire_base(shared: Shared, parts: TrainParts) -> None:
    """Take the base model that is named, and say in words what is known of it, as it is typed.

    It is taken whether or not it can be used: a start then says why not, and trains no other.
    """

    def wanted_of(base: str, other: str) -> str:
        return (other or "").strip() or base

    def described(
        base: str,
        other: str,
        request: gr.Request,
        token: gr.OAuthToken | None,
    ) -> tuple[str, Any]:
        locale = locale_of(request)
        try:
            wanted = require_base(wanted_of(base, other), shared.profile)
            offer = shared.profile.base(wanted)
            words = (
                notice(tell(offer.words, locale), "plain")
                if offer
                else preflight_words(wanted, token_of(token), locale)
            )
        except DittoError as error:
            return told(error, locale), gr.skip()
        return words, offer.preset if offer else "fast"

    for act, outputs in (
        (wanted_of, [shared.base]),
        (described, [parts.base_note, parts.dials.preset]),
    ):
        gr.on(
            [parts.base.change, parts.other.change],
            act,
            [parts.base, parts.other],
            outputs,
            trigger_mode="always_last",
            show_progress="hidden",
            api_visibility="private",
        )


def _plan(
    cards: list[Card], parent: str, asking: Visitor | None, shared: Shared
) -> tuple[DemoSet, Run | None]:
    """Return the demonstrations to train on, and the run they go on from."""
    demos = to_demos(cards, shared.profile)
    if not parent or asking is None:
        return demos, None
    return demos, own_run(parent, asking)


def _wire_estimate(shared: Shared, parts: TrainParts) -> None:
    """Say what the run will take before the button, whenever something changes."""

    def estimated(
        cards: list[Card],
        base: str,
        parent: str,
        flavor: str,
        secret: str,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        token: gr.OAuthToken | None,
        *values: Any,
    ) -> str:
        locale = locale_of(request)
        try:
            config = read_config(values[0], values[1], values[2:])
            asking = visitor(request, profile, secret) if parent else None
            demos, before = _plan(cards, parent, asking, shared)
            if before is not None:
                demos = join_demos(before.demos(), demos)
            if not len(demos):
                return notice(say("train.no_demos", locale), "plain")
            device = flavor or shared.profile.hardware or "cpu-basic"
            found = estimate_run(demos, base, config, device, token=token_of(token))
        except DittoError as error:
            return told(error, locale)
        return estimate_words(found, shared.profile, locale)

    fields = parts.dials.inputs
    gr.on(
        [shared.demos.change, shared.base.change, shared.parent.change, parts.where.change]
        + [field.change for field in fields],
        estimated,
        [shared.demos, shared.base, shared.parent, parts.where, shared.secret, *fields],
        parts.estimate,
        trigger_mode="always_last",
        show_progress="hidden",
        api_visibility="private",
    )


def start_run(
    cards: list[Card],
    base: str,
    parent: str,
    config: RunConfig,
    asking: Visitor,
    shared: Shared,
    token: str | None,
    wish: Wish,
) -> Run:
    """Make a visitor's run and put it into the line, or send it to a job.

    Raises:
        DittoError: a limit, the demonstrations, the base model, a setting or the job; in words.
    """
    demos, before = _plan(cards, parent, asking, shared)
    base = require_base(base, shared.profile)
    with (
        starting(asking.owner, asking.name is not None, shared.profile, time.time()),
        contextlib.ExitStack() as undo,
    ):
        run = api.create_run(demos, base, config, owner=asking.owner, parent=before, token=token)
        undo.callback(run.delete)
        if wish.keep and asking.name is not None:
            api.agree_to_keep(run)
        if wish.flavor:
            start_job(shared, run, wish.flavor, token, asking.locale)
        undo.pop_all()
    if shared.profile.backend == "local" and not wish.flavor:
        shared.workshop.put(run, asking.owner, token)
    return run


def _wire_start(shared: Shared, parts: TrainParts, lease: gr.State) -> None:
    """Start a run and show it."""

    def started(
        cards: list[Card],
        base: str,
        parent: str,
        flavor: str,
        keep: bool,
        secret: str,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        token: gr.OAuthToken | None,
        *values: Any,
    ) -> tuple[Any, ...]:
        try:
            asking = visitor(request, profile, secret)
            config = read_config(values[0], values[1], values[2:])
            wish = Wish(flavor, keep)
            run = start_run(cards, base, parent, config, asking, shared, token_of(token), wish)
        except DittoError as error:
            return (*[gr.skip()] * 5, told(error, locale_of(request)))
        run_id = run.record.id
        leased = shared.profile.backend != "local" and not flavor
        return run_id, run_id, changed(run_id), "", time.time_ns() if leased else gr.skip(), ""

    parts.start.click(
        started,
        [
            shared.demos,
            shared.base,
            shared.parent,
            parts.where,
            parts.keep,
            shared.secret,
            *parts.dials.inputs,
        ],
        [shared.run_id, shared.last_run, shared.run_changed, shared.parent, lease, parts.note],
        show_progress_on=parts.note,
        api_visibility="private",
    )


def _wire_views(shared: Shared, parts: TrainParts, run: progress.ProgressParts) -> None:
    """Show the run where there is one, the form where there is none or it is asked for."""

    def views(run_id: str) -> tuple[Any, Any, Any]:
        there = bool(run_id)
        return gr.update(visible=not there), gr.update(visible=there), gr.update(visible=there)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    outputs = [parts.form, run.view, parts.back]
    shared.run_changed.change(views, shared.run_id, outputs, **quiet)
    run.another.click(
        lambda: (gr.update(visible=True), gr.update(visible=False)), None, outputs[:2], **quiet
    )
    parts.back.click(
        lambda: (gr.update(visible=False), gr.update(visible=True)), None, outputs[:2], **quiet
    )

    def parented(
        parent: str, secret: str, request: gr.Request, profile: gr.OAuthProfile | None
    ) -> tuple[Any, ...]:
        asking = visitor(request, profile, secret)
        if not parent:
            hidden = gr.update(visible=False)
            return hidden, hidden, gr.update(interactive=True), gr.update(interactive=True)
        try:
            before = own_run(parent, asking)
        except RunError as error:
            return (gr.update(value=told(error, asking.locale), visible=True), *[gr.skip()] * 3)
        words = say("train.parent", asking.locale, run=parent, n=len(before.demos()))
        fixed = gr.update(interactive=False)
        return (
            gr.update(value=notice(words, "plain"), visible=True),
            gr.update(visible=True),
            fixed,
            fixed,
        )

    shared.parent.change(
        parented,
        [shared.parent, shared.secret],
        [parts.parent_note, parts.parent_drop, parts.base, parts.other],
        **quiet,
    )
    parts.parent_drop.click(lambda: "", None, shared.parent, **quiet)
