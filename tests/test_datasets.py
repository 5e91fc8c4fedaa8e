"""Datasets of the Hub: one data file, read with the visitor's token, bounded, past any cache."""

from __future__ import annotations

import json
from collections.abc import Iterator

import huggingface_hub.constants
import pytest
from hub_server import Hub, local_hub

from ditto_hub.api.importing import preview_dataset
from ditto_hub.errors import DemoError, HubError
from ditto_hub.hub import datasets
from ditto_hub.hub.datasets import read_dataset

ROWS = json.dumps({"prompt": "Write.", "completion": "Done."}).encode() + b"\n"
FILES = {
    "README.md": b"---\nlicense: mit\n---\n",
    "dataset_infos.json": b"{}",
    "data/test.jsonl": b"{}\n",
    "data/train.jsonl": ROWS * 2,
    "table.csv": b"prompt,completion\na,b\n",
}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """Run a local Hub with an open dataset, a private one, and one without data."""
    with local_hub() as running:
        running.state.add_repo("alice/open", FILES, kind="dataset")
        running.state.add_repo("alice/secret", {"a.csv": FILES["table.csv"]}, kind="dataset",
                               private=True)  # fmt: skip
        running.state.add_repo("alice/bare", {"README.md": b"x"}, kind="dataset")
        yield running


@pytest.fixture(autouse=True)
def _endpoint(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the Hub's client at the local one."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.endpoint)


def token_of(hub: Hub, user: str) -> str:
    """Return a user's token."""
    return next(name for name, token in hub.state.tokens.items() if token.user == user)


@pytest.mark.parametrize(
    ("named", "file"),
    [
        ("alice/open", "train.jsonl"),
        (" alice/open/ ", "train.jsonl"),
        ("alice/open/table.csv", "table.csv"),
        ("alice/open/data/test.jsonl", "test.jsonl"),
        ("https://huggingface.co/datasets/alice/open", "train.jsonl"),
        ("https://huggingface.co/datasets/alice/open/blob/main/table.csv", "table.csv"),
        ("https://huggingface.co/datasets/alice/open/viewer", "train.jsonl"),
    ],
)
def test_the_file_named_or_the_training_file_is_read(named: str, file: str) -> None:
    """A dataset gives its training file; a path or a page's address gives that one."""
    assert read_dataset(named, "")[0] == file


def test_a_dataset_is_previewed() -> None:
    """What the file holds is shown like a dropped file."""
    assert [row.completion for row in preview_dataset("alice/open", "").rows] == ["Done.", "Done."]


def test_a_private_dataset_needs_its_owners_token(hub: Hub) -> None:
    """The owner's token opens a private dataset; none, or another's, learns of nothing."""
    assert read_dataset("alice/secret", token_of(hub, "alice"))[1] == FILES["table.csv"]
    for other in ("", token_of(hub, "mallory")):
        with pytest.raises(HubError, match="no dataset alice/secret that you can see"):
            read_dataset("alice/secret", other)


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("alice/none", "no dataset alice/none"),
        ("alice/bare", "has no data file"),
        ("alice/open/no.csv", "has no file no.csv. Files that can be read: data/train.jsonl"),
        ("alice/open/../../x", "has no file"),
        ("https://example.org/evil", "is not a repo id"),
        ("a b/c", "is not a repo id"),
        ("", "is not a repo id"),
    ],
)
def test_what_is_not_there_is_told(named: str, told: str) -> None:
    """A dataset or a file that is not there is a HubError saying what is."""
    with pytest.raises(HubError, match=told):
        read_dataset(named, "")


def test_a_large_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file over the limit is given up before it is whole."""
    monkeypatch.setattr(datasets, "MOST_BYTES", 10)
    with pytest.raises(HubError, match="larger than 10 bytes"):
        read_dataset("alice/open", "")


def test_a_file_of_no_rows_is_told() -> None:
    """A data file that holds no demonstrations is a DemoError."""
    with pytest.raises(DemoError):
        preview_dataset("alice/open/dataset_infos.json", "")
