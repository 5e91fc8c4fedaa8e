"""Publish: the adapter with its card goes to the visitor's own repo, or home as a zip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ditto_hub import api
from ditto_hub.api.publishing import publishing
from ditto_hub.errors import DittoError, RunError
from ditto_hub.runs import Run
from ditto_hub.ui import receipts, trying
from ditto_hub.ui.account import NotSignedInError, account_words, can_use_local, token_to_publish
from ditto_hub.ui.asking import QUIET, asked, method_name
from ditto_hub.ui.downloads import DOWNLOAD_JS
from ditto_hub.ui.render import notice, told
from ditto_hub.ui.session import Shared
from ditto_hub.ui.words import locale_of, say, t, tell_error

WORDS = {
    "publish.none": "Nothing to publish yet. Train a run to its end, or open one in My runs.",
    "publish.not_yet": "This run has no adapter yet. It gets one when it is finished.",
    "publish.what": "This publishes {name}, the run's adapter.",
    "publish.sign_in": "Sign in with Hugging Face",
    "publish.where": "Your repo on the Hub",
    "publish.namespace": "Yours, or an organisation's",
    "publish.namespace_about": "Your user name, or an organisation in which you may write.",
    "publish.name": "Name",
    "publish.name_about": "Letters, digits, - _ and . ; a repo of that name that is not this app's"
    " own is left alone.",
    "publish.seen": "Who may see it",
    "publish.private": "Private: only you",
    "publish.public": "Public: everybody",
    "publish.base_id": "Id of the base model on the Hub",
    "publish.base_id_about": "The base lies in a folder here; others load it by this id.",
    "publish.demos": "Put my demonstrations into the repo",
    "publish.demos_about": "Whoever may see the repo can read every word of them, and deleting"
    " them later leaves them in its history.",
    "publish.outputs": "Show sample outputs in the card",
    "publish.outputs_about": "Three prompts of the evaluation with what the adapter wrote.",
    "publish.card": "The card, as it will look",
    "publish.metadata": "Metadata of the card",
    "publish.start": "Publish",
    "publish.home": "Download the adapter as a zip",
    "publish.home_about": "No account needed. In it: adapter, tokenizer, card, and a script that"
    " loads it. No demonstration and no output.",
    "publish.snippet": "To load it",
}
CAPS = {"name": 96, "base_id": 200}


@dataclass(frozen=True)
class PublishParts:
    """Hold the components of this step; `fields` are what a publication is told."""

    note: gr.HTML
    view: gr.Column
    account: gr.HTML
    what: gr.HTML
    fields: tuple[Any, ...]
    card: gr.Markdown
    front: gr.Code
    files: gr.HTML
    start: gr.Button
    steps: gr.HTML
    receipt: gr.HTML
    snippet: gr.Code
    home: gr.Button


def build(shared: Shared) -> PublishParts:
    """Build the step."""
    note = gr.HTML(elem_id="publish-note")
    with gr.Column(visible=False, elem_id="publish-view") as view:
        what = gr.HTML(elem_id="publish-what")
        account = gr.HTML(elem_id="publish-account")
        use_local = gr.Checkbox(
            False,
            label=t("account.ask"),
            visible=can_use_local(shared),
            elem_id="publish-local-token",
        )
        if shared.sign_in:
            gr.LoginButton(size="sm", icon=None, elem_id="publish-sign-in")
        gr.HTML(t("publish.where"), elem_classes="d-heading")
        fields = (*_fields(), use_local)
        with gr.Accordion(t("publish.card"), open=False, elem_id="publish-card-box"):
            files = gr.HTML(elem_id="publish-files")
            card = gr.Markdown(
                sanitize_html=True, latex_delimiters=[], elem_id="publish-card",
                elem_classes="d-card-preview",
            )  # fmt: skip
            front = gr.Code(
                language="yaml", label=t("publish.metadata"), interactive=False, buttons=["copy"],
                show_line_numbers=False, wrap_lines=True, elem_id="publish-metadata",
            )  # fmt: skip
        start = gr.Button(t("publish.start"), variant="primary", elem_id="publish-start")
        steps = gr.HTML(elem_id="publish-steps")
        receipt = gr.HTML(elem_id="publish-receipt")
        snippet = gr.Code(
            language="python", label=t("publish.snippet"), interactive=False, visible=False,
            buttons=["copy"], show_line_numbers=False, wrap_lines=True, elem_id="publish-snippet",
        )  # fmt: skip
        home = gr.Button(t("publish.home"), elem_id="publish-download")
        gr.HTML(t("publish.home_about"), elem_classes="d-about")
        trying.build(shared)
    parts = PublishParts(
        note, view, account, what, fields, card, front, files, start, steps, receipt, snippet,
        home,
    )  # fmt: skip
    _wire_open(shared, parts)
    _wire_card(shared, parts)
    _wire_publish(shared, parts)
    home.click(None, [shared.last_run, shared.secret], None, js=DOWNLOAD_JS)
    return parts


def _fields() -> tuple[Any, ...]:
    """Build what a publication is told: namespace, name, base id, who sees it, consents."""
    with gr.Row():
        namespace = gr.Textbox(
            label=t("publish.namespace"), info=t("publish.namespace_about"), min_width=240,
            max_length=CAPS["name"], elem_id="publish-namespace",
        )  # fmt: skip
        name = gr.Textbox(
            label=t("publish.name"), info=t("publish.name_about"), min_width=240,
            max_length=CAPS["name"], elem_id="publish-name",
        )  # fmt: skip
    base_id = gr.Textbox(
        label=t("publish.base_id"), info=t("publish.base_id_about"), visible=False,
        max_length=CAPS["base_id"], elem_id="publish-base-id",
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
    return namespace, name, base_id, seen, demos, outputs


def repo_of(namespace: str, name: str) -> str:
    """Return the repo's id from its two halves."""
    halves = [(half or "").strip()[: CAPS["name"]] for half in (namespace, name)]
    return "/".join(half for half in halves if half)


