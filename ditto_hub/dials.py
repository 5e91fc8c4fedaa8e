"""What a setting means and which values it takes, written beside the setting and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import get_args, get_type_hints

from ditto_hub.errors import ConfigError
from ditto_hub.words import Message


@dataclass(frozen=True)
class Dial:
    """Say what a setting means and which values it takes.

    Args:
        text: meaning and unit.
        low: smallest number allowed, or None for no bound.
        high: largest number allowed, or None for no bound.
        choices: the words allowed, for a setting that is a word.
    """

    text: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def takes(self, value: float | str | bool) -> bool:
        """Tell whether a value of the right type is in range."""
        if isinstance(value, str):
            return not self.choices or value in self.choices
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.choices:
            return f"{self.text} (one of {', '.join(self.choices)})"
        if self.low is None and self.high is None:
            return self.text
        if self.high is None:
            return f"{self.text} (at least {self.low:g})"
        return f"{self.text} ({self.low:g} to {self.high:g})"


class Section:
    """Check each field of a section of settings against its `Dial` when one is built."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for name, hint in hints.items():
            kind, dial = get_args(hint)
            value = getattr(self, name)
            if kind is float and type(value) is int:
                value = float(value)
                object.__setattr__(self, name, value)
            section = re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()
            where = f"{section}.{name}"
            about = Message(f"dials.{where}.about")
            if type(value) is not kind:
                raise ConfigError(
                    "config.wrong_type", where=where, value=value, kind=kind.__name__, dial=about
                )
            if not dial.takes(value):
                raise ConfigError("config.out_of_range", where=where, value=value, dial=about)
