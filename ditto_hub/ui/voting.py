"""The blind vote: two test tasks, shuffled sides, twenty votes at most, by mouse or by key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ditto_hub.api import trials
from ditto_hub.api.comparing import shipped_prompts
from ditto_hub.errors import DittoError, RunError
from ditto_hub.results import Evaluation
from ditto_hub.runs import Run
from ditto_hub.ui import columns
from ditto_hub.ui.asking import (
    QUIET,
    WRITING,
    asked,
    method_choices,
    method_name,
    offer_of,
    short,
    usual_methods,
    writer,
)
from ditto_hub.ui.render import notice, told
from ditto_hub.ui.session import Shared, Visitor
from ditto_hub.ui.words import locale_of, say, t

WORDS = {
    "vote.title": "Vote blind",
    "vote.about": "As in the method's own study: two test tasks, two texts at a time, and you are"
    " not told who wrote which. At most twenty votes; you may stop earlier and go on another day.",
    "vote.methods": "Vote between",
    "vote.task_1": "Test task 1",
    "vote.task_2": "Test task 2",
    "vote.task_about": "A request that is not among your demonstrations.",
    "vote.begin": "Write the texts and begin",
    "vote.writing": "Writing {n} texts. Then the vote begins.",
    "vote.question": "Which one is more like you?",
    "vote.left": "Text 1 (key 1)",
    "vote.right": "Text 2 (key 2)",
    "vote.tie": "Equal (key 0)",
    "vote.skip": "Skip (key S)",
    "vote.stop": "Stop here and count",
    "vote.number": "Votes cast",
    "vote.name": "Name of this vote",
    "vote.examples": "Your own texts, to compare with",
    "vote.new": "Vote again on other tasks",
    "vote.self_prompt": "To vote on your own prompt, write it above.",
}
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


def build(shared: Shared, self_prompt: gr.Textbox) -> VotingParts:
    """Build the vote; `self_prompt` is the box of the step that holds the visitor's own prompt."""
    gr.HTML(t("vote.title"), elem_classes="d-heading")
    gr.HTML(t("vote.about"), elem_classes="d-about")
    with gr.Column(elem_id="compare-vote-setup") as setup:
        methods = gr.CheckboxGroup([], label=t("vote.methods"), elem_id="compare-vote-methods")
        with gr.Row():
            tasks = tuple(
                gr.Textbox(
                    label=t(f"vote.task_{n}"), info=t("vote.task_about"), lines=2, min_width=280,
                    max_length=shared.profile.max_text_chars or None, elem_id=f"compare-task-{n}",
                )
                for n in (1, 2)
            )  # fmt: skip
        begin = gr.Button(t("vote.begin"), variant="primary", elem_id="compare-vote-begin")
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
        setup, methods, (tasks[0], tasks[1]), begin, note, booth, ballot, number, name, buttons,
        stop, examples, tally, new,
    )  # fmt: skip
    _wire_open(shared, parts)
    _wire_begin(shared, parts, self_prompt)
    _wire_votes(shared, parts)
    return parts


def _shown(run: Run, trial: Evaluation | None, locale: str) -> list[Any]:
    """Return setup, booth, ballot, number, name, examples, tally and new for a trial's state."""
    if trial is None:
        hidden = gr.update(visible=False)
        return [gr.update(visible=True), hidden, "", "", "", "", "", hidden]
    question = trials.ballot(run, trial)
    cast, planned = trials.votes(trial)
    if question is None:
        names = {m: method_name(m, locale) for m in trial.methods}
        counted = columns.tally(trial, cast, names, locale)
        hidden = gr.update(visible=False)
        return [hidden, hidden, "", str(cast), trial.name, "", counted, gr.update(visible=True)]
    task = question.prompt[-1]["content"]
    asks = columns.ballot(task, question.left, question.right, (cast, planned), locale)
    own = columns.own_texts(question.examples)
    hidden = gr.update(visible=False)
    return [hidden, gr.update(visible=True), asks, str(cast), trial.name, own, "", hidden]


def _outputs(parts: VotingParts) -> list[Any]:
    return [parts.setup, parts.booth, parts.ballot, parts.number, parts.name, parts.examples,
            parts.tally, parts.new]  # fmt: skip


