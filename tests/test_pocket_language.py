"""Which texts the embedded base model can learn to write, told before a run."""

from __future__ import annotations

import pytest

from ditto_hub import api, pocket
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.pocket.language import known_share, speaks

OWN = (
    "Honestly, I never understood why my grandfather kept bees until the summer he taught me how"
    " to lift a frame without crushing anybody."
)


@pytest.mark.parametrize("voice", pocket.voices())
def test_the_shipped_voices_are_in_its_language(voice: str) -> None:
    """No warning where there is nothing to warn of."""
    assert api.outside_pocket(api.read_demos(f"example:{voice}")) == []


@pytest.mark.parametrize(
    "text", [OWN, "Liebe Grüße aus dem Süden, bis bald!", "明日の会議は三時です"]
)
def test_a_persons_own_text_is_outside(text: str) -> None:
    """English of one's own, and every other language."""
    assert not speaks(text)


def test_a_text_without_words_is_not_accused() -> None:
    """There is nothing to tell it by."""
    assert known_share("12:30!") == 1.0


def test_the_check_names_the_demonstrations_and_the_way_out() -> None:
    """As a warning, for the run may go on; of other base models nothing is said."""
    demos = DemoSet.from_pairs([("Write about bees.", OWN), ("Write more.", OWN + " Twice.")])
    found = [f for f in api.check(demos, "pocket") if f.code == "outside-pocket"]
    assert [(f.level, f.ids) for f in found] == [("warning", ("demo-1", "demo-2"))]
    assert "smollm2" in found[0].message
    assert not [f for f in api.check(demos) if f.code == "outside-pocket"]
