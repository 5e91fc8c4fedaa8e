"""The app's words: every text in every language, and the visitor's language found."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ditto_hub import words
from ditto_hub.config import SECTIONS, dials
from ditto_hub.cost.profiles import PROFILE_NAMES, load_profile
from ditto_hub.errors import ConfigError, DemoError, HubBusyError, LeaseError, RunError, describe
from ditto_hub.events import LeaseRefused
from ditto_hub.runs.lease_words import Around, lease_line
from ditto_hub.ui.i18n import words as module
from ditto_hub.ui.i18n.words import i18n, locale_of, marked, t
from ditto_hub.words import ENGLISH, LANGUAGES, Message, say

UI = Path(module.__file__).parents[1]


class Asked:
    """Stand where a request does: all that is read of one are its headers."""

    def __init__(self, accept_language: str | None) -> None:
        self.headers = {} if accept_language is None else {"accept-language": accept_language}


def codes_in_use() -> set[str]:
    """Return every code that a module of the app gives to `t` or `say` as a plain text."""
    found = set()
    for path in UI.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("t", "say"):
                code = node.args[0]
                if isinstance(code, ast.Constant):
                    found.add(code.value)
    return found


def test_every_code_in_use_has_a_text() -> None:
    """What the app asks for with `t` and `say` is in the catalogues."""
    assert codes_in_use() - set(words.texts()) == set()


@pytest.mark.parametrize(
    ("header", "locale"),
    [
        (None, "en"),
        ("", "en"),
        ("en-US,en;q=0.9", "en"),
        ("zh-TW,zh;q=0.9,en;q=0.8", "zh-TW"),
        ("zh-HK", "zh-TW"),
        ("zh-Hant-HK", "zh-TW"),
        ("zh-MO,en", "zh-TW"),
        ("zh-CN,zh;q=0.9", "zh-CN"),
        ("zh-Hans-SG", "zh-CN"),
        ("zh", "zh-CN"),
        ("fr-FR,zh-TW;q=0.5", "zh-TW"),
        ("en;q=0.3, zh-CN;q=0.8", "zh-CN"),
        ("zh-TW;q=0, en", "en"),
        ("fr,de", "en"),
        ("zh-TW;q=high, zh-CN", "zh-CN"),
        ("x" * 10_000, "en"),
    ],
)
def test_the_visitors_language_is_found(header: str | None, locale: str) -> None:
    """The first language the browser asks for, of those the app speaks, is taken."""
    assert locale_of(Asked(header)) == locale  # type: ignore[arg-type]


def test_no_request_means_english() -> None:
    """A call from outside a browser is answered in English."""
    assert locale_of(None) == ENGLISH


def test_t_gives_the_mark_that_gradio_translates() -> None:
    """What stands in a label is Gradio's own mark with the code."""
    mark = {"__type__": "translation_metadata", "key": "x.y"}
    assert t("x.y").to_dict() == marked(Message("x.y")).to_dict() == mark  # type: ignore[union-attr]
    assert marked("An owner's own text.") == "An owner's own text."


def test_the_browser_gets_every_language() -> None:
    """Gradio is given the same codes in all three languages, those of the offers among them."""
    given = i18n().translations
    offers = {o.words.code for name in PROFILE_NAMES for o in load_profile(name).base_models}
    assert all(set(given[language]) >= codes_in_use() | offers for language in LANGUAGES)
    assert len({frozenset(given[language]) for language in LANGUAGES}) == 1


def test_an_error_is_told_in_the_language() -> None:
    """What happened and what to do are both told."""
    error = DemoError("files.empty", name="a.csv")
    assert describe(error, "zh-CN") == ("a.csv 是空的。", "请至少给两条示范。")
    assert describe(error, ENGLISH) == (error.what, error.remedy)


def test_an_error_without_a_code_keeps_its_words_behind_its_kind() -> None:
    """A message that has no code stays whole, after a summary in the language."""
    what, remedy = describe(HubBusyError("Odd things happen.", "Wait for rain."), "zh-TW")
    assert what == "Hub 暫時沒有回應：Odd things happen."
    assert remedy == "Wait for rain."


def test_an_unexpected_error_is_told_too() -> None:
    """An error that is none of ours is named in the language, without its text."""
    assert describe(ZeroDivisionError("secret"), "zh-TW")[0] == (
        "發生了意料之外的問題（ZeroDivisionError）。"
    )


def test_a_refused_lease_is_told_in_the_language() -> None:
    """A lease that was refused is said in the visitor's language."""
    refusal = LeaseRefused(reason="no-gpu", asked_s=60)
    said = lease_line(refusal, Around(writing=True))
    what, _ = describe(LeaseError(said, refusal=refusal), "zh-TW")
    assert what == "目前沒有可用的 GPU；請在您要求時再試。"


def test_values_are_never_read_as_patterns() -> None:
    """Braces in a value stay as they are."""
    assert say("imports.choose_columns", "zh-TW", name="{0} {x}") == "{0} {x}：請選擇欄位。"
    error = ConfigError("config.no_section", section="{a}{b}", sections="lora")
    assert "{a}{b}" in describe(error, "zh-TW")[0]


def test_the_form_explains_a_setting_as_the_command_line_does() -> None:
    """A setting has one explanation in English, config.py's."""
    for section in SECTIONS:
        for name, dial in dials(section).items():
            assert say(f"dials.{section}.{name}.about", ENGLISH) == str(dial)


def test_a_page_names_no_command() -> None:
    """Where a remedy names a command, a page has words of its own, in every language."""
    error = RunError("runs.read_only", run_id="x")
    for language in LANGUAGES:
        assert "ditto-hub" in describe(error, language)[1]
        assert "ditto-hub" not in describe(error, language, page=True)[1]
    plain = RunError("runs.schema_too_new", where="x", version=9, schema_version=2)
    assert describe(plain, page=True) == describe(plain)
