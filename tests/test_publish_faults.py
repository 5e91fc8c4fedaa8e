"""Whatever breaks at whichever call of a publication, a second one leaves one whole version."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.constants
import pytest
from hub_server import Fault, Hub
from publish_fixtures import base_folder, hub, made, quick, run, server, token
from publishing import (
    ADAPTER,
    digest,
    on_pocket,
    refill,
    send,
    whole_versions,
)

from ditto_hub.errors import HubError
from ditto_hub.hub import bounds
from ditto_hub.runs.folder import Run

pytestmark = [
    pytest.mark.usefixtures("quick"),
    # huggingface_hub asks httpx2 in words that it has retired
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]

# ---- faults ------------------------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "refused": {"kind": "status", "status": 503},
    "forbidden": {"kind": "status", "status": 403},
    "lost before its effect": {"kind": "lost-before"},
    "lost after its effect": {"kind": "lost-after"},
    "stalled": {"kind": "stalled"},
    "all lost from there on": {"kind": "lost-before", "times": 10**6},
}


@pytest.fixture(scope="module")
def cases() -> Iterator[list[str]]:
    """Collects the faults that were tried; with the whole table there are at least 40."""
    tried: list[str] = []
    yield tried
    if len({case.split("@")[0] for case in tried}) == len(KINDS):
        assert len(tried) >= 40, len(tried)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_every_call(
    kind: str, made: Path, server: Hub, base_folder: Path, cases: list[str]
) -> None:
    """Whatever breaks at whichever call, a second publication leaves one whole version."""
    run = Run.load(made)
    before = digest(made)
    send(run, server, refill(server, base_folder), public=True)
    calls = len(server.requests)
    fault = dict(KINDS[kind])
    for number in range(1, calls + 1):
        token = refill(server, base_folder)
        where = {"since": number} if "times" in fault else {"at": number}
        server.faults.append(Fault(**{**fault, **where}))
        with contextlib.suppress(HubError):
            send(run, server, token, public=True)
        repo = server.state.repos.get(("model", ADAPTER))
        if repo is not None and whole_versions(server, ADAPTER) == 0:
            assert repo.private, f"{kind} at {number}: an empty repo is public"
        server.forget()
        receipt = send(run, server, token, public=True)
        assert receipt.good
        assert not receipt.private
        assert not server.state.repos["model", ADAPTER].private
        assert whole_versions(server, ADAPTER) == 1, f"{kind} at call {number}"
        cases.append(f"{kind}@{number}")
    assert digest(made) == before


@pytest.mark.parametrize("match", ["POST .*create", "POST .*commit/", "PUT /lfs", "PUT .*settings"])
def test_a_lost_answer_on_pocket(match: str, run: Run, hub: Hub, token: str) -> None:
    """With the base published along, lost answers still leave one whole version of each."""
    on_pocket(run)
    hub.faults.append(Fault("lost-after", match, times=2))
    try:
        send(run, hub, token, public=True)
    except HubError:
        hub.forget()
    send(run, hub, token, public=True)
    assert (whole_versions(hub, ADAPTER), whole_versions(hub, "alice/ditto-pocket")) == (1, 1)


@pytest.mark.parametrize("busy", [0.0, 0.25])
def test_a_commit_that_lands_late(busy: float, run: Run, hub: Hub, token: str) -> None:
    """A commit given up as lost that lands after all, before or after the next try, lands once."""
    hub.faults.append(Fault("slow", "commit/", seconds=0.55))
    if busy:  # the next try's commit comes after the late one
        hub.faults.append(Fault("slow", "lfs/objects/batch", times=2, seconds=busy))
    assert send(run, hub, token).good
    time.sleep(0.3)
    assert whole_versions(hub, ADAPTER) == 1


WORDS: dict[str, tuple[dict[str, Any], str]] = {
    "token expires midway": ({"kind": "expire", "match": "preupload"}, "does not accept the token"),
    "rate limit with a long wait": (
        {"kind": "status", "match": "preupload", "status": 429, "headers": {"Retry-After": "900"}},
        "rate limit.*15 min",
    ),
    "rate limit on a read": (
        {"kind": "status", "match": "whoami", "status": 429, "headers": {"Retry-After": "600"}},
        "rate limit.*10 min",
    ),
    "truncated upload": (
        {"kind": "truncated", "match": "PUT /lfs", "times": 99},
        "connection to the Hub failed",
    ),
    "stalled for good": (
        {"kind": "stalled", "match": "POST .*create", "times": 99},
        "did not answer in time",
    ),
    "payment required": ({"kind": "status", "match": "commit/", "status": 402}, "storage"),
    "front matter refused": (
        {"kind": "status", "match": "validate-yaml", "status": 400, "message": "bad"},
        "front matter",
    ),
}


@pytest.mark.parametrize("case", WORDS)
def test_the_cause_is_named(case: str, run: Run, hub: Hub, token: str) -> None:
    """Each failure is told by its cause."""
    fault, message = WORDS[case]
    hub.faults.append(Fault(**fault))
    with pytest.raises(HubError, match=message):
        send(run, hub, token)


def test_storage_used_up(run: Run, hub: Hub, token: str) -> None:
    """A full account is told as that."""
    hub.state.quota = 10
    with pytest.raises(HubError, match="storage on the Hub is used up"):
        send(run, hub, token)


def test_no_hub_at_all(run: Run) -> None:
    """A Hub that is not there is told as a failed connection."""
    hub = SimpleNamespace(endpoint="http://127.0.0.1:9")
    with pytest.raises(HubError, match="connection to the Hub failed"):
        send(run, hub, "hf_x")


def test_offline_mode(run: Run, hub: Hub, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE is respected and named."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        send(run, hub, token)


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (ConnectionError("storage said no"), "connection to the Hub failed"),
        (RuntimeError("xet: permission"), "client failed while uploading"),
        (TimeoutError("slow"), "did not answer in time"),
    ],
)
def test_errors_of_the_xet_client(
    raised: Exception, message: str, run: Run, hub: Hub, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hf_xet raises is told as a HubError too, and the repo stays without a version."""

    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("huggingface_hub._commit_api._upload_files", fail)
    with pytest.raises(HubError, match=message):
        send(run, hub, token)
    assert whole_versions(hub, ADAPTER) == 0


def test_a_trickling_answer_ends(run: Run, hub: Hub, token: str) -> None:
    """An answer that takes longer than allowed ends, however often a byte comes."""
    bounds.bound_time(bounds.Timeouts(answer_s=-1.0, waits_s=()))
    with pytest.raises(HubError, match="did not answer in time"):
        send(run, hub, token)
