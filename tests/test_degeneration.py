"""Signs of degeneration, counted by hand, in scripts with and without spaces."""

from __future__ import annotations

import pytest

from ditto_hub.evaluation.degeneration import (
    MEASURES,
    distinct,
    length_ratio,
    longest_copied_run,
    measure,
    self_repetition,
)
from ditto_hub.evaluation.text_units import split_units


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("Hello, world!", ["Hello", ",", "world", "!"]),
        ("don't stop", ["don't", "stop"]),
        ("'quoted' rock’n’roll", ["'", "quoted", "'", "rock’n’roll"]),
        ("明日の会議は中止です。", list("明日の会議は中止です。")),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("Привет, мир", ["Привет", ",", "мир"]),
        ("مرحبا بالعالم؟", ["مرحبا", "بالعالم", "؟"]),
        ("mix 会議 ok", ["mix", "会", "議", "ok"]),
        ("v2 at 6pm", ["v2", "at", "6pm"]),
        ("", []),
        (" \n\t", []),
    ],
)
def test_units_in_every_script(text: str, units: list[str]) -> None:
    """Words where there are spaces, characters with their marks where there are none."""
    assert split_units(text) == units


def test_length_ratio_by_hand() -> None:
    """Ten characters against demonstrations of four and six are twice as long."""
    assert length_ratio(["a" * 10], ["b" * 4, "c" * 6]) == 2.0


def test_length_ratio_without_demonstrations() -> None:
    """With nothing to compare with the ratio is 1."""
    assert length_ratio(["abc"], []) == 1.0


@pytest.mark.parametrize(
    ("texts", "n", "value"),
    [
        (["a b a b"], 1, 0.5),
        (["a b a b"], 2, 2 / 3),
        (["a b", "a b"], 2, 0.5),
        (["A a"], 1, 0.5),
        ([""], 2, 1.0),
    ],
)
def test_distinct_by_hand(texts: list[str], n: int, value: float) -> None:
    """Distinct-n counts over all texts together and folds case."""
    assert distinct([split_units(t) for t in texts], n) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("a b c d", 0.0), ("a b c", 0.0), ("a b c d a b c d", 0.2), ("la la la la la la", 2 / 3)],
)
def test_self_repetition_by_hand(text: str, value: float) -> None:
    """Of the 4-word runs of a text, the share that stood before."""
    assert self_repetition(split_units(text)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "demos", "run"),
    [
        ("we meet at ten", ["They say we meet at noon"], 3),
        ("we meet at ten", ["nothing alike"], 0),
        ("we meet at ten", [], 0),
        ("we meet at ten", ["we meet", "at ten, we meet at ten"], 4),
        ("明日の会議は中止", ["今日の会議は延期"], 5),
        ("", ["abc"], 0),
    ],
)
def test_longest_copied_run_by_hand(text: str, demos: list[str], run: int) -> None:
    """The longest run of units that one demonstration holds as well."""
    assert longest_copied_run(text, demos) == run


def test_a_memorised_demonstration_is_a_copy() -> None:
    """A text that repeats a demonstration counts as a copy, a new one in its voice does not."""
    demo = "Hey crew, the picnic moves to Friday because of rain. Bring a hat!"
    fresh = "Hey crew, movie night is on Tuesday, so come early!"
    assert measure([demo], [demo])["copies"] == 1.0
    assert measure([demo], [demo])["copied_share"] == 1.0
    assert measure([fresh], [demo])["copies"] == 0.0


def test_measure_reports_every_measure() -> None:
    """All measures of the table are there, also for empty texts."""
    found = measure(["", "fine text"], ["some demo"])
    assert set(found) == set(MEASURES)
    assert found["empty"] == 0.5
