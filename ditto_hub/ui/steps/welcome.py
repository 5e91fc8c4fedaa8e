"""The first screen: a finished run as a picture, and the two ways on from it.

A visitor who has written on a card or has a run here does not see it again (`data-start`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import gradio as gr

from ditto_hub.config import RunConfig, preset
from ditto_hub.runs.examples import example_runs
from ditto_hub.runs.folder import Run
from ditto_hub.runs.results import load_all
from ditto_hub.ui.html.cards import example_cards
from ditto_hub.ui.html.example import Example, picture
from ditto_hub.ui.html.render import notice
from ditto_hub.ui.i18n.words import t
from ditto_hub.ui.serving.events import Asker, Outputs, on, show_run
from ditto_hub.ui.serving.session import Shared
from ditto_hub.ui.steps.remote import Wish
from ditto_hub.ui.steps.train import start_run
from ditto_hub.words import LANGUAGES, say

BASE, VOICE = "pocket", "harbor"
# a run that shows its first new text in seconds on one core
SHORT = (
    "warm_start.max_steps=12",
    "sampling.samples=2",
    "sampling.length_factor=1.5",
    "update.rounds=3",
    "update.steps=6",
    "selection.samples=1",
)
OWN_JS = """() => {
  document.documentElement.dataset.start = "own";
  document.body.scrollIntoView();
  document.querySelector("#show-prompt-1 textarea")?.focus({ preventScroll: true });
}"""
# a function body of `gr.HTML`, with `element` and `props`: the picture is the browser's own
PICTURE_JS = """
const host = element.querySelector(".d-example-host");
host.innerHTML = props.pages[navigator.language] || props.pages.en;
const [prompt, stage] = ["prompt", "stage"].map((name) => host.querySelector(`#welcome-${name}`));
const names = [...host.querySelectorAll(".d-stops span")].map((name) => name.textContent);
const show = () => {
  for (const text of host.querySelectorAll("[data-prompt]")) {
    const { prompt: of, stage: at } = text.dataset;
    text.hidden = of !== prompt.value || (at !== undefined && at !== stage.value);
  }
  stage.setAttribute("aria-valuetext", names[stage.value]);
  host.querySelector(".d-by-now h2").textContent = names[stage.value];
};
prompt.addEventListener("change", show);
stage.addEventListener("input", show);
let cards = [];
try { cards = JSON.parse(localStorage.getItem("ditto-hub-cards")) || []; } catch { /* none */ }
const written = Array.isArray(cards) && cards.some((card) => card?.prompt || card?.completion);
if (written) document.documentElement.dataset.start = "own";
"""


def build(shared: Shared) -> gr.Button:
    """Build the first screen.

    Returns:
        The button that starts a run to watch, off until the page knows whose run it will be.
    """
    with gr.Column(elem_id="welcome"):
        gr.HTML(t("welcome.title"), elem_id="welcome-title")
        with gr.Row(elem_id="welcome-ways"):
            own = gr.Button(t("welcome.own"), variant="primary", elem_id="welcome-own", scale=0)
            watch = gr.Button(
                t("welcome.watch"), elem_id="welcome-watch", scale=0, interactive=False,
                visible=shared.profile.base(BASE) is not None,
            )  # fmt: skip
        note = gr.HTML(elem_id="welcome-note")
        gr.HTML(
            value="",
            html_template='<div class="d-example-host"></div>',
            js_on_load=PICTURE_JS,
            apply_default_css=False,
            elem_id="welcome-example",
            pages=pages(),
        )
    own.click(None, js=OWN_JS)
    _wire_watch(shared, watch, note)
    return watch


def pages() -> dict[str, str]:
    """Return the picture of the shipped run in every language."""
    run = Run.load(example_runs()[0])
    example = Example(run, load_all(run)[0])
    return {locale: picture(example, locale) for locale in LANGUAGES}


def short_config() -> RunConfig:
    """Return the settings of a run that is there to be watched."""
    config = preset("pocket")
    for setting in SHORT:
        config = config.with_setting(setting)
    return config


def _wire_watch(shared: Shared, watch: gr.Button, note: gr.HTML) -> None:
    """Start a short run on a shipped example and open its progress."""

    def watched(asker: Asker) -> Iterator[Outputs]:
        yield {note: notice(say("welcome.starting", asker.locale), "plain")}
        run = start_run(
            example_cards(VOICE), BASE, "", short_config(), asker.visitor, shared,
            asker.hub_token, Wish("", False),
        )  # fmt: skip
        yield {
            **show_run(shared, run.record.id),
            shared.tabs: gr.Tabs(selected="train"),
            shared.lease: gr.skip() if shared.profile.backend == "local" else time.time_ns(),
            note: "",
        }

    on(
        shared,
        watch.click,
        watched,
        outputs=[
            shared.run_id, shared.last_run, shared.run_changed, shared.tabs, shared.lease, note,
        ],
        busy=watch,
        kind="queued",
        refused=note,
    )  # fmt: skip
