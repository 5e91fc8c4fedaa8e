"""What a lease's events say to a person; pure, so that any language and any clock can be put in.

`lease_line` picks a sentence and the values in it. `WORDS` holds the sentences in English; the app
has them in its other languages under the same keys.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ditto_hub.events import Event, LeaseEnded, LeaseRefused, LeaseStarted

DAY_S = 86_400

WORDS = {
    "lease.started": "GPU lease {number}: up to {declared} s.",
    "lease.time": "Lease {number} used {used} s; the run is saved and goes on in the next one.",
    "lease.finished": "Lease {number} used {used} s; the run is finished.",
    "lease.stopped": "Lease {number} used {used} s; the run is saved.",
    "lease.cancelled": "Lease {number} used {used} s; the run is cancelled, what it had is kept.",
    "lease.closed": "The page was closed; lease {number} ended after {used} s, the run is saved.",
    "lease.failed": "Lease {number} ended after {used} s on an error; what was saved is kept.",
    "lease.quota": (
        "This lease asks {asked} s, you have {left} s of GPU left today; the run is saved and goes"
        " on {after}{or_job}."
    ),
    "lease.runs": (
        "You have reached the number of GPU runs you may start for now; the run is saved and goes"
        " on {after}{or_job}."
    ),
    "lease.anonymous": (
        "No GPU quota came with this request. Open this Space on huggingface.co, signed in there,"
        " so that your own quota is used; the run is saved."
    ),
    "lease.kept": (
        "You have about {left} s of GPU left today, and {kept} s are kept for trying the result;"
        " the run is saved and goes on {after}, at once if you spend those too{or_job}."
    ),
    "lease.duration": (
        "A lease of {asked} s is longer than the platform allows, and a shorter one does not hold"
        " one step of this run; it is saved. Choose a smaller base model or fewer completions side"
        " by side{or_job}."
    ),
    "lease.queue": "No GPU became free in time; the run is saved and goes on {after}.",
    "lease.expired": (
        "The permit of this page's request had run out before a GPU was there; the run is saved"
        " and goes on {after}."
    ),
    "lease.no-gpu": "No GPU is available right now; the run is saved and goes on {after}.",
    "lease.credits": (
        "Your GPU credits are all set aside for tasks that still run; the run is saved, go on when"
        " one of them has ended{or_job}."
    ),
    "lease.aborted": (
        "The platform took the GPU away; the run goes on from what was saved last, {after}."
    ),
    "lease.stuck": (
        "The GPU was taken away twice before one step was done; the run is saved. Choose a smaller"
        " base model or fewer completions side by side{or_job}."
    ),
    "lease.busy": "This run is already being worked on, in another tab or program.",
    "write.quota": (
        "Writing asks {asked} s of GPU, you have {left} s left today; try again {after}."
    ),
    "write.runs": (
        "You have reached the number of GPU runs you may start for now; try again {after}."
    ),
    "write.anonymous": (
        "No GPU quota came with this request. Open this Space on huggingface.co, signed in there,"
        " so that your own quota is used."
    ),
    "write.duration": "A GPU lease of {asked} s is longer than the platform allows.",
    "write.queue": "No GPU became free in time; try again {after}.",
    "write.expired": "The permit of this page's request had run out; try again.",
    "write.no-gpu": "No GPU is available right now; try again {after}.",
    "write.credits": (
        "Your GPU credits are all set aside for tasks that still run; try again when one of them"
        " has ended."
    ),
    "write.stuck": "The platform took the GPU away; try again, with fewer or shorter texts.",
    "after.now": "by itself",
    "after.asked": "when you say so",
    "after.time": "after {time}",
    "after.day": "after {time} on {date}",
    "after.utc": "after {time} UTC",
    "after.utc_day": "after {time} UTC on {date}",
    "or_job": ", or now with a Job{price}",
    "or_job.price": " for about ${usd:.2f}",
}


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


@dataclass(frozen=True)
class Line:
    """Hold a sentence's key, and the values in it; `after` and `or_job` are lines themselves."""

    key: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def put(self, words: Mapping[str, str] = WORDS) -> str:
        """Return the sentence in the language of `words`."""
        values = {k: v.put(words) if isinstance(v, Line) else v for k, v in self.values.items()}
        return words[self.key].format(**values) if self.key else ""


def lease_line(event: Event, around: Around | None = None) -> Line:
    """Return the sentence for a lease's event; an empty one for any other event."""
    around = around or Around()
    if isinstance(event, LeaseStarted):
        return Line("lease.started", {"number": event.number, "declared": event.declared_s})
    if isinstance(event, LeaseEnded):
        used = {"number": event.number, "used": round(event.used_s)}
        return Line(f"lease.{event.reason}", used)
    if not isinstance(event, LeaseRefused):
        return Line("")
    stuck = event.reason == "aborted" and not event.goes_on
    values = {
        "asked": event.asked_s,
        "left": event.left_s,
        "kept": event.kept_s,
        "after": _after(event, around),
        "or_job": _or_job(around),
    }
    known = event.left_s is not None or event.reason not in ("quota", "kept")
    reason = "stuck" if stuck else event.reason if known else "runs"
    return Line(f"{'write' if around.writing else 'lease'}.{reason}", values)


def lease_words(event: Event, around: Around | None = None) -> str:
    """Return the sentence for a lease's event in English; "" for any other event."""
    return lease_line(event, around).put()


def _after(event: LeaseRefused, around: Around) -> Line:
    if event.goes_on:
        return Line("after.now")
    if event.retry_at is None:
        return Line("after.asked")
    shown = around.utc_offset_s or 0.0
    when, today = (
        datetime.datetime.fromtimestamp(t + shown, datetime.UTC)
        for t in (event.retry_at, around.now)
    )
    values = {"time": f"{when:%H:%M}", "date": f"{when:%Y-%m-%d}"}
    same = when.date() == today.date()
    if around.utc_offset_s is None:
        return Line("after.utc" if same else "after.utc_day", values)
    return Line("after.time" if same else "after.day", values)


def _or_job(around: Around) -> Line:
    if around.job_usd is None:
        return Line("")
    price = Line("or_job.price", {"usd": around.job_usd}) if around.job_usd else Line("")
    return Line("or_job", {"price": price})
