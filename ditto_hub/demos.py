"""Demonstrations: what they are, how a few are held out, and what is wrong or could be better.

A demonstration is a prompt (one or more turns, the last the user's) with the completion that the
user wants for it. Two demonstrations may share a prompt; each has an id of its own and both count.
Nothing here reads a file (importers.py does) or knows a model.
"""

from __future__ import annotations

import random
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from typing import Any, Literal, get_args

from ditto_hub.errors import DemoError
from ditto_hub.languages import language_of
from ditto_hub.personal import kinds_in

Message = dict[str, str]
Split = Literal["train", "held_out"]
Level = Literal["error", "warning", "advice"]

ROLES = ("system", "user", "assistant")
SPLITS = ("train", "held_out")
FEWEST, ADVISED, MOST = 2, 4, 50
MAX_TOKENS = 2048
NEAR = 0.8  # share of five-letter pieces that two texts have in common


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

    Raises:
        DemoError: a value is of another kind than that. Empty text is left to `check`.
    """

    id: str
    prompt: tuple[Message, ...] = field(hash=False)
    completion: str
    split: Split = "train"
    origin: str = "typed"
    original: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", as_messages(self.prompt))
        for name in ("id", "completion", "origin"):
            _require_text(getattr(self, name), name)
        if self.original is not None:
            _require_text(self.original, "original")
        if not self.id.strip():
            raise DemoError("A demonstration has an empty id.", "Give each an id, or none at all.")
        if self.split not in SPLITS:
            raise DemoError(
                f"The split is {self.split!r}, which is neither 'train' nor 'held_out'.",
                "Leave the field out to let the run choose, or leave out rows kept for testing.",
            )

    @property
    def prompt_text(self) -> str:
        """The turns' texts under each other, for people and for comparing."""
        return "\n\n".join(turn["content"] for turn in self.prompt)

    @property
    def prompt_key(self) -> tuple[tuple[str, str], ...]:
        """What two demonstrations of one prompt have in common."""
        return tuple((turn["role"], turn["content"]) for turn in self.prompt)

    def to_json(self) -> dict[str, Any]:
        """Return the keys of the run folder's demos.jsonl; `original` only where there is one."""
        data: dict[str, Any] = {
            "id": self.id,
            "prompt": [dict(turn) for turn in self.prompt],
            "completion": self.completion,
            "split": self.split,
            "origin": self.origin,
        }
        return data if self.original is None else {**data, "original": self.original}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Demonstration:
        """Build from `to_json`'s form.

        Raises:
            DemoError: a key is missing or unknown, or a value of the wrong kind.
        """
        known = ("id", "prompt", "completion", "split", "origin", "original")
        if not set(known[:5]) <= set(data) <= set(known):
            raise DemoError(
                f"A stored demonstration has the keys {', '.join(data) or '(none)'}.",
                f"It has {', '.join(known)}; only the last may be left out.",
            )
        return cls(**data)


@dataclass(frozen=True)
class DemoSet:
    """Hold the demonstrations of one run, in order, ids unique.

    Raises:
        DemoError: two demonstrations share an id.
    """

    demos: tuple[Demonstration, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "demos", tuple(self.demos))
        counts = Counter(demo.id for demo in self.demos)
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise DemoError(
                f"The id {twice[0]!r} is given to {counts[twice[0]]} demonstrations.",
                "Give each its own id, or leave the ids out to have them numbered.",
            )

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
                f"Holding out {held_out} of {len(self)} demonstrations leaves {left} to train on.",
                f"Hold out 0 or more, and leave {FEWEST} at least.",
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
        raise DemoError(
            f"A prompt is {_kind(prompt)}.", "It is a text, or a list of {role, content} turns."
        )
    turns = tuple(_turn(turn) for turn in prompt)
    if turns[-1]["role"] != "user":
        raise DemoError(
            f"A prompt's last turn has the role {turns[-1]['role']!r}.",
            "It ends with what the user asks; the answer goes into the completion.",
        )
    return turns


def default_held_out(count: int) -> int:
    """Return how many of `count` demonstrations a run holds out unless told otherwise."""
    return 0 if count < ADVISED else 1 if count < 8 else 2


Demos = tuple[Demonstration, ...]


@dataclass(frozen=True)
class Finding:
    """Say one thing that is wrong (error), doubtful (warning) or could be better (advice)."""

    level: Level
    code: str
    message: str
    ids: tuple[str, ...] = ()


def check(
    demos: Iterable[Demonstration],
    count_tokens: Callable[[str], int] | None = None,
    max_tokens: int = MAX_TOKENS,
) -> list[Finding]:
    """Say what is wrong with demonstrations and what could be better; errors come first.

    Args:
        count_tokens: of the base model's tokenizer; without one, four bytes are taken as a token.
        max_tokens: prompt and completion together, from which one is called over-long.
    """
    given = tuple(demos)
    length = partial(_over_long, count_tokens=count_tokens, max_tokens=max_tokens)
    looks: list[Callable[[Demos], Iterator[Finding]]] = [_counts, _empty_sides]
    if len(given) <= MOST:
        looks += [length, _duplicates, _prompts_repeated, _languages, _personal_data, _balance]
    findings = (finding for look in looks for finding in look(given))
    return sorted(findings, key=lambda finding: get_args(Level).index(finding.level))


def require_usable(demos: Iterable[Demonstration]) -> None:
    """Refuse demonstrations that no run can use.

    Raises:
        DemoError: telling every error that `check` finds.
    """
    errors = [finding.message for finding in check(demos) if finding.level == "error"]
    if errors:
        raise DemoError(" ".join(errors), "`ditto-hub check` tells more.")


