"""The blind vote: two test tasks, shuffled sides, twenty votes at most, by mouse or by key."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from ditto_hub.api import trials
from ditto_hub.errors import RunError
from ditto_hub.runs.folder import Run
from ditto_hub.runs.results import Evaluation
from ditto_hub.ui.html import side_by_side
from ditto_hub.ui.html.render import notice
from ditto_hub.ui.i18n.words import t
from ditto_hub.ui.serving.events import Asker, Outputs, on
from ditto_hub.ui.serving.requests import (
    method_choices,
    method_name,
    offer_of,
    short,
    usual_methods,
    writer,
)
from ditto_hub.ui.serving.session import Shared
from ditto_hub.words import say

REPLIES = ("left", "right", "tie", "skip")
# Keys count only while the focus is within the ballot, so that typing elsewhere casts no vote.
KEYS_JS = """() => {
  const box = document.getElementById("compare-ballot");
  if (!box) return [];
  if (!box.dataset.keys) {
    box.dataset.keys = "on";
    box.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
      const name = {"1": "left", "2": "right", "0": "tie", "s": "skip", "S": "skip"}[event.key];
      const button = name && document.getElementById("compare-vote-" + name);
      if (button && !button.disabled) { event.preventDefault(); button.click(); }
    });
    // the second click of a double click, however late a busy page comes to it, is no vote
    box.addEventListener("click", (event) => {
      const voted = event.target.closest("#compare-vote-buttons");
      if (voted && event.detail > 1) event.stopPropagation();
    }, true);
  }
  if (!box.contains(document.activeElement)) {
    setTimeout(() => document.getElementById("compare-vote-left")?.focus(), 50);
  }
  return [];
}"""


@dataclass(frozen=True)
class VotingParts:
    """Hold the components of the vote."""

    setup: gr.Column
    methods: gr.CheckboxGroup
    tasks: tuple[gr.Textbox, gr.Textbox]
    suggest: gr.Button
    begin: gr.Button
    note: gr.HTML
    booth: gr.Column
    ballot: gr.HTML
    number: gr.Textbox
    name: gr.Textbox
    buttons: dict[str, gr.Button]
    stop: gr.Button
    examples: gr.HTML
    tally: gr.HTML
    new: gr.Button

    @property
    def shown(self) -> list[Any]:
        """What shows how far a vote is."""
        return [self.setup, self.booth, self.ballot, self.number, self.name, self.examples,
                self.tally, self.new]  # fmt: skip

    @property
    def offered(self) -> list[Any]:
        """What says between which methods, and on what, to vote."""
        return [self.methods, *self.tasks]


def build(shared: Shared, self_prompt: gr.Textbox) -> VotingParts:
    """Build the vote; `self_prompt` is the box of the step that holds the visitor's own prompt."""
    gr.HTML(t("vote.about"), elem_classes="d-about")
    with gr.Column(elem_id="compare-vote-setup") as setup:
        methods = gr.CheckboxGroup(
            [], label=t("vote.methods"), info=t("vote.self_prompt"), elem_id="compare-vote-methods"
        )
        with gr.Row():
            tasks = tuple(
                gr.Textbox(
                    label=t(f"vote.task_{n}"), info=t("vote.task_about"), lines=2, min_width=280,
                    max_length=shared.profile.max_text_chars or None, elem_id=f"compare-task-{n}",
                )
                for n in (1, 2)
            )  # fmt: skip
        with gr.Row():
            begin = gr.Button(t("vote.begin"), variant="primary", elem_id="compare-vote-begin")
            suggest = gr.Button(t("vote.suggest"), elem_id="compare-vote-suggest")
    note = gr.HTML(elem_id="compare-vote-note")
    with gr.Column(visible=False, elem_id="compare-ballot") as booth:
        gr.HTML(t("vote.question"), elem_classes="d-sub")
        ballot = gr.HTML(elem_id="compare-ballot-text")
        with gr.Row(elem_id="compare-vote-buttons"):
            buttons = {
                reply: gr.Button(
                    t(f"vote.{reply}"), elem_id=f"compare-vote-{reply}", min_width=140,
                    variant="primary" if reply in ("left", "right") else "secondary",
                )
                for reply in REPLIES
            }  # fmt: skip
        stop = gr.Button(t("vote.stop"), size="sm", elem_id="compare-vote-stop")
        with gr.Accordion(t("vote.examples"), open=False, elem_id="compare-vote-examples"):
            examples = gr.HTML(elem_id="compare-vote-own")
    with gr.Column(elem_classes="d-hidden"):  # travels with a click, for the server to check
        number = gr.Textbox(label=t("vote.number"), elem_id="compare-vote-number")
        name = gr.Textbox(label=t("vote.name"), elem_id="compare-vote-name")
    tally = gr.HTML(elem_id="compare-tally")
    new = gr.Button(t("vote.new"), size="sm", visible=False, elem_id="compare-vote-new")
    parts = VotingParts(
        setup, methods, (tasks[0], tasks[1]), suggest, begin, note, booth, ballot, number, name,
        buttons, stop, examples, tally, new,
    )  # fmt: skip
    _wire_open(shared, parts)
    _wire_suggest(shared, parts)
    _wire_begin(shared, parts, self_prompt)
    _wire_votes(shared, parts)
    return parts


