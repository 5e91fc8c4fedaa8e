"""Demonstrations: what they are, and how a few of them are held out.

A demonstration is a prompt (one or more turns, the last the user's) with the completion that the
user wants for it. Two demonstrations may share a prompt; each has an id of its own and both count.
findings.py says what is wrong with them; importers/ reads files.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ditto_hub import words
from ditto_hub.errors import DemoError

Message = dict[str, str]
Split = Literal["train", "held_out"]
Author = Literal["user", "model", "text"]

ROLES = ("system", "user", "assistant")
SPLITS = ("train", "held_out")
AUTHORS = ("user", "model", "text")
FEWEST, ADVISED, MOST = 2, 4, 50


@dataclass(frozen=True)
class Demonstration:
    """Show the model one completion that the user wants.

    Args:
        id: unique in its set.
        prompt: turns of {role, content}, the last one the user's; a string is one user turn.
        completion: what the assistant should answer.
        split: "held_out" demonstrations are scored and never trained on.
        origin: where it came from, such as "typed" or "file".
        original: the model's own output, where the user edited one into the completion.
        prompt_by: who wrote the prompt: "model" where the base model did, for a text without one;
            "text" where it was made of the text's first words.

    Raises:
        DemoError: a value is of another kind than that. Empty text is left to `check`.
    """

    id: str
    prompt: tuple[Message, ...] = field(hash=False)
    completion: str
    split: Split = "train"
    origin: str = "typed"
    original: str | None = None
    prompt_by: Author = "user"

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", as_messages(self.prompt))
        for name in ("id", "completion", "origin"):
            _require_text(getattr(self, name), name)
        if self.original is not None:
            _require_text(self.original, "original")
        if not self.id.strip():
            raise DemoError("demos.empty_id")
        if self.split not in SPLITS:
            raise DemoError("demos.unknown_split", split=self.split)
        if self.prompt_by not in AUTHORS:
            raise DemoError("demos.unknown_author", prompt_by=self.prompt_by)

    @property
    def lacks_prompt(self) -> bool:
        """Whether it is a text whose prompt is still to be written."""
        return bool(self.completion.strip()) and not self.prompt_text.strip()

    @property
    def prompt_text(self) -> str:
        """The turns' texts under each other, for people and for comparing."""
        return "\n\n".join(turn["content"] for turn in self.prompt)

    @property
    def prompt_key(self) -> tuple[tuple[str, str], ...]:
        """What two demonstrations of one prompt have in common."""
        return tuple((turn["role"], turn["content"]) for turn in self.prompt)

    def to_json(self) -> dict[str, Any]:
        """Return the keys of the run folder's demos.jsonl, without what is as by default."""
        data: dict[str, Any] = {
            "id": self.id,
            "prompt": [dict(turn) for turn in self.prompt],
            "completion": self.completion,
            "split": self.split,
            "origin": self.origin,
        }
        if self.original is not None:
            data["original"] = self.original
        return data if self.prompt_by == "user" else {**data, "prompt_by": self.prompt_by}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Demonstration:
        """Build from `to_json`'s form.

        Raises:
            DemoError: a key is missing or unknown, or a value of the wrong kind.
        """
        known = ("id", "prompt", "completion", "split", "origin", "original", "prompt_by")
        if not set(known[:5]) <= set(data) <= set(known):
            raise DemoError(
                "demos.unknown_keys",
                data=", ".join(data) or "(none)",
                known=", ".join(known),
            )
        return cls(**data)


