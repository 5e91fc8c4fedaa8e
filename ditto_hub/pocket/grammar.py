"""What can be asked of the embedded base model: requests, their prompts, and which are held out.

A request is a combination of slots (kind, audience, act, event, day, perhaps an hour); a prompt is
one of several wordings of it. `parse_prompt` is the inverse, so a prompt alone is enough to judge a
text. One combination in ten (audience x act x event x day, by a stable hash) is never shown to the
model in pre-training: these are the prompts for demonstrations, selection and evaluation.

The grammar is four modules: this one, `traits` (what a persona can do), `writing` (how a text is
put together) and `persona` (who writes), and the judge in `judge`. `grammar_hash` covers them all.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ditto_hub.errors import JudgeError

KINDS = {"email": "an email", "note": "a note"}
AUDIENCES = (
    "lab",
    "choir",
    "book club",
    "team",
    "neighbors",
    "class",
    "band",
    "committee",
    "parents",
    "volunteers",
    "hikers",
    "board",
    "office",
    "students",
    "crew",
    "interns",
    "tenants",
    "players",
)
EVENTS = (
    "potluck",
    "picnic",
    "workshop",
    "seminar",
    "rehearsal",
    "recital",
    "raffle",
    "bake sale",
    "book swap",
    "cleanup",
    "barbecue",
    "concert",
    "field trip",
    "fundraiser",
    "game night",
    "hike",
    "karaoke night",
    "lecture",
    "lunch",
    "meeting",
    "movie night",
    "open house",
    "pancake breakfast",
    "parade",
    "photo walk",
    "plant sale",
    "poetry slam",
    "quiz night",
    "retreat",
    "review",
    "scavenger hunt",
    "sleepover",
    "story hour",
    "study session",
    "talent show",
    "tea party",
    "tour",
    "trial run",
    "wine tasting",
    "yard sale",
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
HOURS = tuple(range(9, 21))  # 9 am to 8 pm, so that a twelve-hour number is never ambiguous

# How a prompt asks for each act; {e} is the event, {d} the day with the hour, if one is given.
ACT_PROMPTS: dict[str, tuple[str, ...]] = {
    "cancel": ("cancel the {e} on {d}", "call off the {e} on {d}"),
    "announce": ("announce the {e} on {d}", "let them know about the {e} on {d}"),
    "move": ("move the {e} to {d}", "shift the {e} to {d}"),
    "remind": ("remind them of the {e} on {d}", "give a reminder of the {e} on {d}"),
    "invite": ("invite them to the {e} on {d}", "ask them to come to the {e} on {d}"),
    "confirm": ("confirm the {e} on {d}", "say that the {e} on {d} takes place"),
    "help": ("ask for help with the {e} on {d}", "find helpers for the {e} on {d}"),
    "signup": ("open sign-up for the {e} on {d}", "take names for the {e} on {d}"),
}
ACTS = tuple(ACT_PROMPTS)
PROMPT_FRAMES = (
    "Write {k} to the {a} to {act}.",
    "Please write {k} to the {a} to {act}.",
    "Draft {k} for the {a} to {act}.",
    "Write {k} to {act}, for the {a}.",
    "I need {k} to the {a} to {act}.",
)
HELD_OUT_SHARE = 10  # one combination in so many


@dataclass(frozen=True)
class Request:
    """One thing to write, as slots, with the wording of its prompt.

    Args:
        kind: a key of `KINDS`.
        audience: one of `AUDIENCES`.
        act: one of `ACTS`.
        event: one of `EVENTS`.
        day: one of `DAYS`.
        hour: of the day, one of `HOURS`, or None where the prompt names no hour.
        frame: index into `PROMPT_FRAMES`.
        phrase: index into the act's row of `ACT_PROMPTS`.
    """

    kind: str
    audience: str
    act: str
    event: str
    day: str
    hour: int | None = None
    frame: int = 0
    phrase: int = 0

    @property
    def prompt(self) -> str:
        """Word the request for the model."""
        day = self.day if self.hour is None else f"{self.day} at {spoken_hour(self.hour)}"
        act = ACT_PROMPTS[self.act][self.phrase].format(e=self.event, d=day)
        return PROMPT_FRAMES[self.frame].format(k=KINDS[self.kind], a=self.audience, act=act)

    @property
    def held_out(self) -> bool:
        """Tell whether pre-training never sees this combination of slots."""
        key = f"{self.audience}|{self.act}|{self.event}|{self.day}"
        return hashlib.sha256(key.encode()).digest()[0] % HELD_OUT_SHARE == 0


def spoken_hour(hour: int) -> str:
    """Say an hour of the day as prompts do, such as `6 pm`."""
    return f"{hour} am" if hour < 12 else f"{(hour - 1) % 12 + 1} pm"


def requests(
    seed: int | str, n: int, *, held_out: bool, exclude: Collection[str] = ()
) -> list[Request]:
    """Draw requests with distinct prompts.

    Args:
        seed: the same seed gives the same requests.
        n: how many.
        held_out: True for combinations never seen in pre-training, False for the others.
        exclude: prompts that must not come up, such as those of demonstrations.
    """
    rng = random.Random(f"requests {seed}")
    seen = set(exclude)
    drawn: list[Request] = []
    while len(drawn) < n:
        request = _draw(rng)
        if request.held_out == held_out and request.prompt not in seen:
            seen.add(request.prompt)
            drawn.append(request)
    return drawn


def _draw(rng: random.Random) -> Request:
    act = rng.choice(ACTS)
    return Request(
        kind=rng.choice(tuple(KINDS)),
        audience=rng.choice(AUDIENCES),
        act=act,
        event=rng.choice(EVENTS),
        day=rng.choice(DAYS),
        hour=rng.choice(HOURS) if rng.random() < 0.5 else None,
        frame=rng.randrange(len(PROMPT_FRAMES)),
        phrase=rng.randrange(len(ACT_PROMPTS[act])),
    )


def parse_prompt(prompt: str) -> Request:
    """Read the slots back from a prompt.

    Raises:
        JudgeError: the prompt is none that the grammar can word.
    """
    for index, frame in enumerate(_FRAME_PATTERNS):
        for (act, phrase), pattern in _ACT_PATTERNS.items():
            found = re.fullmatch(frame.replace("<act>", pattern), prompt.strip())
            if found:
                return Request(
                    kind=next(k for k, v in KINDS.items() if v == found["kind"]),
                    audience=found["audience"],
                    act=act,
                    event=found["event"],
                    day=found["day"],
                    hour=_HOUR_NAMES.get(found["hour"]),
                    frame=index,
                    phrase=phrase,
                )
    raise JudgeError(
        f"This prompt is not of the embedded model's grammar: {prompt[:80]!r}.",
        "Judge it by another judge, or take a prompt from ditto_hub.pocket.grammar.requests.",
    )


def _group(name: str, words: Collection[str]) -> str:
    return f"(?P<{name}>{'|'.join(re.escape(w) for w in words)})"


_HOUR_NAMES: dict[str | None, int] = {spoken_hour(h): h for h in HOURS}
_DAY_PATTERN = _group("day", DAYS) + f"(?: at {_group('hour', [spoken_hour(h) for h in HOURS])})?"
_FRAME_PATTERNS = tuple(
    re.escape(frame)
    .replace(re.escape("{k}"), _group("kind", KINDS.values()))
    .replace(re.escape("{a}"), _group("audience", AUDIENCES))
    .replace(re.escape("{act}"), "<act>")
    for frame in PROMPT_FRAMES
)
_ACT_PATTERNS = {
    (act, index): re.escape(phrase)
    .replace(re.escape("{e}"), _group("event", EVENTS))
    .replace(re.escape("{d}"), _DAY_PATTERN)
    for act, phrases in ACT_PROMPTS.items()
    for index, phrase in enumerate(phrases)
}


def grammar_hash() -> str:
    """Hash the source of grammar and judge, to stand in every result measured with them.

    Returns:
        A SHA-256 in hex; two results with the same one were judged alike.
    """
    digest = hashlib.sha256()
    for name in ("grammar", "traits", "writing", "persona", "judge"):
        source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        digest.update(f"{name}\n{source}".encode())
    return digest.hexdigest()