def _shown(parts: VotingParts, run: Run, trial: Evaluation | None, locale: str) -> Outputs:
    """Return what a trial's state shows: the form, a ballot, or the tally."""
    if trial is None:
        return {**_nothing(parts), parts.setup: gr.update(visible=True)}
    question = trials.ballot(run, trial)
    cast, planned = trials.votes(trial)
    found = {**_nothing(parts), parts.number: str(cast), parts.name: trial.name}
    if question is None:
        names = {m: method_name(m, locale) for m in trial.methods}
        counted = side_by_side.tally(trial, cast, names, locale)
        return {**found, parts.tally: counted, parts.new: gr.update(visible=True)}
    task = question.prompt[-1]["content"]
    asks = side_by_side.ballot(task, question.left, question.right, (cast, planned), locale)
    own = side_by_side.own_texts(question.examples)
    return {
        **found,
        parts.booth: gr.update(visible=True),
        parts.ballot: asks,
        parts.examples: own,
    }


def _nothing(parts: VotingParts) -> Outputs:
    hidden = {box: gr.update(visible=False) for box in (parts.setup, parts.booth, parts.new)}
    return {box: hidden.get(box, "") for box in parts.shown}


def _wire_open(shared: Shared, parts: VotingParts) -> None:
    """Go on with the run's newest vote, or offer a first one."""
    seen = gr.State("")

    def opened(asker: Asker, run_id: str, before: str) -> Outputs:
        nothing = {**_nothing(parts), seen: ""}
        if not run_id:
            return nothing
        try:
            run = asker.run(run_id)
            shown = _shown(parts, run, trials.current_trial(run), asker.locale)
        except RunError:
            return nothing
        offer = offer_of(run)
        fresh = _offer(parts, run, asker.locale) if before != offer else {}
        return {**shown, **fresh, seen: offer}

    on(
        shared, [shared.run_changed.change, shared.tab.select], opened, [shared.run_id, seen],
        [*parts.shown, *parts.offered, seen],
    )  # fmt: skip

    def again(asker: Asker, run_id: str) -> Outputs:
        offer = _offer(parts, asker.run(run_id), asker.locale, skip=2)
        return {parts.setup: gr.update(visible=True), parts.new: gr.update(visible=False), **offer}

    on(
        shared, parts.new.click, again, [shared.run_id],
        [parts.setup, parts.new, *parts.offered, parts.note], refused=parts.note,
    )  # fmt: skip
    parts.number.change(None, None, None, js=KEYS_JS)


def _offer(parts: VotingParts, run: Run, locale: str, skip: int = 0) -> Outputs:
    """Return methods to vote between and two tasks, where there are any to propose."""
    choices = [(words, m) for words, m in method_choices(run, locale) if m != "self-prompt"]
    tasks = [*trials.proposed_tasks(run, skip + 2)[skip:], "", ""]
    ticked = [m for m in usual_methods(run) if m in [name for _, name in choices]]
    methods = gr.update(choices=choices, value=ticked)
    return {parts.methods: methods, **dict(zip(parts.tasks, tasks, strict=False))}


def _wire_suggest(shared: Shared, parts: VotingParts) -> None:
    """Let the base model think of two tasks of the demonstrations' kind, others at each press."""

    def suggest(asker: Asker, run_id: str) -> Iterator[Outputs]:
        run, locale = asker.run(run_id), asker.locale
        yield {parts.note: notice(say("vote.suggesting", locale), "plain")}
        seed = time.time_ns() % 2**31
        found = trials.suggest_tasks(run, writer(shared, run, asker), len(parts.tasks), seed)
        said = "" if found else notice(say("vote.no_suggestion", locale), "plain")
        yield {**dict(zip(parts.tasks, found, strict=False)), parts.note: said}

    on(
        shared,
        parts.suggest.click,
        suggest,
        [shared.run_id],
        [*parts.tasks, parts.note],
        busy=parts.suggest,
        refused=parts.note,
        kind="model",
    )


def _wire_begin(shared: Shared, parts: VotingParts, self_prompt: gr.Textbox) -> None:
    """Write all texts of a vote, then ask the first question."""

    def begin(
        asker: Asker, run_id: str, ticked: list[str], first: str, second: str, words: str
    ) -> Iterator[Outputs]:
        run = asker.run(run_id)
        words = short(words, shared)
        methods = [*ticked, *(["self-prompt"] if words.strip() else [])]
        tasks = [short(first, shared), short(second, shared)]
        writing = say("vote.writing", asker.locale, n=2 * len(methods))
        yield {parts.note: notice(writing, "plain")}
        trial = trials.begin_trial(
            run, methods, tasks, writer(shared, run, asker), self_prompt=words
        )
        yield {parts.note: "", **_shown(parts, run, trial, asker.locale)}

    on(
        shared,
        parts.begin.click,
        begin,
        [shared.run_id, parts.methods, *parts.tasks, self_prompt],
        [parts.note, *parts.shown],
        busy=parts.begin,
        refused=parts.note,
        kind="model",
        show_progress="minimal",
        show_progress_on=parts.note,
    )


def _wire_votes(shared: Shared, parts: VotingParts) -> None:
    """Save each vote as it is cast; its number comes from the page, so a second click is none."""

    def cast(reply: str, asker: Asker, run_id: str, name: str, number: str) -> Outputs:
        run = asker.run(run_id)
        trial = trials.cast_vote(run, name, int(number) if number.isdecimal() else 0, reply)
        return {parts.note: "", **_shown(parts, run, trial, asker.locale)}

    for reply, button in {**parts.buttons, "stop": parts.stop}.items():
        on(
            shared,
            button.click,
            partial(cast, reply),
            [shared.run_id, parts.name, parts.number],
            [parts.note, *parts.shown],
            refused=parts.note,
        )
