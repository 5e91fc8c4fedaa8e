"""What a lease's events say, word for word where the words are a promise."""

from __future__ import annotations

import pytest

from ditto_hub.events import LeaseEnded, LeaseRefused, LeaseStarted, RunPaused
from ditto_hub.runs.lease_words import Around, lease_words

NOON = 1_800_014_400.0  # 2027-01-15 12:00 UTC
REASONS = (
    "quota", "runs", "anonymous", "kept", "duration", "queue", "expired", "no-gpu", "credits",
    "aborted", "busy",
)  # fmt: skip


def refused(reason: str, goes_on: bool = False, retry_at: float | None = None) -> LeaseRefused:
    """Return a refusal of 90 s with 41 s left."""
    return LeaseRefused(reason=reason, asked_s=90, left_s=41, retry_at=retry_at, goes_on=goes_on)


def test_quota() -> None:
    """Quota: what was asked, what is left, when it goes on, and what it costs otherwise."""
    event = refused("quota", retry_at=NOON + 102 * 60)
    around = Around(NOON, 0, 0.4)
    assert lease_words(event, around) == (
        "This lease needs 90 s, and you have 41 s of GPU left today; the run is saved and continues"
        " after 13:42, or now with a Job for about $0.40."
    )


@pytest.mark.parametrize(
    ("hours", "offset_h", "when"),
    [(1, 0, "after 13:00"), (1, 8, "after 21:00"), (14, 0, "after 02:00 on 2027-01-16")],
)
def test_time_is_the_readers(hours: int, offset_h: int, when: str) -> None:
    """The hour is that of the reader's clock, with the date where it is another day."""
    event = refused("quota", retry_at=NOON + hours * 3600)
    assert f"continues {when}." in lease_words(event, Around(NOON, offset_h * 3600))


@pytest.mark.parametrize(("hours", "when"), [(1, "13:00 UTC"), (14, "02:00 UTC on 2027-01-16")])
def test_time_of_an_unknown_clock_names_its_zone(hours: int, when: str) -> None:
    """Where the reader's clock is not known, as on a page, the hour is told in UTC and says so."""
    event = refused("quota", retry_at=NOON + hours * 3600)
    assert f"continues after {when}." in lease_words(event, Around(NOON))


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("goes_on", [True, False])
@pytest.mark.parametrize("left_s", [41, None])
def test_every_refusal_has_a_sentence(reason: str, goes_on: bool, left_s: int | None) -> None:
    """Each refusal is a whole sentence, with a Job and without, and holds no bare None."""
    event = LeaseRefused(reason=reason, asked_s=90, left_s=left_s, goes_on=goes_on)
    for around in (None, Around(NOON, 0, 0.0), Around(NOON, 0, 1.5)):
        words = lease_words(event, around)
        assert words.endswith((".", ")."))
        assert "None" not in words
        assert "{" not in words
        assert "lease." not in words


@pytest.mark.parametrize("reason", [r for r in REASONS if r not in ("kept", "busy")])
def test_writing_has_its_own_words(reason: str) -> None:
    """Refused texts are not called a run."""
    words = lease_words(refused(reason), Around(writing=True))
    assert words
    assert "the run" not in words


@pytest.mark.parametrize("reason", ["time", "finished", "stopped", "cancelled", "closed", "failed"])
def test_every_end_has_a_sentence(reason: str) -> None:
    """Each way a lease ends says its number and its seconds."""
    event = LeaseEnded(number=3, used_s=57.6, goes_on=False, reason=reason)
    words = lease_words(event)
    assert "3" in words
    assert "58 s" in words


def test_start() -> None:
    """A lease that begins says how long it may last."""
    assert lease_words(LeaseStarted(number=1, declared_s=60, asked_s=90)) == (
        "GPU lease 1: up to 60 s."
    )


def test_other_events_say_nothing() -> None:
    """Events that are no lease's have no sentence here."""
    assert lease_words(RunPaused(reason="closed")) == ""


def test_another_language() -> None:
    """The same line is said in another language, the texts inside it too."""
    said = lease_words(refused("queue"), Around(), "zh-TW")
    assert said == "沒有及時等到空閒的 GPU；訓練已儲存，會在您要求時繼續。"
