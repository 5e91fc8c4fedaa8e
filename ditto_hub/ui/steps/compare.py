"""Try: chat with a version of the run, texts side by side, a blind test, what was measured; and
which version is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ditto_hub import api
from ditto_hub.api.trials import write_side_by_side
from ditto_hub.errors import RunError
from ditto_hub.runs.folder import Run
from ditto_hub.ui.html import side_by_side
from ditto_hub.ui.html.render import failure, notice
from ditto_hub.ui.i18n.words import t
from ditto_hub.ui.serving.base_models import wait_for_libraries
from ditto_hub.ui.serving.events import Asker, Outputs, go_to, on
from ditto_hub.ui.serving.requests import (
    method_choices,
    method_name,
    offer_of,
    short,
    usual_methods,
    version_choices,
    writer,
)
from ditto_hub.ui.serving.session import Shared, changed
from ditto_hub.ui.steps import chat, measuring, voting
from ditto_hub.words import say

MOST = 6


@dataclass(frozen=True)
class SideParts:
    """Hold the components that write texts side by side."""

    prompt: gr.Textbox
    methods: gr.CheckboxGroup
    self_prompt: gr.Textbox
    write: gr.Button
    again: gr.Button
    seed: gr.State
    columns: gr.HTML


@dataclass(frozen=True)
class CompareParts:
    """Hold the components of this step."""

    note: gr.HTML
    view: gr.Column
    version: gr.Radio
    choose: gr.Button
    chosen: gr.HTML
    side: SideParts
    go_on: gr.Button


def build(shared: Shared) -> CompareParts:
    """Build the step; the chat comes first."""
    note = gr.HTML(elem_id="compare-note")
    with gr.Column(visible=False, elem_id="compare-view") as view:
        with gr.Tabs(elem_id="try-tabs", overflow_behavior="wrap"):
            with gr.Tab(t("try.title"), elem_id="try-tab-chat"):
                talk = chat.build(shared)
                with gr.Row(elem_id="compare-versions"):
                    version = gr.Radio(
                        [], label=t("compare.keep"), info=t("compare.keep_about"), scale=5,
                        elem_id="compare-candidate",
                    )  # fmt: skip
                    choose = gr.Button(t("compare.choose"), scale=1, elem_id="compare-choose")
                chosen = gr.HTML(elem_id="compare-chosen")
            with gr.Tab(t("compare.side"), elem_id="try-tab-side"):
                side = _build_side(shared)
            with gr.Tab(t("vote.title"), elem_id="try-tab-vote"):
                voting.build(shared, side.self_prompt)
            with gr.Tab(t("measure.title"), elem_id="try-tab-report"):
                measuring.build(shared)
        go_on = gr.Button(t("compare.next"), elem_id="compare-next")
    parts = CompareParts(note, view, version, choose, chosen, side, go_on)
    chat.wire(shared, talk, version)
    _wire_open(shared, parts)
    _wire_write(shared, side)
    _wire_choose(shared, parts)
    return parts


def _build_side(shared: Shared) -> SideParts:
    most = shared.profile.max_text_chars or None
    prompt = gr.Textbox(
        label=t("compare.prompt"), info=t("compare.prompt_about"), lines=2, max_length=most,
        elem_id="compare-prompt",
    )  # fmt: skip
    methods = gr.CheckboxGroup(
        [], label=t("compare.methods"), info=t("compare.methods_about"), elem_id="compare-methods"
    )
    self_prompt = gr.Textbox(
        label=t("compare.self_prompt"), info=t("compare.self_prompt_about"), lines=2,
        max_length=most, visible=False, elem_id="compare-self-prompt",
    )  # fmt: skip
    with gr.Row():
        write = gr.Button(t("compare.write"), variant="primary", elem_id="compare-write")
        again = gr.Button(t("compare.again"), elem_id="compare-again")
    columns = gr.HTML(elem_id="compare-columns")
    return SideParts(prompt, methods, self_prompt, write, again, gr.State(0), columns)


def _wire_open(shared: Shared, parts: CompareParts) -> None:
    """Offer what the shown run has, whenever another is shown, it has changed, or one looks."""
    seen, side = gr.State(""), parts.side

    def nothing(said: str) -> Outputs:
        view = gr.update(visible=False)
        return {parts.note: said, parts.view: view, side.columns: "", seen: ""}

    def opened(asker: Asker, run_id: str, before: str) -> Outputs:
        locale = asker.locale
        if not run_id:
            return nothing(notice(say("compare.none", locale), "plain"))
        try:
            run = asker.run(run_id)
        except RunError as error:
            return nothing(failure(error, locale))
        if not run.candidates():
            return nothing(notice(say("compare.not_yet", locale), "plain"))
        offer = offer_of(run)
        fresh = before != offer  # what is ticked stays, where there is no more to choose from
        versions = version_choices(run, locale)
        ticked: dict[str, Any] = {"value": usual_methods(run)} if fresh else {}
        picked: dict[str, Any] = {"value": run.record.chosen or versions[-1][1]} if fresh else {}
        return {
            parts.note: "",
            parts.view: gr.update(visible=True),
            side.methods: gr.update(choices=method_choices(run, locale), **ticked),
            parts.version: gr.update(choices=versions, **picked),
            parts.choose: gr.update(visible=(run.folder / "adapter").is_dir()),
            parts.chosen: _chosen_words(run, locale),
            **({side.columns: ""} if fresh else {}),
            seen: offer,
        }

    on(
        shared,
        [shared.run_changed.change, shared.tab.select],
        opened,
        [shared.run_id, seen],
        [
            parts.note, parts.view, side.methods, parts.version, parts.choose, parts.chosen,
            side.columns, seen,
        ],
    )  # fmt: skip

    def ticked_own(asker: Asker, ticked: list[str]) -> Outputs:
        return {side.self_prompt: gr.update(visible="self-prompt" in ticked)}

    on(shared, side.methods.change, ticked_own, [side.methods], [side.self_prompt])


def _wire_write(shared: Shared, parts: SideParts) -> None:
    """Write the texts; "Write again" draws others for the same prompt."""

    def write(
        asker: Asker, run_id: str, prompt: str, ticked: list[str], words: str, seed: int
    ) -> Iterator[Outputs]:
        run, locale = asker.run(run_id), asker.locale
        if len(ticked) > MOST:
            too_many = say("compare.too_many", locale, n=len(ticked) - MOST)
            yield {parts.columns: notice(too_many)}
            return
        yield {parts.columns: notice(say("compare.writing", locale, n=len(ticked)), "plain")}
        texts = write_side_by_side(
            run, ticked, short(prompt, shared), writer(shared, run, asker),
            seed=seed, self_prompt=short(words, shared),
        )  # fmt: skip
        names = {name: words for words, name in method_choices(run, locale)}
        kept = names.get(run.record.chosen or "", "")
        found = [(names[method], text) for method, text in texts]
        yield {parts.columns: side_by_side.side_by_side(found, kept, locale)}

    on(
        shared,
        [parts.write.click, parts.prompt.submit, parts.seed.change],
        write,
        [shared.run_id, parts.prompt, parts.methods, parts.self_prompt, parts.seed],
        [parts.columns],
        refused=parts.columns,
        kind="model",
        show_progress="minimal",
    )
    on(
        shared, parts.again.click, lambda asker, seed: {parts.seed: seed + 1}, [parts.seed],
        [parts.seed],
    )  # fmt: skip


def _chosen_words(run: Run, locale: str) -> str:
    if not run.record.chosen:
        return ""
    name = method_name(run.record.chosen, locale)
    why = side_by_side.chosen_words(run, name, locale)
    return notice(say("compare.chosen_is", locale, name=name, why=why), "plain")


def _wire_choose(shared: Shared, parts: CompareParts) -> None:
    """Make another candidate the adapter, and tell the other steps."""

    def choose(asker: Asker, run_id: str, candidate: str | None) -> Iterator[Outputs]:
        run, here = asker.run(run_id), shared.profile.backend == "local"
        yield {parts.chosen: notice(say("compare.choosing", asker.locale), "plain")}
        wait_for_libraries()
        api.choose(run, candidate or "", probe=here, token=asker.hub_token)
        yield {
            parts.chosen: _chosen_words(run, asker.locale),
            shared.run_changed: changed(run_id),
        }

    on(
        shared,
        parts.choose.click,
        choose,
        [shared.run_id, parts.version],
        [parts.chosen, shared.run_changed],
        busy=parts.choose,
        refused=parts.chosen,
        kind="model",
        show_progress="minimal",
    )
    on(shared, parts.go_on.click, go_to(shared, "publish"), outputs=[shared.tabs])
