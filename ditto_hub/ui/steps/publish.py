"""Publish: the adapter with its card goes to the visitor's own repo, or home as a zip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ditto_hub import api
from ditto_hub.api.publishing import PublishOptions, has_local_token, publishing
from ditto_hub.errors import DittoError, RunError, describe
from ditto_hub.runs.folder import Run
from ditto_hub.ui.html import receipts
from ditto_hub.ui.html.render import failure, notice
from ditto_hub.ui.i18n.words import t
from ditto_hub.ui.serving.downloads import ADAPTER, GGUF, PAIRS, download_js
from ditto_hub.ui.serving.events import BUSY_JS, IDLE_JS, Asker, Outputs, on
from ditto_hub.ui.serving.requests import method_name
from ditto_hub.ui.serving.session import Shared
from ditto_hub.ui.steps.account import (
    NotSignedInError,
    account_of,
    can_use_local,
    token_to_look,
    token_to_publish,
)
from ditto_hub.ui.steps.uses import build_uses
from ditto_hub.words import Text, say

CAPS = {"name": 96, "base_id": 200, "replaces": 200}
# what comes of a press is below the card
STEPS_JS = """() => document.getElementById("publish-steps").scrollIntoView({block: "center"})"""


@dataclass(frozen=True)
class CardParts:
    """Hold the components that show the card."""

    files: gr.HTML
    first: gr.Markdown
    rest: gr.Markdown
    front: gr.Code

    @property
    def shown(self) -> list[Any]:
        """All of them."""
        return [self.files, self.first, self.rest, self.front]


@dataclass(frozen=True)
class PublishParts:
    """Hold the components of this step; `fields` are what a publication is told."""

    note: gr.HTML
    view: gr.Column
    account: gr.HTML
    sign_in: gr.Row
    what: gr.HTML
    fields: tuple[Any, ...]
    card: CardParts
    start: gr.Button
    home: gr.Button
    gguf: gr.Button
    pairs: gr.Button
    steps: gr.HTML
    receipt: gr.HTML
    share: gr.Textbox
    uses: gr.Accordion
    lines: dict[str, gr.Code]

    @property
    def use_local(self) -> gr.Checkbox:
        """The visitor's leave to use the token that is saved on this machine."""
        box: gr.Checkbox = self.fields[-1]
        return box

    @property
    def results(self) -> list[Any]:
        """What shows how far a publication is."""
        return [self.steps, self.receipt, self.share, self.uses, *self.lines.values()]

    @property
    def account_shown(self) -> list[Any]:
        """What depends on who is signed in."""
        return [self.account, self.sign_in, self.start, self.home]


def build(shared: Shared) -> PublishParts:
    """Build the step: the form, and beside it the card as it will look."""
    note = gr.HTML(elem_id="publish-note")
    with gr.Column(visible=False, elem_id="publish-view") as view:
        account = gr.HTML(elem_id="publish-account")
        with gr.Row(visible=False, elem_id="publish-sign-in-row") as sign_in:
            if shared.sign_in:
                gr.LoginButton(size="sm", icon=None, scale=0, elem_id="publish-sign-in")
        with gr.Row(elem_id="publish-both"):
            with gr.Column(scale=2, min_width=300, elem_id="publish-form"):
                what = gr.HTML(elem_id="publish-what")
                fields = _fields(shared)
                with gr.Row():
                    start = gr.Button(t("publish.start"), min_width=120, elem_id="publish-start")
                    home = gr.Button(t("publish.home"), min_width=120, elem_id="publish-download")
                gr.HTML(t("publish.home_about"), elem_classes="d-about")
                gguf = _gguf()
                pairs = gr.Button(t("publish.pairs"), size="sm", elem_id="publish-pairs")
                gr.HTML(t("publish.pairs_about"), elem_classes="d-about")
                steps, receipt, share = _results()
                uses, lines = build_uses()
            with gr.Column(scale=3, min_width=340, elem_id="publish-card-box"):
                card = _card()
    parts = PublishParts(
        note, view, account, sign_in, what, fields, card, start, home, gguf, pairs, steps, receipt,
        share, uses, lines,
    )  # fmt: skip
    _wire_open(shared, parts)
    _wire_account(shared, parts)
    _wire_card(shared, parts)
    _wire_publish(shared, parts)
    _wire_download(shared, parts.home, ADAPTER)
    _wire_download(shared, parts.gguf, GGUF)
    _wire_download(shared, parts.pairs, PAIRS)
    return parts


