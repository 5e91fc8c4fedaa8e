"""The app's words: every text in every language, and the visitor's language found."""

from __future__ import annotations

import ast
import string
import tomllib
from pathlib import Path

import pytest
from sentences import sentences

from ditto_hub.errors import ConfigError, DemoError, HubBusyError, LeaseError
from ditto_hub.events import LeaseRefused
from ditto_hub.ui import words as module
from ditto_hub.ui.words import (
    ENGLISH,
    LOCALES,
    catalogue,
    i18n,
    locale_of,
    say,
    t,
    tell,
    tell_error,
)

PACKAGE = Path(module.__file__).parents[1]
TRANSLATED = LOCALES[1:]


class Asked:
    """Stand where a request does: all that is read of one are its headers."""

    def __init__(self, accept_language: str | None) -> None:
        self.headers = {} if accept_language is None else {"accept-language": accept_language}


def placeholders(text: str) -> set[str]:
    """Return the names of the values that a text asks for."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def keys_in_use() -> set[str]:
    """Return every key that a module of the app gives to `t` or `say` as a plain text."""
    found = set()
    for path in (PACKAGE / "ui").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("t", "say"):
                key = node.args[0]
                if isinstance(key, ast.Constant):
                    found.add(key.value)
    return found


def test_every_key_in_use_has_a_text() -> None:
    """What the app asks for with `t` and `say` is in some module's WORDS."""
    assert keys_in_use() - set(module.words()) == set()


@pytest.mark.parametrize("locale", TRANSLATED)
def test_every_key_is_translated(locale: str) -> None:
    """Every key has a text in every language, and no file has one that is not used."""
    assert set(catalogue(locale).words) == set(module.words())


@pytest.mark.parametrize("locale", TRANSLATED)
def test_placeholders_agree(locale: str) -> None:
    """A translation asks for the same values as the English text."""
    for key, told in module.words().items():
        assert placeholders(told.get(locale, told[ENGLISH])) == placeholders(told[ENGLISH]), key


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
    """What stands in a label is Gradio's own mark with the key."""
    assert t("x.y").to_dict() == {"__type__": "translation_metadata", "key": "x.y"}


def test_the_browser_gets_every_language() -> None:
    """Gradio is given the same keys in all three languages."""
    given = i18n().translations
    keys = set(module.words())
    assert all(set(given[locale]) >= keys for locale in LOCALES)
    assert len({frozenset(given[locale]) for locale in LOCALES}) == 1
    assert all("內附" in told for key, told in given["zh-TW"].items() if "embedded: a run" in key)


@pytest.mark.parametrize("locale", TRANSLATED)
def test_every_sentence_is_translated(locale: str) -> None:
    """Whatever an error or a finding says on a page is known in every language."""
    known = tomllib.loads((module.FOLDER / f"{locale}.toml").read_text("utf-8"))["sentences"]
    assert {text: where for text, where in sentences().items() if text not in known} == {}


@pytest.mark.parametrize("locale", TRANSLATED)
def test_sentences_keep_their_values(locale: str) -> None:
    """A translated sentence has every value of the English one."""
    known = tomllib.loads((module.FOLDER / f"{locale}.toml").read_text("utf-8"))["sentences"]
    for english, told in known.items():
        assert set(module.VALUE.findall(english)) == set(module.VALUE.findall(told)), english


@pytest.mark.parametrize("locale", TRANSLATED)
def test_both_languages_know_the_same_sentences(locale: str) -> None:
    """No sentence is known in one language alone, and each has a text of its own."""
    mine, other = (
        tomllib.loads((module.FOLDER / f"{name}.toml").read_text("utf-8"))
        for name in (locale, "zh-TW")
    )
    assert set(mine["sentences"]) == set(other["sentences"])
    assert set(mine["kinds"]) == set(other["kinds"])
    assert all(text.strip() for text in mine["sentences"].values())


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("There is no file a b.csv.", "沒有檔案 a b.csv。"),
        ("demo-1, demo-2: what looks like a phone number may come back in generated text.",
         "demo-1, demo-2：看起來像電話號碼，可能會出現在生成的文字裡。"),
        ("x.csv, line 2: The column 'b' holds no text.", "x.csv，第 2 行：欄位 'b' 沒有文字。"),
        ("There are too few: 1 demonstration, and 2 is the least.",
         "太少了：只有 1 則示範，至少要 2 則。"),
        ("The completion is null.", "completion 是 null。"),
        ("The completion of everything is that it ends.",
         "The completion of everything is that it ends."),
        ("Nobody ever said this.", "Nobody ever said this."),
        ("Write one {\"prompt\": \"...\", \"completion\": \"...\"} a line.",
         "請一行寫一個 {\"prompt\": \"...\", \"completion\": \"...\"}。"),
        ("There is no run {0}.", "沒有訓練 {0}。"),
        ("There are too few: 0 demonstrations, and 2 is the least. demo-1 has an empty completion.",
         "太少了：只有 0 則示範，至少要 2 則。demo-1 的回應是空的。"),
        ("x" * 10_000, "x" * 10_000),
    ],
)  # fmt: skip
def test_sentences_are_told_with_their_values(english: str, chinese: str) -> None:
    """A known sentence is told in the language with its values; an unknown one stays."""
    assert tell(english, "zh-TW") == chinese
    assert tell(english, ENGLISH) == english


def test_an_error_is_told_in_the_language() -> None:
    """What happened and what to do are both told."""
    error = DemoError("a.csv is empty.", "Two demonstrations are the least.")
    assert tell_error(error, "zh-CN") == ("a.csv 是空的。", "至少要两条示范。")
    assert tell_error(error, ENGLISH) == (error.what, error.remedy)


def test_an_unknown_error_keeps_its_words_behind_its_kind() -> None:
    """A message that has no translation stays whole, after a summary in the language."""
    what, remedy = tell_error(HubBusyError("Odd things happen.", "Wait for rain."), "zh-TW")
    assert what == "Hub 暫時沒有回應：Odd things happen."
    assert remedy == "Wait for rain."


def test_an_unexpected_error_is_told_too() -> None:
    """An error that is none of ours is named in the language, without its text."""
    assert tell_error(ZeroDivisionError("secret"), "zh-TW")[0] == (
        "發生了意料之外的問題（ZeroDivisionError）。"
    )


def test_a_refused_lease_is_told_in_the_language() -> None:
    """A lease that was refused is told from its event, not from its English words."""
    refusal = LeaseRefused(reason="no-gpu", asked_s=60)
    what, _ = tell_error(LeaseError("English.", refusal=refusal), "zh-TW")
    assert what == "目前沒有可用的 GPU；請在您要求時再試。"


def test_values_are_never_read_as_patterns() -> None:
    """Braces in a value stay as they are, in words and in sentences."""
    assert say("imports.choose_columns", "zh-TW", name="{0} {x}") == "{0} {x}：請選擇欄位。"
    error = ConfigError("There is no setting {a}{b}.")
    assert tell_error(error, "zh-TW")[0] == "沒有設定項 {a}{b}。"
