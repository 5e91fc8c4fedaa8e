"""A run kept in a private repo: what is sent, what is believed, and that it comes back whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_state import Blob, Fault
from job_fixtures import hub, run, script, server, token
from job_script import make_run
from jobs_server import JobsHub
from tiny_runs import made, tiny_run

from ditto_hub import events as ev
from ditto_hub.backends.local import LocalBackend
from ditto_hub.errors import HubBusyError, HubError, RunError, RunOwnerError
from ditto_hub.hub import kept, transfer
from ditto_hub.hub.client import HubClient
from ditto_hub.runs.folder import Run, hash_owner
from ditto_hub.tokens import NOBODY

pytestmark = [
    # huggingface_hub asks httpx2 in words that it has retired
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Create a run with some of everything a folder may hold."""
    run = make_run(tmp_path / "run", owner="hub:alice")
    run.write("state/state.safetensors", b"s" * 1000)
    run.write("candidates/sft/adapter/adapter_model.safetensors", b"weights")
    run.write("evaluation/one.json", b"{}")
    for left in (".cancel", "publish/README.md", "evaluation/cache/x.json", "state/.x.tmp"):
        run.write(left, b"not for keeping")
    run.append_events([ev.RunStarted(run_id=run.record.id, seq=0, base_model="pocket",
                                     demonstrations=3, held_out=0, total_stages=1)])  # fmt: skip
    return run


def repo(hub: JobsHub, run: Run) -> Any:
    return hub.state.repos["model", f"alice/ditto-hub-run-{run.record.id}"]


def content(folder: Path) -> dict[str, bytes]:
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != ".lock"]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def change(hub: JobsHub, run: Run, path: str, edit: Callable[[bytes], bytes]) -> None:
    """Edit a file on the Hub as a stranger would."""
    there = repo(hub, run)
    blob = there.head.files[path]
    there.commit("edit", {**there.head.files, path: Blob(edit(blob.data), blob.lfs)})


def change_manifest(hub: JobsHub, run: Run, edit: Callable[[dict[str, Any]], object]) -> None:
    def edited(data: bytes) -> bytes:
        manifest = json.loads(data)
        edit(manifest)
        return json.dumps(manifest).encode()

    change(hub, run, kept.MANIFEST, edited)


# ---- saving --------------------------------------------------------------------------------------


def test_a_run_is_kept_whole_and_private(hub: JobsHub, run: Run, token: str) -> None:
    """The repo is private and holds all of the folder but locks, caches and what can be remade."""
    assert transfer.save_run(run, token) == f"alice/ditto-hub-run-{run.record.id}"
    there = repo(hub, run)
    assert there.private
    names = {p.removeprefix("run/") for p in there.head.files if p.startswith("run/")}
    assert names == {
        "run.json", "demos.jsonl", "events.jsonl", "state/state.safetensors",
        "candidates/sft/adapter/adapter_model.safetensors", "evaluation/one.json",
    }  # fmt: skip


def test_nothing_is_sent_to_a_public_repo(hub: JobsHub, run: Run, token: str) -> None:
    """A public repo of that name gets no file, and the refusal says why."""
    public = hub.state.add_repo(f"alice/ditto-hub-run-{run.record.id}", {}, private=False)
    with pytest.raises(HubError, match="public"):
        transfer.save_run(run, token)
    assert len(public.commits) == 1
    assert not any("preupload" in r or "/lfs/" in r for r in hub.requests)


def test_only_what_changed_is_sent_and_what_went_goes(hub: JobsHub, run: Run, token: str) -> None:
    """A second save is one commit of the changed files; an unchanged run makes none."""
    transfer.save_run(run, token)
    count = len(repo(hub, run).commits)
    transfer.save_run(run, token)
    assert len(repo(hub, run).commits) == count
    hub.forget()
    run.write("candidates/new/adapter/adapter_model.safetensors", b"new weights")
    run.clear_state()
    transfer.save_run(run, token)
    assert len(repo(hub, run).commits) == count + 1
    assert sum(r.startswith("PUT /lfs/") for r in hub.requests) == 1
    assert not any("state" in path for path in repo(hub, run).head.files)


def test_a_lost_answer_makes_no_second_commit(hub: JobsHub, run: Run, token: str) -> None:
    """A commit whose answer is lost is found there and not made again."""
    hub.faults.append(Fault("lost-after", "POST .*/commit/"))
    transfer.save_run(run, token)
    assert [c.title for c in repo(hub, run).commits][1:] == [f"Keep run {run.record.id}, created"]


