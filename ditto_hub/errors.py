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

Each is picklable (a message and a remedy, both plain strings) and says in its docstring whether
trying again makes sense.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ditto_hub.events import LeaseRefused


class DittoError(Exception):
    """Report a known failure: what happened with which value, and what to do next.

    Args:
        what: one sentence that names the value at fault.
        remedy: one sentence that says what to do next; may be empty where `what` says it.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what} {self.remedy}".strip()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.what, self.remedy)


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
        what: one sentence.
        remedy: one sentence.
        refusal: the `LeaseRefused` event, for whoever puts it into another language.
    """

    def __init__(self, what: str, remedy: str = "", refusal: LeaseRefused | None = None) -> None:
        super().__init__(what, remedy)
        self.refusal = refusal

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.what, self.remedy, self.refusal)


class HubError(DittoError, OSError):
    """The Hub refused a call or could not be reached. The message says whether to try again."""


class HubBusyError(HubError, TimeoutError):
    """The Hub gave no answer or failed in a way that passes. Try again."""


class JudgeError(DittoError, RuntimeError):
    """A judge cannot or will not give a verdict. The message says what it lacks."""


def describe(error: BaseException) -> tuple[str, str]:
    """Put an error into words for a person.

    Args:
        error: any exception; one that is not a `DittoError` is named as unexpected.

    Returns:
        What happened, and what to do next.
    """
    if isinstance(error, DittoError):
        return error.what, error.remedy
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted.", "The run is kept; `ditto-hub resume` goes on with it."
    kind = type(error).__name__
    return f"Something unexpected happened ({kind}).", "The log has the details; please report it."
