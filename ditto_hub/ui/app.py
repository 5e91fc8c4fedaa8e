"""Compose the app out of its steps, and serve it.

Nothing of a visitor's passes through a file that an address reaches: Gradio's own file routes are
closed, and what is downloaded goes through `downloads.py`, which asks whose it is.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from ditto_hub.api.leasing import prepare, work
from ditto_hub.config import RunConfig
from ditto_hub.cost.profiles import Profile, load_profile
from ditto_hub.errors import ConfigError, DittoError, RunError
from ditto_hub.events import Event
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import Token, forget_machine_token
from ditto_hub.ui.html.cards import Card
from ditto_hub.ui.html.terms import page_head, privacy
from ditto_hub.ui.i18n.negotiate import nearest_language
from ditto_hub.ui.i18n.words import i18n, t
from ditto_hub.ui.serving import endpoints
from ditto_hub.ui.serving.admission import THREADS
from ditto_hub.ui.serving.background import share_interpreter
from ditto_hub.ui.serving.base_models import choose_first, wait_for_libraries
from ditto_hub.ui.serving.bodies import capped_bodies
from ditto_hub.ui.serving.cleanup import start_sweepers
from ditto_hub.ui.serving.content_policy import content_policy
from ditto_hub.ui.serving.downloads import closed_files, download_routes
from ditto_hub.ui.serving.events import Asker, Outputs, on, show_run
from ditto_hub.ui.serving.queue import Work, Workshop
from ditto_hub.ui.serving.samples import write_base_texts
from ditto_hub.ui.serving.session import Shared, Visitor, decide_token, new_secret, own_run
from ditto_hub.ui.serving.uploads import capped_uploads
from ditto_hub.ui.steps import compare, language, publish, runs, show, strip, train, welcome
from ditto_hub.ui.steps.card_editor import card_editor
from ditto_hub.ui.steps.remote import Wish
from ditto_hub.ui.theme import CSS, theme

STEPS = {"show": show, "train": train, "compare": compare, "publish": publish, "runs": runs}
# Gradio looks for work a thousand times a second and for progress a hundred times, which took
# 2.7 % of a core with nothing to do; it has no setting for either. No handler reports progress.
QUEUE_LOOKS_EVERY_S, PROGRESS_LOOKS_EVERY_S = 0.05, 5.0
SIDE_BY_SIDE = 16  # handlers that read a folder or check a form
BROWSER_KEY = "ditto-hub"  # local storage is the browser's own; this only keeps it over restarts


def build_app(profile: Profile | None = None) -> gr.Blocks:
    """Compose the app.

    Args:
        profile: what it offers; default the one that `$DITTO_HUB_PROFILE` names, else "own".
    """
    profile = profile or load_profile(os.environ.get("DITTO_HUB_PROFILE") or "own")
    sign_in = bool(os.environ.get("OAUTH_CLIENT_ID"))
    app: gr.Blocks
    with gr.Blocks(title="DITTO Hub", analytics_enabled=False, delete_cache=(3600, 7200)) as app:
        with gr.Row(elem_id="masthead"):
            gr.HTML(page_head(), elem_id="app-title")
            language.build()
            if sign_in:
                gr.LoginButton(size="sm", icon=None, elem_id="app-sign-in", scale=0)
        over = gr.Column(elem_id="over-steps")
        tabs = gr.Tabs(elem_id="steps", overflow_behavior="wrap")
        shared = share(profile, app, tabs, sign_in)
        with over:
            strip.build(shared)
        with tabs:
            for name, module in STEPS.items():
                with gr.Tab(t(f"app.{name}"), id=name, elem_id=f"step-{name}") as tab:
                    if module is show:
                        watch = welcome.build(shared)
                        runs.build_parent(shared)
                    module.build(replace(shared, tab=tab))
        with gr.Accordion(t("app.privacy"), open=False, elem_id="app-privacy"):
            told = gr.HTML(privacy(profile, "en"), elem_id="app-privacy-text")
        open_page(app, shared, told, watch)
        endpoints.build(profile, starter(shared))
    start_sweepers(app, profile)
    return app


def share(profile: Profile, page: gr.Blocks, tabs: gr.Tabs, sign_in: bool) -> Shared:
    """Make what the steps have in common."""
    return Shared(
        profile=profile,
        workshop=Workshop(worker(profile)),
        page=page,
        tabs=tabs,
        secret=gr.BrowserState("", storage_key="ditto-hub-visitor", secret=BROWSER_KEY),
        last_run=gr.BrowserState("", storage_key="ditto-hub-run", secret=BROWSER_KEY),
        step=gr.BrowserState("", storage_key="ditto-hub-step", secret=BROWSER_KEY),
        settings=gr.BrowserState({}, storage_key="ditto-hub-settings", secret=BROWSER_KEY),
        form=gr.BrowserState({}, storage_key="ditto-hub-publish", secret=BROWSER_KEY),
        run_id=gr.State(""),
        run_changed=gr.State(""),
        cards=card_editor(profile),
        base=gr.State(profile.default_base_model),
        parent=gr.State(""),
        lease=gr.State(0),
        sign_in=sign_in,
        tab=tabs,
    )


def starter(shared: Shared) -> endpoints.Start:
    """Return what starts a run for a program as the Train step does for a person."""

    def start(
        cards: list[Card], base: str, config: RunConfig, asking: Visitor, token: Token
    ) -> Run:
        return train.start_run(cards, base, "", config, asking, shared, token, Wish())

    return start


def worker(profile: Profile) -> Work:
    """Return what the workshop does with a run: a text of the base model first, then training."""

    def work_on(
        run: Run, owner: str, token: Token | str, stop: Callable[[], str]
    ) -> Iterator[Event]:
        wait_for_libraries()
        # without them the page shows the rest, and training says itself what is amiss
        with contextlib.suppress(DittoError):
            if run.load_state() is None:
                # the one that the page shows; more would keep training waiting for minutes
                write_base_texts(run, run.demos().train[:1], profile, owner, token)
        yield from work(run, profile, visitor=owner, token=token, should_stop=stop)

    return work_on


def open_page(app: gr.Blocks, shared: Shared, told: gr.HTML, watch: gr.Button) -> None:
    """Greet a page: its secret, its claim to what it began signed out, its last run and step."""

    def opened(asker: Asker, last: str, step: str) -> Outputs:
        asker = replace(asker, secret=asker.secret or new_secret())
        asking, run_id = asker.visitor, ""
        runs.claim(asking, shared.workshop)
        named = str(asker.request.query_params.get("run") or "")
        for wanted in (named, last):
            with contextlib.suppress(RunError):
                run_id = run_id or (own_run(wanted, asking).record.id if wanted else "")
        going = strip.under_way(shared, asker, run_id)
        # a run that the address names in vain is told of under My runs
        at = "train" if going else step if step in STEPS and (run_id or not named) else ""
        return {
            **show_run(shared, going or run_id),
            opens_at: at,
            shared.secret: asker.secret,
            told: privacy(shared.profile, asker.locale),
            watch: gr.update(interactive=True),
        }

    opens_at = gr.Textbox(visible=False)
    outputs = [
        shared.secret, shared.run_id, shared.last_run, shared.run_changed, opens_at, told, watch,
    ]  # fmt: skip
    answered = on(shared, app.load, opened, [shared.last_run, shared.step], outputs)
    app.load(None, None, None, js=BEGUN_JS)
    answered.then(None, opens_at, shared.tabs, js=OPEN_JS)
    shared.last_run.change(None, shared.last_run, None, js=NAME_RUN_JS)
    shared.tabs.change(None, None, shared.step, js=STEP_JS)


# the address names the run too, so that a bookmark or a signed-in visitor's other device finds it;
# what it names when the page is opened is asked for before what the browser remembers
NAME_RUN_JS = """(id) => {
  const url = new URL(window.location), loading = !window.dittoNamed;
  if (!id && loading) return;  // the empty value of a page that is still loading
  if (!loading && id) { TO_TOP; }
  window.dittoNamed = true;
  if (id) document.documentElement.dataset.start = "own";
  if (loading && url.searchParams.has("run")) return;
  id ? url.searchParams.set("run", id) : url.searchParams.delete("run");
  window.history.replaceState(null, "", url);
}"""
STEP_JS = """() => {
  TO_TOP;
  const tab = document.querySelector("#steps > .tab-wrapper [role=tab][aria-selected=true]");
  return tab ? tab.id.replace(/^step-(.*)-button$/, "$1") : "";
}"""
# Whoever has pressed something before the server answered has begun, and stays where they are.
OPEN_JS = """(step) => [{
  __type__: "update",
  ...(step && !window.dittoBegun && { selected: step }),
}]"""
BEGUN_JS = """() => {
  for (const kind of ["click", "keydown"])
    window.addEventListener(kind, (event) => { window.dittoBegun ||= event.isTrusted; }, true);
}"""
# A step begins at its top, wherever the one before it was left; a run that begins does too. What
# was pressed may be gone with it: the keyboard then goes on from the step's own tab.
TO_TOP = """document.body.scrollIntoView();
  const until = Date.now() + 60000, look = () => {
    const at = document.activeElement;
    if (!at || at === document.body || !at.checkVisibility())
      document.querySelector("#steps > .tab-wrapper [role=tab][aria-selected=true]")
        ?.focus({ preventScroll: true });
    if (Date.now() < until) setTimeout(look, 250);
  };
  if (navigator.userActivation?.hasBeenActive) setTimeout(look, 100)"""
STEP_JS, NAME_RUN_JS = (js.replace("TO_TOP", TO_TOP) for js in (STEP_JS, NAME_RUN_JS))


MCP_VARIABLE = "GRADIO_MCP_SERVER"  # Gradio's own


def wants_mcp() -> bool:
    """Tell whether the endpoints are to be served as tools of an MCP server too.

    Raises:
        ConfigError: they are, and the package for it is not installed.
    """
    if os.environ.get(MCP_VARIABLE, "").lower() not in ("1", "true"):
        return False
    if importlib.util.find_spec("mcp") is None:
        raise ConfigError("ui.no_mcp")
    return True


def launch_options(profile: Profile) -> dict[str, Any]:
    """Return what `launch` takes: closed files, no history, our looks and words.

    Raises:
        ConfigError: an MCP server is asked for and cannot be had.
    """
    return {
        "theme": theme(),
        "css_paths": CSS,
        "i18n": i18n(),
        "run_history": False,
        "footer_links": ["api"],  # its settings know one language half and offer what is not ours
        "max_file_size": profile.max_upload_bytes,
        "max_threads": THREADS,
        "allowed_paths": [],
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": wants_mcp(),
        "state_session_capacity": 500,
        "app_kwargs": {
            "middleware": [
                closed_files(),
                *capped_uploads(profile),
                capped_bodies(profile),
                content_policy(),
                *nearest_language(),
            ],
            "routes": download_routes(),
        },
    }


def serve(host: str | None = None, port: int | None = None, profile: Profile | None = None) -> None:
    """Serve the app until it is stopped; default address Gradio's own, as a Space wants it."""
    profile = profile or choose_first(load_profile(os.environ.get("DITTO_HUB_PROFILE") or "own"))
    decide_token(profile, bool(os.environ.get("OAUTH_CLIENT_ID")))
    share_interpreter()
    if profile.name != "own":
        forget_machine_token()
    prepare(profile)  # what leases of a GPU find there has to be there before the launch
    app = build_app(profile)
    app.queue(max_size=profile.queue_size, default_concurrency_limit=SIDE_BY_SIDE, api_open=False)
    app._queue.sleep_when_free = QUEUE_LOOKS_EVERY_S
    app._queue.progress_update_sleep_when_free = PROGRESS_LOOKS_EVERY_S
    app.launch(server_name=host, server_port=port, **launch_options(profile))