@dataclass(frozen=True)
class DemoSet:
    """Hold the demonstrations of one run, in order, ids unique.

    Args:
        notices: what a reader should know of the file they were read from.

    Raises:
        DemoError: two demonstrations share an id.
    """

    demos: tuple[Demonstration, ...] = ()
    notices: tuple[words.Message, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "demos", tuple(self.demos))
        counts = Counter(demo.id for demo in self.demos)
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise DemoError("demos.id_given_twice", twice=twice[0], counts=counts[twice[0]])

    @classmethod
    def from_pairs(
        cls, pairs: Iterable[tuple[str | Sequence[Message], str]], origin: str = "typed"
    ) -> DemoSet:
        """Number (prompt, completion) pairs as demo-1, demo-2, ..."""
        demos = (
            Demonstration(f"demo-{n}", as_messages(prompt), completion, origin=origin)
            for n, (prompt, completion) in enumerate(pairs, start=1)
        )
        return cls(tuple(demos))

    def __iter__(self) -> Iterator[Demonstration]:
        return iter(self.demos)

    def __len__(self) -> int:
        return len(self.demos)

    @property
    def prompt_authors(self) -> dict[str, int]:
        """How many prompts each author wrote, where that is not the user."""
        return dict(Counter(d.prompt_by for d in self.demos if d.prompt_by != "user"))

    @property
    def train(self) -> tuple[Demonstration, ...]:
        """Those that train, in order."""
        return tuple(demo for demo in self.demos if demo.split == "train")

    @property
    def held_out(self) -> tuple[Demonstration, ...]:
        """Those that only score, in order."""
        return tuple(demo for demo in self.demos if demo.split == "held_out")

    def split(self, held_out: int | None = None, seed: int = 0) -> DemoSet:
        """Mark some demonstrations as held out; the order stays.

        Demonstrations of one prompt stay on one side wherever the count can be met so.

        Args:
            held_out: how many; None or -1 for none under 4, one for 4 to 7, two from 8, unless
                some are marked already, who then stay as they are.
            seed: decides which ones.

        Raises:
            DemoError: fewer than two would be left to train on, or the count is below -1.
        """
        if held_out is None or held_out == -1:
            held_out = len(self.held_out) or default_held_out(len(self))
            chosen = {place for place, demo in enumerate(self) if demo.split == "held_out"}
        else:
            chosen = set()
        left = len(self) - held_out
        if held_out < 0 or left < FEWEST:
            raise DemoError(
                "demos.holds_out_too_many",
                held_out=held_out,
                count=len(self),
                left=left,
                fewest=FEWEST,
            )
        chosen = chosen or _choose(self.demos, held_out, random.Random(seed))
        marked = (
            replace(demo, split="held_out" if place in chosen else "train")
            for place, demo in enumerate(self)
        )
        return DemoSet(tuple(marked))


def as_messages(prompt: str | Sequence[Mapping[str, str]]) -> tuple[Message, ...]:
    """Return a prompt as turns of {role, content}; a string is one user turn.

    Raises:
        DemoError: not text or turns, an unknown role, or a last turn that is not the user's.
    """
    if isinstance(prompt, str):
        return (_turn({"role": "user", "content": prompt}),)
    if not isinstance(prompt, (list, tuple)) or not prompt:
        raise DemoError("demos.prompt_wrong_type", kind=_kind(prompt))
    turns = tuple(_turn(turn) for turn in prompt)
    if turns[-1]["role"] != "user":
        raise DemoError("demos.last_turn_not_users", role=turns[-1]["role"])
    return turns


def default_held_out(count: int) -> int:
    """Return how many of `count` demonstrations a run holds out unless told otherwise."""
    return 0 if count < ADVISED else 1 if count < 8 else 2


Demos = tuple[Demonstration, ...]


def _choose(demos: Demos, count: int, chance: random.Random) -> set[int]:
    """Draw `count` places, whole groups of one prompt wherever groups add up to it."""
    by_prompt: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for place, demo in enumerate(demos):
        by_prompt.setdefault(demo.prompt_key, []).append(place)
    groups = list(by_prompt.values())
    chance.shuffle(groups)
    reached: dict[int, list[int]] = {0: []}
    for group in groups:
        for total, places in sorted(reached.items()):
            if total + len(group) <= count:
                reached.setdefault(total + len(group), places + group)
    best = max(reached)
    chosen = set(reached[best])
    left = [place for group in groups for place in group if place not in chosen]
    return chosen | set(left[: count - best])


def _turn(turn: Mapping[str, str]) -> Message:
    if not isinstance(turn, Mapping) or "role" not in turn or "content" not in turn:
        raise DemoError("demos.turn_incomplete")
    _require_text(turn["content"], "content")
    if turn["role"] not in ROLES:
        raise DemoError("demos.unknown_role", role=turn["role"], roles=", ".join(ROLES))
    return {"role": turn["role"], "content": turn["content"]}


def _require_text(value: object, name: str) -> None:
    if not isinstance(value, str):
        raise DemoError("demos.not_a_text", name=name, kind=_kind(value))
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DemoError(
            "demos.half_character", name=name, ord=ord(value[error.start]), start=error.start
        ) from error
    if "\0" in value:
        raise DemoError("demos.nul_character", name=name)


def _kind(value: object) -> words.Text:
    if value is None:
        return "null"
    if value in ("", [], {}, ()):
        return words.Message("demos.empty")
    return words.Message("demos.of_type", kind=type(value).__name__)
