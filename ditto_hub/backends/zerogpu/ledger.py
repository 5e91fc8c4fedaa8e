"""What a visitor is thought to have left of the day's GPU quota.

The platform tells it in a refusal, and to a sign-in that may read it, so we keep an account of our
own: what was used since the first use of the last 24 hours, against the plan's seconds, corrected
by every refusal and every grant, and seeded with what the Hub tells. One small file a visitor,
named by a hash, gone when it is two days old.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock

from ditto_hub.runs.folder import hash_owner, home
from ditto_hub.runs.storage import told_as_storage_error, write_atomic

DAY_S = 86_400.0


@dataclass(frozen=True)
class Account:
    """Hold what a visitor's file holds.

    Args:
        opened: seconds since the epoch of the first use of this day.
        used_s: seconds of quota used since.
        quota_s: thought to be granted a day.
        told: whether the platform itself has said what is left, in this day.
        longest_s: half of the shortest lease that was called illegal; 0 where none was.
        sure: whether it was seeded with the Hub's own numbers since the last refusal.
    """

    opened: float = 0.0
    used_s: float = 0.0
    quota_s: float = 0.0
    told: bool = False
    longest_s: int = 0
    sure: bool = False


@dataclass(frozen=True)
class Standing:
    """Say what is thought to be left.

    Args:
        left_s: seconds of quota, never below 0 nor above a day's.
        told: whether the platform itself said so.
        renewed_at: seconds since the epoch when the day's quota is whole again; None where nothing
            has been used.
        longest_s: longest lease worth asking for, in seconds declared; 0 for no bound.
        sure: the Hub's own number, so that nothing beyond it is worth asking for.
    """

    left_s: float
    told: bool
    renewed_at: float | None
    longest_s: int = 0
    sure: bool = False


class Ledger:
    """Keep one visitor's account.

    Args:
        visitor: owner's name or secret; only its hash is kept.
        plans: seconds of quota a day of each plan there is, ascending; the first is thought to be
            the visitor's until more is granted.
        folder: of the accounts; default one under the runs' home.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        visitor: str,
        plans: tuple[float, ...],
        folder: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = (folder or home() / "ledger") / f"{hash_owner(visitor)}.json"
        self.plans = plans
        self.clock = clock

    def standing(self) -> Standing:
        """Return what is thought to be left now."""
        account, now = self._read(), self.clock()
        renewed = account.opened + DAY_S if account.opened else None
        if renewed is not None and renewed <= now:
            renewed = None
        left = min(max(0.0, account.quota_s - account.used_s), account.quota_s)
        return Standing(left, account.told, renewed, account.longest_s, account.sure)

    def seed(self, day_s: float, left_s: float, resets_at: float | None) -> None:
        """Take over what the Hub tells of the visitor's quota.

        Args:
            day_s: seconds of quota a day.
            left_s: of these, not used yet; parts of a second are left out.
            resets_at: seconds since the epoch; None where nothing is used.
        """
        with self._changing() as change:
            now = self.clock()
            left = float(int(max(0.0, left_s)))
            quota = max(day_s, left)
            opened = now if left < quota else 0.0
            if resets_at is not None and now < resets_at <= now + DAY_S:
                opened = resets_at - DAY_S
            change.account = replace(
                change.account,
                opened=opened,
                used_s=quota - left,
                quota_s=quota,
                told=True,
                sure=True,
            )

    def charge(self, seconds: float) -> None:
        """Note that seconds of quota were used."""
        with self._changing() as change:
            account = change.account
            opened = account.opened or self.clock()
            used = account.used_s + max(0.0, seconds)
            change.account = replace(account, opened=opened, used_s=used)

    def grant(self, asked_s: float) -> None:
        """Note that a lease was given: at least so much was left, so a larger plan if need be."""
        with self._changing() as change:
            account = change.account
            needed = account.used_s + asked_s
            if needed > account.quota_s:
                plan = next((p for p in self.plans if p >= needed), needed)
                change.account = replace(account, quota_s=plan, told=False, sure=False)

    def correct(self, left_s: float, renewed_in_s: float | None) -> None:
        """Take over what a refusal said.

        Args:
            left_s: seconds of quota left.
            renewed_in_s: seconds until the day's quota is whole again, where it said so.
        """
        with self._changing() as change:
            account, now = change.account, self.clock()
            left = max(0.0, left_s)
            quota = max(account.quota_s, left)
            opened = account.opened or now
            if renewed_in_s is not None and 0 < renewed_in_s <= DAY_S:
                opened = now + renewed_in_s - DAY_S
            used = quota - left
            change.account = replace(
                account, opened=opened, used_s=used, quota_s=quota, told=True, sure=False
            )

    def forbid(self, declared_s: int) -> None:
        """Note that a lease declared so long was called illegal: half of it is tried next."""
        with self._changing() as change:
            account = change.account
            longest = min(account.longest_s or declared_s, declared_s) // 2
            opened = account.opened or self.clock()
            change.account = replace(account, longest_s=max(1, longest), opened=opened)

    # ---- the file ------------------------------------------------------------------------------

    def _read(self) -> Account:
        """Return the account as it stands now: a fresh one when its day is over."""
        fresh = Account(quota_s=self.plans[0])
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            account = Account(**data)
            numbers = (account.opened, account.used_s, account.quota_s, account.longest_s)
            if not all(isinstance(n, int | float) and 0 <= n < 1e12 for n in numbers):
                return fresh
        except (OSError, ValueError, TypeError):
            return fresh  # none, or damaged: the next refusal tells
        now = self.clock()
        if account.opened and account.opened > now:  # the wall clock was put back
            account = replace(account, opened=now)
        if account.opened and now - account.opened >= DAY_S:
            return replace(fresh, quota_s=max(account.quota_s, fresh.quota_s))
        return account

    @contextlib.contextmanager
    def _changing(self) -> Iterator[_Change]:
        with told_as_storage_error(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._sweep()
            with FileLock(self.path.with_suffix(".lock"), thread_local=False):
                change = _Change(self._read())
                yield change
                write_atomic(self.path, json.dumps(asdict(change.account)).encode())

    def _sweep(self) -> None:
        """Remove the accounts of visitors who have not been here for two days."""
        now = time.time()
        for path in self.path.parent.iterdir():
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime > 2 * DAY_S:
                    path.unlink()


@dataclass
class _Change:
    """Hold an account that is being changed under its lock."""

    account: Account
