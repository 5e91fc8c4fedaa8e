"""What a visitor is thought to have left: charged, corrected, renewed, and never too much."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ditto_hub.backends.zerogpu.ledger import DAY_S, Ledger

PLANS = (300.0, 2400.0, 3600.0)


class Clock:
    """A wall clock that a test sets."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Ledger:
    return Ledger("hub:ann", PLANS, tmp_path, clock)


def test_whole_day_at_first(ledger: Ledger) -> None:
    """A visitor who has used nothing has the first plan's day, and nothing to wait for."""
    standing = ledger.standing()
    assert (standing.left_s, standing.told, standing.renewed_at) == (300, False, None)


def test_charges_add_up(ledger: Ledger, clock: Clock) -> None:
    """Seconds used are gone until 24 hours after the first of them."""
    ledger.charge(57.5)
    clock.now += 3600
    ledger.charge(40)
    standing = ledger.standing()
    assert standing.left_s == 202.5
    assert standing.renewed_at == clock.now - 3600 + DAY_S


def test_day_is_over(ledger: Ledger, clock: Clock) -> None:
    """A day after the first use the quota is whole again."""
    ledger.charge(250)
    clock.now += DAY_S
    assert ledger.standing().left_s == 300


def test_never_negative(ledger: Ledger) -> None:
    """More used than granted leaves nothing, not less."""
    ledger.charge(1000)
    assert ledger.standing().left_s == 0


def test_refusal_corrects(ledger: Ledger, clock: Clock) -> None:
    """What a refusal says is left replaces what was thought, and so does its hour."""
    ledger.charge(10)
    ledger.correct(41, 13 * 3600)
    standing = ledger.standing()
    assert (standing.left_s, standing.told) == (41, True)
    assert standing.renewed_at == clock.now + 13 * 3600
    clock.now += 13 * 3600
    assert ledger.standing().left_s == 300


def test_grant_corrects(ledger: Ledger) -> None:
    """A lease given beyond what was thought to be left shows a larger plan."""
    ledger.charge(290)
    ledger.grant(90)
    assert ledger.standing().left_s == 2400 - 290


def test_grant_within_the_plan_changes_nothing(ledger: Ledger) -> None:
    """A lease that was thought to be there says nothing new."""
    ledger.charge(100)
    ledger.grant(90)
    assert ledger.standing().left_s == 200


def test_larger_plan_is_remembered(ledger: Ledger, clock: Clock) -> None:
    """The next day begins with the plan that the last one showed."""
    ledger.charge(290)
    ledger.grant(90)
    clock.now += DAY_S
    assert ledger.standing().left_s == 2400


@pytest.mark.parametrize("jump_s", [-1e9, -DAY_S, -60.0, 60.0, 1e9])
def test_clock_that_jumps(ledger: Ledger, clock: Clock, jump_s: float) -> None:
    """However the wall clock is set, what is left is between nothing and a day's quota."""
    ledger.charge(100)
    clock.now += jump_s
    for used in (0, 50, 500):
        ledger.charge(used)
        standing = ledger.standing()
        assert 0 <= standing.left_s <= 300
        assert standing.renewed_at is not None
        assert clock.now < standing.renewed_at <= clock.now + DAY_S


def test_clock_put_back_gives_nothing_away(ledger: Ledger, clock: Clock) -> None:
    """A clock that was put back does not renew the quota."""
    ledger.charge(100)
    clock.now -= 2 * DAY_S
    assert ledger.standing().left_s == 200


def test_illegal_duration_halves(ledger: Ledger) -> None:
    """After a lease was called illegal no longer one than its half is asked for."""
    ledger.forbid(60)
    assert ledger.standing().longest_s == 30
    ledger.forbid(30)
    assert ledger.standing().longest_s == 15


def test_visitors_are_apart_and_nameless(ledger: Ledger, tmp_path: Path) -> None:
    """Each visitor has an account, and no file says whose."""
    ledger.charge(100)
    assert Ledger("hub:bob", PLANS, tmp_path).standing().left_s == 300
    for path in tmp_path.iterdir():
        assert "ann" not in path.name + path.read_text()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"used_s": "x"}', '{"used_s": -5, "quota_s": 9}'])
def test_damaged_account(ledger: Ledger, text: str) -> None:
    """A damaged account is begun anew; the next refusal tells the truth."""
    ledger.charge(100)
    ledger.path.write_text(text)
    assert ledger.standing().left_s == 300


def test_old_accounts_go(ledger: Ledger, tmp_path: Path) -> None:
    """Accounts of visitors who have not been here for two days are removed."""
    gone = Ledger("hub:bob", PLANS, tmp_path)
    gone.charge(1)
    os.utime(gone.path, (0, 0))
    ledger.charge(1)
    assert not gone.path.exists()
    assert ledger.path.exists()
