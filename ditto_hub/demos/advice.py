"""The one thing that would help a set of demonstrations most, in a sentence.

`demos.check` says all that can be said; a page has room for one line, and a person does one thing
at a time. What stops a run comes first, then what costs the result most, small matters last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations

from ditto_hub.demos.demonstrations import ADVISED, MOST, Demonstration
from ditto_hub.demos.findings import Finding, are_near, check, note, shingles

SHORT_CHARS = 60
OPENING_WORDS = 3
# Findings of `check`, the weightiest first; what is not here is not worth the one line.
ORDER = (
    "too-few", "all-the-same", "too-many", "empty-completion", "empty-prompt",
    "only-thought", "over-context", "outside-pocket", "unwritable", "unfamiliar",
    "thought",
    "duplicate", "near-duplicate", "few", "holds-prompt", "over-long", "mixed-languages", "short",
    "same-prompts", "same-openings", "unbalanced", "personal-data",
)  # fmt: skip


def advise(
    demos: Iterable[Demonstration],
    count_tokens: Callable[[str], int] | None = None,
    found: Sequence[Finding] | None = None,
) -> Finding:
    """Return what would help most; level "advice" and code "good" where nothing would.

    Args:
        count_tokens: of the base model's tokenizer, if it is at hand.
        found: what `check` says of them, where that is known already.
    """
    given = tuple(demos)
    found = list(check(given, count_tokens) if found is None else found)
    if 0 < len(given) <= MOST:
        found += [*_short(given), *_alike(given)]
    known = [finding for finding in found if finding.code in ORDER]
    good = note("advice", "good")
    return min(known, key=lambda finding: ORDER.index(finding.code), default=good)


def _short(demos: Sequence[Demonstration]) -> Iterator[Finding]:
    ids = tuple(d.id for d in demos if 0 < len(d.completion.strip()) < SHORT_CHARS)
    if 2 * len(ids) > len(demos):
        yield note("advice", "short", ids)


def _alike(demos: Sequence[Demonstration]) -> Iterator[Finding]:
    """Find sets that show one task only, or begin every answer alike."""
    if len(demos) < ADVISED:
        return
    ids = tuple(demo.id for demo in demos)
    asked = [shingles(demo.prompt[-1]["content"]) for demo in demos]
    if all(are_near(one, two) for one, two in combinations(asked, 2)):
        yield note("advice", "same-prompts", ids)
    openings = {tuple(demo.completion.casefold().split()[:OPENING_WORDS]) for demo in demos}
    if len(openings) == 1:
        yield note("advice", "same-openings", ids)
