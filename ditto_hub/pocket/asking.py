"""What a text of the grammar may have been asked for: the embedded model writes no prompts itself.

A text names its event, its audience, its day and often its hour, and the grammar can word every
request for them. Which act and which wording it was, the model's own likelihood of the text says.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from ditto_hub.pocket.grammar import (
    ACT_PROMPTS,
    AUDIENCES,
    DAYS,
    EVENTS,
    KINDS,
    PROMPT_FRAMES,
    Request,
)

LONGEST = 4000  # characters of a text that are read
MOST = 2  # names of one kind that a text may have, the first ones; one of them was asked for
CLOCK = re.compile(r"\b(\d{1,2})(?::00| o'clock| ?[ap]m\b)", re.IGNORECASE)


def requests_of(text: str) -> list[Request]:
    """Return a request an act for what a text names; none where it is not of the grammar."""
    text = text[:LONGEST]
    events, audiences = _named(EVENTS, text), _named(AUDIENCES, text)
    short = {day[:3]: day for day in DAYS}
    days = dict.fromkeys(short[day[:3]] for day in _named((*DAYS, *short), text))
    told = (int(hour) for hour in CLOCK.findall(text))
    hours = [hour if hour > 8 else hour + 12 for hour in told if 1 <= hour <= 20]
    slots = itertools.product(ACT_PROMPTS, events[:MOST], audiences[:MOST], [*days][:MOST])
    return [
        Request(next(iter(KINDS)), audience, act, event, day, hours[0] if hours else None)
        for act, event, audience, day in slots
    ]


def wordings(request: Request) -> list[Request]:
    """Return a request in every wording that the grammar has for it."""
    phrases = range(len(ACT_PROMPTS[request.act]))
    frames = range(len(PROMPT_FRAMES))
    return [
        replace(request, kind=kind, frame=frame, phrase=phrase)
        for kind, frame, phrase in itertools.product(KINDS, frames, phrases)
    ]


def _named(names: Collection[str], text: str) -> Sequence[str]:
    """Return the names that a text has, in its order; a longer one hides a shorter inside it."""
    listed = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    given = {name.lower(): name for name in names}
    found = re.findall(rf"\b(?:{listed})\b", text, re.IGNORECASE)
    return list(dict.fromkeys(given[name.lower()] for name in found))
