"""The run folder: its record, its artefacts, its state; atomic, resumable, owned.

Layout and status words: DESIGN.md's contract. Every file is written under a temporary name and
renamed, so a reader finds the old version or the new one and never half of either.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from ditto_hub.config import RunConfig
from ditto_hub.demos.demonstrations import Demonstration, DemoSet
from ditto_hub.errors import RunBusyError, RunError, RunOwnerError
from ditto_hub.events import Event
from ditto_hub.events import from_json as event_from_json
from ditto_hub.runs.examples import example_folder, is_shipped
from ditto_hub.runs.record import RunRecord
from ditto_hub.runs.storage import (
    from_jsonl,
    is_file,
    replace_folder,
    to_json_bytes,
    to_jsonl_bytes,
    told_as_storage_error,
    whole_weights,
    write_atomic,
)
from ditto_hub.words import Message

SHOWN = 200  # letters of a name in a message
NAME_FILE, LONGEST_NAME = "name.txt", 80
LONGEST_TITLE = 60  # of a run without a name


def home() -> Path:
    """Return the folder that holds the runs: `$DITTO_HUB_HOME`, else the user's data folder.

    Where version 0.1.0 chose another folder and that is there, it stays in use.
    """
    given = os.environ.get("DITTO_HUB_HOME")
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_DATA_HOME") or os.environ.get("LOCALAPPDATA")
    old = (Path(base) if base else Path.home() / ".local" / "share") / "ditto-hub"
    new = platformdirs.user_data_path("ditto-hub", appauthor=False)
    return old if old.is_dir() and not new.is_dir() else new


def hash_owner(owner: str | None) -> str | None:
    """Return the stored form of an owner's name or secret."""
    return None if owner is None else hashlib.sha256(f"ditto-hub:{owner}".encode()).hexdigest()


