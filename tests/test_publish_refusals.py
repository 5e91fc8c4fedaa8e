"""What stands in the way of a publication is told, and nothing is written."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub
from publish_fixtures import base_folder, hub, made, quick, run, server, token
from publishing import (
    ADAPTER,
    README,
    send,
)

from ditto_hub.errors import BaseModelError, ConfigError, HubError, RunError
from ditto_hub.runs.folder import Run

pytestmark = [
    pytest.mark.usefixtures("quick"),
    # huggingface_hub asks httpx2 in words that it has retired
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]

# ---- what stands in the way --------------------------------------------------------------------

REFUSALS: dict[str, tuple[str, str]] = {
    "a slash too many": ("alice/my/voice", "is not a repo id"),
    "spaces": ("alice/my voice", "is not a repo id"),
    "dots": ("alice/../voice", "is not a repo id"),
    "two dots": ("alice/my..voice", "is not a repo id"),
    "100 characters": ("alice/" + "a" * 100, "is not a repo id"),
    "a foreign namespace": ("mallory/voice", "may not publish under 'mallory'"),
    "only a reader there": ("readers/voice", "only the role 'read'"),
    "a dataset": ("alice/data", "is a dataset already"),
    "a space": ("alice/app", "is a space already"),
    "something else": ("alice/other", "contains something else"),
    "public already": ("alice/open", "is public"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_repo_ids(case: str, run: Run, hub: Hub, token: str) -> None:
    """A repo that cannot or must not be written to is refused, and nothing is written."""
    hub.state.add_repo("alice/data", {}, kind="dataset")
    hub.state.add_repo("alice/app", {}, kind="space")
    hub.state.add_repo("alice/other", {"model.safetensors": b"weights"}, private=True)
    hub.state.add_repo("alice/open", {})
    before = {k: len(r.commits) for k, r in hub.state.repos.items()}
    repo, message = REFUSALS[case]
    with pytest.raises(HubError, match=message):
        send(run, hub, token, repo=repo)
    assert {k: len(r.commits) for k, r in hub.state.repos.items()} == before


TOKENS: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({}, "There is no token"),
    "unknown": ({}, "does not accept the token"),
    "expired": ({"expires": 1.0}, "does not accept the token"),
    "read-only": ({"role": "read"}, "may only read"),
    "of another repo": ({"role": "fineGrained", "scopes": ("model:alice/x",)}, "fine-grained"),
    "missing scope": ({"role": "oauth", "scopes": ("openid",)}, "lacks a scope"),
    "about to expire": (
        {"role": "oauth", "scopes": ("contribute-repos",), "expires_in_s": 60.0},
        "expires in",
    ),
}


@pytest.mark.parametrize("case", TOKENS)
def test_refused_tokens(case: str, run: Run, hub: Hub) -> None:
    """A token that cannot serve is named as the cause, and nothing is written."""
    given, message = TOKENS[case]
    if "expires_in_s" in given:
        given = {k: v for k, v in given.items() if k != "expires_in_s"}
        given["expires"] = time.time() + 60
    token = hub.add_token("alice", **given) if given else {"none": "", "unknown": "hf_no"}[case]
    with pytest.raises(HubError, match=message):
        send(run, hub, token)
    assert ("model", ADAPTER) not in hub.state.repos


GRANTED: dict[str, dict[str, Any]] = {
    "fine-grained, of the user": {"role": "fineGrained", "scopes": ("user:alice",)},
    "oauth, contribute-repos": {"role": "oauth", "scopes": ("contribute-repos",)},
    "oauth, write-repos": {"role": "oauth", "scopes": ("write-repos",)},
}


@pytest.mark.parametrize("case", GRANTED)
def test_sufficient_tokens(case: str, run: Run, hub: Hub) -> None:
    """A token with the least scope that serves does serve."""
    assert send(run, hub, hub.add_token("alice", **GRANTED[case])).commit


def test_expiring_soon_is_said(run: Run, hub: Hub) -> None:
    """A sign-in with less than an hour left is used, and its remaining life is told."""
    token = hub.add_token("alice", "oauth", ("write-repos",), time.time() + 1800)
    assert any("expires in" in str(n) for n in send(run, hub, token).notices)


DAMAGES: dict[str, tuple[str, bytes | None, str]] = {
    "no adapter": ("adapter/adapter_config.json", None, "has no adapter"),
    "no weights": ("adapter/adapter_model.safetensors", None, "is missing"),
    "cut weights": ("adapter/adapter_model.safetensors", b"\x10\0\0\0\0\0\0\0{}", "is damaged"),
    "no tokenizer": ("adapter/tokenizer_config.json", None, "has no tokenizer"),
    "no demonstrations": ("demos.jsonl", None, "is missing or damaged"),
    "edited config": ("adapter/adapter_config.json", b'{"peft_type": "IA3"}', "edited by hand"),
    "no JSON": ("adapter/adapter_config.json", b"{", "missing or damaged"),
    "broken evaluation": ("evaluation/x.json", b"{", "is damaged"),
    "newer evaluation": ("evaluation/x.json", b'{"schema_version": 99}', "schema version 99"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_runs(case: str, run: Run, hub: Hub, token: str) -> None:
    """A run that is not whole is a clear error before anything is asked of the Hub."""
    path, data, message = DAMAGES[case]
    if data is None:
        (run.folder / path).unlink()
    else:
        run.write(path, data)
    with pytest.raises(RunError, match=message):
        send(run, hub, token)
    assert not hub.requests


EDITS: dict[str, dict[str, Any]] = {
    "scores as text": {"candidates": {"round-2": {"scores": {"margin": "high"}}}},
    "candidates as a list": {"candidates": ["round-2"]},
    "order without numbers": {"order": [{}]},
    "unknown setting": {"config": {"update": {"speed": 3}}},
    "seconds as text": {"stage_seconds": {"sampling": "long"}},
}


@pytest.mark.parametrize("case", EDITS)
def test_records_edited_by_hand(case: str, run: Run, hub: Hub, token: str) -> None:
    """A record that no run writes is a clear error, and nothing is written."""
    for name, value in EDITS[case].items():
        setattr(run.record, name, value)
    with pytest.raises(RunError, match=r"run\.json"):
        send(run, hub, token)
    assert not hub.requests


def test_record_of_a_newer_schema(run: Run) -> None:
    """A run written by a newer version is refused when it is opened."""
    data = json.loads((run.folder / "run.json").read_text()) | {"schema_version": 99}
    run.write("run.json", json.dumps(data).encode())
    with pytest.raises(RunError, match="schema version 99"):
        Run.load(run.folder)


def test_unchosen_run(run: Run, hub: Hub, token: str) -> None:
    """A run that has not chosen says how to go on; with --candidate it publishes."""
    run.record.chosen, run.record.status = None, "failed"
    with pytest.raises(RunError, match="no chosen adapter"):
        send(run, hub, token)
    receipt = send(run, hub, token, candidate="sft")
    assert "did not finish" in receipt.card


def test_unknown_candidate(run: Run, hub: Hub, token: str) -> None:
    """A candidate that is not there is refused with those that are."""
    with pytest.raises(RunError, match="round-2, sft"):
        send(run, hub, token, candidate="round-9")


def test_base_on_disk_needs_an_id(run: Run, hub: Hub, token: str, base_folder: Path) -> None:
    """A run on a local folder is refused until the base's id on the Hub is given."""
    run.record.base_model = {"id": str(base_folder), "revision": None}
    with pytest.raises(ConfigError, match="not on the Hub"):
        send(run, hub, token)
    assert send(run, hub, token, base_model_id="base/tiny").base_id == "base/tiny"