def _gguf() -> gr.Button:
    """Build the download for llama.cpp and Ollama; hidden where GGUF files cannot be written."""
    with gr.Column(visible=api.can_write_gguf(), elem_id="publish-gguf-box"):
        gguf = gr.Button(t("publish.gguf"), elem_id="publish-gguf")
        gr.HTML(t("publish.gguf_about"), elem_classes="d-about")
    return gguf


def _results() -> tuple[gr.HTML, gr.HTML, gr.Textbox]:
    """Build what shows a publication: its steps, its receipt, words to share."""
    steps = gr.HTML(elem_id="publish-steps")
    receipt = gr.HTML(elem_id="publish-receipt")
    share = gr.Textbox(
        label=t("publish.share"), lines=2, interactive=False, visible=False, buttons=["copy"],
        elem_id="publish-share",
    )  # fmt: skip
    return steps, receipt, share


def _card() -> CardParts:
    """Build the preview of the card: its text, what goes along with it, its metadata."""
    gr.HTML(t("publish.card"), elem_classes="d-heading")
    first = _markdown("publish-card")
    with gr.Accordion(t("publish.card_rest"), open=False, elem_id="publish-card-more"):
        rest = _markdown("publish-card-rest")
        front = gr.Code(
            language="yaml", label=t("publish.metadata"), interactive=False, buttons=["copy"],
            show_line_numbers=False, wrap_lines=True, elem_id="publish-metadata",
        )  # fmt: skip
    return CardParts(gr.HTML(elem_id="publish-files"), first, rest, front)


def _markdown(elem_id: str) -> gr.Markdown:
    return gr.Markdown(
        sanitize_html=True, latex_delimiters=[], elem_id=elem_id, elem_classes="d-card-preview"
    )


def _fields(shared: Shared) -> tuple[Any, ...]:
    """Build what a publication is told: namespace, name, base id, who sees it, consents, and of a
    later version the repo that it replaces."""
    with gr.Row():
        namespace = gr.Textbox(
            label=t("publish.namespace"), info=t("publish.namespace_about"), min_width=140,
            max_length=CAPS["name"], elem_id="publish-namespace",
        )  # fmt: skip
        name = gr.Textbox(
            label=t("publish.name"), info=t("publish.name_about"), min_width=140,
            max_length=CAPS["name"], elem_id="publish-name",
        )  # fmt: skip
    base_id = gr.Textbox(
        label=t("publish.base_id"), info=t("publish.base_id_about"), visible=False,
        max_length=CAPS["base_id"], elem_id="publish-base-id",
    )  # fmt: skip
    replaces = gr.Textbox(
        label=t("publish.replaces"), info=t("publish.replaces_about"), visible=False,
        max_length=CAPS["replaces"], elem_id="publish-replaces",
    )  # fmt: skip
    seen = gr.Radio(
        [(t("publish.private"), "private"), (t("publish.public"), "public")], value="private",
        label=t("publish.seen"), elem_id="publish-visibility",
    )  # fmt: skip
    demos = gr.Checkbox(
        False, label=t("publish.demos"), info=t("publish.demos_about"),
        elem_id="publish-include-demos",
    )  # fmt: skip
    outputs = gr.Checkbox(
        False, label=t("publish.outputs"), info=t("publish.outputs_about"),
        elem_id="publish-include-outputs",
    )  # fmt: skip
    use_local = gr.Checkbox(
        False, label=t("account.ask"), visible=can_use_local(shared) and has_local_token(),
        elem_id="publish-local-token",
    )  # fmt: skip
    return namespace, name, base_id, seen, demos, outputs, replaces, use_local


def repo_of(namespace: str, name: str) -> str:
    """Return the repo's id from its two halves."""
    halves = [(half or "").strip()[: CAPS["name"]] for half in (namespace, name)]
    return "/".join(half for half in halves if half)