@pytest.mark.parametrize("run_id", ["../x", "a/b", "", "a--b", "-a", "x" * 80, "a.b"])
def test_only_a_run_id_names_a_repo(run_id: str) -> None:
    """What is no run's id makes no repo's name."""
    with pytest.raises(RunError):
        kept.repo_of(run_id, "alice")


# ---- restoring -----------------------------------------------------------------------------------


def test_a_kept_run_comes_back_to_its_bytes(
    hub: JobsHub, run: Run, token: str, tmp_path: Path
) -> None:
    """Restored elsewhere, every kept file has the bytes it had, and the run opens for its owner."""
    transfer.save_run(run, token)
    back = transfer.restore_run(run.record.id, token, "hub:alice", folder=tmp_path / "back")
    assert content(back.folder) == {p: f.read_bytes() for p, f in kept.files_of(run).items()}
    assert Run.load(back.folder, "hub:alice").demos() == run.demos()


def test_a_newer_run_here_is_left_as_it_is(hub: JobsHub, run: Run, token: str) -> None:
    """Restoring over a folder that has gone on since changes nothing."""
    transfer.save_run(run, token)
    run.write("candidates/sft/adapter/adapter_model.safetensors", b"later")
    run.save_record()
    before = content(run.folder)
    transfer.restore_run(run.record.id, token, "hub:alice", folder=run.folder)
    assert content(run.folder) == before


@pytest.mark.parametrize(
    ("owner", "asker", "namespace", "fits"),
    [
        ("hub:alice", "hub:alice", "alice", True),
        ("hub:alice", None, "alice", True),  # one's own machine
        (None, "hub:alice", "alice", True),  # kept from one's own machine, in one's own namespace
        ("hub:bob", "hub:alice", "alice", False),
        ("browser:secret", "hub:alice", "alice", False),
        (None, "hub:alice", "acme", False),  # anybody of the organisation's
        ("hub:alice", "hub:alice", "acme", True),
    ],
)
def test_only_its_owner_gets_a_run_back(
    hub: JobsHub, token: str, tmp_path: Path, owner: str | None, asker: str | None,
    namespace: str, fits: bool,
) -> None:  # fmt: skip
    """A run belongs to who asks, or has no owner and lies in the asker's own namespace."""
    run = make_run(tmp_path / "run", owner)
    transfer.save_run(run, token, namespace)
    back = tmp_path / "back"
    if not fits:
        with pytest.raises(RunOwnerError):
            transfer.restore_run(run.record.id, token, asker, namespace, back)
        assert not back.exists()
        return
    got = transfer.restore_run(run.record.id, token, asker, namespace, back)
    assert got.record.owner == hash_owner(asker or owner)


def test_nobody_else_finds_a_kept_run(hub: JobsHub, run: Run, token: str) -> None:
    """Another user's token sees no such run."""
    transfer.save_run(run, token)
    other = hub.add_token("mallory")
    with pytest.raises(RunError, match="No run is kept"):
        transfer.restore_run(run.record.id, other, namespace="alice")
    assert transfer.saved_runs(other, "alice") == []


