"""An adapter that follows another one: its tag, its card, the card that it replaces."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_server import Fault, Hub
from publish_fixtures import base_folder, hub, made, quick, run, server, token
from publishing import ADAPTER, README, RECORD, on_pocket, repo_files, send, whole_versions
from run_folders import SECRET
from test_card import an_evaluation

from ditto_hub.api.creation import join_demos
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.errors import HubError
from ditto_hub.hub.publishing.lineage import describe, figures, read_earlier
from ditto_hub.hub.publishing.options import PublishOptions
from ditto_hub.hub.publishing.packing import preview_card
from ditto_hub.runs.folder import Run
from ditto_hub.runs.results import save
from ditto_hub.runs.storage import to_jsonl_bytes
from ditto_hub.tokens import NOBODY, Token
from ditto_hub.words import told

__all__ = ["base_folder", "hub", "made", "quick", "run", "server", "token"]
pytestmark = [
    pytest.mark.usefixtures("quick"),
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
NEW = "alice/my-new-voice"


@pytest.fixture
def later(run: Run, tmp_path: Path) -> Run:
    """Return a run that went on from the first one, with two more demonstrations."""
    found = Run.load(shutil.copytree(run.folder, tmp_path / "later"))
    found.record.id, found.record.parent = "20261123-0a1b2c3d", run.record.id
    found.save_record()
    more = DemoSet.from_pairs([(f"Ask {n}. {SECRET}", f"hey, {n}? {SECRET}") for n in (1, 2)])
    joined = join_demos(run.demos(), more)
    found.write("demos.jsonl", to_jsonl_bytes(demo.to_json() for demo in joined))
    return found


def front(card: bytes) -> dict[str, Any]:
    found = yaml.safe_load(card.decode().split("---\n")[1])
    assert isinstance(found, dict)
    return found


def section(hub: Hub, repo_id: str = ADAPTER) -> str:
    """Return what the card says has changed; "" where it has no such section."""
    card = repo_files(hub, repo_id)[README].decode()
    return card.partition("## What changed\n")[2].partition("\n## ")[0]


def test_a_later_run_is_the_next_version(run: Run, later: Run, hub: Hub, token: str) -> None:
    """In the same repo it is one more commit, with tags on both; the old files are at v1."""
    first = send(run, hub, token)
    second = send(later, hub, token)
    repo = hub.state.repos["model", ADAPTER]
    assert repo.tags == {"v1": first.commit, "v2": second.commit}
    assert whole_versions(hub, ADAPTER) == 2
    assert json.loads(repo_files(hub)[RECORD])["version"] == 2
    assert section(hub)
    assert "## What changed" not in repo.at("v1").files[README].data.decode()


def test_a_first_version_says_nothing_of_versions(run: Run, hub: Hub, token: str) -> None:
    """It has no tag and no such section, and its record no number."""
    send(run, hub, token)
    assert hub.state.repos["model", ADAPTER].tags == {}
    assert (section(hub), "version" in json.loads(repo_files(hub)[RECORD])) == ("", False)


def test_demonstrations_are_compared_in_numbers(run: Run, later: Run, hub: Hub, token: str) -> None:
    """The card counts what was added; no word of a demonstration is in the repo."""
    send(run, hub, token)
    send(later, hub, token)
    said = section(hub)
    assert "on the same demonstrations and 2 added ones" in said.replace("\n", " ")
    assert "| demonstrations | 5 | 7 |" in said
    assert "under the tag `v1`" in said
    assert not any(SECRET.encode() in data for data in repo_files(hub).values())


def test_a_stranger_to_the_old_run_is_said_to_be_one(
    run: Run, later: Run, hub: Hub, token: str
) -> None:
    """A run that did not go on from the earlier one claims no added demonstrations."""
    send(run, hub, token)
    later.record.parent = None
    later.save_record()
    send(later, hub, token)
    assert "trained anew" in section(hub)


def test_results_are_beside_the_earlier_ones(run: Run, later: Run, hub: Hub, token: str) -> None:
    """A mark of both is in one row; one that a version lacks is said to be not measured."""
    save(run, an_evaluation())
    evaluation = an_evaluation()
    better = tuple(replace(s, mean=s.mean + 0.05) for s in evaluation.scores)
    send(run, hub, token)
    save(later, replace(evaluation, scores=better, win_rates=()))
    send(later, hub, token)
    said = section(hub)
    assert "| grammar: total | 0.830 (12 prompts) | 0.880 (12 prompts) |" in said
    assert "| grammar: preferred to sft | 0.604 (12 prompts) | not measured |" in said


def test_again_is_up_to_date(run: Run, later: Run, hub: Hub, token: str) -> None:
    """Publishing a later version again makes no commit, and follows what it followed."""
    send(run, hub, token)
    send(later, hub, token)
    tags = dict(hub.state.repos["model", ADAPTER].tags)
    assert send(later, hub, token).up_to_date
    assert hub.state.repos["model", ADAPTER].tags == tags


def test_a_changed_second_publication_moves_its_tag(
    run: Run, later: Run, hub: Hub, token: str
) -> None:
    """The same run published otherwise stays version 2, whose tag is on the newest commit."""
    first = send(run, hub, token)
    send(later, hub, token)
    third = send(later, hub, token, candidate="sft")
    tags = hub.state.repos["model", ADAPTER].tags
    assert tags == {"v1": first.commit, "v2": third.commit}


def test_a_third_version_follows_the_second(
    run: Run, later: Run, hub: Hub, token: str, tmp_path: Path
) -> None:
    """Versions count on, and each tag stays where it was."""
    third = Run.load(shutil.copytree(later.folder, tmp_path / "third"))
    third.record.id, third.record.parent = "20261124-0a1b2c3d", later.record.id
    third.save_record()
    commits = [send(each, hub, token).commit for each in (run, later, third)]
    tags = hub.state.repos["model", ADAPTER].tags
    assert tags == dict(zip(("v1", "v2", "v3"), commits, strict=True))
    assert "This is version 3" in section(hub)


def test_a_lost_tag_is_told_and_added_later(run: Run, later: Run, hub: Hub, token: str) -> None:
    """Where the Hub refuses a tag the adapter is there, the receipt says so, and again adds it."""
    send(run, hub, token)
    hub.faults.append(Fault("status", "/tag/", status=403, message="no tags today"))
    receipt = send(later, hub, token)
    assert any("has no tag v2" in str(notice) for notice in receipt.notices)
    hub.forget()
    send(later, hub, token)
    assert set(hub.state.repos["model", ADAPTER].tags) == {"v1", "v2"}


# ---- a new repo ---------------------------------------------------------------------------------


def test_the_old_card_names_the_new_repo(run: Run, later: Run, hub: Hub, token: str) -> None:
    """`new_version` is in the old card's metadata, its text as it was, its record whole."""
    send(run, hub, token)
    before = repo_files(hub)
    receipt = send(later, hub, token, repo=NEW, replaces=ADAPTER)
    after = repo_files(hub)
    assert front(after[README]) == {**front(before[README]), "new_version": NEW}
    assert after[README].split(b"---\n", 2)[2] == before[README].split(b"---\n", 2)[2]
    assert whole_versions(hub, ADAPTER) == 2
    assert f"[{ADAPTER}](https://huggingface.co/{ADAPTER})" in section(hub, NEW)
    assert hub.state.repos["model", NEW].tags == {"v2": receipt.commit}
    assert "new_version" not in front(repo_files(hub, NEW)[README])