def test_base_that_was_deleted(run: Run, hub: Hub, token: str) -> None:
    """An adapter whose base is gone is not published."""
    del hub.state.repos["model", "base/tiny"]
    with pytest.raises(BaseModelError, match="no longer available"):
        send(run, hub, token)
    assert ("model", ADAPTER) not in hub.state.repos


def test_base_that_became_gated(run: Run, hub: Hub, token: str) -> None:
    """An adapter whose base is closed to the user is not published, and the page is named."""
    hub.state.repos["model", "base/tiny"].gated = "manual"
    with pytest.raises(BaseModelError, match=r"is gated.*https://huggingface.co/base/tiny"):
        send(run, hub, token)
    assert ("model", ADAPTER) not in hub.state.repos


def test_broken_card_template(run: Run, hub: Hub, token: str, tmp_path: Path) -> None:
    """A template the user broke is a clear error before anything is asked of the Hub."""
    broken = tmp_path / "card.md"
    broken.write_text("---\n{{ front_matter }}\n---\n{% if %}")
    with pytest.raises(ConfigError, match=r"template .* is broken"):
        send(run, hub, token, card_template=broken)
    assert not hub.requests


def test_strangers_files_stay(run: Run, hub: Hub, token: str) -> None:
    """An update leaves files alone that somebody else put into our repo."""
    send(run, hub, token)
    repo = hub.state.repos["model", ADAPTER]
    blob = next(iter(repo.head.files.values()))
    repo.commit("mine", {**repo.head.files, "notes.txt": blob})
    send(run, hub, token, candidate="sft")
    assert "notes.txt" in repo.head.files


def test_strangers_file_of_our_name(run: Run, hub: Hub, token: str) -> None:
    """A file that ditto-hub did not put there is not overwritten."""
    send(run, hub, token)
    repo = hub.state.repos["model", ADAPTER]
    blob = next(iter(repo.head.files.values()))
    repo.commit("mine", {**repo.head.files, "demonstrations.jsonl": blob})
    with pytest.raises(HubError, match="ditto-hub did not put there"):
        send(run, hub, token, include_demos=True)


def test_card_edited_on_the_hub(run: Run, hub: Hub, token: str) -> None:
    """An update over a card that was edited by hand says so."""
    send(run, hub, token)
    repo = hub.state.repos["model", ADAPTER]
    repo.commit("edit", {**repo.head.files, README: repo.head.files[".gitattributes"]})
    assert any("edited on the Hub" in str(n) for n in send(run, hub, token).notices)
