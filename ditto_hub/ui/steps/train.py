"""Train: what to train on and how, what it will take, and the run as it goes."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ditto_hub import api
from ditto_hub.api.creation import join_demos
from ditto_hub.api.estimating import require_room
from ditto_hub.config import RunConfig, preset
from ditto_hub.cost.admission import require_run
from ditto_hub.cost.estimates import Estimate
from ditto_hub.cost.limits import starting
from ditto_hub.cost.shapes import SHAPES
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.errors import DittoError, MemoryShortError
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import Token
from ditto_hub.ui.html.cards import to_demos
from ditto_hub.ui.html.estimates import base_card, estimate_words
from ditto_hub.ui.html.render import notice
from ditto_hub.ui.i18n.words import t
from ditto_hub.ui.serving.base_models import (
    estimate,
    hub_id,
    outside_words,
    preflight_words,
    require_base,
    wait_for_libraries,
    warm,
)
from ditto_hub.ui.serving.events import Asker, Outputs, on, show_run
from ditto_hub.ui.serving.session import Shared, Visitor, own_run
from ditto_hub.ui.steps import progress, remembered
from ditto_hub.ui.steps.quota import build_quota
from ditto_hub.ui.steps.remote import Wish, build_wish, start_job
from ditto_hub.ui.steps.settings import Dials, build_dials, checked, numbers, read_config, values_of
from ditto_hub.words import say

# In the browser, so that no late answer undoes a choice. Gradio 6.31 leaves the browser's own tick
# where a radio's value is taken away.
UNTICK_JS = """(other, base) => {
  if (!(other || "").trim()) return [base];
  for (const tick of document.querySelectorAll("#train-base input")) tick.checked = false;
  return [null];
}"""


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
    too_large: gr.Button
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
            [(base_card(b, None, profile, "en"), b.id) for b in profile.base_models],
            value=profile.default_base_model,
            label=t("train.base"), info=t("train.base_about"), elem_id="train-base",
        )  # fmt: skip
        other = gr.Textbox(
            label=t("train.other"), info=t("train.other_about"), max_length=400,
            visible=profile.any_base_model, elem_id="train-base-other",
        )  # fmt: skip
        base_note = gr.HTML(elem_id="train-base-note")
        dials = build_dials(start_preset)
        where, keep = build_wish(shared)
        build_quota(shared)
        estimate = gr.HTML(elem_id="train-estimate")
        start = gr.Button(t("train.start"), variant="primary", elem_id="train-start")
        # in its place where a run cannot fit; whether Start can be pressed is its own event's
        too_large = gr.Button(
            t("train.too_large"), interactive=False, visible=False, elem_id="train-too-large"
        )
        note = gr.HTML(elem_id="train-note")
    parts = TrainParts(
        form, base, other, base_note, parent_note, parent_drop, dials, where, keep, estimate, start,
        too_large, note, back,
    )  # fmt: skip
    run_parts = progress.build(shared)
    _wire_base(shared, parts)
    remembered.build(shared, base, other, dials)
    _wire_cards(shared, parts)
    _wire_estimate(shared, parts)
    _wire_start(shared, parts, run_parts.lease)
    _wire_views(shared, parts, run_parts)
    return parts


def _wire_base(shared: Shared, parts: TrainParts) -> None:
    """Take the base model that is named, and say in words what is known of it, as it is typed.

    It is taken whether or not it can be used: a start then says why not, and trains no other.
    """

    def wanted_of(base: str, other: str) -> str:
        return hub_id(other) or base or shared.profile.default_base_model

    def described(asker: Asker, base: str, other: str) -> Outputs:
        wanted = require_base(wanted_of(base, other), shared.profile)
        offer = shared.profile.base(wanted)
        if offer is not None:  # its card says what it is
            return {parts.base_note: ""}
        return {parts.base_note: preflight_words(wanted, asker.hub_token, asker.locale)}

    def begun(asker: Asker, base: str, other: str, now: str) -> Outputs:
        offer = shared.profile.base(wanted_of(base, other))
        wanted = offer.preset if offer is not None else "fast"
        if wanted == now:  # what was set stays
            return {}
        values = zip(parts.dials.values, values_of(wanted), strict=True)
        return {parts.dials.preset: wanted, **dict(values)}

    def taken(asker: Asker, base: str, other: str) -> Outputs:
        return {shared.base: wanted_of(base, other)}

    # one choice at a time: naming another clears the one above, and the other way round
    parts.base.input(None, None, parts.other, js="() => ['']")
    parts.other.change(None, [parts.other, parts.base], parts.base, js=UNTICK_JS)
    for act, outputs in (
        (taken, [shared.base]),
        (described, [parts.base_note]),
    ):
        on(
            shared,
            [parts.base.change, parts.other.change],
            act,
            [parts.base, parts.other],
            outputs,
            refused=parts.base_note if act is described else None,
            kind="hub" if act is described else "light",
            trigger_mode="always_last",
        )
    # only when a person chooses: what the browser remembers is put back as it was
    on(
        shared,
        [parts.base.input, parts.other.input],
        begun,
        [parts.base, parts.other, parts.dials.preset],
        [parts.dials.preset, *parts.dials.values],
        trigger_mode="always_last",
    )


def _wire_cards(shared: Shared, parts: TrainParts) -> None:
    """Say of every base model offered what these demonstrations would take with it."""

    def compared(asker: Asker, cards: Any, flavor: str) -> Outputs:
        profile, choices = shared.profile, []
        for offer in profile.base_models:
            found = None
            with contextlib.suppress(DittoError):  # of half a card, which its own step tells
                demos = to_demos(cards, profile)
                if len(demos) and offer.id in SHAPES:
                    config = preset(offer.preset)
                    found = estimate(demos, offer.id, config, flavor, profile, asker.hub_token)
            choices.append((base_card(offer, found, profile, asker.locale), offer.id))
        return {parts.base: gr.update(choices=choices)}

    on(
        shared,
        [shared.page.load, shared.cards.change, parts.where.change],
        compared,
        [shared.cards, parts.where],
        [parts.base],
        trigger_mode="always_last",
    )


def _plan(
    cards: Any, parent: str, asking: Visitor | None, shared: Shared
) -> tuple[DemoSet, Run | None]:
    """Return the demonstrations to train on, and the run they go on from."""
    demos = to_demos(cards, shared.profile)
    if not parent or asking is None:
        return demos, None
    return demos, own_run(parent, asking)


def _wire_estimate(shared: Shared, parts: TrainParts) -> None:
    """Say what the run will take before the button, whenever something changes."""

    def estimated(
        asker: Asker, cards: Any, base: str, parent: str, flavor: str, *values: Any
    ) -> Outputs:
        config = read_config(values[0], values[1], values[2:])
        demos, before = _plan(cards, parent, asker.visitor if parent else None, shared)
        if before is not None:
            demos = join_demos(before.demos(), demos)
        if not len(demos):
            none = notice(say("train.no_demos", asker.locale), "plain")
            return {parts.estimate: none, **fits(True)}
        found = estimate(demos, base, config, flavor, shared.profile, asker.hub_token)
        outside = outside_words(demos, base, shared.profile, asker.locale)
        words = notice(outside) if outside else ""
        return {
            parts.estimate: words + estimate_words(found, shared.profile, asker.locale),
            **fits(found.possible or not warm.is_set()),
        }

    def fits(there: bool) -> Outputs:
        return {
            parts.start: gr.update(visible=there), parts.too_large: gr.update(visible=not there)
        }  # fmt: skip

    fields = parts.dials.inputs
    counts = list(numbers(parts.dials).values())
    on(
        shared,
        [field.change for field in counts],
        lambda asker, *values: checked(parts.dials, values, asker.locale),
        counts,
        counts,
        trigger_mode="always_last",
    )
    on(
        shared,
        [shared.cards.change, shared.base.change, shared.parent.change, parts.where.change]
        + [field.change for field in fields],
        estimated,
        [shared.cards, shared.base, shared.parent, parts.where, *fields],
        [parts.estimate, parts.start, parts.too_large],
        refused=parts.estimate,
        kind="hub",
        trigger_mode="always_last",
    )


def start_run(
    cards: Any,
    base: str,
    parent: str,
    config: RunConfig,
    asking: Visitor,
    shared: Shared,
    token: Token | str,
    wish: Wish,
) -> Run:
    """Make a visitor's run and put it into the line, or send it to a job.

    Raises:
        DittoError: a limit, the demonstrations, the base model, a setting or the job; in words.
    """
    demos, before = _plan(cards, parent, asking, shared)
    base = require_base(base, shared.profile)
    wait_for_libraries()  # the base model's own tokenizer reads the demonstrations
    found = _require_fit(demos, before, base, config, shared, token, wish)
    with (
        starting(asking.owner, asking.name is not None, shared.profile, time.time()),
        contextlib.ExitStack() as undo,
    ):
        run = api.create_run(demos, base, config, owner=asking.owner, parent=before, token=token)
        undo.callback(run.delete)
        if found is not None:
            run.record.estimate = found.to_json()
            run.save_record()
        require_run(run, shared.profile)  # of a parent, nothing has been asked yet
        if wish.keep and asking.name is not None:
            api.agree_to_keep(run)
        if wish.flavor:
            start_job(shared, run, wish.flavor, token, asking.locale)
        undo.pop_all()
    if shared.profile.backend == "local" and not wish.flavor:
        shared.workshop.put(run, asking.owner, token)
    return run


def _require_fit(
    demos: DemoSet, before: Run | None, base: str, config: RunConfig, shared: Shared,
    token: Token | str, wish: Wish,
) -> Estimate | None:  # fmt: skip
    """Return what a run should take where it is to go, or None where that cannot be computed.

    Raises:
        MemoryShortError: saying what would fit.
    """
    try:
        whole = demos if before is None else join_demos(before.demos(), demos)
        return require_room(estimate(whole, base, config, wish.flavor, shared.profile, token))
    except MemoryShortError:
        raise
    except DittoError:  # making the run says what is wrong with them
        return None


def _wire_start(shared: Shared, parts: TrainParts, lease: gr.State) -> None:
    """Start a run and show it."""

    def started(
        asker: Asker, cards: Any, base: str, parent: str, flavor: str, keep: bool, *values: Any
    ) -> Outputs:
        config = read_config(values[0], values[1], values[2:])
        asking, wish = asker.visitor, Wish(flavor, keep)
        run = start_run(cards, base, parent, config, asking, shared, asker.hub_token, wish)
        leased = shared.profile.backend != "local" and not flavor
        return {
            **show_run(shared, run.record.id),
            shared.parent: "",
            lease: time.time_ns() if leased else gr.skip(),
            parts.note: "",
        }

    on(
        shared,
        parts.start.click,
        started,
        [shared.cards, shared.base, shared.parent, parts.where, parts.keep, *parts.dials.inputs],
        [shared.run_id, shared.last_run, shared.run_changed, shared.parent, lease, parts.note],
        busy=parts.start,
        kind="queued",
        refused=parts.note,
        show_progress="full",
        show_progress_on=parts.note,
    )


def _wire_views(shared: Shared, parts: TrainParts, run: progress.ProgressParts) -> None:
    """Show the run where there is one, the form where there is none or it is asked for."""

    def views(asker: Asker, run_id: str) -> Outputs:
        there = bool(run_id)
        return {**_turned(there), parts.back: gr.update(visible=there)}

    def _turned(to_run: bool) -> Outputs:
        return {parts.form: gr.update(visible=not to_run), run.view: gr.update(visible=to_run)}

    both = [parts.form, run.view]
    on(shared, shared.run_changed.change, views, [shared.run_id], [*both, parts.back])
    on(shared, run.another.click, lambda asker: _turned(False), outputs=both)
    on(shared, parts.back.click, lambda asker: _turned(True), outputs=both)

    def parented(asker: Asker, parent: str) -> Outputs:
        there, fixed = gr.update(visible=bool(parent)), gr.update(interactive=not parent)
        words = ""
        if parent:
            count = len(asker.run(parent).demos())
            words = notice(say("train.parent", asker.locale, run=parent, n=count), "plain")
        return {
            parts.parent_note: gr.update(value=words, visible=bool(parent)),
            parts.parent_drop: there,
            parts.base: fixed,
            parts.other: fixed,
        }

    on(
        shared,
        shared.parent.change,
        parented,
        [shared.parent],
        [parts.parent_note, parts.parent_drop, parts.base, parts.other],
        refused=parts.parent_note,
    )
    on(shared, parts.parent_drop.click, lambda asker: {shared.parent: ""}, outputs=[shared.parent])
