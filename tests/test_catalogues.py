"""The catalogues of words: every code has its text in every language, and each is used."""

from __future__ import annotations

import ast
import json
import pickle
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from ditto_hub import errors as errors_module
from ditto_hub import words
from ditto_hub.cost.profiles import space_file

BUILT = re.compile(r"""f["']([a-z_]+\.[a-z_.]*)\{""")  # the beginning of a code put together
WINGS = Path(errors_module.__file__).parent
CODE = re.compile(r"[a-z_]+(\.[a-z0-9_-]+)+")
# Their source is hashed into every result that was measured with them; judges.py says it by code.
HASHED = ("pocket/grammar", "pocket/judge", "pocket/persona", "pocket/traits", "pocket/writing")


def placeholders(text: str) -> set[str]:
    """Return the names of the values that a text asks for."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def errors_made() -> Iterator[tuple[str, ast.Call]]:
    """Yield where the package makes an error or a message, and the call."""
    for path in sorted(WINGS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in ("Message", "checked") or (
                    name.endswith("Error") and hasattr(errors_module, name)
                ):
                    yield f"{path.relative_to(WINGS)}:{node.lineno}", node


def said_by_code() -> Iterator[tuple[str, str, set[str]]]:
    """Yield where an error or a message is made by code, the code, and the values it is given."""
    for where, node in errors_made():
        if where.startswith(HASHED) or isinstance(node.args[0], ast.Call):
            continue  # another function's words
        given = {keyword.arg or "**" for keyword in node.keywords} - {"refusal"}
        for code in ast.walk(node.args[0]):
            if isinstance(code, ast.Constant) and CODE.fullmatch(str(code.value)):
                yield where, str(code.value), given


def codes_of(code: str) -> list[str]:
    """Return the catalogue's codes of an error's or a message's code."""
    return [c for c in (code, f"{code}.what", f"{code}.remedy") if words.known(c)]


def test_every_code_is_in_the_catalogue() -> None:
    """What errors and messages are made with has an English text, with the values it names."""
    for where, code, given in said_by_code():
        assert codes_of(code), f"{where}: no text for {code}"
        asked = set().union(*(placeholders(words.texts()[c]) for c in codes_of(code)))
        assert "**" in given or asked == given, f"{where}: {code} asks {asked}, given {given}"


def test_every_text_of_the_catalogue_is_used() -> None:
    """No code of the catalogues is one that nothing in the package, or a profile, names."""
    files = [*WINGS.rglob("*.py"), *space_file("profiles").glob("*.toml")]
    sources = "".join(path.read_text("utf-8") for path in files)
    named = set(re.findall(r"""["']([a-z_]+(?:\.[a-z0-9_-]+)+)["']""", sources))
    unused = {
        code
        for code in words.texts()
        if code.removesuffix(".what").removesuffix(".remedy").removesuffix(".page") not in named
        and code not in named
        and not code.startswith(tuple(BUILT.findall(sources)))
    }
    assert unused == set()


@pytest.mark.parametrize("language", words.LANGUAGES[1:])
def test_catalogues_agree(language: str) -> None:
    """Each language has the codes of English, and each text the same values."""
    english, other = words.catalogue("en"), words.catalogue(language)
    assert set(other) == set(english)
    for code, text in english.items():
        assert placeholders(other[code]) == placeholders(text), code


def test_no_error_carries_sentences() -> None:
    """Outside the hashed files no error and no message is made with a sentence."""
    found = []
    for where, node in errors_made():
        texts = [part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)]
        if any(" " in str(text) for text in texts):
            found.append(where)
    assert [where for where in found if not where.startswith(HASHED)] == []


def test_a_message_says_its_values_in_the_language() -> None:
    """A message inside a message is said in the same language."""
    inner = words.Message("demos.unknown_split.what", split="x")
    outer = words.Message("kinds.DemoError", what=inner)
    assert outer.say("zh-TW") == words.say("kinds.DemoError", "zh-TW", what=inner.say("zh-TW"))


def test_texts_are_put_together_in_the_language() -> None:
    """Several texts become one by what the language puts between them."""
    several = [words.Message("demos.one", count=1), "SFT", "DPO"]
    assert str(words.chained("words.or", several)) == "1 demonstration; or SFT; or DPO"
    assert words.told(words.chained("words.list", several), "zh-CN") == "1 条示范、SFT、DPO"
    assert words.chained("words.and", ["SFT"]) == "SFT"


def test_an_exception_made_with_a_message_is_said_as_that() -> None:
    """What another error tells of its cause is in the language too."""
    cause = ValueError(words.Message("runs.nothing_to_train_on"))
    said = words.Message("runs.file_damaged.what", path="x", error=cause).say("zh-TW")
    assert said == "x 已損壞：裡面沒有可用來訓練的示範。"
    assert str(cause) == "it holds no demonstration to train on"


def test_a_message_goes_through_pickle_and_json() -> None:
    """What a process or a run folder hands on is the same message."""
    inner = words.Message("runs.no_run.what", run="a")
    outer = words.Message("kinds.RunError", what=inner, path=Path("x"), n=1)
    assert pickle.loads(pickle.dumps(outer)) == outer
    assert words.text_from_json(json.loads(json.dumps(outer.to_json()))) == outer


def test_many_texts_are_not_nested_deep() -> None:
    """A hundred texts in a row can be kept and read; one nested deeper than that is refused."""
    said = words.chained(
        "words.then", [words.Message("words.list", one=i, other=i) for i in range(99)]
    )
    assert words.text_from_json(words.text_to_json(said)) == said
    deep: dict[str, object] = {"code": "words.then", "values": {}}
    for _ in range(words.DEEPEST):
        deep = {"code": "words.then", "values": {"one": deep, "other": ""}}
    with pytest.raises(ValueError, match="too deep"):
        words.text_from_json(deep)


def test_an_unknown_code_is_shown() -> None:
    """A message of another version's run is shown as its code and values."""
    assert words.Message("gone.for_good", n=3).say("zh-CN") == "gone.for_good n=3"
