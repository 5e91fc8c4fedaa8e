"""What a visitor may take of a machine that another pays for: runs a day, and room on its disk.

Starts are written down apart from the runs, so that deleting a run gives no other one.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from filelock import FileLock

from ditto_hub.cost.profiles import Profile
from ditto_hub.errors import RunError
from ditto_hub.runs.folder import Run, hash_owner, home
from ditto_hub.runs.storage import size_of, told_as_storage_error, write_atomic
from ditto_hub.words import Message

DAY_S = 86_400.0
SPARE_BYTES = 1_000_000_000  # that stay free for the runs that have begun
FILE = "starts.json"


@dataclass(frozen=True)
class Start:
    """Hold that somebody started a run.

    Args:
        owner: SHA-256, as a run's record has it.
        time: seconds since the epoch.
    """

    owner: str
    time: float


@dataclass(frozen=True)
class Refusal:
    """Say why a run may not start.

    Args:
        code: sign-in, visitor or machine; words for it are the app's.
        count: runs started in the last 24 hours, by the visitor or by all.
        retry_at: seconds since the epoch from which one may start, or None where it is no matter
            of time.
    """

    code: str
    count: int = 0
    retry_at: float | None = None


def may_start(
    starts: Sequence[Start], owner: str, signed_in: bool, profile: Profile, now: float
) -> Refusal | None:
    """Return why a visitor may not start a run now, or None.

    A start in the future, which a clock set back leaves, counts like one just made.

    Args:
        starts: of all visitors.
        owner: of the visitor, hashed.
        signed_in: with the Hub.
        profile: with its caps; 0 is no cap.
        now: seconds since the epoch.
    """
    if profile.sign_in == "required" and not signed_in:
        return Refusal("sign-in")
    recent = sorted((min(s.time, now), s.owner) for s in starts if s.time > now - DAY_S)
    mine = [time for time, who in recent if who == owner]
    for code, times, cap in (
        ("visitor", mine, profile.runs_per_visitor),
        ("machine", [time for time, _ in recent], profile.runs_per_day),
    ):
        if cap and len(times) >= cap:
            return Refusal(code, len(times), times[-cap] + DAY_S)
    return None


def claim_start(owner: str, signed_in: bool, profile: Profile, now: float) -> Refusal | None:
    """Write down that a visitor starts a run, unless they may not: then return why.

    Safe against two at once. Call it just before the run is made.

    Args:
        owner: Hub user name or browser secret; only its hash is written.

    Raises:
        StorageError: the disk refused.
    """
    hashed = hash_owner(owner) or ""
    path = home() / FILE
    with told_as_storage_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            starts = [s for s in _read() if s.time > now - DAY_S]
            refusal = may_start(starts, hashed, signed_in, profile, now)
            if refusal is None and (profile.runs_per_visitor or profile.runs_per_day):
                rows = [asdict(s) for s in [*starts, Start(hashed, now)]]
                write_atomic(path, json.dumps(rows).encode())
    return refusal


def require_start(owner: str, signed_in: bool, profile: Profile, now: float) -> None:
    """Claim a start, or refuse in words.

    Raises:
        RunError: with when to come again.
        StorageError: the disk refused.
    """
    refusal = claim_start(owner, signed_in, profile, now)
    if refusal is None:
        return
    hours = max(1, math.ceil(((refusal.retry_at or now) - now) / 3600))
    wait = Message("cost.in_hours", hours=hours) if hours > 1 else Message("cost.in_an_hour")
    raise {
        "sign-in": RunError("cost.sign_in_first"),
        "visitor": RunError("cost.too_many_runs_of_yours", count=refusal.count, wait=wait),
        "machine": RunError("cost.too_many_runs_here", count=refusal.count, wait=wait),
    }[refusal.code]


def room_left(owner: str, profile: Profile) -> int:
    """Return the bytes that a visitor's runs may still take here.

    Args:
        owner: Hub user name or browser secret.
        profile: with its caps; 0 is no cap.

    Raises:
        RunError: none, or the disk is nearly full; with how much there is, and what to do.
        StorageError: the disk refused.
    """
    if not profile.visitor_bytes:
        return sys.maxsize
    with told_as_storage_error(home()):
        home().mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(home()).free < SPARE_BYTES:
            raise RunError("cost.no_room_here", hours=profile.keep_hours)
    used = sum(size_of(run.folder) for run in Run.all(owner))
    if used >= profile.visitor_bytes:
        raise RunError(
            "cost.no_room_for_yours",
            used=used / 1e9,
            most=profile.visitor_bytes / 1e9,
            hours=profile.keep_hours,
        )
    return profile.visitor_bytes - used


@contextlib.contextmanager
def starting(owner: str, signed_in: bool, profile: Profile, now: float) -> Iterator[None]:
    """Claim a start for the block that makes a run; given back where the block fails.

    Raises:
        RunError: with when to come again, or what to delete.
        StorageError: the disk refused.
    """
    room_left(owner, profile)
    require_start(owner, signed_in, profile, now)
    with contextlib.ExitStack() as undo:
        undo.callback(_give_back, Start(hash_owner(owner) or "", now))
        yield
        undo.pop_all()


def _give_back(start: Start) -> None:
    path = home() / FILE
    if not path.is_file():
        return
    with told_as_storage_error(path), FileLock(path.with_suffix(".lock")):
        starts = _read()
        if start in starts:
            starts.remove(start)
            write_atomic(path, json.dumps([asdict(s) for s in starts]).encode())


def _read() -> list[Start]:
    """Return the starts on disk; a damaged file holds none."""
    try:
        rows = json.loads((home() / FILE).read_text(encoding="utf-8"))
        return [Start(str(row["owner"]), float(row["time"])) for row in rows]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []
