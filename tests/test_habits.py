"""What a text shares with examples by its form, and the picture that marks it."""

from __future__ import annotations

import pytest

from ditto_hub.runs.folder import Run
from ditto_hub.runs.results import load_all
from ditto_hub.ui.html.example import Example, picture
from ditto_hub.ui.html.habits import habits_of, shared
from ditto_hub.words import LANGUAGES, say

EXAMPLES = [
    "Tom, good news.\n\nIt is done.\n\nOne thing: oil it.\n\nInes",
    "Mr. Avery, good news.\n\nThe roof is dry.\n\nOne thing: the key.\n\nInes",
]


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("Sam, hello.\n\nInes", [("greeting", "Sam,"), ("sign_off", "Ines")]),
        ("Dear Sam,\n\nhello.\n\nInessa", []),  # the line ends at the name
        ("He saw one thing\nand left", [("phrase", "one thing")]),
        ("Note: good news", [("mark", ":"), ("phrase", "good news")]),
        ("Note:\nit is", []),  # a mark within a line alone
        ("", []),
    ],
)
def test_what_is_as_in_the_examples_is_found(text: str, marked: list[tuple[str, str]]) -> None:
    """Greeting, sign-off, phrases and marks, by their form."""
    found = shared(text, habits_of(EXAMPLES))
    assert [(span.kind, text[span.start : span.end]) for span in found] == marked


def test_no_examples_have_no_habits() -> None:
    """Nothing is shared with nothing."""
    assert shared("Sam, one thing: no.\n\nInes", habits_of([])) == []


@pytest.mark.parametrize("locale", LANGUAGES)
def test_the_picture_shows_the_shipped_run_as_it_is(locale: str) -> None:
    """Every prompt and stage is there, one of them shown, with what it was made with."""
    run = Run.load("example:smollm2")
    html = picture(Example(run, load_all(run)[0]), locale)
    assert html.count("data-stage=") == 3 * 6
    assert "SmolLM2-135M-Instruct" in html
    assert load_all(run)[0].date in html
    assert say("welcome.habit_greeting", locale) in html
    assert "<mark>Sam,</mark>" in html


def test_the_picture_escapes_what_a_model_wrote() -> None:
    """No text of a run becomes markup."""
    run = Run.load("example:smollm2")
    data = load_all(run)[0].to_json()
    for answer in data["answers"]:
        answer["text"] = "Sam, <img src=x onerror=alert(1)>\n\nInes"
    html = picture(Example(run, type(load_all(run)[0]).from_json(data)), "en")
    assert "<img" not in html
    assert "&lt;img" in html