def test_again_changes_no_card(run: Run, later: Run, hub: Hub, token: str) -> None:
    """Publishing to the new repo again makes no commit in either."""
    send(run, hub, token)
    send(later, hub, token, repo=NEW, replaces=ADAPTER)
    old = hub.state.repos["model", ADAPTER].head.oid
    assert send(later, hub, token, repo=NEW, replaces=ADAPTER).up_to_date
    assert hub.state.repos["model", ADAPTER].head.oid == old
    assert not send(run, hub, token).up_to_date  # the first run's own card is what is published


def test_a_public_card_names_no_private_repo(run: Run, later: Run, hub: Hub, token: str) -> None:
    """What everybody reads does not give a private repo's name away."""
    send(run, hub, token, public=True)
    receipt = send(later, hub, token, repo=NEW, replaces=ADAPTER)
    assert "new_version" not in front(repo_files(hub)[README])
    assert any("is private while" in str(notice) for notice in receipt.notices)
    send(later, hub, token, repo=NEW, replaces=ADAPTER, public=True)
    assert front(repo_files(hub)[README])["new_version"] == NEW


@pytest.mark.parametrize(
    ("replaces", "why"),
    [
        (NEW, "cannot replace itself"),
        ("alice/none", "holds no adapter"),
        ("base/tiny", "not|may|refused|cannot"),
    ],
)
def test_what_cannot_be_replaced_is_refused_first(
    later: Run, hub: Hub, token: str, replaces: str, why: str
) -> None:
    """Nothing is written where the repo to replace is none of ours."""
    with pytest.raises(HubError, match=why):
        send(later, hub, token, repo=NEW, replaces=replaces)
    assert ("model", NEW) not in hub.state.repos


