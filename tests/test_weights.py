"""Base models on this disk: fetched whole, kept for whom they may be, within a bound."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest
from hub_server import Hub, HubState, local_hub

from ditto_hub.errors import BaseModelError, DittoError
from ditto_hub.hub.weights import PUBLIC, Shelf, fetch, wanted
from ditto_hub.runs.folder import hash_owner
from ditto_hub.tokens import NOBODY

FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "model.safetensors": b"w" * 600,
    "consolidated.safetensors": b"w" * 600,
    "pytorch_model.bin": b"p" * 600,
    "onnx/model.onnx": b"o" * 600,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with local_hub() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    huggingface_hub.utils.disable_progress_bars()
    server.state = HubState()
    server.forget()
    server.state.add_repo("base/open", FILES)
    server.state.add_repo("ann/hidden", FILES, private=True)
    return server


@pytest.fixture
def shelf(hub: Hub, tmp_path: Path) -> Shelf:
    return Shelf("hub:ann", folder=tmp_path / "weights", endpoint=hub.endpoint)


def base(hub: Hub, name: str) -> dict[str, str]:
    """Return a base model at its commit, as a run's record has it."""
    return {"id": name, "revision": hub.state.repos["model", name].head.oid}


def test_what_loading_needs() -> None:
    """The safetensors weights once, and the small files beside them; no pickles, no copies."""
    sizes = {name: len(data) for name, data in FILES.items()}
    assert wanted(sizes) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_public_base_is_everybodys(hub: Hub, shelf: Shelf) -> None:
    """A base model that anybody may read is fetched once, without a token, for all visitors."""
    place = fetch(base(hub, "base/open"), shelf, "hf_secret")
    assert place.relative_to(shelf.root).parts[0] == PUBLIC
    assert (place / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    asked = len(hub.requests)
    assert fetch(base(hub, "base/open"), replace(shelf, visitor="hub:bob"), token=NOBODY) == place
    assert len(hub.requests) == asked


def test_private_base_is_the_visitors_alone(hub: Hub, shelf: Shelf) -> None:
    """What a token opened lies in that visitor's own folder, and another one does not get it."""
    token = hub.add_user("ann")
    place = fetch(base(hub, "ann/hidden"), shelf, token)
    assert place.relative_to(shelf.root).parts[0] == hash_owner("hub:ann")
    with pytest.raises(DittoError):
        fetch(base(hub, "ann/hidden"), replace(shelf, visitor="hub:bob"), hub.add_user("bob"))


def test_no_token_on_disk(hub: Hub, shelf: Shelf) -> None:
    """Nothing that is written beside the files holds the token."""
    token = hub.add_user("ann")
    place = fetch(base(hub, "ann/hidden"), shelf, token)
    assert not any(token.encode() in p.read_bytes() for p in place.rglob("*") if p.is_file())


def test_oldest_makes_room(hub: Hub, shelf: Shelf) -> None:
    """With the bound reached, the base model used longest ago goes."""
    bounded = replace(shelf, limit_bytes=3600)
    places = []
    for number in range(3):
        hub.state.add_repo(f"base/{number}", FILES)
        places.append(fetch(base(hub, f"base/{number}"), bounded, token=NOBODY))
        old = time.time() - 10_000 + number
        os.utime(places[-1] / ".whole", (old, old))
    assert [place.exists() for place in places] == [False, True, True]


def test_base_in_use_stays(hub: Hub, shelf: Shelf) -> None:
    """What a lease may be reading is not removed; the other visitor is asked to wait."""
    bounded = replace(shelf, limit_bytes=1000)
    place = fetch(base(hub, "base/open"), bounded, token=NOBODY)
    hub.state.add_repo("base/other", FILES)
    with pytest.raises(BaseModelError, match="no room"):
        fetch(base(hub, "base/other"), bounded, token=NOBODY)
    assert place.is_dir()


def test_too_large(hub: Hub, shelf: Shelf) -> None:
    """A base model larger than the whole shelf is refused with both sizes."""
    with pytest.raises(BaseModelError, match="may be kept"):
        fetch(base(hub, "base/open"), replace(shelf, limit_bytes=500), token=NOBODY)


def test_cut_download_is_fetched_again(
    hub: Hub, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder whose download was cut short is not taken for whole."""
    place = fetch(base(hub, "base/open"), shelf, token=NOBODY)
    (place / ".whole").unlink()
    (place / "model.safetensors").unlink()
    fetch(base(hub, "base/open"), shelf, token=NOBODY)
    assert (place / "model.safetensors").is_file()


def test_gone(hub: Hub, shelf: Shelf) -> None:
    """A base model that is not there is told as such."""
    with pytest.raises(DittoError):
        fetch({"id": "base/none", "revision": None}, shelf, token=NOBODY)
