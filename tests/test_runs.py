"""The run folder: whole files or none, an owner, one writer, and clear words when damaged."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ditto_hub import events as ev
from ditto_hub.config import RunConfig, Update, preset
from ditto_hub.demos.demonstrations import Demonstration, DemoSet
from ditto_hub.errors import ConfigError, RunBusyError, RunError, RunOwnerError, StorageError
from ditto_hub.runs import folder as runs
from ditto_hub.runs.folder import Run, hash_owner, home
from ditto_hub.runs.record import RunRecord
from ditto_hub.runs.storage import from_jsonl, write_atomic

DEMOS = DemoSet(
    (
        Demonstration("a", "Write to the lab.", "Hi all 👋\u2028see you!", origin="file"),
        Demonstration("b", "Write to the team.", "hey", split="held_out", original="Dear team,"),
    )
)
BASE = {"id": "pocket", "revision": None}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(DEMOS, BASE, RunConfig(), tmp_path / "run")


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


# ---- making and finding ----------------------------------------------------------------------


def test_create_writes_record_and_demonstrations(run: Run) -> None:
    """A new run folder holds its record and its demonstrations, nothing else."""
    assert files(run.folder) == {"run.json", "demos.jsonl"}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("  Notes to\nthe  crew ", "Notes to the crew"),
        ("<b>港口</b> \u202e& more", "<b>港口</b> & more"),
        ("x" * 3000, "x" * 80),
        (" \0\n", "Write to the lab."),
        ("", "Write to the lab."),
    ],
)
def test_a_run_is_called_by_its_name_or_its_first_prompt(run: Run, given: str, kept: str) -> None:
    """A name is one line of printable characters; it can be given while the run is worked on."""
    with run.lock():
        Run.load(run.folder).rename(given)
        run.save_record()
    assert Run.load(run.folder).title == kept


def test_a_damaged_name_is_none(run: Run) -> None:
    """Whatever the name's file holds, the run has a title; without prompts it is its id."""
    (run.folder / "name.txt").write_bytes(b"\xff\xfe" * 5000)
    assert len(run.title) <= 80
    (run.folder / "name.txt").unlink()
    (run.folder / "demos.jsonl").write_text("{")
    assert run.title == run.record.id


def test_load_gives_back_what_was_created(run: Run) -> None:
    """A loaded run has the record, settings and demonstrations it was created with."""
    again = Run.load(run.folder)
    assert (again.record, again.config) == (run.record, RunConfig())
    assert again.demos() == DEMOS


def test_load_by_id() -> None:
    """A run that was put under the home is found by its id alone."""
    run = Run.create(DEMOS, BASE, RunConfig())
    assert run.folder.parent == home() / "runs"
    assert Run.load(run.record.id).folder == run.folder