def row(size: int = 1, sha256: str = "0" * 64) -> dict[str, Any]:
    return {"size": size, "sha256": sha256}


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a path out of the folder": lambda m: m["files"].update({"../../etc/x": row()}),
    "an absolute path": lambda m: m["files"].update({"/etc/x": row()}),
    "a hidden file": lambda m: m["files"].update({"state/.lock": row()}),
    "a Windows path": lambda m: m["files"].update({"..\\x": row()}),
    "a path with a dot": lambda m: m["files"].update({"state/./x": row()}),
    "a size that is no number": lambda m: m["files"]["run.json"].update(size="1"),
    "a hash that is none": lambda m: m["files"]["run.json"].update(sha256="x"),
    "another hash for the record": lambda m: m["files"]["run.json"].update(sha256="0" * 64),
    "a size that is not the file's": lambda m: m["files"]["demos.jsonl"].update(size=3),
    "a file that is not there": lambda m: m["files"].update({"state/x": row()}),
    "no record": lambda m: m["files"].pop("run.json"),
    "another format": lambda m: m.update(format="zip"),
    "a newer version": lambda m: m.update(schema_version=2),
    "files that are no mapping": lambda m: m.update(files=[]),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_manifest_that_lies_is_refused(
    hub: JobsHub, run: Run, token: str, tmp_path: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    """Nothing is written where the list of files is not what ditto-hub would write."""
    transfer.save_run(run, token)
    change_manifest(hub, run, edit)
    before = content(tmp_path)
    with pytest.raises(RunError):
        transfer.restore_run(run.record.id, token, folder=tmp_path / "back")
    assert content(tmp_path) == before


def test_a_file_with_other_bytes_is_refused(
    hub: JobsHub, run: Run, token: str, tmp_path: Path
) -> None:
    """A file of the right size and the wrong content never stands under its name."""
    transfer.save_run(run, token)
    change(hub, run, "run/state/state.safetensors", lambda data: b"x" * len(data))
    with pytest.raises(HubBusyError, match="did not arrive whole"):
        transfer.restore_run(run.record.id, token, folder=tmp_path / "back")
    assert not (tmp_path / "back" / "state" / "state.safetensors").exists()
    assert not (tmp_path / "back" / "run.json").exists()


@pytest.mark.parametrize("limits", [{"files": 3}, {"file_bytes": 900}, {"total_bytes": 1500}])
def test_too_much_is_refused_before_it_is_fetched(
    hub: JobsHub, run: Run, token: str, tmp_path: Path, limits: dict[str, int]
) -> None:
    """Number, size and sum of the files are bounded before the first one is fetched."""
    transfer.save_run(run, token)
    client, back = HubClient(token), tmp_path / "back"
    with pytest.raises(RunError, match="too large"):
        transfer.restore(client, repo(hub, run).id, back, limits=kept.Limits(**limits))
    assert not back.exists()


def test_saved_runs_are_listed_newest_first(hub: JobsHub, token: str, tmp_path: Path) -> None:
    """The list tells state and base model of each, and leaves out what is damaged or foreign."""
    runs = [make_run(tmp_path / name) for name in ("a", "b", "c")]
    for number, run in enumerate(runs):
        run.record.updated = float(number)
        transfer.save_run(run, token)
    change_manifest(hub, runs[0], lambda m: m.update(format="zip"))
    hub.state.add_repo("alice/ditto-hub-run-x", {"model.bin": b"x"}, private=True)
    found = transfer.saved_runs(token)
    assert [f.run_id for f in found] == [runs[2].record.id, runs[1].record.id]
    assert {f.status for f in found} == {"created"}
    assert found[0].base_model == "pocket"


def test_only_what_is_ours_is_deleted(hub: JobsHub, run: Run, token: str) -> None:
    """A kept run's repo goes; one that holds something else stays; none at all is no error."""
    transfer.save_run(run, token)
    transfer.delete_saved(run.record.id, token)
    assert not hub.state.repos
    transfer.delete_saved(run.record.id, token)
    other = hub.state.add_repo("alice/ditto-hub-run-x", {"model.bin": b"x"}, private=True)
    with pytest.raises(RunError, match="something else"):
        transfer.delete_saved("x", token)
    assert other in hub.state.repos.values()


# ---- what a worker kept, and what was seen of it -------------------------------------------------


def paused(seq: int) -> ev.Event:
    return ev.RunPaused(seq=seq, run_id="r", reason=f"{seq}")


@pytest.mark.parametrize(
    ("status", "expected"), [("running", [0, 1, 2, 3]), ("finished", [0, 1]), ("paused", [0, 1])]
)
def test_events_of_a_killed_worker_are_not_lost(
    hub: JobsHub, run: Run, token: str, tmp_path: Path, status: str, expected: list[int]
) -> None:
    """What was seen and never saved stays where the worker was killed; else the repo is right."""
    run.append_events([paused(1)])
    run.record.status = status
    run.save_record()
    transfer.save_run(run, token)
    run.append_events([paused(2), paused(3)])
    transfer.fetch(HubClient(token), repo(hub, run).id, run)
    assert [event.seq for event in run.events()] == expected


def test_a_run_kept_midway_goes_on_elsewhere_to_the_same_bytes(
    hub: JobsHub, token: str, tmp_path: Path, tiny: Callable[[str], Path]
) -> None:
    """Paused in an update, kept, restored elsewhere and resumed, a run ends as if never moved."""
    whole = tiny_run(tiny("llama3"), tmp_path / "whole")
    for _ in LocalBackend("cpu").drive(whole, token=NOBODY):
        pass
    half = tiny_run(tiny("llama3"), tmp_path / "half")
    steps: list[ev.Event] = []
    for event in LocalBackend("cpu", 0.0).drive(
        half, lambda: "moving" if len(steps) > 3 else "", token=NOBODY
    ):
        steps.extend([event] if isinstance(event, ev.StepTaken) else [])
    transfer.save_run(half, token)
    back = transfer.restore_run(half.record.id, token, folder=tmp_path / "back")
    assert back.record.status == "paused"
    for _ in LocalBackend("cpu").drive(back, token=NOBODY):
        pass
    assert made(back.folder) == made(whole.folder)
