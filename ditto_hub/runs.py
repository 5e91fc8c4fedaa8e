"""The run folder: its record, its artefacts, its state; atomic, resumable, owned.

Layout and status words: DESIGN.md's contract. Every file is written under a temporary name and
renamed, so a reader finds the old version or the new one and never half of either.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ditto_hub.config import RunConfig
from ditto_hub.demos import Demonstration, DemoSet
from ditto_hub.errors import RunBusyError, RunError, RunOwnerError
from ditto_hub.events import Event
from ditto_hub.events import from_json as event_from_json
from ditto_hub.storage import (
    from_jsonl,
    to_json_bytes,
    to_jsonl_bytes,
    told_as_storage_error,
    write_atomic,
)

SCHEMA_VERSION = 1
STATUSES = ("created", "running", "paused", "cancelled", "failed", "finished")
RESUMABLE = ("created", "running", "paused", "cancelled", "failed")


@dataclass
class RunRecord:
    """Hold what `run.json` holds.

    Args:
        id: short random id.
        owner: SHA-256 of the owner's name or secret; None for the machine's own user.
        status: one of `STATUSES`.
        base_model: {id, revision}; id is pocket, a Hub id or a path.
        config: `RunConfig.to_json()`.
        stages: [{name, round, seconds, reason}] of finished stages, in order.
        candidates: name -> {scores, degenerate}.
        chosen: name of the candidate in `adapter/`, or None.
        probe_of: whose logits `probe.safetensors` holds; None for the chosen one's.
        stage_seconds: stage name -> seconds of work, over all processes that drove the run.
        job: {id, namespace, repo, flavor, ...} of the Hub Job that works on it, or did last.
    """

    id: str
    base_model: dict[str, Any]
    config: dict[str, Any]
    schema_version: int = SCHEMA_VERSION
    owner: str | None = None
    status: str = "created"
    seed: int = 0
    created: float = 0.0
    updated: float = 0.0
    parent: str | None = None
    stages: list[dict[str, Any]] = field(default_factory=list)
    candidates: dict[str, dict[str, Any]] = field(default_factory=dict)
    chosen: str | None = None
    chosen_rule: str = ""
    chosen_reason: str = ""
    probe_of: str | None = None
    order: list[dict[str, Any]] = field(default_factory=list)
    notices: list[dict[str, str]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    stage_seconds: dict[str, float] = field(default_factory=dict)
    estimate: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)
    stopped_early: str = ""
    error: dict[str, str] | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "run.json") -> RunRecord:
        """Build from the file's content.

        Raises:
            RunError: written by a newer version, or a field is missing.
        """
        if not isinstance(data, Mapping):
            raise RunError(f"{where} is damaged: it holds no record.", "Restore it from a copy.")
        version = data.get("schema_version")
        if type(version) is not int or version > SCHEMA_VERSION:
            raise RunError(
                f"{where} has schema version {version!r}; this program reads up to"
                f" {SCHEMA_VERSION}.",
                "Install a newer ditto-hub.",
            )
        names = {f.name for f in fields(cls)}
        try:
            record = cls(**{k: v for k, v in data.items() if k in names})
        except TypeError as error:
            raise RunError(f"{where} is damaged: {error}.", "Restore it from a copy.") from error
        if record.status not in STATUSES:
            raise RunError(f"{where} has the unknown status {record.status!r}.")
        return record


def home() -> Path:
    """Return the folder that holds the runs: `$DITTO_HUB_HOME`, else the user's data folder."""
    given = os.environ.get("DITTO_HUB_HOME")
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_DATA_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".local" / "share") / "ditto-hub"


def hash_owner(owner: str | None) -> str | None:
    """Return the stored form of an owner's name or secret."""
    return None if owner is None else hashlib.sha256(f"ditto-hub:{owner}".encode()).hexdigest()