def options_of(
    base_id: str, seen: str, demos: bool, outputs: bool, replaces: str = ""
) -> PublishOptions:
    """Return the options of a publication; whatever is not said plainly is no."""
    return PublishOptions(
        base_model_id=(base_id or "").strip()[: CAPS["base_id"]] or None,
        public=seen == "public",
        include_demos=demos is True,
        include_outputs=outputs is True,
        replaces=(replaces or "").strip()[: CAPS["replaces"]] or None,
    )


def suggested_name(run: Run) -> str:
    """Return a name for the repo that tells no more than the base model does."""
    base = Path(str(run.record.base_model["id"])).name or "base"
    return f"my-voice-{base}"[:60].strip("-._")


def _wire_open(shared: Shared, parts: PublishParts) -> None:
    """Show what can be published, whenever another run is shown or it has changed."""
    shown = gr.State("")
    outputs = [parts.note, parts.view, parts.what, *parts.fields[:-1], *parts.results, shown]

    def nothing(said: str) -> Outputs:
        hidden = gr.update(visible=False)
        return {parts.note: said, parts.view: hidden, **_said(parts), shown: ""}

    def opened(asker: Asker, run_id: str, before: str, kept: dict[str, Any]) -> Outputs:
        locale = asker.locale
        if not run_id:
            return nothing(notice(say("publish.none", locale), "plain"))
        try:
            run = asker.run(run_id)
        except RunError as error:
            return nothing(failure(error, locale))
        if not (run.folder / "adapter").is_dir():
            return nothing(notice(say("publish.not_yet", locale), "plain"))
        name = method_name(run.record.chosen or "", locale)
        what = say("publish.publishes", locale, name=name, run=run.title)
        found: Outputs = {
            parts.note: "",
            parts.view: gr.update(visible=True),
            parts.what: f'<p class="d-say">{escape(what)}</p>',
            shown: run_id,
        }
        if before == run_id:
            return found
        values = _start_values(run, kept, asker.profile)
        return {**found, **_said(parts), **dict(zip(parts.fields[:-1], values, strict=True))}

    on(
        shared, [shared.run_changed.change, shared.tab.select], opened,
        [shared.run_id, shown, shared.form], outputs,
    )  # fmt: skip

    def keep(asker: Asker, run_id: str, *values: Any) -> Outputs:
        # a page that shows no run, such as after a sign-in has ended, has nothing to keep
        return {shared.form: {"run": run_id, "values": list(values)}} if run_id else {}

    fields = list(parts.fields[:-1])
    on(
        shared, [f.change for f in fields], keep, [shared.run_id, *fields], [shared.form],
        trigger_mode="always_last",
    )  # fmt: skip


def _wire_account(shared: Shared, parts: PublishParts) -> None:
    """Say who is signed in, once, with the one thing to do next; that is the primary button."""

    def looked(asker: Asker, use_local: bool) -> Outputs:
        found = account_of(shared, asker.profile, asker.token, use_local is True, asker.locale)
        kinds = ("primary", "secondary") if found.ready else ("secondary", "primary")
        return {
            parts.account: notice(found.words, "good" if found.ready else "plain"),
            parts.sign_in: gr.update(visible=shared.sign_in and not found.signed_in),
            parts.start: gr.update(variant=kinds[0]),
            parts.home: gr.update(variant=kinds[1]),
        }

    on(
        shared,
        [shared.run_changed.change, shared.tab.select, parts.use_local.change],
        looked,
        [parts.use_local],
        parts.account_shown,
    )


def _wire_download(shared: Shared, button: gr.Button, file: str) -> None:
    """Let the browser fetch a file of the run; the button is off meanwhile."""
    button.click(None, None, button, js=BUSY_JS)
    fetched = button.click(None, [shared.last_run, shared.secret], None, js=download_js(file))
    fetched.then(None, None, button, js=IDLE_JS)


