"""Compose the app out of its steps, and serve it.

Nothing of a visitor's passes through a file that an address reaches: Gradio's own file routes are
closed, and what is downloaded goes through `downloads.py`, which asks whose it is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from ditto_hub.api.leasing import prepare, work
from ditto_hub.errors import DittoError, RunError
from ditto_hub.events import Event
from ditto_hub.profiles import Profile, load_profile
from ditto_hub.runs import Run
from ditto_hub.ui import compare, programs, publish, runs, show, train
from ditto_hub.ui.bases import wait_for_libraries
from ditto_hub.ui.before import write_base_texts
from ditto_hub.ui.downloads import closed_files, download_routes
from ditto_hub.ui.limits import start_sweepers
from ditto_hub.ui.nearest import nearest_language
from ditto_hub.ui.session import Shared, changed, new_secret, own_run, visitor
from ditto_hub.ui.terms import page_head, privacy
from ditto_hub.ui.theme import CSS, theme
from ditto_hub.ui.words import i18n, locale_of, t
from ditto_hub.ui.workshop import Work, Workshop

WORDS = {
    "app.subtitle": "Show a language model a few examples of how you write. Get an adapter that"
    " writes so, and own it.",
    "app.show": "1 Show",
    "app.train": "2 Train",
    "app.compare": "3 Compare",
    "app.publish": "4 Publish",
    "app.runs": "My runs",
    "app.privacy": "Privacy and limits",
}
STEPS = {"show": show, "train": train, "compare": compare, "publish": publish, "runs": runs}
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
            gr.HTML(t("app.subtitle"), elem_id="app-subtitle")
            if sign_in:
                gr.LoginButton(size="sm", icon=None, elem_id="app-sign-in", scale=0)
        tabs = gr.Tabs(elem_id="steps", overflow_behavior="wrap")
        shared = share(profile, app, tabs, sign_in)
        with tabs:
            for name, module in STEPS.items():
                with gr.Tab(t(f"app.{name}"), id=name, elem_id=f"step-{name}"):
                    module.build(shared)
        with gr.Accordion(t("app.privacy"), open=False, elem_id="app-privacy"):
            told = gr.HTML(privacy(profile, "en"), elem_id="app-privacy-text")
        open_page(app, shared, told)
        programs.build(profile)
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
        form=gr.BrowserState({}, storage_key="ditto-hub-publish", secret=BROWSER_KEY),
        run_id=gr.State(""),
        run_changed=gr.State(""),
        demos=gr.State([]),
        deal=gr.State([]),
        base=gr.State(profile.default_base_model),
        parent=gr.State(""),
        locale=gr.State("en"),
        sign_in=sign_in,
    )


def worker(profile: Profile) -> Work:
    """Return what the workshop does with a run: the base model's own texts first, then training."""

    def work_on(
        run: Run, owner: str, token: str | None, stop: Callable[[], str]
    ) -> Iterator[Event]:
        wait_for_libraries()
        # without them the page shows the rest, and training says itself what is amiss
        with contextlib.suppress(DittoError):
            if run.load_state() is None:
                write_base_texts(run, run.demos().train, profile, owner, token)
        yield from work(run, profile, visitor=owner, token=token, should_stop=stop)

    return work_on


def open_page(app: gr.Blocks, shared: Shared, told: gr.HTML) -> None:
    """Greet a page: its secret, its claim to what it began signed out, the run it showed last."""

    def opened(
        secret: str, last: str, request: gr.Request, profile: gr.OAuthProfile | None
    ) -> tuple[Any, ...]:
        secret = secret or new_secret()
        asking = visitor(request, profile, secret)
        runs.claim(asking, shared.workshop)
        run_id = ""
        for wanted in (str(request.query_params.get("run") or ""), last):
            try:
                run_id = run_id or (own_run(wanted, asking).record.id if wanted else "")
            except RunError:
                continue
        locale = locale_of(request)
        words = privacy(shared.profile, locale)
        return secret, run_id, run_id, changed(run_id), locale, words

    outputs = [shared.secret, shared.run_id, shared.last_run, shared.run_changed, shared.locale,
               told]  # fmt: skip
    app.load(
        opened,
        [shared.secret, shared.last_run],
        outputs,
        show_progress="hidden",
        api_visibility="private",
    )
    shared.last_run.change(None, shared.last_run, None, js=NAME_RUN_JS)


# the address names the run too, so that a bookmark or a signed-in visitor's other device finds it
NAME_RUN_JS = """(id) => {
  if (!id && !window.dittoNamed) return;  // the empty value of a page that is still loading
  window.dittoNamed = true;
  const url = new URL(window.location);
  id ? url.searchParams.set("run", id) : url.searchParams.delete("run");
  window.history.replaceState(null, "", url);
}"""


def launch_options(profile: Profile) -> dict[str, Any]:
    """Return what `launch` takes: closed files, no history, our looks and words."""
    return {
        "theme": theme(),
        "css_paths": CSS,
        "i18n": i18n(),
        "run_history": False,
        "footer_links": ["api", "settings"],
        "max_file_size": profile.max_upload_bytes,
        "allowed_paths": [],
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "state_session_capacity": 500,
        "app_kwargs": {
            "middleware": [closed_files(), nearest_language()],
            "routes": download_routes(),
        },
    }


def serve(host: str | None = None, port: int | None = None, profile: Profile | None = None) -> None:
    """Serve the app until it is stopped; default address Gradio's own, as a Space wants it."""
    profile = profile or load_profile(os.environ.get("DITTO_HUB_PROFILE") or "own")
    prepare(profile)  # what leases of a GPU find there has to be there before the launch
    app = build_app(profile)
    app.queue(max_size=profile.queue_size, default_concurrency_limit=SIDE_BY_SIDE)
    app.launch(server_name=host, server_port=port, **launch_options(profile))
