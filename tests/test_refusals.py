"""What a refusal's title and message mean, and how long a lease is asked for."""

from __future__ import annotations

import pytest

from ditto_hub.backends.zerogpu.ledger import Standing
from ditto_hub.backends.zerogpu.refusals import Ask, Terms, plan_ask, read_refusal
from ditto_hub.events import LeaseRefused

QUOTA = "ZeroGPU quota exceeded"
FREE = "You have exceeded your free ZeroGPU quota (90s requested vs. 41s left). Try again in "
# (title, message) as spaces 0.51 has them -> reason, seconds left, seconds to wait
SAID = [
    (QUOTA, f"{FREE}13:42:07. ", ("quota", 41, 49327.0)),
    (QUOTA, f"{FREE}1 day, 0:00:05. ", ("quota", 41, 86405.0)),
    (QUOTA, "You have exceeded your ZeroGPU runs limit. ", ("runs", None, None)),
    (QUOTA, "Space app has reached its GPU limit. Try", ("anonymous", None, None)),
    (QUOTA, "No GPU was available after 60s. Try", ("queue", None, 60.0)),
    ("ZeroGPU illegal duration", "The requested GPU duration (90s)", ("duration", None, None)),
    ("ZeroGPU pending credits exceeded", "You have too many", ("credits", None, None)),
    ("ZeroGPU queue timeout", "No GPU was available after 60s", ("queue", None, 60.0)),
    ("ZeroGPU client error", "No GPU was available", ("no-gpu", None, 60.0)),
    ("ZeroGPU client error", "Expired ZeroGPU proxy token", ("expired", None, None)),
    ("ZeroGPU worker error", "GPU task aborted", ("aborted", None, None)),
    ("", "ZeroGPU API /schedule error: 500 (x)", ("no-gpu", None, 60.0)),
    ("", "Connection closed by visitor while queueing", ("queue", None, 60.0)),
]


@pytest.mark.parametrize(("title", "message", "means"), SAID)
def test_refusal_is_read(title: str, message: str, means: tuple[str, int | None, float]) -> None:
    """A title and a message are a reason, with the seconds they tell."""
    found = read_refusal(title, message)
    assert found is not None
    assert (found.reason, found.left_s, found.wait_s) == means


def test_another_error_is_no_refusal() -> None:
    """What is not the platform's is left to whoever raised it."""
    assert read_refusal("", "division by zero") is None
    assert read_refusal("Error", "Something of the app's own") is None


def standing(left_s: float, told: bool = False, longest_s: int = 0) -> Standing:
    """Return what is thought to be left."""
    return Standing(left_s, told, None, longest_s)


def terms(need_s: float | None = None, cap_s: int = 60, kept_s: float = 30.0) -> Terms:
    """Return terms with the platform's factor, and 10 s as the least."""
    return Terms(cap_s, 10.0, need_s, 1.5, kept_s)


@pytest.mark.parametrize(
    ("given", "left", "declared", "asked"),
    [
        (terms(), standing(300), 60, 90),  # the cap, times 1.5
        (terms(need_s=22.5), standing(300), 23, 34),  # what is left to do
        (terms(need_s=2), standing(300), 10, 15),  # the least
        (terms(), standing(90), 40, 60),  # (90 - 30 kept) / 1.5
        (terms(kept_s=0), standing(90), 60, 90),
        (terms(), standing(90, told=True), 40, 60),
        (terms(), standing(300, longest_s=30), 30, 45),  # a longer one was called illegal
    ],
)
def test_what_is_asked(given: Terms, left: Standing, declared: int, asked: int) -> None:
    """A lease stays below the cap, the need, and what is left without the part kept back."""
    ask = plan_ask(given, left)
    assert isinstance(ask, Ask)
    assert (ask.declared_s, ask.asked_s, ask.usable_s) == (declared, asked, declared)


def test_probe_proves_the_kept_part() -> None:
    """Thought to have too little, a lease declares the kept part on top and does not use it."""
    ask = plan_ask(terms(need_s=20), standing(25))
    assert isinstance(ask, Ask)
    assert (ask.declared_s, ask.asked_s, ask.usable_s) == (40, 60, 20)


@pytest.mark.parametrize(
    ("left", "probe", "reason", "kept"),
    [
        (standing(40, told=True), True, "kept", 30),
        (standing(5, told=True), False, "quota", 0),
        (standing(300, longest_s=7), True, "duration", 0),
    ],
)
def test_not_worth_asking(left: Standing, probe: bool, reason: str, kept: int) -> None:
    """What would be trained away, is not there, or holds no step, is refused without asking."""
    refused = plan_ask(terms(), left, probe)
    assert isinstance(refused, LeaseRefused)
    assert (refused.reason, refused.kept_s) == (reason, kept)


def test_a_refusal_is_asked_about_again() -> None:
    """Told that nothing is left, the next event asks all the same: it costs nothing, and tells."""
    assert isinstance(plan_ask(terms(), standing(5, told=True), probe=True), Ask)


def test_never_above_the_cap() -> None:
    """No lease is longer than the cap, whatever one step is thought to need."""
    ask = plan_ask(Terms(20, 45.0, None, 1.5, 30.0), standing(300))
    assert isinstance(ask, Ask)
    assert ask.declared_s == 20