# ---- what a repo says of itself -----------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [{}, {"run": None}, {"run": {"id": 5}}, {"version": "x"}, {"run": {"demonstrations": [1]}}],
)
def test_a_strange_record_breaks_nothing(record: dict[str, Any]) -> None:
    """Whatever a repo's files hold, it is read, or no earlier version is known."""
    found = describe("a/b", "c" * 40, record, [None, 3, {"complete": True}])
    assert found is None or (found.version, found.figures) == (1, {})


def test_figures_are_the_published_candidates() -> None:
    """Only results count, and only those of the adapter that is published."""
    row = {
        "judge": "j", "complete": True, "prompts_independent": True, "methods": ["sft", "ditto"],
        "ditto": "round-2", "win_rates": [],
        "scores": [
            {"method": "sft", "mark": "total", "mean": 0.1, "prompts": 3},
            {"method": "ditto", "mark": "total", "mean": 0.9, "prompts": 3},
        ],
    }  # fmt: skip
    assert figures([row], "round-2") == {"j: total": (0.9, 3)}
    assert figures([row], "sft") == {"j: total": (0.1, 3)}
    assert figures([row], "round-1") == {}
    assert figures([{**row, "prompts_independent": False}], "round-2") == {}
    assert read_earlier({"repo_id": "a/b", "commit": "c", "version": 0}) is None


# ---- ahead of a publication --------------------------------------------------------------------


def foreseen(run: Run, hub: Hub, token: str | Token, repo: str = ADAPTER, **options: Any) -> str:
    """Return the card that a preview shows, as one text."""
    chosen = PublishOptions(endpoint=hub.endpoint, **options)
    found = preview_card(run, repo, chosen, token)
    return f"---\n{found.front}---\n{found.body}"


@pytest.mark.parametrize("pocket", [False, True])
@pytest.mark.parametrize("options", [{}, {"replaces": ADAPTER}])
def test_a_preview_is_the_card_of_the_next_version(
    run: Run, later: Run, hub: Hub, token: str, options: dict[str, str], pocket: bool
) -> None:
    """Preview and dry run of a later version have the very card that is published."""
    if pocket:
        run, later = on_pocket(run), on_pocket(later)
    repo = NEW if options else ADAPTER
    send(run, hub, token)
    there = [commit.oid for commit in hub.state.repos["model", ADAPTER].commits]
    card = foreseen(later, hub, token, repo.split("/")[1], **options)
    receipt = send(later, hub, token, repo, dry_run=later.folder / "publish", **options)
    assert [commit.oid for commit in hub.state.repos["model", ADAPTER].commits] == there
    send(later, hub, token, repo, **options)
    published = repo_files(hub, repo)[README].decode()
    assert "## What changed" in published
    assert card == published
    assert receipt.card == published


@pytest.mark.parametrize(("token_of", "said"), [("nobody", "was not asked"), ("mallory", "alice")])
def test_a_preview_says_what_it_could_not_see(
    run: Run, later: Run, hub: Hub, token: str, token_of: str, said: str
) -> None:
    """Without a token, or where publishing would be refused, a notice says so beside the card."""
    send(run, hub, token)
    key = hub.add_user("mallory") if token_of == "mallory" else NOBODY
    found = preview_card(later, ADAPTER, PublishOptions(endpoint=hub.endpoint), key)
    assert "## What changed" not in found.body
    assert said in str(told(found.notices[-1]))


def test_a_first_preview_without_a_token_says_nothing(run: Run, hub: Hub) -> None:
    """Nothing is asked and nothing is missing."""
    found = preview_card(run, ADAPTER, PublishOptions(endpoint=hub.endpoint), NOBODY)
    assert (found.notices, hub.requests) == ((), [])
