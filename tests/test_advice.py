"""The one line of advice: the weightiest thing first, and that all is well where it is."""

from __future__ import annotations

import pytest

from ditto_hub.demos.advice import advise
from ditto_hub.demos.demonstrations import Demonstration, DemoSet
from ditto_hub.demos.findings import note

LETTERS = [
    ("Cancel the picnic.", "Hi all, the picnic is off; the rain won. See you at lunch, Ann"),
    ("Ask for the report.", "Dear Bo, may I have the report by Friday? I promise to read it."),
    ("Thank the neighbours.", "You two saved our tomatoes; we owe you soup. Come on Sunday!"),
    ("Invite to the concert.", "We play on the 3rd, badly but with feeling. Seats are kept!"),
]  # fmt: skip


def told(pairs: list[tuple[str, str]]) -> str:
    """Return the code of the advice on some pairs."""
    return advise(DemoSet.from_pairs(pairs)).code


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([], "too-few"),
        (LETTERS[:1], "too-few"),
        (LETTERS[:2], "few"),
        (LETTERS, "good"),
        ([*LETTERS[:3], LETTERS[0]], "duplicate"),
        ([*LETTERS[:3], ("Again.", LETTERS[0][1] + "!")], "near-duplicate"),
        ([*LETTERS[:3], ("Write.", "")], "empty-completion"),
        (
            [(p, "Off. Ann") for p, _ in LETTERS[:1]] + [(p, c[:20]) for p, c in LETTERS[1:]],
            "short",
        ),
        ([("Write me a letter, please.", c) for _, c in LETTERS], "same-prompts"),
        ([(p, f"Hello dear friend, {c}") for p, c in LETTERS], "same-openings"),
        ([*LETTERS[:3], ("Tell it all.", LETTERS[3][1] * 9)], "unbalanced"),
        ([*LETTERS[:3], ("Write.", LETTERS[3][1] + " ann@example.org")], "personal-data"),
        (LETTERS * 13, "too-many"),
    ],
)
def test_the_weightiest_thing_is_told(pairs: list[tuple[str, str]], code: str) -> None:
    """Of all that could be said, what costs a run most is the one line."""
    assert told(pairs) == code


def test_advice_counts_with_the_base_models_tokenizer() -> None:
    """What is too long is settled by the tokenizer's count where there is one."""
    demos = DemoSet.from_pairs(LETTERS)
    assert advise(demos, lambda text: 5000).code == "over-long"


def test_advice_never_quotes() -> None:
    """The line holds nothing of what was written."""
    demos = [
        Demonstration(f"demo-{n}", p, f"Zebra zebra zebra {c}") for n, (p, c) in enumerate(LETTERS)
    ]
    assert "zebra" not in advise(demos).message.lower()


def test_texts_outside_the_embedded_language_are_never_called_ready() -> None:
    """What the base model cannot learn is the one line, before what could be better."""
    demos = DemoSet.from_pairs(LETTERS)
    assert advise(demos, found=[note("warning", "outside-pocket")]).code == "outside-pocket"