def _start_values(run: Run, kept: Any, profile: gr.OAuthProfile | None) -> list[Any]:
    """Return what the form begins with: what this browser filled in for this run, else the rule."""
    local = Path(str(run.record.base_model["id"])).is_dir()
    later = run.record.parent is not None
    if isinstance(kept, dict) and kept.get("run") == run.record.id:
        values = list(kept.get("values") or [])
        if len(values) == 7:
            namespace = values[0] or (profile.username if profile else "")
            shown = gr.update(value=values[2], visible=local)
            replaces = gr.update(value=values[6], visible=later)
            return [namespace, values[1], shown, *values[3:6], replaces]
    mine = profile.username if profile else ""
    base = gr.update(value="", visible=local)
    replaces = gr.update(value="", visible=later)
    return [mine, suggested_name(run), base, "private", False, False, replaces]


def _wire_card(shared: Shared, parts: PublishParts) -> None:
    """Draw the card anew whenever it would look different."""

    def drawn(
        asker: Asker, run_id: str, namespace: str, name: str, base_id: str, seen: str,
        demos: bool, outputs: bool, replaces: str, use_local: bool,
    ) -> Outputs:  # fmt: skip
        card = parts.card
        empty = dict.fromkeys([*card.shown, *parts.lines.values()], "")
        if not run_id:
            return empty
        try:
            run = asker.run(run_id)
            if not (run.folder / "adapter").is_dir():
                return empty
            repo = repo_of(namespace, name) or suggested_name(run)
            options = options_of(base_id, seen, demos, outputs, replaces)
            key = token_to_look(shared, asker.token, use_local is True)
            found = api.preview(run, repo, options, token=key)
        except DittoError as error:
            return {**empty, card.files: failure(error, asker.locale)}
        first, rest = receipts.card_text(found)
        files = receipts.card_files(found, asker.locale)
        lines = {parts.lines[use.name]: use.code for use in found.uses}
        shown = {card.files: files, card.first: first, card.rest: rest, card.front: found.front}
        return {**shown, **lines}

    on(
        shared,
        [*(field.change for field in parts.fields), shared.run_changed.change],
        drawn,
        [shared.run_id, *parts.fields],
        [*parts.card.shown, *parts.lines.values()],
        trigger_mode="always_last",
    )


def _said(
    parts: PublishParts, steps: str = "", receipt: str = "", post: str = "", uses: Any = ()
) -> Outputs:
    """Return what shows how far a publication is; nothing of it hides it all."""
    return {
        parts.steps: steps,
        parts.receipt: receipt,
        parts.share: gr.update(value=post, visible=bool(post)),
        **({parts.uses: gr.update(open=True)} if uses else {}),
        **{parts.lines[use.name]: use.code for use in uses},
    }


def _wire_publish(shared: Shared, parts: PublishParts) -> None:
    """Publish step by step; a refusal says why, and another press goes on from there."""

    def publish(
        asker: Asker, run_id: str, namespace: str, name: str, base_id: str, seen: str,
        demos: bool, samples: bool, replaces: str, use_local: bool,
    ) -> Iterator[Outputs]:  # fmt: skip
        locale = asker.locale
        done: list[Text] = []
        try:
            key = token_to_publish(shared, asker.token, use_local, locale)
            run = asker.run(run_id)
            options = options_of(base_id, seen, demos, samples, replaces)
            with publishing(run):
                going = api.stream_publish(run, repo_of(namespace, name), options, token=key)
                while True:
                    step = next(going)
                    yield _said(parts, receipts.steps(done, step.message, False, locale))
                    done.append(step.message)
        except StopIteration as end:
            steps = receipts.steps(done, "", False, locale)
            post = receipts.share_text(end.value, len(run.demos()), locale)
            html = receipts.receipt(end.value, locale)
            yield _said(parts, steps, html, post, end.value.uses)
        except NotSignedInError as error:
            yield _said(parts, "", receipts.failure(error.what, error.remedy, locale))
        except DittoError as error:
            words = receipts.failure(*describe(error, locale, page=True), locale)
            last = done.pop() if done else ""
            yield _said(parts, receipts.steps(done, last, True, locale), words)

    parts.start.click(None, js=STEPS_JS)
    on(
        shared,
        parts.start.click,
        publish,
        [shared.run_id, *parts.fields],
        parts.results,
        busy=parts.start,
        kind="publish",
        show_progress="minimal",
        show_progress_on=parts.steps,
    )
