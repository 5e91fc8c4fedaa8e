"""Compare: any prompt by several methods side by side, a blind vote, what was measured, and which
candidate is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ditto_hub import api
from ditto_hub.api.trials import write_side_by_side
from ditto_hub.errors import DittoError, RunError
from ditto_hub.runs import Run
from ditto_hub.ui import columns, measuring, voting
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
from ditto_hub.ui.bases import wait_for_libraries
from ditto_hub.ui.render import notice, told
from ditto_hub.ui.session import Shared, changed, token_of
from ditto_hub.ui.words import locale_of, say, t

WORDS = {
    "compare.none": "Nothing to compare yet. Train a run, or open one in My runs.",
    "compare.not_yet": "This run has no candidate yet. Its first one is the warm start.",
    "compare.side": "Side by side",
    "compare.prompt": "Prompt",
    "compare.prompt_about": "Anything you would ask for. Best something you did not show it.",
    "compare.methods": "Written by",
    "compare.methods_about": "Up to six side by side.",
    "compare.self_prompt": "Your own prompt",
    "compare.self_prompt_about": "How you would tell the base model to write like you. It is put"
    " before the request.",
    "compare.write": "Write",
    "compare.again": "Write again",
    "compare.writing": "Writing {n} texts. The first one also loads the model.",
    "compare.too_many": "At most six side by side: take {n} away.",
    "compare.keep": "Which one is your adapter",
    "compare.keep_about": "Every round is a candidate, and so are the SFT ones. The others stay,"
    " and you can change your mind.",
    "compare.candidate": "Candidate",
    "compare.choose": "Make it the adapter",
    "compare.chosen_is": "Now: {name}. {why}",
    "compare.next": "Go on to publishing",
}
MOST = 6


@dataclass(frozen=True)
class CompareParts:
    """Hold the components of this step."""

    note: gr.HTML
    view: gr.Column
    prompt: gr.Textbox
    methods: gr.CheckboxGroup
    self_prompt: gr.Textbox
    write: gr.Button
    again: gr.Button
    seed: gr.State
    columns: gr.HTML
    candidate: gr.Radio
    choose: gr.Button
    chosen: gr.HTML
    go_on: gr.Button


def build(shared: Shared) -> CompareParts:
    """Build the step."""
    note = gr.HTML(elem_id="compare-note")
    with gr.Column(visible=False, elem_id="compare-view") as view:
        gr.HTML(t("compare.side"), elem_classes="d-heading")
        prompt = gr.Textbox(
            label=t("compare.prompt"), info=t("compare.prompt_about"), lines=2,
            max_length=shared.profile.max_text_chars or None, elem_id="compare-prompt",
        )  # fmt: skip
        methods = gr.CheckboxGroup(
            [], label=t("compare.methods"), info=t("compare.methods_about"),
            elem_id="compare-methods",
        )  # fmt: skip
        self_prompt = gr.Textbox(
            label=t("compare.self_prompt"), info=t("compare.self_prompt_about"), lines=2,
            max_length=shared.profile.max_text_chars or None, visible=False,
            elem_id="compare-self-prompt",
        )  # fmt: skip
        with gr.Row():
            write = gr.Button(t("compare.write"), variant="primary", elem_id="compare-write")
            again = gr.Button(t("compare.again"), elem_id="compare-again")
        texts = gr.HTML(elem_id="compare-columns")
        voting.build(shared, self_prompt)
        measuring.build(shared)
        gr.HTML(t("compare.keep"), elem_classes="d-heading")
        candidate = gr.Radio(
            [], label=t("compare.candidate"), info=t("compare.keep_about"),
            elem_id="compare-candidate",
        )  # fmt: skip
        chosen = gr.HTML(elem_id="compare-chosen")
        with gr.Row():
            choose = gr.Button(t("compare.choose"), elem_id="compare-choose")
            go_on = gr.Button(t("compare.next"), variant="primary", elem_id="compare-next")
    parts = CompareParts(
        note, view, prompt, methods, self_prompt, write, again, gr.State(0), texts, candidate,
        choose, chosen, go_on,
    )  # fmt: skip
    _wire_open(shared, parts)
    _wire_write(shared, parts)
    _wire_choose(shared, parts)
    return parts


def _wire_open(shared: Shared, parts: CompareParts) -> None:
    """Offer what the shown run has, whenever another one is shown or it has changed."""
    seen = gr.State("")
    outputs = [parts.note, parts.view, parts.methods, parts.candidate, parts.chosen,
               parts.columns, seen]  # fmt: skip

    def opened(
        run_id: str, before: str, secret: str, request: gr.Request,
        profile: gr.OAuthProfile | None,
    ) -> tuple[Any, ...]:  # fmt: skip
        locale = locale_of(request)
        hidden = gr.update(visible=False)
        if not run_id:
            return notice(say("compare.none", locale), "plain"), hidden, *[gr.skip()] * 3, "", ""
        try:
            _, run = asked(run_id, secret, request, profile)
        except RunError as error:
            return told(error, locale), hidden, *[gr.skip()] * 3, "", ""
        if not run.candidates():
            words = notice(say("compare.not_yet", locale), "plain")
            return words, hidden, *[gr.skip()] * 3, "", ""
        offer = offer_of(run)
        same = before == offer  # what is ticked stays, where there is no more to choose from
        offered = method_choices(run, locale)
        trained = [(words, name) for words, name in offered if name in run.candidates()]
        ticked: dict[str, Any] = {} if same else {"value": usual_methods(run)}
        kept: dict[str, Any] = {} if same else {"value": run.record.chosen}
        return (
            "",
            gr.update(visible=True),
            gr.update(choices=offered, **ticked),
            gr.update(choices=trained, **kept),
            _chosen_words(run, locale),
            gr.skip() if same else "",
            offer,
        )

    shared.run_changed.change(opened, [shared.run_id, seen, shared.secret], outputs, **QUIET)
    parts.methods.change(
        lambda ticked: gr.update(visible="self-prompt" in ticked),
        parts.methods, parts.self_prompt, **QUIET,
    )  # fmt: skip


def _wire_write(shared: Shared, parts: CompareParts) -> None:
    """Write the texts; "Write again" draws others for the same prompt."""

    def write(
        run_id: str, prompt: str, ticked: list[str], words: str, seed: int, secret: str,
        request: gr.Request, profile: gr.OAuthProfile | None, token: gr.OAuthToken | None,
    ) -> Iterator[str]:  # fmt: skip
        locale = locale_of(request)
        try:
            asking, run = asked(run_id, secret, request, profile)
            if len(ticked) > MOST:
                yield notice(say("compare.too_many", locale, n=len(ticked) - MOST))
                return
            yield notice(say("compare.writing", locale, n=len(ticked)), "plain")
            texts = write_side_by_side(
                run, ticked, short(prompt, shared), writer(shared, run, asking, token),
                seed=seed, self_prompt=short(words, shared),
            )  # fmt: skip
        except DittoError as error:
            yield told(error, locale)
            return
        names = {name: words for words, name in method_choices(run, locale)}
        kept = names.get(run.record.chosen or "", "")
        yield columns.side_by_side([(names[m], text) for m, text in texts], kept, locale)

    inputs = [shared.run_id, parts.prompt, parts.methods, parts.self_prompt, parts.seed,
              shared.secret]  # fmt: skip
    options = {**WRITING, "show_progress": "minimal"}
    gr.on([parts.write.click, parts.prompt.submit], write, inputs, parts.columns, **options)
    parts.again.click(lambda seed: seed + 1, parts.seed, parts.seed, **QUIET).then(
        write, inputs, parts.columns, **options
    )


def _chosen_words(run: Run, locale: str) -> str:
    if not run.record.chosen:
        return ""
    name = method_name(run.record.chosen, locale)
    why = columns.named(columns.chosen_words(run, locale), {run.record.chosen: name})
    return notice(say("compare.chosen_is", locale, name=name, why=why), "plain")


def _wire_choose(shared: Shared, parts: CompareParts) -> None:
    """Make another candidate the adapter, and tell the other steps."""

    def choose(
        run_id: str, candidate: str | None, secret: str, request: gr.Request,
        profile: gr.OAuthProfile | None, token: gr.OAuthToken | None,
    ) -> tuple[str, Any]:  # fmt: skip
        locale = locale_of(request)
        try:
            _, run = asked(run_id, secret, request, profile)
            here = shared.profile.backend == "local"
            wait_for_libraries()
            api.choose(run, candidate or "", probe=here, token=token_of(token))
        except DittoError as error:
            return told(error, locale), gr.skip()
        return _chosen_words(run, locale), changed(run_id)

    parts.choose.click(
        choose,
        [shared.run_id, parts.candidate, shared.secret],
        [parts.chosen, shared.run_changed],
        show_progress="minimal",
        **WRITING,
    )
    parts.go_on.click(lambda: gr.Tabs(selected="publish"), None, shared.tabs, **QUIET)