def options_of(base_id: str, seen: str, demos: bool, outputs: bool) -> dict[str, Any]:
    """Return `api.publish`'s options; whatever is not said plainly is no."""
    return {
        "base_model_id": (base_id or "").strip()[: CAPS["base_id"]] or None,
        "public": seen == "public",
        "include_demos": demos is True,
        "include_outputs": outputs is True,
    }


def suggested_name(run: Run) -> str:
    """Return a name for the repo that tells no more than the base model does."""
    base = Path(str(run.record.base_model["id"])).name or "base"
    return f"my-voice-{base}"[:60].strip("-._")


def _wire_open(shared: Shared, parts: PublishParts) -> None:
    """Show what can be published, whenever another run is shown or it has changed."""
    shown = gr.State("")
    outputs = [parts.note, parts.view, parts.account, parts.what, *parts.fields[:-1],
               parts.steps, parts.receipt, parts.snippet, shown]  # fmt: skip

    def opened(
        run_id: str, before: str, kept: dict[str, Any], secret: str, request: gr.Request,
        profile: gr.OAuthProfile | None, token: gr.OAuthToken | None,
    ) -> list[Any]:  # fmt: skip
        locale = locale_of(request)
        account = notice(account_words(shared, profile, token, locale), "plain")
        nothing = [gr.update(visible=False), account, "", *[gr.skip()] * 6, "", "",
                   gr.update(visible=False), ""]  # fmt: skip
        if not run_id:
            return [notice(say("publish.none", locale), "plain"), *nothing]
        try:
            _, run = asked(run_id, secret, request, profile)
        except RunError as error:
            return [told(error, locale), *nothing]
        if not (run.folder / "adapter").is_dir():
            return [notice(say("publish.not_yet", locale), "plain"), *nothing]
        name = method_name(run.record.chosen or "", locale)
        what = notice(say("publish.what", locale, name=name), "plain")
        same = before == run_id
        fields = [gr.skip()] * 6 if same else _start_values(run, kept, profile)
        after = [gr.skip()] * 3 if same else ["", "", gr.update(visible=False)]
        return ["", gr.update(visible=True), account, what, *fields, *after, run_id]

    shared.run_changed.change(
        opened, [shared.run_id, shown, shared.form, shared.secret], outputs, **QUIET
    )

    def keep(run_id: str, *values: Any) -> Any:
        # a page that shows no run, such as after a sign-in has ended, has nothing to keep
        return {"run": run_id, "values": list(values)} if run_id else gr.skip()

    fields = list(parts.fields[:-1])
    gr.on(
        [f.change for f in fields],
        keep,
        [shared.run_id, *fields],
        shared.form,
        trigger_mode="always_last",
        **QUIET,
    )