def _counts(demos: Demos) -> Iterator[Finding]:
    count = len(demos)
    told = f"{count} demonstration{'' if count == 1 else 's'}"
    if count < FEWEST:
        yield Finding("error", "too-few", f"There are too few: {told}, and {FEWEST} is the least.")
    elif count < ADVISED:
        yield Finding("advice", "few", f"{told} will do; 4 to 7 show a voice better.")
    elif count > MOST:
        text = f"There are too many: {told}, and {MOST} is the most. Keep the most typical ones."
        yield Finding("error", "too-many", text)


def _empty_sides(demos: Demos) -> Iterator[Finding]:
    for demo in demos:
        blank = [turn["role"] for turn in demo.prompt if not turn["content"].strip()]
        if blank:
            text = f"{demo.id} has an empty prompt (its {blank[0]} turn holds no text)."
            yield Finding("error", "empty-prompt", text, (demo.id,))
        if not demo.completion.strip():
            text = f"{demo.id} has an empty completion."
            yield Finding("error", "empty-completion", text, (demo.id,))


def _over_long(
    demos: Demos, count_tokens: Callable[[str], int] | None, max_tokens: int
) -> Iterator[Finding]:
    for demo in demos:
        text = f"{demo.prompt_text}\n{demo.completion}"
        tokens = count_tokens(text) if count_tokens else len(text.encode()) // 4
        if tokens > max_tokens:
            about = "" if count_tokens else "about "
            told = f"{demo.id} is long: {about}{tokens} tokens, more than {max_tokens}. Shorten it."
            yield Finding("warning", "over-long", told, (demo.id,))


def _duplicates(demos: Demos) -> Iterator[Finding]:
    pieces = {demo.id: shingles(demo.completion) for demo in demos if demo.completion.strip()}
    for one, two in combinations((demo for demo in demos if demo.id in pieces), 2):
        both, ids = f"{one.id} and {two.id}", (one.id, two.id)
        mine, other = pieces[one.id], pieces[two.id]
        if (one.prompt_key, one.completion) == (two.prompt_key, two.completion):
            yield Finding("warning", "duplicate", f"{both} are the same; it counts twice.", ids)
        elif len(mine & other) >= NEAR * len(mine | other):
            text = f"{both} have (nearly) the same completion."
            yield Finding("warning", "near-duplicate", text, ids)


def _prompts_repeated(demos: Demos) -> Iterator[Finding]:
    for demo in demos:
        asked = _plain(demo.prompt[-1]["content"])
        if len(asked) >= 12 and asked in _plain(demo.completion):
            text = f"{demo.id}'s completion holds its prompt, which would be learnt."
            yield Finding("warning", "holds-prompt", text, (demo.id,))


def _languages(demos: Demos) -> Iterator[Finding]:
    groups: dict[str, list[str]] = {}
    for demo in demos:
        if language := language_of(demo.completion):
            groups.setdefault(language, []).append(demo.id)
    if len(groups) > 1:
        told = "; ".join(f"{name}: {', '.join(ids)}" for name, ids in groups.items())
        rarer = sorted(groups.values(), key=len)[:-1]
        ids = tuple(name for group in rarer for name in group)
        yield Finding("warning", "mixed-languages", f"Completions differ in language: {told}.", ids)


def _personal_data(demos: Demos) -> Iterator[Finding]:
    holders: dict[str, list[str]] = {}
    for demo in demos:
        for kind in kinds_in(f"{demo.prompt_text}\n{demo.completion}"):
            holders.setdefault(kind, []).append(demo.id)
    for kind, ids in holders.items():
        text = f"{', '.join(ids)}: what looks like {kind} may come back in generated text."
        yield Finding("advice", "personal-data", text, tuple(ids))


def _balance(demos: Demos) -> Iterator[Finding]:
    lengths = sorted((len(d.completion.strip()), d.id) for d in demos if d.completion.strip())
    if lengths and lengths[-1][0] > 5 * lengths[0][0]:
        (least, short), (most, long) = lengths[0], lengths[-1]
        told = f"{short} has {least} characters, {long} {most}"
        text = f"Lengths differ widely: {told}. A voice is easier to learn from one kind of text."
        yield Finding("advice", "unbalanced", text, (short, long))


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def shingles(text: str, size: int = 5) -> frozenset[str]:
    """Return the pieces of `size` letters of a text; near texts have most of theirs in common."""
    plain = _plain(text)
    return frozenset(plain[at : at + size] for at in range(max(1, len(plain) - size + 1)))


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
        raise DemoError("A turn lacks its role or content.", "Both are needed, as texts.")
    _require_text(turn["content"], "content")
    if turn["role"] not in ROLES:
        raise DemoError(f"A turn has the role {turn['role']!r}.", f"Roles are {', '.join(ROLES)}.")
    return {"role": turn["role"], "content": turn["content"]}


def _require_text(value: object, name: str) -> None:
    if not isinstance(value, str):
        raise DemoError(f"The {name} is {_kind(value)}.", "It has to be a text.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DemoError(
            f"The {name} holds half a character (U+{ord(value[error.start]):04X}) at place"
            f" {error.start}.",
            "Copy the text again from where it came from.",
        ) from error
    if "\0" in value:
        raise DemoError(f"The {name} holds a NUL character.", "Copy the text again.")


def _kind(value: object) -> str:
    named = "null" if value is None else "empty" if value in ("", [], {}, ()) else ""
    return named or f"of type {type(value).__name__}"
