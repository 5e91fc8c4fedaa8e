"""What is wrong with demonstrations, and what could be better: findings, errors first.

A finding is a code with values; the catalogues say it. Comparisons of texts are bounded, for what
is checked on a server is anybody's.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, Literal, get_args

from ditto_hub import words
from ditto_hub.demos.demonstrations import ADVISED, FEWEST, MOST, Demonstration
from ditto_hub.demos.languages import language_of
from ditto_hub.demos.personal_data import kinds_in
from ditto_hub.errors import DemoError
from ditto_hub.words import Text, told

Level = Literal["error", "warning", "advice"]
Demos = tuple[Demonstration, ...]

MAX_TOKENS = 2048
THOUGHTS = ("<think>", "<thinking>")  # what a reasoning model writes before its answer
NEAR = 0.8  # share of five-letter pieces that two texts have in common
COMPARED = 2000  # letters of a text that are compared with other texts
SEARCHED = 200_000  # characters of a set that are searched for personal data


@dataclass(frozen=True)
class Finding:
    """Say one thing that is wrong (error), doubtful (warning) or could be better (advice)."""

    level: Level
    code: str
    said: Text
    ids: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """What it says, in English."""
        return told(self.said)


def note(level: Level, code: str, ids: Iterable[str] = (), /, **values: Any) -> Finding:
    """Make a finding whose text the catalogues have under `findings.<code>`."""
    return Finding(level, code, words.Message(f"findings.{code}", **values), tuple(ids))


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
    looks: list[Callable[[Demos], Iterator[Finding]]] = [_counts, _sides]
    if len(given) <= MOST:
        looks += [length, _duplicates, _prompts_repeated, _languages, _personal_data, _balance]
    findings = (finding for look in looks for finding in look(given))
    return sorted(findings, key=lambda finding: get_args(Level).index(finding.level))


def require_usable(demos: Iterable[Demonstration]) -> None:
    """Refuse demonstrations that no run can use.

    Raises:
        DemoError: telling every error that `check` finds.
    """
    errors = [finding.said for finding in check(demos) if finding.level == "error"]
    if errors:
        raise DemoError("demos.unusable", findings=words.chained("words.then", errors))


def _counts(demos: Demos) -> Iterator[Finding]:
    count = len(demos)
    counted = words.Message("demos.one" if count == 1 else "demos.many", count=count)
    different = {(demo.prompt_text.strip(), demo.completion.strip()) for demo in demos}
    if count < FEWEST:
        yield note("error", "too-few", count=counted, least=FEWEST)
    elif len(different) < FEWEST:
        yield note("error", "all-the-same", tuple(d.id for d in demos), least=FEWEST)
    elif count < ADVISED:
        yield note("advice", "few", count=counted)
    elif count > MOST:
        yield note("error", "too-many", count=counted, most=MOST)


def _sides(demos: Demos) -> Iterator[Finding]:
    for demo in demos:
        blank = [turn["role"] for turn in demo.prompt if not turn["content"].strip()]
        if blank:
            yield note("error", "empty-prompt", (demo.id,), id=demo.id, role=blank[0])
        if not demo.completion.strip():
            yield note("error", "empty-completion", (demo.id,), id=demo.id)
        if demo.completion.lstrip().startswith(THOUGHTS):
            yield note("warning", "thought", (demo.id,), id=demo.id)


def _over_long(
    demos: Demos, count_tokens: Callable[[str], int] | None, max_tokens: int
) -> Iterator[Finding]:
    for demo in demos:
        text = f"{demo.prompt_text}\n{demo.completion}"
        tokens = count_tokens(text) if count_tokens else len(text.encode()) // 4
        if tokens > max_tokens:
            many = tokens if count_tokens else words.Message("demos.about", number=tokens)
            yield note("warning", "over-long", (demo.id,), id=demo.id, tokens=many, most=max_tokens)


def _duplicates(demos: Demos) -> Iterator[Finding]:
    pieces = {demo.id: shingles(demo.completion) for demo in demos if demo.completion.strip()}
    for one, two in combinations((demo for demo in demos if demo.id in pieces), 2):
        both, ids = words.chained("words.and", (one.id, two.id)), (one.id, two.id)
        if (one.prompt_key, one.completion) == (two.prompt_key, two.completion):
            yield note("warning", "duplicate", ids, both=both)
        elif are_near(pieces[one.id], pieces[two.id]):
            yield note("warning", "near-duplicate", ids, both=both)


def _prompts_repeated(demos: Demos) -> Iterator[Finding]:
    for demo in demos:
        asked = _beginning(demo.prompt[-1]["content"])
        if len(asked) >= 12 and asked in _plain(demo.completion[: 8 * COMPARED]):
            yield note("warning", "holds-prompt", (demo.id,), id=demo.id)


def _languages(demos: Demos) -> Iterator[Finding]:
    groups: dict[str, list[str]] = {}
    for demo in demos:
        if language := language_of(demo.completion):
            groups.setdefault(language, []).append(demo.id)
    if len(groups) > 1:
        listed = "; ".join(f"{name}: {', '.join(ids)}" for name, ids in groups.items())
        rarer = sorted(groups.values(), key=len)[:-1]
        ids = tuple(name for group in rarer for name in group)
        yield note("warning", "mixed-languages", ids, languages=listed)


def _personal_data(demos: Demos) -> Iterator[Finding]:
    holders: dict[str, list[str]] = {}
    left, unread = SEARCHED, []
    for demo in demos:
        text = f"{demo.prompt_text}\n{demo.completion}"
        if len(text) > left:
            unread.append(demo.id)
        for kind in kinds_in(text[:left]):
            holders.setdefault(kind, []).append(demo.id)
        left = max(0, left - len(text))
    if unread:
        yield note("advice", "not-searched", unread, ids=", ".join(unread))
    for kind, ids in holders.items():
        about = words.Message(f"personal.{kind}")
        yield note("advice", "personal-data", ids, ids=", ".join(ids), kind=about)


def _balance(demos: Demos) -> Iterator[Finding]:
    lengths = sorted((len(d.completion.strip()), d.id) for d in demos if d.completion.strip())
    if lengths and lengths[-1][0] > 5 * lengths[0][0]:
        (least, short), (most, long) = lengths[0], lengths[-1]
        lengths_said = words.Message(
            "demos.lengths", short=short, least=least, long=long, most=most
        )
        yield note("advice", "unbalanced", (short, long), lengths=lengths_said)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _beginning(text: str) -> str:
    """Return what is compared of a text; bounded before its letters unfold, and after."""
    return _plain(text.lstrip()[: 2 * COMPARED])[:COMPARED]


def are_near(one: frozenset[str], two: frozenset[str]) -> bool:
    """Tell whether two texts have most of their pieces in common, by their sizes where these do."""
    fewer, more = sorted((len(one), len(two)))
    if fewer < NEAR * more:
        return False
    both = len(one & two)
    return both >= NEAR * (fewer + more - both)


def shingles(text: str, size: int = 5) -> frozenset[str]:
    """Return the pieces of `size` letters of a text's beginning; near texts share most of them."""
    plain = _beginning(text)
    return frozenset(plain[at : at + size] for at in range(max(1, len(plain) - size + 1)))