def tidy_name(text: str) -> str:
    """Return a name as a run keeps it: one line of printable characters, not too long."""
    line = "".join(c if c.isprintable() else " " for c in text[: 4 * LONGEST_NAME])
    return " ".join(line.split())[:LONGEST_NAME].strip()


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
            raise RunError("runs.folder_not_empty", folder=folder)
        now = time.time()
        record = RunRecord(
            id=run_id,
            base_model=dict(base_model),
            config=config.to_json(),
            owner=hash_owner(owner),
            seed=config.seed,
            created=now,
            updated=now,
            prompt_authors=demos.prompt_authors,
        )
        run = cls(folder, record)
        with told_as_storage_error(folder):
            folder.mkdir(parents=True, exist_ok=True)
        run.write("demos.jsonl", to_jsonl_bytes(d.to_json() for d in demos))
        run.save_record()
        return run

    @classmethod
    def load(cls, run: str | Path, owner: str | None = None) -> Run:
        """Open a run by its folder, by its id under `home()`, or one shipped as `example:NAME`.

        Args:
            owner: who asks; None for the machine's own user, who may read what is on its disk.

        Raises:
            RunError: there is none, or its record is damaged or newer than this program.
            RunOwnerError: it belongs to somebody else.
        """
        folder = example_folder(run) or Path(run)
        if not is_file(folder / "run.json") and len(Path(run).parts) == 1:
            folder = home() / "runs" / str(run)
        path = folder / "run.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise RunError("runs.no_run", run=str(run)[:SHOWN]) from None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise RunError("runs.no_run", run=str(run)[:SHOWN]) from None
            raise RunError("runs.could_not_read", path=path, strerror=error.strerror) from error
        except (ValueError, RecursionError) as error:
            raise RunError("runs.file_damaged", path=path, error=error) from error
        record = RunRecord.from_json(data, str(path))
        opened = cls(folder, record)
        if owner is not None and record.owner != hash_owner(owner) and not opened.read_only:
            raise RunOwnerError("runs.not_your_run", run_id=record.id)
        return opened

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

    @property
    def name(self) -> str:
        """The name its owner gave it, "" for none; in a file of its own, for a run at work may
        be given one."""
        try:
            with (self.folder / NAME_FILE).open("rb") as file:
                return tidy_name(file.read(4 * LONGEST_NAME).decode("utf-8", "replace"))
        except OSError:
            return ""

    def rename(self, name: str) -> None:
        """Give the run a name; an empty one takes it away.

        Raises:
            RunError: the run is part of the package.
            StorageError: the disk refused.
        """
        self.write(NAME_FILE, tidy_name(name).encode())

    @property
    def title(self) -> str:
        """What to call the run: its name, else the beginning of its first prompt, else its id."""
        if name := self.name:
            return name
        with contextlib.suppress(RunError):
            prompt = tidy_name(self.demos().train[0].prompt_text)
            short = prompt[:LONGEST_TITLE].rstrip()
            return (short if short == prompt else f"{short}…") or self.record.id
        return self.record.id

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; the system lets go of it when the process ends.

        Raises:
            RunBusyError: another process holds it.
            RunError: it is part of the package.
        """
        self.require_writable()
        # not thread-local: the app resumes a run's generator on whichever thread is free
        lock = FileLock(self.folder / ".lock", timeout=0, thread_local=False)
        with told_as_storage_error(self.folder / ".lock"):
            try:
                lock.acquire()
            except Timeout:  # an OSError too
                raise RunBusyError("runs.busy", run_id=self.record.id) from None
        try:
            yield
        finally:
            lock.release()

    # ---- writing and reading files -------------------------------------------------------------

    @property
    def read_only(self) -> bool:
        """Whether the run is part of the package: it can be looked at and used, not changed."""
        return is_shipped(self.folder)

    def require_writable(self) -> None:
        """Check that the run may be changed.

        Raises:
            RunError: it is part of the package.
        """
        if self.read_only:
            raise RunError("runs.read_only", run_id=self.record.id)

    def write(self, path: str, data: bytes) -> None:
        """Write one file of the folder atomically; `path` is relative to it.

        Raises:
            RunError: the run is part of the package.
            StorageError: the disk refused.
        """
        self.require_writable()
        write_atomic(self.folder / path, data)

    def replace_folder(self, name: str, files: Mapping[str, bytes]) -> None:
        """Put a whole new folder in the place of an old one.

        Raises:
            StorageError: the disk refused; then the old one, if any, still stands.
        """
        self.require_writable()
        replace_folder(self.folder / name, files)

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
        self.require_writable()
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
            with contextlib.suppress(ValueError, KeyError):
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
        return RunConfig.from_record(self.record.config)

    def demos(self) -> DemoSet:
        """Return the run's demonstrations with their split.

        Raises:
            RunError: the file is missing or damaged, or holds nothing to train on.
        """
        path = self.folder / "demos.jsonl"
        try:
            found = DemoSet(tuple(Demonstration.from_json(row) for row in from_jsonl(path)))
            if not found.train:
                raise ValueError(Message("runs.nothing_to_train_on"))
            return found
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError("runs.missing_damaged", path=path, error=error) from error

    def candidate(self, name: str | None = None) -> Path:
        """Return the folder of a candidate's adapter, by default the chosen one's.

        Raises:
            RunError: there is none of that name, or its weights are cut or empty.
        """
        path = self.folder / "candidates" / name / "adapter" if name else self.folder / "adapter"
        have = ", ".join(self.candidates()) or Message("runs.none_yet")
        there = name in self.candidates() if name else (path / "adapter_config.json").is_file()
        if not there:
            if not name:
                raise RunError("runs.no_adapter", run_id=self.record.id)
            raise RunError("runs.no_such_candidate", run_id=self.record.id, name=name, have=have)
        weights = path / "adapter_model.safetensors"
        if name and weights.is_file() and not whole_weights(weights):
            raise RunError("runs.adapter_cut", run_id=self.record.id, name=name)
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
