"""Everything that can go wrong in a way we know about, as one tree.

    DittoError
    |-- DemoError            (ValueError)        a demonstration or a file of them is unusable
    |-- ConfigError          (ValueError)        a setting is out of range or unknown
    |-- BaseModelError       (ValueError)        this base model cannot be trained or read
    |-- ChatTemplateError    (ValueError)        the base model's chat template refuses the turns
    |-- RunError             (RuntimeError)      a run folder is missing, damaged or unfit
    |   |-- RunBusyError     (BlockingIOError)   another process holds the run; try again later
    |   |-- RunOwnerError    (PermissionError)   the run belongs to somebody else
    |   `-- StorageError     (OSError)           disk full, read-only folder; try again once mended
    |-- BackendError         (RuntimeError)      where a run executes has failed; resumable
    |   |-- MemoryShortError (MemoryError)       the run does not fit this device
    |   `-- LeaseError       (RuntimeError)      no GPU lease was given, or it was taken away
    |-- HubError             (OSError)           the Hub refused or could not be reached
    |   `-- HubBusyError     (TimeoutError)      no answer, or a passing failure; try again
    `-- JudgeError           (RuntimeError)      a judge cannot or will not give a verdict

Each is picklable (a code and its values) and says in its docstring whether
trying again makes sense.
"""

from __future__ import annotations

from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ditto_hub.words import ENGLISH, Message, Text, chained, for_page, known, say, told

if TYPE_CHECKING:
    from ditto_hub.events import LeaseRefused


LONGEST_VALUE = 2000  # characters: a page and a record can show them


def _short(value: Any) -> Any:
    if isinstance(value, str | PurePath) and len(text := str(value)) > LONGEST_VALUE:
        half = LONGEST_VALUE // 2
        return f"{text[:half]} [...] {text[-half:]}"
    return value


class DittoError(Exception):
    """Report a known failure: what happened with which value, and what to do next.

    Args:
        code: the catalogues have its text as `<code>.what` and, where there is something to do,
            `<code>.remedy`. Anything else is said as it is, in every language.
        remedy: what to do next, where the code is not the catalogues'.
        values: what the texts name.
    """

    def __init__(self, code: Text, remedy: Text = "", /, **values: Any) -> None:
        self.code = code if isinstance(code, str) and known(f"{code}.what") else ""
        self.values = {name: _short(value) for name, value in values.items()}
        self.happened: Text = code
        self.todo: Text = remedy
        if self.code:
            self.happened = Message(f"{code}.what", **self.values)
            if known(f"{code}.remedy"):
                self.todo = Message(f"{code}.remedy", **self.values)
        self._given = (code, remedy)
        super().__init__(self.what, self.remedy)

    @property
    def what(self) -> str:
        """What happened, in English."""
        return told(self.happened)

    @property
    def remedy(self) -> str:
        """What to do next, in English; may be empty."""
        return told(self.todo)

    @property
    def both(self) -> Text:
        """What happened and what to do next."""
        return chained("words.then", filter(None, [self.happened, self.todo]))

    def __str__(self) -> str:
        return told(self.both)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self.values), self._given


class DemoError(DittoError, ValueError):
    """A demonstration, or a file of them, is unusable. Trying again needs another input."""


class ConfigError(DittoError, ValueError):
    """A setting is unknown, of the wrong type, or out of range. Try again with another value."""


class BaseModelError(DittoError, ValueError):
    """The base model cannot be used for training. Trying again needs another base model."""


class ChatTemplateError(DittoError, ValueError):
    """The chat template is missing or refuses the conversation. Try again with other turns."""


class RunError(DittoError, RuntimeError):
    """A run folder is missing, damaged, or not in the state that the call needs."""


class RunBusyError(RunError, BlockingIOError):
    """Another process holds the run. Try again when it has ended."""


class RunOwnerError(RunError, PermissionError):
    """The run belongs to somebody else. Trying again does not help."""


class StorageError(RunError, OSError):
    """The disk refused a write; what was saved before is whole. Try again once there is room."""


class BackendError(DittoError, RuntimeError):
    """The place where a run executes has failed. The run is saved and can be resumed."""


class MemoryShortError(BackendError, MemoryError):
    """The run does not fit the device's memory. Try again with a smaller base or batch."""


class LeaseError(BackendError):
    """No lease of a GPU was given, or it was taken away; the refusal says when to try again.

    Args:
        code: as of every error.
        remedy: as of every error.
        refusal: the `LeaseRefused` event, for whoever puts it into another clock's time.
        values: as of every error.
    """

    def __init__(
        self, code: Text, remedy: Text = "", /, refusal: LeaseRefused | None = None, **values: Any
    ) -> None:
        super().__init__(code, remedy, **values)
        self.refusal = refusal

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), refusal=self.refusal, **self.values), self._given


class HubError(DittoError, OSError):
    """The Hub refused a call or could not be reached. The message says whether to try again."""


class HubBusyError(HubError, TimeoutError):
    """The Hub gave no answer or failed in a way that passes. Try again."""


class JudgeError(DittoError, RuntimeError):
    """A judge cannot or will not give a verdict. The message says what it lacks."""


def describe(error: BaseException, language: str = ENGLISH, page: bool = False) -> tuple[str, str]:
    """Put an error into words for a person.

    Args:
        error: any exception; one that is not a `DittoError` is named as unexpected.
        language: one of `words.LANGUAGES`.
        page: whether it is read in a browser, where no command can be typed.

    Returns:
        What happened, and what to do next. What no catalogue has stays in its language, behind a
        summary of the error's kind.
    """
    if isinstance(error, DittoError):
        what = told(error.happened, language)
        if language != ENGLISH and isinstance(error.happened, str):
            kinds = (f"kinds.{kind.__name__}" for kind in type(error).__mro__)
            what = say(next(filter(known, kinds)), language, what=what)
        return what, told(for_page(error.todo) if page else error.todo, language)
    if isinstance(error, KeyboardInterrupt):
        return say("errors.interrupted.what", language), say("errors.interrupted.remedy", language)
    kind = type(error).__name__
    return (
        say("errors.unexpected.what", language, kind=kind),
        say("errors.unexpected.remedy", language),
    )
