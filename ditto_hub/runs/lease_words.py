"""What a lease's events say to a person, in any language and for any clock.

`lease_line` picks a text of the catalogues and the values in it.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from ditto_hub.events import Event, LeaseEnded, LeaseRefused, LeaseStarted
from ditto_hub.words import ENGLISH, Message, Text, told

DAY_S = 86_400


@dataclass(frozen=True)
class Around:
    """Say what an event does not know.

    Args:
        now: seconds since the epoch.
        utc_offset_s: of the reader's clock; None where it is not known: times are told in UTC.
        job_usd: what the rest of the run would cost as a Job; None where none is offered, 0 where
            the price is not known.
        writing: texts were asked for, not work on a run.
    """

    now: float = 0.0
    utc_offset_s: float | None = None
    job_usd: float | None = None
    writing: bool = False


def lease_line(event: Event, around: Around | None = None) -> Text:
    """Return what a lease's event says; "" for any other event."""
    around = around or Around()
    if isinstance(event, LeaseStarted):
        return Message("lease.started", number=event.number, declared=event.declared_s)
    if isinstance(event, LeaseEnded):
        return Message(f"lease.{event.reason}", number=event.number, used=round(event.used_s))
    if not isinstance(event, LeaseRefused):
        return ""
    stuck = event.reason == "aborted" and not event.goes_on
    known = event.left_s is not None or event.reason not in ("quota", "kept")
    reason = "stuck" if stuck else event.reason if known else "runs"
    return Message(
        f"lease.write.{reason}" if around.writing else f"lease.{reason}",
        asked=event.asked_s,
        left=event.left_s,
        kept=event.kept_s,
        after=_after(event, around),
        or_job=_or_job(around),
    )


def lease_words(event: Event, around: Around | None = None, language: str = ENGLISH) -> str:
    """Return what a lease's event says in a language; "" for any other event."""
    return told(lease_line(event, around), language)


def _after(event: LeaseRefused, around: Around) -> Message:
    if event.goes_on:
        return Message("lease.after.now")
    if event.retry_at is None:
        return Message("lease.after.asked")
    shown = around.utc_offset_s or 0.0
    when, today = (
        datetime.datetime.fromtimestamp(t + shown, datetime.UTC)
        for t in (event.retry_at, around.now)
    )
    values = {"time": f"{when:%H:%M}", "date": f"{when:%Y-%m-%d}"}
    same = when.date() == today.date()
    if around.utc_offset_s is None:
        return Message("lease.after.utc" if same else "lease.after.utc_day", **values)
    return Message("lease.after.time" if same else "lease.after.day", **values)


def _or_job(around: Around) -> Text:
    if around.job_usd is None:
        return ""
    price = Message("lease.price", usd=around.job_usd) if around.job_usd else ""
    return Message("lease.or_job", price=price)
