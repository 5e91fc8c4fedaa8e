"""The day's quota as the Hub tells it: read with the scope for it, believed, never overspent."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from hub_server import Fault, Hub

from ditto_hub import api
from ditto_hub.api.leasing import _ledger
from ditto_hub.backends.zerogpu.ledger import DAY_S, Ledger, Standing
from ditto_hub.backends.zerogpu.refusals import Ask, Terms, plan_ask
from ditto_hub.cost.profiles import load_profile
from ditto_hub.events import LeaseRefused
from ditto_hub.tokens import Token, as_token
from ditto_hub.ui.html.estimates import quota_words
from ditto_hub.ui.serving.events import Asker
from ditto_hub.ui.serving.session import token_of
from ditto_hub.ui.steps.quota import quota_line

NOW = 1_800_000_000.0
PROFILE = load_profile("zerogpu")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a Hub on which alice has used 219.5 of 300 seconds."""
    in_an_hour = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    with Hub() as running:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.endpoint)
        running.state.users["alice"] = {}
        running.state.quotas["alice"] = {
            "base": 300, "current": 80.5, "resetsAt": f"{in_an_hour:%Y-%m-%dT%H:%M:%S}.000Z",
        }  # fmt: skip
        yield running


def signed_in(hub: Hub, scope: str) -> Token:
    """Return the token of a sign-in with the scope, as the app passes it on."""
    text = hub.add_token("alice", "oauth", tuple(scope.split()))
    return token_of(gr.OAuthToken(token=text, scope=scope, expires_at=10**10))


def test_the_hub_tells_with_the_scope(hub: Hub) -> None:
    """What is left, whole seconds of it, and when the quota is whole again."""
    found = api.standing(PROFILE, "hub:alice", signed_in(hub, "openid read-billing"))
    assert (found.left_s, found.told, found.sure) == (80.0, True, True)
    assert found.renewed_at == pytest.approx(time.time() + 3600, abs=60)


@pytest.mark.parametrize("scope", ["openid profile", ""])
def test_without_the_scope_nothing_is_asked(hub: Hub, scope: str) -> None:
    """The account kept here is all there is, as before, and the Hub is not asked."""
    found = api.standing(PROFILE, "hub:alice", signed_in(hub, scope))
    assert found == Standing(300.0, False, None)
    assert hub.requests == []


@pytest.mark.parametrize("fault", ["status", "lost-before"])
def test_a_hub_that_does_not_tell_changes_nothing(hub: Hub, fault: str) -> None:
    """Where the Hub refuses or is away, the account kept here is used."""
    Ledger("hub:alice", (300.0,)).charge(10)
    hub.faults.append(Fault(fault, "zero-gpu", status=403, times=9))
    found = api.standing(PROFILE, "hub:alice", signed_in(hub, "read-billing"))
    assert (found.left_s, found.sure) == (290.0, False)
    assert sum("zero-gpu" in request for request in hub.requests) == 1


def test_a_scope_the_hub_does_not_grant_changes_nothing(hub: Hub) -> None:
    """The Hub has the last word on what a token may read."""
    text = hub.add_token("alice", "oauth", ("openid",))
    assert not api.standing(PROFILE, "hub:alice", as_token(text, "read-billing")).sure


def test_each_lease_asks_again(hub: Hub) -> None:
    """What another Space has used since is known before the next lease."""
    token = signed_in(hub, "read-billing")
    assert _ledger("hub:alice", token).standing().left_s == 80
    hub.state.quotas["alice"]["current"] = 7
    assert _ledger("hub:alice", token).standing().left_s == 7
    hub.state.quotas["alice"] = {"base": 2400, "current": 2400}
    assert _ledger("hub:alice", token).standing() == Standing(2400, True, None, 0, True)


@pytest.mark.parametrize("factor", [1.0, 1.5, 2.0])
def test_no_more_is_reserved_than_is_left(tmp_path: Path, factor: float) -> None:
    """Whatever is left, a lease asks for no more, and where that is too little for none."""
    for tenths in range(0, 1300, 7):
        ledger = Ledger("hub:alice", (300.0,), tmp_path, lambda: NOW)
        ledger.seed(300.0, tenths / 10, NOW + 3600)
        ask = plan_ask(Terms(60, 10.0, None, factor), ledger.standing(), probe=True)
        if isinstance(ask, Ask):
            assert ask.asked_s <= tenths / 10
        else:
            assert isinstance(ask, LeaseRefused)
            assert (ask.reason, ask.retry_at) == ("quota", NOW + 3600)
            assert tenths / 10 < 10 * factor + 1


def test_what_is_kept_for_trying_is_said(tmp_path: Path) -> None:
    """Where only the part kept back is left, that is the reason, and nothing is asked."""
    ledger = Ledger("hub:alice", (300.0,), tmp_path, lambda: NOW)
    ledger.seed(300.0, 40.0, NOW + 3600)
    found = plan_ask(Terms(60, 10.0, None, 1.5, kept_s=30.0), ledger.standing())
    assert isinstance(found, LeaseRefused)
    assert (found.reason, found.kept_s) == ("kept", 30)


def test_a_refusal_is_believed_over_the_hub(tmp_path: Path) -> None:
    """The account that is charged may be another: what the platform refuses with counts."""
    ledger = Ledger("hub:alice", (300.0,), tmp_path, lambda: NOW)
    ledger.seed(2400.0, 2000.0, None)
    ledger.correct(20.0, 600.0)
    assert ledger.standing() == Standing(20.0, True, NOW + 600.0)


def test_a_seeded_day_ends(tmp_path: Path) -> None:
    """When the Hub said that the quota resets, it is whole again, and no longer sure."""
    clock = [NOW]
    ledger = Ledger("hub:alice", (300.0,), tmp_path, lambda: clock[0])
    ledger.seed(300.0, 4.0, NOW + 600)
    clock[0] += 601
    assert ledger.standing() == Standing(300.0, False, None)
    ledger.seed(300.0, 4.0, None)  # used, and no word of when it ends
    clock[0] += DAY_S
    assert ledger.standing().left_s == 300


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ("openid read-billing", "80 s of GPU quota left today"),
        ("openid", ""),
    ],
)
def test_the_page_says_it_to_whom_the_hub_tells(hub: Hub, scope: str, said: str) -> None:
    """Signed in with the scope, what is left is on the page; without it nothing is."""
    text = hub.add_token("alice", "oauth", tuple(scope.split()))
    user = SimpleNamespace(username="alice")
    token = gr.OAuthToken(token=text, scope=scope, expires_at=10**10)
    request = SimpleNamespace(headers={}, query_params={}, session_hash="x")
    asker = Asker("s" * 43, request, user, token)  # type: ignore[arg-type]
    shared = SimpleNamespace(profile=PROFILE)
    found = quota_line(shared, asker)  # type: ignore[arg-type]
    assert (said in found, bool(found)) == (True, bool(said))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((80.0, 1_800_036_000.0), "80 s of GPU quota left today, resets at 2027-01-15 18:00 UTC."),
        ((300.0, None), "300 s of GPU quota left today; none used yet."),
    ],
)
def test_it_is_said_whose_number_it_is(given: Any, words: str) -> None:
    """What is left, until when, and that another account may be the one that is charged."""
    said = quota_words(*given, "alice", "en")
    assert said.startswith(words)
    assert "the quota of alice, who is signed in here" in said
