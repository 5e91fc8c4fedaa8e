"""The tree of errors: its shape, its messages, its way through a pickle."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from ditto_hub import errors
from ditto_hub.api import read_demos
from ditto_hub.errors import DemoError, DittoError, describe

ALL = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, DittoError)]
STDLIB = {
    "DemoError": ValueError,
    "ConfigError": ValueError,
    "BaseModelError": ValueError,
    "ChatTemplateError": ValueError,
    "RunError": RuntimeError,
    "RunBusyError": BlockingIOError,
    "RunOwnerError": PermissionError,
    "StorageError": OSError,
    "BackendError": RuntimeError,
    "MemoryShortError": MemoryError,
    "LeaseError": RuntimeError,
    "HubError": OSError,
    "HubBusyError": TimeoutError,
    "JudgeError": RuntimeError,
}
named = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)


def test_table_is_whole() -> None:
    """Every class of the tree stands in the table of this test, and the other way round."""
    assert {c.__name__ for c in ALL} - {"DittoError"} == set(STDLIB)


@pytest.mark.parametrize(("name", "stdlib"), STDLIB.items())
def test_each_is_also_a_stdlib_error(name: str, stdlib: type[Exception]) -> None:
    """Code that knows nothing of ours catches each error under the standard library's name."""
    assert issubclass(getattr(errors, name), (DittoError, stdlib))
    assert issubclass(getattr(errors, name), stdlib)


@named
def test_pickle_keeps_both_sentences(kind: type[DittoError]) -> None:
    """An error that crosses a process keeps its class, what happened and what to do."""
    copy = pickle.loads(pickle.dumps(kind("It broke.", "Mend it.")))
    assert (type(copy), copy.what, copy.remedy) == (kind, "It broke.", "Mend it.")


@named
def test_text_is_what_and_remedy(kind: type[DittoError]) -> None:
    """An error reads as its two sentences, OSError's own formatting notwithstanding."""
    assert str(kind("It broke.", "Mend it.")) == "It broke. Mend it."
    assert str(kind("It broke.")) == "It broke."


@named
def test_docstring_says_what_it_is(kind: type[DittoError]) -> None:
    """Each class says in a docstring when it happens."""
    assert kind.__doc__


@named
def test_tree_is_drawn(kind: type[DittoError]) -> None:
    """The module's docstring draws every class."""
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.DemoError("Row 3 is empty.", "Fill it."), ("Row 3 is empty.", "Fill it.")),
        (KeyboardInterrupt(), ("Interrupted.", "`ditto-hub resume`")),
        (ZeroDivisionError("secret text"), ("ZeroDivisionError", "report")),
    ],
)
def test_describe(error: BaseException, words: tuple[str, str]) -> None:
    """`describe` gives a known error's own words, and names an unknown one by its class."""
    what, remedy = describe(error)
    assert words[0] in what
    assert words[1] in remedy


def test_describe_keeps_an_unknown_error_to_itself() -> None:
    """An unexpected error's message, which may hold a user's text, is not shown."""
    assert "secret" not in " ".join(describe(ValueError("secret")))


@pytest.mark.parametrize("value", ["x" * 50_000, Path("x" * 50_000)])
def test_a_value_of_any_length_leaves_a_message_that_a_page_can_show(value: object) -> None:
    """Its start and its end are shown."""
    error = DemoError("files.missing", file=value)
    assert len(str(error)) < 3_000
    assert "x [...] x" in str(error)
    assert len(str(pickle.loads(pickle.dumps(error)))) < 3_000


def test_demonstrations_of_another_type_are_refused_in_words() -> None:
    """A list of dictionaries is no file's name."""
    with pytest.raises(DemoError, match=r"type list.*from_pairs"):
        read_demos([{"prompt": "a", "completion": "b"}])  # type: ignore[arg-type]
