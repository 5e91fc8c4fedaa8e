"""Records that are read back from disk or the Hub: every field's type, range and size is checked.

A record is a dataclass; its annotations say what a field may hold, in the types below. Whatever
comes from a file may have been written by hand or by an attacker, so nothing is converted: a number
in quotes is a text, and 1 is no truth value. pydantic does the work and is loaded with the first
record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Le, MaxLen

from ditto_hub.words import Text, text_from_json

T = TypeVar("T")

Name = Annotated[str, MaxLen(4096)]
Sentence = Annotated[str, MaxLen(20_000)]
Moment = Annotated[float, Ge(0), Le(1e11)]  # seconds since the epoch
Seconds = Annotated[float, Ge(0), Le(1e11)]
Dollars = Annotated[float, Ge(0), Le(1e9)]
Count = Annotated[int, Ge(0), Le(2**53)]
Names = Annotated[dict[Name, Name], MaxLen(1_000)]
ROWS = MaxLen(100_000)
SHOWN = 3  # faults that a message names


class Keys:
    """Annotate a dict of which some keys have a known type; others may be there and are kept.

    Args:
        required: key -> type.
        optional: key -> type, for keys that may be missing.
    """

    def __init__(
        self, required: Mapping[str, Any] | None = None, optional: Mapping[str, Any] | None = None
    ) -> None:
        self.required = dict(required or {})
        self.optional = dict(optional or {})

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Return the schema that pydantic asks for."""
        from pydantic_core import core_schema

        known = {**self.required, **self.optional}
        fields = {
            key: core_schema.typed_dict_field(
                handler.generate_schema(kind), required=key in self.required
            )
            for key, kind in known.items()
        }
        return core_schema.typed_dict_schema(fields, extra_behavior="allow")


class _Message:
    """Annotate a text that is stored as a string, or as a message's code and values."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Return the schema that pydantic asks for."""
        from pydantic_core import core_schema

        message = Annotated[dict[str, Any], Keys({"code": Name, "values": dict[str, Any]})]
        stored = handler.generate_schema(Sentence | message)
        return core_schema.no_info_after_validator_function(text_from_json, stored)


Told = Annotated[Text, _Message()]
"""What is said to a person; before texts had codes, it was written as a plain string."""


def validated(kind: type[T], data: object) -> T:
    """Build a record from plain JSON data; fields that it does not know are left out.

    Args:
        kind: a dataclass.
        data: as `json.loads` returns it.

    Raises:
        ValueError: fields are missing, or of the wrong type, range or size; it names them and
            repeats no value.
    """
    from pydantic import ValidationError

    wanted: Any = kind
    try:
        record: T = _adapter(wanted).validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise ValueError(_words(error)) from None
    except (RecursionError, TypeError) as error:
        raise ValueError("it is no record") from error
    return record


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _words(error: Any) -> str:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    said = [
        f"{'.'.join(str(part)[:100] for part in fault['loc']) or 'it'}: {fault['msg']}"
        for fault in faults[:SHOWN]
    ]
    more = len(faults) - SHOWN
    return "; ".join([*said, *([f"and {more} more"] if more > 0 else [])])