def test_load_by_folder_in_the_working_folder(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A single name is a folder first and an id second."""
    monkeypatch.chdir(tmp_path)
    assert Run.load("run").record.id == run.record.id


def test_create_refuses_a_folder_in_use(run: Run) -> None:
    """No run is written over something that is there."""
    with pytest.raises(RunError, match="not empty"):
        Run.create(DEMOS, BASE, RunConfig(), run.folder)


def test_create_refuses_a_file(tmp_path: Path) -> None:
    """A file in the folder's place is refused and left alone."""
    (tmp_path / "x").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        Run.create(DEMOS, BASE, RunConfig(), tmp_path / "x")
    assert (tmp_path / "x").read_text() == "mine"


def test_create_takes_an_empty_folder(tmp_path: Path) -> None:
    """An empty folder, as `mktemp -d` makes, is taken."""
    assert Run.create(DEMOS, BASE, RunConfig(), tmp_path / "home").record.status == "created"


def test_ids_differ() -> None:
    """Two runs never get one id."""
    ids = {Run.create(DEMOS, BASE, RunConfig()).record.id for _ in range(20)}
    assert len(ids) == 20


def test_list_is_newest_first_and_skips_what_is_no_run() -> None:
    """Runs are listed newest first; a damaged one does not hide the others."""
    made = [Run.create(DEMOS, BASE, RunConfig()) for _ in range(3)]
    for age, run in enumerate(made):
        run.record.created = 1000.0 - age
        run.save_record()
    (made[1].folder / "run.json").write_text("{")
    (home() / "runs" / "empty").mkdir()
    assert [r.record.id for r in Run.all()] == [made[0].record.id, made[2].record.id]


def test_list_without_a_home() -> None:
    """Before the first run the list is empty."""
    assert Run.all() == []


def test_home_follows_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without DITTO_HUB_HOME runs live in the user's data folder."""
    monkeypatch.delenv("DITTO_HUB_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert home() == Path("/data/ditto-hub")


def test_an_old_home_stays_in_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs in the folder that an older version chose are found where the platform has another."""
    monkeypatch.delenv("DITTO_HUB_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "old"))
    new = tmp_path / "Application Support" / "ditto-hub"
    monkeypatch.setattr("platformdirs.user_data_path", lambda *_, **__: new)
    assert home() == new
    (tmp_path / "old" / "ditto-hub").mkdir(parents=True)
    assert home() == tmp_path / "old" / "ditto-hub"
    new.mkdir(parents=True)
    assert home() == new


def test_delete(run: Run) -> None:
    """Deleting a run leaves nothing of it."""
    run.delete()
    assert not run.folder.exists()


def test_missing_run() -> None:
    """A run that is not there is told so, with the command that lists those there are."""
    with pytest.raises(RunError, match=r"no run 'x'.*runs list"):
        Run.load("x")


# ---- ownership -------------------------------------------------------------------------------


def test_owner_is_hashed(tmp_path: Path) -> None:
    """The owner's name or secret stands nowhere in the folder."""
    run = Run.create(DEMOS, BASE, RunConfig(), tmp_path / "run", owner="ada-lovelace")
    assert run.record.owner == hash_owner("ada-lovelace")
    assert all(b"ada-lovelace" not in p.read_bytes() for p in run.folder.iterdir())


def test_owner_may_load(tmp_path: Path) -> None:
    """The owner reads the run."""
    Run.create(DEMOS, BASE, RunConfig(), tmp_path / "run", owner="ada")
    assert Run.load(tmp_path / "run", owner="ada").record.status == "created"


@pytest.mark.parametrize("owner", ["ada", None], ids=["another's", "nobody's"])
def test_others_may_not_load(tmp_path: Path, owner: str | None) -> None:
    """Who asks by name reads neither another's run nor one of the machine's own user."""
    Run.create(DEMOS, BASE, RunConfig(), tmp_path / "run", owner=owner)
    with pytest.raises(RunOwnerError):
        Run.load(tmp_path / "run", owner="eve")


def test_list_shows_own_runs_only() -> None:
    """Others' runs are not listed."""
    mine = Run.create(DEMOS, BASE, RunConfig(), owner="ada")
    Run.create(DEMOS, BASE, RunConfig(), owner="eve")
    Run.create(DEMOS, BASE, RunConfig())
    assert [r.record.id for r in Run.all(owner="ada")] == [mine.record.id]


def test_empty_owner_is_somebody() -> None:
    """An empty name is not the machine's own user."""
    assert hash_owner("") is not None
    assert hash_owner(None) is None


# ---- one writer ------------------------------------------------------------------------------

HOLD = """
import sys
from ditto_hub.runs.folder import Run
with Run.load(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(run: Run) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold the run."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_second_process_is_refused(run: Run, held: subprocess.Popen[str]) -> None:
    """While one process holds a run, another can neither lock nor delete it."""
    with pytest.raises(RunBusyError, match=run.record.id), run.lock():
        pass
    with pytest.raises(RunBusyError):
        run.delete()
    assert (run.folder / "run.json").is_file()


def test_lock_dies_with_its_process(run: Run, held: subprocess.Popen[str]) -> None:
    """A process that was killed holds nothing any more."""
    held.kill()
    held.wait()
    with run.lock():
        pass


def test_second_lock_of_one_process_is_refused(run: Run) -> None:
    """Two threads or tabs of one program are two writers as well."""
    with run.lock(), pytest.raises(RunBusyError), Run.load(run.folder).lock():
        pass


def test_lock_can_be_taken_again(run: Run) -> None:
    """A lock that was let go can be taken anew."""
    for _ in range(2):
        with run.lock():
            pass


# ---- whole files or none ---------------------------------------------------------------------


class Crash(BaseException):
    """What a power cut is to a test."""


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_crash_in_a_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A write that stops before its end leaves the old content, and no half file beside it."""
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def crash(*_: Any) -> None:
        raise Crash

    monkeypatch.setattr(os, where, crash)
    with pytest.raises(Crash):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert files(tmp_path) == {"file"}


def test_write_makes_folders(tmp_path: Path) -> None:
    """A file is written into folders that were not there."""
    write_atomic(tmp_path / "a" / "b", b"x")
    assert (tmp_path / "a" / "b").read_bytes() == b"x"


def test_replace_folder_leaves_no_old_file(run: Run) -> None:
    """A folder that is replaced holds the new files and none of the old ones."""
    run.replace_folder("adapter", {"old": b"1", "both": b"1"})
    run.replace_folder("adapter", {"new": b"2", "both": b"2"})
    assert files(run.folder / "adapter") == {"new", "both"}
    assert (run.folder / "adapter" / "both").read_bytes() == b"2"


def test_replace_folder_that_fails_keeps_the_old_one(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk is full before the new folder is whole, the old one stands."""
    run.replace_folder("adapter", {"file": b"old"})
    full(monkeypatch)
    with pytest.raises(StorageError):
        run.replace_folder("adapter", {"file": b"new"})
    assert (run.folder / "adapter" / "file").read_bytes() == b"old"


def test_sweep_takes_what_a_killed_process_left(run: Run) -> None:
    """Half-written files of a process that is gone are cleared away, and nothing else."""
    before = files(run.folder)
    (run.folder / ".run.json.123.tmp").write_bytes(b"{")
    (run.folder / ".adapter.123.tmp").mkdir()
    (run.folder / ".adapter.123.tmp" / "x").write_bytes(b"")
    (run.folder / "state").mkdir()
    (run.folder / "state" / ".state.safetensors.9.tmp").write_bytes(b"")
    run.sweep()
    assert files(run.folder) == before
    assert not (run.folder / ".adapter.123.tmp").exists()


# ---- a disk that refuses ---------------------------------------------------------------------


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full: what is written does not reach it."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)


def test_disk_full_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is a StorageError that names file and cause; the old record stays whole."""
    run.record.status = "running"
    full(monkeypatch)
    with pytest.raises(StorageError, match=r"run\.json: No space left on device.*Make room"):
        run.save_record()
    assert Run.load(run.folder).record.status == "created"
    assert files(run.folder) == {"run.json", "demos.jsonl"}


def test_disk_really_full(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with a write that the system itself refuses for want of space."""
    monkeypatch.setattr("ditto_hub.runs.storage.secrets.token_hex", lambda _: "0")
    (run.folder / ".run.json.0.tmp").symlink_to("/dev/full")
    run.record.status = "running"
    with pytest.raises(StorageError, match="No space left on device"):
        run.save_record()
    assert Run.load(run.folder).record.status == "created"


def in_threads(count: int, do: Callable[[int], None]) -> None:
    """Call a function in several threads at once, and raise what one of them raised."""
    together = threading.Barrier(count)

    def go(number: int) -> None:
        together.wait()
        for _ in range(25):
            do(number)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(go, range(count)))


def test_threads_write_one_file(run: Run) -> None:
    """Threads that write one file at once all succeed, and a reader never finds half of one."""

    def write(number: int) -> None:
        run.write("notes", str(number).encode() * 10_000)
        found = (run.folder / "notes").read_bytes()
        assert len(found) == 10_000
        assert len(set(found)) == 1

    in_threads(8, write)
    assert files(run.folder) == {"run.json", "demos.jsonl", "notes"}


def test_threads_replace_one_folder(run: Run) -> None:
    """Threads that replace one folder at once all succeed, and one of theirs is there whole."""

    def replace(number: int) -> None:
        run.replace_folder("adapter", {"a": str(number).encode(), "b": str(number).encode()})

    in_threads(4, replace)
    assert files(run.folder) == {"run.json", "demos.jsonl", "adapter/a", "adapter/b"}
    kept = {path.read_bytes() for path in (run.folder / "adapter").iterdir()}
    assert len(kept) == 1


def test_no_room_for_an_event(run: Run) -> None:
    """An event that does not fit on the disk is a StorageError too."""
    (run.folder / "events.jsonl").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"events\.jsonl"):
        run.append_events([ev.RunCancelled(seq=0)])


REFUSED = OSError(errno.EROFS, os.strerror(errno.EROFS))


def refusing(*_: Any, **__: Any) -> None:
    raise REFUSED


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("mkdir", lambda run: Run.create(DEMOS, BASE, RunConfig(), run.folder.parent / "new")),
        ("open", lambda run: run.save_record()),
        ("open", lambda run: run.append_events([ev.RunCancelled(seq=0)])),
        ("mkdir", lambda run: run.save_state(b"x")),
    ],
    ids=["create", "record", "event", "state"],
)
def test_read_only_folder(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, act: Any) -> None:
    """A folder that cannot be written is a StorageError, whatever was to be written."""
    monkeypatch.setattr(Path, name, refusing)
    with pytest.raises(StorageError, match="Read-only file system"):
        act(run)


def test_lock_on_a_read_only_folder(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that cannot be written is told as a StorageError, not as a busy run."""
    monkeypatch.setattr(runs.FileLock, "acquire", refusing)
    with pytest.raises(StorageError, match="Read-only file system"), run.lock():
        pass


def test_delete_that_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be deleted is told so."""
    monkeypatch.setattr(runs.shutil, "rmtree", refusing)
    with pytest.raises(StorageError, match="Read-only file system"):
        run.delete()


# ---- damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[]", "damaged"),
        (b"null", "damaged"),
        (b"{}", "schema version None"),
        (b'{"schema_version": "1"}', "schema version '1'"),
        (b'{"schema_version": true}', "schema version True"),
        (b'{"schema_version": 1}', "damaged"),
        (b'{"schema_version": 99}', "Install a newer ditto-hub"),
        (
            b'{"schema_version": 1, "id": "x", "base_model": {"id": "x"}, "config": {},'
            b' "status": "o"}',
            "unknown status 'o'",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_damaged_record(run: Run, data: bytes, told: str) -> None:
    """A record that is cut, foreign or newer is a RunError that says which."""
    (run.folder / "run.json").write_bytes(data)
    with pytest.raises(RunError, match=told):
        Run.load(run.folder)


def test_newer_fields_are_left_out(run: Run) -> None:
    """A field that this program does not know does not stop it."""
    data = {**asdict(run.record), "colour": "blue"}
    assert RunRecord.from_json(data) == run.record


def test_foreign_settings(run: Run) -> None:
    """Settings that this program does not know are a ConfigError."""
    run.record.config["update"]["betta"] = 1
    with pytest.raises(ConfigError, match="betta"):
        assert run.config


@pytest.mark.parametrize("data", [b"{", b"{}\n", b"[1]\n", b"\xff", None], ids=str)
def test_damaged_demonstrations(run: Run, data: bytes | None) -> None:
    """Demonstrations that are missing or cut are a RunError that names the file."""
    path = run.folder / "demos.jsonl"
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(RunError, match=r"demos\.jsonl"):
        run.demos()


def test_config_survives_the_folder(tmp_path: Path) -> None:
    """Settings that no single change makes from the default are read back from run.json."""
    config = RunConfig(update=Update(online=0, replay=0, intermodel=0, edit=1))
    Run.create(DEMOS, BASE, config, tmp_path / "run")
    assert Run.load(tmp_path / "run").config == config


def test_preset_survives_the_folder(tmp_path: Path) -> None:
    """Preset and seed are part of the record."""
    Run.create(DEMOS, BASE, preset("paper", 5), tmp_path / "run")
    again = Run.load(tmp_path / "run")
    assert (again.config.preset, again.config.seed, again.record.seed) == ("paper", 5, 5)


# ---- events ----------------------------------------------------------------------------------


def paused(seq: int) -> ev.RunPaused:
    return ev.RunPaused(seq=seq, reason="closed")


def test_events_are_read_back(run: Run) -> None:
    """What was appended is read back in order."""
    run.append_events([paused(0)])
    run.append_events([paused(1), ev.RunCancelled(seq=2)])
    assert run.events() == [paused(0), paused(1), ev.RunCancelled(seq=2)]


def test_no_events_yet(run: Run) -> None:
    """Before a run starts there are no events, and the first is number 0."""
    assert run.events() == []
    assert run.next_seq() == 0


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_line_cut_by_a_crash(run: Run, cut: int) -> None:
    """A last line that a crash cut is left out, and its number is given again."""
    run.append_events([paused(0), paused(1)])
    path = run.folder / "events.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert run.events()[:1] == [paused(0)]
    number = run.next_seq()
    run.append_events([ev.RunCancelled(seq=number)])
    assert [e.seq for e in run.events()] == list(range(number + 1))
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_events_of_a_newer_program_are_left_out(run: Run) -> None:
    """A type of event that this program does not know is passed over, and still counted."""
    run.append_events([paused(0)])
    with (run.folder / "events.jsonl").open("ab") as file:
        file.write(b'{"v": 2, "type": "CoffeeMade", "seq": 1}\n')
    assert run.events() == [paused(0)]


# ---- state and what a run made ---------------------------------------------------------------


def test_state_round_trip(run: Run) -> None:
    """The state is what was saved last, none before the first time, and gone when cleared."""
    assert run.load_state() is None
    run.save_state(b"one")
    run.save_state(b"two")
    assert run.load_state() == b"two"
    run.clear_state()
    assert run.load_state() is None
    assert not (run.folder / "state").exists()


def test_candidates(run: Run) -> None:
    """A candidate is there once its adapter's config is; the chosen one is `adapter/`."""
    run.write("candidates/sft/adapter/adapter_config.json", b"{}")
    run.write("candidates/half/adapter/adapter_model.safetensors", b"")
    assert run.candidates() == ["sft"]
    assert run.candidate("sft") == run.folder / "candidates" / "sft" / "adapter"


@pytest.mark.parametrize("name", [None, "round-9", "../../other", "/etc"])
def test_missing_candidate(run: Run, name: str | None) -> None:
    """A candidate that is not there is a RunError that says which there are."""
    run.write("candidates/sft/adapter/adapter_config.json", b"{}")
    run.write("../other/adapter/adapter_config.json", b"{}")
    with pytest.raises(RunError, match="sft" if name else "Resume"):
        run.candidate(name)


def test_lines_of_json_are_read_back(run: Run) -> None:
    """Line separators inside a text end no line of a file of rollouts."""
    rows = [{"text": "a\u2028b\x85c"}, {"text": "d"}]
    run.write("rollouts/round-0.jsonl", runs.to_jsonl_bytes(rows))
    assert from_jsonl(run.folder / "rollouts" / "round-0.jsonl") == rows