def _start_values(run: Run, kept: Any, profile: gr.OAuthProfile | None) -> list[Any]:
    """Return what the form begins with: what this browser filled in for this run, else the rule."""
    local = Path(str(run.record.base_model["id"])).is_dir()
    if isinstance(kept, dict) and kept.get("run") == run.record.id:
        values = list(kept.get("values") or [])
        if len(values) == 6:
            namespace = values[0] or (profile.username if profile else "")
            return [namespace, values[1], gr.update(value=values[2], visible=local), *values[3:]]
    mine = profile.username if profile else ""
    base = gr.update(value="", visible=local)
    return [mine, suggested_name(run), base, "private", False, False]


def _wire_card(shared: Shared, parts: PublishParts) -> None:
    """Draw the card anew whenever it would look different."""

    def drawn(
        run_id: str, namespace: str, name: str, base_id: str, seen: str, demos: bool,
        outputs: bool, secret: str, request: gr.Request, profile: gr.OAuthProfile | None,
    ) -> tuple[Any, ...]:  # fmt: skip
        locale = locale_of(request)
        if not run_id:
            return "", "", ""
        try:
            _, run = asked(run_id, secret, request, profile)
            if not (run.folder / "adapter").is_dir():
                return "", "", ""
            repo = repo_of(namespace, name) or suggested_name(run)
            found = api.preview(run, repo, **options_of(base_id, seen, demos, outputs))
        except DittoError as error:
            return told(error, locale), "", ""
        return receipts.card_files(found, locale), receipts.card_text(found), found.front

    fields = list(parts.fields[:-1])
    gr.on(
        [*(field.change for field in fields), shared.run_changed.change],
        drawn,
        [shared.run_id, *fields, shared.secret],
        [parts.files, parts.card, parts.front],
        trigger_mode="always_last",
        **QUIET,
    )


def _wire_publish(shared: Shared, parts: PublishParts) -> None:
    """Publish step by step; a refusal says why, and another press goes on from there."""
    outputs = [parts.steps, parts.receipt, parts.snippet]

    def publish(
        run_id: str, namespace: str, name: str, base_id: str, seen: str, demos: bool,
        samples: bool, use_local: bool, secret: str, request: gr.Request,
        profile: gr.OAuthProfile | None, token: gr.OAuthToken | None,
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        locale = locale_of(request)
        done: list[str] = []
        try:
            key = token_to_publish(shared, token, use_local, locale)
            _, run = asked(run_id, secret, request, profile)
            options = options_of(base_id, seen, demos, samples)
            with publishing(run):
                going = api.publish(run, repo_of(namespace, name), token=key, **options)
                while True:
                    step = next(going)
                    hidden = gr.update(visible=False)
                    yield receipts.steps(done, step.message, False, locale), "", hidden
                    done.append(step.message)
        except StopIteration as end:
            found = end.value
            snippet = gr.update(value=found.snippet, visible=True)
            yield receipts.steps(done, "", False, locale), receipts.receipt(found, locale), snippet
        except NotSignedInError as error:
            yield "", receipts.failure(error.what, error.remedy, locale), gr.update(visible=False)
        except DittoError as error:
            words = receipts.failure(*tell_error(error, locale), locale)
            last = done.pop() if done else ""
            yield receipts.steps(done, last, True, locale), words, gr.update(visible=False)

    parts.start.click(
        publish,
        [shared.run_id, *parts.fields, shared.secret],
        outputs,
        show_progress="minimal",
        show_progress_on=parts.steps,
        concurrency_id="publishing",
        concurrency_limit=4,
        api_visibility="private",
    )
