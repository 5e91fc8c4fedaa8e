"""The one thing that would help a set of demonstrations most, in a sentence.

`demos.check` says all that can be said; a page has room for one line, and a person does one thing
at a time. What stops a run comes first, then what costs the result most, small matters last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations

from ditto_hub.demos import ADVISED, MOST, NEAR, Demonstration, Finding, check, shingles

SHORT_CHARS = 60
OPENING_WORDS = 3
# Findings of `check`, the weightiest first; what is not here is not worth the one line.
ORDER = (
    "too-few", "too-many", "empty-completion", "empty-prompt", "duplicate", "near-duplicate", "few",
    "holds-prompt", "over-long", "mixed-languages", "short", "same-prompts", "same-openings",
    "unbalanced", "personal-data",
)  # fmt: skip


def advise(
    demos: Iterable[Demonstration], count_tokens: Callable[[str], int] | None = None
) -> Finding:
    """Return what would help most; level "advice" and code "good" where nothing would.

    Args:
        count_tokens: of the base model's tokenizer, if it is at hand.
    """
    given = tuple(demos)
    found = check(given, count_tokens)
    if 0 < len(given) <= MOST:
        found += [*_short(given), *_alike(given)]
    known = [finding for finding in found if finding.code in ORDER]
    good = Finding("advice", "good", "These demonstrations are ready to train on.")
    return min(known, key=lambda finding: ORDER.index(finding.code), default=good)


def _short(demos: Sequence[Demonstration]) -> Iterator[Finding]:
    ids = tuple(d.id for d in demos if 0 < len(d.completion.strip()) < SHORT_CHARS)
    if 2 * len(ids) > len(demos):
        text = "Most completions are very short. A few sentences each show more of a voice."
        yield Finding("advice", "short", text, ids)


def _alike(demos: Sequence[Demonstration]) -> Iterator[Finding]:
    """Find sets that show one task only, or begin every answer alike."""
    if len(demos) < ADVISED:
        return
    ids = tuple(demo.id for demo in demos)
    asked = [shingles(demo.prompt[-1]["content"]) for demo in demos]
    if all(len(one & two) >= NEAR * len(one | two) for one, two in combinations(asked, 2)):
        text = (
            "All prompts ask for nearly the same. Vary the tasks, so that the voice is learnt and"
            " not the task."
        )
        yield Finding("advice", "same-prompts", text, ids)
    openings = {tuple(demo.completion.casefold().split()[:OPENING_WORDS]) for demo in demos}
    if len(openings) == 1:
        text = "All completions begin with the same words, and so will all that is generated."
        yield Finding("advice", "same-openings", text, ids)
