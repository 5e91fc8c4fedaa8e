"""The process that reads one file for `apart`: its limits, and its answer as JSON on stdout."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

from ditto_hub.demos.importers.preview import preview, preview_bytes
from ditto_hub.errors import DemoError
from ditto_hub.words import Message, text_to_json

MOST_BYTES = 3 * 1024**3  # of address space: several times what reading may take


def main() -> None:
    """Read the file that is named, or stdin, and write its preview, or why there is none."""
    seconds, path, *name = sys.argv[1:]
    _limit(int(seconds))
    answer: dict[str, Any]
    try:
        if path == "-":
            answer = preview_bytes(sys.stdin.buffer.read(), name[0]).to_json()
        else:
            answer = preview(path).to_json()
    except DemoError as error:
        told = Message(error.code, **error.values) if error.code else str(error)
        answer = {"error": text_to_json(told)}
    sys.stdout.buffer.write(json.dumps(answer).encode())


def _limit(seconds: int) -> None:
    """Bound this process's memory and time, where the system can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


if __name__ == "__main__":
    main()