class Run:
    """One run folder.

    Args:
        folder: where it is.
        record: the content of its `run.json`.
    """

    def __init__(self, folder: Path, record: RunRecord) -> None:
        self.folder = folder
        self.record = record

    # ---- making, finding, deleting -----------------------------------------------------------

    @classmethod
    def create(
        cls,
        demos: DemoSet,
        base_model: Mapping[str, Any],
        config: RunConfig,
        folder: Path | None = None,
        owner: str | None = None,
    ) -> Run:
        """Make a run folder with its record and demonstrations.

        Args:
            folder: where; default a new one under `home()/runs`.
            owner: Hub user name or browser secret; None for the machine's own user.

        Raises:
            RunError: the folder holds something already.
            StorageError: the disk refused.
        """
        run_id = f"{time.strftime('%Y%m%d')}-{secrets.token_hex(4)}"
        folder = folder or home() / "runs" / run_id
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(
                f"{folder} exists and is not empty.",
                "Choose another --output, or go on with `ditto-hub resume` if it is a run.",
            )
        now = time.time()
        record = RunRecord(
            id=run_id,
            base_model=dict(base_model),
            config=config.to_json(),
            owner=hash_owner(owner),
            seed=config.seed,
            created=now,
            updated=now,
        )
        run = cls(folder, record)
        with told_as_storage_error(folder):
            folder.mkdir(parents=True, exist_ok=True)
        run.write("demos.jsonl", to_jsonl_bytes(d.to_json() for d in demos))
        run.save_record()
        return run

    @classmethod
    def load(cls, run: str | Path, owner: str | None = None) -> Run:
        """Open a run by its folder, or by its id under `home()`.

        Args:
            owner: who asks; None for the machine's own user, who may read what is on its disk.

        Raises:
            RunError: there is none, or its record is damaged or newer than this program.
            RunOwnerError: it belongs to somebody else.
        """
        folder = Path(run)
        if not (folder / "run.json").is_file() and len(Path(run).parts) == 1:
            folder = home() / "runs" / str(run)
        path = folder / "run.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                f"There is no run {str(run)!r}.", "`ditto-hub runs list` shows those there are."
            ) from None
        except OSError as error:
            raise RunError(f"Could not read {path}: {error.strerror}.") from error
        except ValueError as error:
            raise RunError(f"{path} is damaged: {error}.", "Restore it from a copy.") from error
        record = RunRecord.from_json(data, str(path))
        if owner is not None and record.owner != hash_owner(owner):
            raise RunOwnerError(f"Run {record.id} belongs to somebody else.")
        return cls(folder, record)

    @classmethod
    def all(cls, owner: str | None = None) -> list[Run]:
        """Return the runs under `home()`, newest first; those that cannot be read are left out."""
        found = []
        for path in (home() / "runs").glob("*/run.json"):
            with contextlib.suppress(RunError):
                found.append(cls.load(path.parent, owner))
        return sorted(found, key=lambda r: r.record.created, reverse=True)

    def claim(self, before: str, after: str) -> None:
        """Give a run to the owner its first one turns out to be, such as after signing in.

        Args:
            before: whose it is; the folder stays as it is where it is somebody else's.
            after: whose it becomes.

        Raises:
            RunOwnerError: it is not `before`'s.
            RunBusyError: somebody is working on it, and would write the old owner again.
        """
        with self.lock():
            self.record = Run.load(self.folder, before).record
            self.record.owner = hash_owner(after)
            self.save_record()

    def delete(self) -> None:
        """Remove the folder and all in it.

        Raises:
            RunBusyError: somebody is working on it.
            StorageError: the disk refused.
        """
        with self.lock(), told_as_storage_error(self.folder):
            shutil.rmtree(self.folder)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; the system lets go of it when the process ends.

        Raises:
            RunBusyError: another process holds it.
        """
        # not thread-local: the app resumes a run's generator on whichever thread is free
        lock = FileLock(self.folder / ".lock", timeout=0, thread_local=False)
        with told_as_storage_error(self.folder / ".lock"):
            try:
                lock.acquire()
            except Timeout:  # an OSError too
                raise RunBusyError(
                    f"Another process is working on run {self.record.id}.",
                    "Wait for it, or stop it first.",
                ) from None
        try:
            yield
        finally:
            lock.release()

    # ---- writing and reading files -------------------------------------------------------------

    def write(self, path: str, data: bytes) -> None:
        """Write one file of the folder atomically; `path` is relative to it."""
        write_atomic(self.folder / path, data)

    def replace_folder(self, name: str, files: Mapping[str, bytes]) -> None:
        """Put a whole new folder in the place of an old one.

        Raises:
            StorageError: the disk refused; then the old one, if any, still stands.
        """
        new = self.folder / f".{name}.{os.getpid()}.tmp"
        with told_as_storage_error(self.folder / name):
            shutil.rmtree(new, ignore_errors=True)
            for file, data in files.items():
                write_atomic(new / file, data)
            shutil.rmtree(self.folder / name, ignore_errors=True)
            os.replace(new, self.folder / name)

    def sweep(self) -> None:
        """Remove what a process that was killed left half-written; for the lock's holder only."""
        with told_as_storage_error(self.folder):
            for path in list(self.folder.rglob(".*.tmp")):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def save_record(self) -> None:
        """Write `run.json`."""
        self.record.updated = time.time()
        self.write("run.json", to_json_bytes(asdict(self.record)))

    def append_events(self, events: Iterable[Event]) -> None:
        """Append to `events.jsonl`."""
        data = to_jsonl_bytes(e.to_json() for e in events)
        path = self.folder / "events.jsonl"
        with told_as_storage_error(path), path.open("ab") as file:
            file.write(data)

    def events(self) -> list[Event]:
        """Return all whole events written so far; a line cut by a crash is left out."""
        path = self.folder / "events.jsonl"
        if not path.is_file():
            return []
        found = []
        for line in path.read_bytes().split(b"\n"):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                found.append(event_from_json(json.loads(line)))
        return found

    def next_seq(self) -> int:
        """Return the number the next event gets; mends a last line that a crash cut."""
        path = self.folder / "events.jsonl"
        if path.is_file():
            data = path.read_bytes()
            if data and not data.endswith(b"\n"):
                self.write("events.jsonl", data[: data.rfind(b"\n") + 1])
        events = self.events()
        return events[-1].seq + 1 if events else 0

    @property
    def config(self) -> RunConfig:
        """The run's settings."""
        return RunConfig.from_json(self.record.config)

    def demos(self) -> DemoSet:
        """Return the run's demonstrations with their split.

        Raises:
            RunError: the file is missing or damaged.
        """
        path = self.folder / "demos.jsonl"
        try:
            return DemoSet(tuple(Demonstration.from_json(row) for row in from_jsonl(path)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} is missing or damaged: {error}.") from error

    def rollouts(self, round_index: int) -> list[dict[str, Any]]:
        """Return the rows of `rollouts/round-T.jsonl`, or none where there is no such round."""
        path = self.folder / "rollouts" / f"round-{round_index}.jsonl"
        if not path.is_file():
            return []
        return from_jsonl(path)

    def candidate(self, name: str | None = None) -> Path:
        """Return the folder of a candidate's adapter, by default the chosen one's.

        Raises:
            RunError: there is none of that name.
        """
        path = self.folder / "candidates" / name / "adapter" if name else self.folder / "adapter"
        have = ", ".join(self.candidates()) or "none yet"
        there = name in self.candidates() if name else (path / "adapter_config.json").is_file()
        if not there:
            raise RunError(
                f"Run {self.record.id} has no adapter {name or '(chosen)'!r}.",
                f"Candidates: {have}." if name else "Resume the run until it is finished.",
            )
        return path

    def candidates(self) -> list[str]:
        """Return the names of the candidates that are on disk."""
        paths = (self.folder / "candidates").glob("*/adapter/adapter_config.json")
        return sorted(p.parent.parent.name for p in paths)

    # ---- state ---------------------------------------------------------------------------------

    def save_state(self, data: bytes) -> None:
        """Write what a resume needs, in one file."""
        self.write("state/state.safetensors", data)

    def load_state(self) -> bytes | None:
        """Return what `save_state` wrote last, or None where a run has not begun."""
        path = self.folder / "state" / "state.safetensors"
        return path.read_bytes() if path.is_file() else None

    def clear_state(self) -> None:
        """Remove the state of a finished run."""
        with told_as_storage_error(self.folder / "state"):
            shutil.rmtree(self.folder / "state", ignore_errors=True)
