"""Who asks, and for which run: the one check that every handler and every download passes.

A visitor is a Hub user who signed in, or a browser that holds a random secret. What belongs to
another visitor is told in the words for what does not exist, so an id gives nothing away.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ditto_hub.cost.profiles import Profile
from ditto_hub.errors import RunError, RunOwnerError
from ditto_hub.runs.folder import Run, home
from ditto_hub.tokens import MACHINE, NOBODY, Token, as_token
from ditto_hub.ui.i18n.words import locale_of
from ditto_hub.ui.serving.queue import Workshop

SECRET_BYTES = 32
SHORTEST_SECRET = 22  # 128 bits in base64


@dataclass(frozen=True)
class Visitor:
    """Say who asks.

    Args:
        owner: "hub:NAME" when signed in, "browser:SECRET" otherwise; a run keeps its hash alone.
        name: Hub user name, or None.
        locale: en, zh-TW or zh-CN, for what the server says.
        before: owner of what this browser began signed out, where somebody has signed in since; a
            run that is worked on is claimed when it has ended, and theirs until then.
    """

    owner: str
    name: str | None
    locale: str = "en"
    before: str | None = None

    @property
    def owners(self) -> tuple[str, ...]:
        """All owners whose runs are this visitor's."""
        return (self.owner,) if self.before is None else (self.owner, self.before)


@dataclass(frozen=True)
class Shared:
    """Hold what the steps have in common.

    Args:
        profile: what the app offers here.
        workshop: the line of runs that wait for this machine, and the one it works on.
        page: the whole page; `page.load` listens to its opening.
        tabs: the steps; `gr.Tabs(selected="train")` as an output goes to one.
        secret: the browser's secret, in the browser alone.
        run_id: the run that is shown, "" for none.
        last_run: the same, kept in the browser over a reload.
        step: the step that was looked at last, kept in the browser.
        settings: the Train step's form, kept in the browser: name of a field -> value.
        form: what was filled in to publish a run, kept in the browser over a sign-in; here, for
            what stands inside a tab is not read from the browser before the tab is opened.
        run_changed: changes whenever another run is shown, or the shown one has ended or changed.
        cards: the component with the cards in the making: {id, prompt, completion, origin, draft}.
        base: id of the base model that is chosen.
        parent: id of the finished run that the next one goes on from, "" for none.
        lease: a new number begins a GPU lease for the run that is shown.
        sign_in: whether signing in with Hugging Face is set up here.
        tab: of the step that is built; `tab.select` listens to its opening.
    """

    profile: Profile
    workshop: Workshop
    page: gr.Blocks
    tabs: gr.Tabs
    secret: gr.BrowserState
    run_id: gr.State
    last_run: gr.BrowserState
    step: gr.BrowserState
    settings: gr.BrowserState
    form: gr.BrowserState
    run_changed: gr.State
    cards: gr.HTML
    base: gr.State
    parent: gr.State
    lease: gr.State
    sign_in: bool
    tab: gr.Tab | gr.Tabs


def new_secret() -> str:
    """Return a secret for a browser that has none."""
    return secrets.token_urlsafe(SECRET_BYTES)


def visitor(request: gr.Request, profile: gr.OAuthProfile | None, secret: str) -> Visitor:
    """Tell who asks.

    Args:
        request: of the event; its languages decide the locale.
        profile: of the signed-in user, from the session's signed cookie.
        secret: what the browser keeps.

    Raises:
        RunError: neither signed in nor a secret.
    """
    locale = locale_of(request)
    if profile is not None:
        return signed_in(profile.username, secret, locale)
    return Visitor(browser_owner(secret), None, locale)


def signed_in(name: str, secret: str, locale: str = "en") -> Visitor:
    """Return a Hub user who may have begun something in this browser before."""
    before = None
    with contextlib.suppress(RunError):
        before = browser_owner(secret)
    return Visitor(f"hub:{name}", name, locale, before)


class PageLoadingError(RunError):
    """A page has not got its secret yet."""


def browser_owner(secret: str) -> str:
    """Return the owner that a browser's secret stands for.

    Raises:
        PageLoadingError: there is none yet.
        RunError: it is too short to be one of ours.
    """
    if not secret:
        raise PageLoadingError("ui.page_not_loaded")
    if not isinstance(secret, str) or len(secret) < SHORTEST_SECRET:
        raise RunError("ui.page_not_loaded")
    return f"browser:{secret}"


def own_run(run_id: str, asking: Visitor) -> Run:
    """Open a visitor's own run.

    Raises:
        RunError: there is none of that id, or it is another's, told alike.
    """
    missing = RunError("ui.no_run_of_yours", run_id=str(run_id)[:SHOWN])
    if not is_run_id(run_id):
        raise missing
    folder = home() / "runs" / run_id
    if not (folder / "run.json").is_file():
        raise missing
    for owner in asking.owners:
        with contextlib.suppress(RunOwnerError):
            return Run.load(folder, owner=owner)
    raise missing


RUN_ID = re.compile(r"[0-9a-f-]{1,64}", re.ASCII)
SHOWN = 64  # letters of an id in a message


def is_run_id(text: object) -> bool:
    """Tell whether something has the form of a run's id; what has not is looked for nowhere."""
    return isinstance(text, str) and RUN_ID.fullmatch(text) is not None


def own_runs(asking: Visitor) -> list[Run]:
    """Return a visitor's runs, newest first."""
    found = [run for owner in asking.owners for run in Run.all(owner=owner)]
    return sorted(found, key=lambda run: run.record.created, reverse=True)


def changed(run_id: str) -> str:
    """Return a value for `Shared.run_changed` that differs from every one before it."""
    return f"{run_id} {time.time_ns()}"


_signed_out = [NOBODY]


def decide_token(profile: Profile, sign_in: bool) -> None:
    """Decide, once and before the app serves, whose token serves a visitor who is signed out.

    On one's own machine, where signing in is not set up, it is the machine's; else nobody's.
    """
    _signed_out[0] = MACHINE if profile.name == "own" and not sign_in else NOBODY


def token_of(token: gr.OAuthToken | None) -> Token:
    """Return whose Hub token one call of a visitor's uses; true where the visitor is signed in."""
    if token is None or token.expires_at < time.time():
        return _signed_out[0]
    return as_token(str(token.token), str(token.scope or ""))


def spread(count: int, **props: Any) -> list[Any]:
    """Return the same update for `count` outputs."""
    return [gr.update(**props) for _ in range(count)]
