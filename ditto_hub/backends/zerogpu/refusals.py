"""What the platform's refusals mean, and how long a lease to ask for; pure.

Source: spaces 0.51, zero/client.py and zero/wrappers.py: a refusal is a gradio Error that is known
by its title and message alone, or a RuntimeError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ditto_hub.backends.zerogpu.ledger import Standing
from ditto_hub.events import LeaseRefused

AGAIN_S = 60.0  # when no GPU is there, it is worth trying again after a minute

# (in the title, in the message) -> reason; the first that fits
REASONS = (
    ("quota exceeded", "requested vs.", "quota"),
    ("quota exceeded", "runs limit", "runs"),
    ("quota exceeded", "No GPU was available", "queue"),
    ("quota exceeded", "", "anonymous"),
    ("illegal duration", "", "duration"),
    ("pending credits", "", "credits"),
    ("queue timeout", "", "queue"),
    ("client error", "Expired", "expired"),
    ("client error", "", "no-gpu"),
    ("worker error", "", "aborted"),
    ("", "ZeroGPU API /schedule error", "no-gpu"),
    ("", "Unexpected end of stream", "queue"),
    ("", "queue disconnect", "queue"),
    ("", "Connection closed by visitor", "queue"),
)
LEFT = re.compile(r"vs\. (-?\d+)s left")
AGAIN = re.compile(r"Try again in (?:(\d+) days?, )?(\d+):(\d\d):(\d\d)")


@dataclass(frozen=True)
class Refusal:
    """Hold what a refusal says.

    Args:
        reason: of `LeaseRefused`.
        left_s: seconds of quota left, where it says so.
        wait_s: seconds until it is worth trying again, where it says so or that is known.
    """

    reason: str
    left_s: int | None = None
    wait_s: float | None = None


def read_refusal(title: str, message: str) -> Refusal | None:
    """Return what a title and a message mean, or None where they are no refusal."""
    for in_title, in_message, reason in REASONS:
        if in_title in title and in_message in message:
            left, again = LEFT.search(message), AGAIN.search(message)
            wait = AGAIN_S if reason in ("queue", "no-gpu") else None
            if again:
                days, hours, minutes, seconds = (int(part or 0) for part in again.groups())
                wait = ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds
            return Refusal(reason, int(left[1]) if left else None, wait)
    return None


@dataclass(frozen=True)
class Ask:
    """Hold what a lease asks for, in seconds.

    Args:
        declared_s: what `duration=` says.
        asked_s: what the quota is asked for: `declared_s` times the platform's factor.
        usable_s: when the lease's own clock stops it.
    """

    declared_s: int
    asked_s: int
    usable_s: float


@dataclass(frozen=True)
class Terms:
    """Say what a lease has to keep to.

    Args:
        cap_s: seconds a lease may declare.
        least_s: seconds under which it would get nothing done.
        need_s: seconds that the work left would take; None where nothing is known.
        factor: seconds of quota that admission asks for each declared one.
        kept_s: seconds of quota kept back for trying the result.
    """

    cap_s: int
    least_s: float
    need_s: float | None
    factor: float
    kept_s: float = 0.0


def plan_ask(terms: Terms, standing: Standing, probe: bool = True) -> Ask | LeaseRefused:
    """Return what to ask for, or why it is not worth asking.

    A lease stays below the cap and below what is thought to be left, without the part kept back.
    Where too little is thought to be left, a probe asks all the same, for the kept part on top: a
    grant proves that it is there, and a refusal, which costs nothing, tells what is.

    Args:
        terms: what to keep to.
        standing: what is thought to be left.
        probe: whether to ask for more than is thought to be left; never where that is sure.
    """
    cap = min(terms.cap_s, standing.longest_s or terms.cap_s)
    least = max(1, round(min(terms.least_s, terms.cap_s)))
    asked = round(least * terms.factor)
    if cap < least:
        return LeaseRefused(reason="duration", asked_s=asked)
    need = max(float(least), terms.need_s or cap)
    room_s = int((standing.left_s - terms.kept_s) / terms.factor)
    if room_s >= least:
        declared = int(min(cap, room_s, -(-need // 1)))
        return Ask(declared, round(declared * terms.factor), float(declared))
    refused = LeaseRefused(
        reason="quota",
        asked_s=asked,
        left_s=int(standing.left_s),
        retry_at=standing.renewed_at,
    )
    if standing.told and standing.left_s >= least * terms.factor:
        return replace(refused, reason="kept", kept_s=round(terms.kept_s))
    if not probe or standing.sure:
        return refused
    kept = terms.kept_s / terms.factor
    declared = int(min(cap, -(-(min(need, cap) + kept) // 1)))
    usable = max(float(least), declared - kept)
    return Ask(declared, round(declared * terms.factor), usable)