def _wire_open(shared: Shared, parts: VotingParts) -> None:
    """Go on with the run's newest vote, or offer a first one."""
    outputs = _outputs(parts)
    offered = [parts.methods, *parts.tasks]
    seen = gr.State("")

    def opened(
        run_id: str, before: str, secret: str, request: gr.Request,
        profile: gr.OAuthProfile | None,
    ) -> tuple[Any, ...]:  # fmt: skip
        nothing = (*_shown_nothing(), *[gr.skip()] * len(offered), "")
        if not run_id:
            return nothing
        try:
            asking, run = asked(run_id, secret, request, profile)
            shown = _shown(run, trials.current_trial(run), asking.locale)
        except RunError:
            return nothing
        offer = offer_of(run)
        fresh = _offer(run, asking) if before != offer else [gr.skip()] * len(offered)
        return (*shown, *fresh, offer)

    shared.run_changed.change(
        opened, [shared.run_id, seen, shared.secret], [*outputs, *offered, seen], **QUIET
    )

    def anew(
        run_id: str, secret: str, request: gr.Request, profile: gr.OAuthProfile | None
    ) -> tuple[Any, ...]:
        asking, run = asked(run_id, secret, request, profile)
        return gr.update(visible=True), gr.update(visible=False), *_offer(run, asking, 2)

    parts.new.click(
        anew, [shared.run_id, shared.secret], [parts.setup, parts.new, *offered], **QUIET
    )
    parts.number.change(None, None, None, js=KEYS_JS)


def _offer(run: Run, asking: Visitor, skip: int = 0) -> list[Any]:
    """Return methods to vote between and two tasks, where the run comes with prompts."""
    choices = [(words, m) for words, m in method_choices(run, asking.locale) if m != "self-prompt"]
    tasks = shipped_prompts(run, 0, skip + 2)[skip:]
    tasks += [""] * (2 - len(tasks))
    ticked = [m for m in usual_methods(run) if m in [name for _, name in choices]]
    return [gr.update(choices=choices, value=ticked), *tasks]


def _shown_nothing() -> list[Any]:
    hidden = gr.update(visible=False)
    return [hidden, hidden, "", "", "", "", "", hidden]


def _wire_begin(shared: Shared, parts: VotingParts, self_prompt: gr.Textbox) -> None:
    """Write all texts of a vote, then ask the first question."""
    outputs = [parts.note, *_outputs(parts)]

    def begin(
        run_id: str, ticked: list[str], first: str, second: str, words: str, secret: str,
        request: gr.Request, profile: gr.OAuthProfile | None, token: gr.OAuthToken | None,
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        locale = locale_of(request)
        waiting = [gr.skip()] * len(_outputs(parts))
        try:
            asking, run = asked(run_id, secret, request, profile)
            words = short(words, shared)
            methods = [*ticked, *(["self-prompt"] if words.strip() else [])]
            tasks = [short(first, shared), short(second, shared)]
            yield notice(say("vote.writing", locale, n=2 * len(methods)), "plain"), *waiting
            trial = trials.begin_trial(
                run, methods, tasks, writer(shared, run, asking, token),
                self_prompt=words,
            )  # fmt: skip
        except DittoError as error:
            yield told(error, locale), *waiting
            return
        yield "", *_shown(run, trial, locale)

    parts.begin.click(
        begin,
        [shared.run_id, parts.methods, *parts.tasks, self_prompt, shared.secret],
        outputs,
        show_progress="minimal",
        show_progress_on=parts.note,
        **WRITING,
    )


def _wire_votes(shared: Shared, parts: VotingParts) -> None:
    """Save each vote as it is cast; its number comes from the page, so a second click is none."""
    inputs = [shared.run_id, parts.name, parts.number, shared.secret]
    outputs = [parts.note, *_outputs(parts)]
    for reply, button in {**parts.buttons, "stop": parts.stop}.items():

        def cast(
            run_id: str, name: str, number: str, secret: str, request: gr.Request,
            profile: gr.OAuthProfile | None, reply: str = reply,
        ) -> tuple[Any, ...]:  # fmt: skip
            try:
                asking, run = asked(run_id, secret, request, profile)
                trial = trials.cast_vote(run, name, int(number or 0), reply)
                return "", *_shown(run, trial, asking.locale)
            except (DittoError, ValueError) as error:
                return told(error, locale_of(request)), *[gr.skip()] * len(_outputs(parts))

        button.click(cast, inputs, outputs, concurrency_id="votes", **QUIET)
