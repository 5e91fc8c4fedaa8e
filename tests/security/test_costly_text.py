"""Texts made to be costly: what is compared and searched is bounded, whatever they hold."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

import pytest

from ditto_hub.demos import findings
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.demos.findings import check
from ditto_hub.ui.html import render

LONG = 20_000  # characters that the Spaces' profiles allow
MATCHER = difflib.SequenceMatcher


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many pairs of items each comparison may have to look at."""
    seen: list[int] = []

    def note(a: Sequence[str], b: Sequence[str], **options: Any) -> difflib.SequenceMatcher[str]:
        seen.append(len(a) * len(b))
        return MATCHER(a=a, b=b, **options)

    monkeypatch.setattr(difflib, "SequenceMatcher", note)
    return seen


def words_left(shown: str) -> str:
    """Return a difference's text after the change, without its markup."""
    return re.sub(r"<[^>]+>", "", re.sub(r"<del>.*?</del> ?", "", shown))


@pytest.mark.parametrize("between", [" ", "\n"], ids=["one line", "many lines"])
def test_the_difference_of_repeated_words_compares_few_pairs(
    compared: list[int], between: str
) -> None:
    """A thousand repetitive words are not compared word by word, and none is lost."""
    before = between.join(["a", "b"] * 500)
    after = between.join(["b", "a", "c"] * 333)
    shown = render.difference(before, after)
    assert max(compared, default=0) <= render.COMPARED_PAIRS
    assert words_left(shown).split() == after.split()


def test_one_word_of_a_long_text_is_still_shown_by_words() -> None:
    """What two texts begin and end with alike costs nothing, so a small edit stays a small one."""
    same = " ".join(f"word{n}" for n in range(2000))
    shown = render.difference(f"{same} cat {same}", f"{same} dog {same}")
    assert "<del>cat</del> <ins>dog</ins>" in shown
    assert words_left(shown).split() == f"{same} dog {same}".split()


def test_a_long_edit_is_shown_by_lines() -> None:
    """Where the words are too many, lines that stayed are still shown as they were."""
    old = [" ".join(f"{n}-{k}" for k in range(60)) for n in range(12)]
    new = [line if n == 5 else f"new {n} {line[::-1]}" for n, line in enumerate(old)]
    shown = render.difference("\n".join(old), "\n".join(new))
    assert f"</ins> {old[5]} <del>" in shown


def test_what_is_compared_of_a_text_has_a_bound() -> None:
    """A text gives at most so many pieces, also where its letters unfold to eighteen each."""
    texts = ["".join(chr(0x4E00 + n) for n in range(LONG)), "\ufdfa" * LONG, " " * LONG]
    assert all(len(findings.shingles(t)) <= findings.COMPARED for t in texts)


def test_what_is_searched_for_personal_data_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty of the longest texts are searched in part, and the rest is said to be unread."""
    seen: list[int] = []
    search = findings.kinds_in
    monkeypatch.setattr(
        findings, "kinds_in", lambda text: (seen.append(len(text)), search(text))[1]
    )
    found = check(DemoSet.from_pairs([("1 " * (LONG // 2), "2 " * (LONG // 2))] * 50))
    assert sum(seen) <= findings.SEARCHED
    unread = next(f for f in found if f.code == "not-searched")
    assert "demo-1" not in unread.ids
    assert "demo-50" in unread.ids


def test_long_texts_that_begin_alike_are_still_near() -> None:
    """The bound leaves the warning: two long texts that differ by a sign are reported."""
    text = " ".join(f"word{n}" for n in range(3000))
    codes = [f.code for f in check(DemoSet.from_pairs([("Write.", text), ("Tell.", text + "!")]))]
    assert "near-duplicate" in codes
