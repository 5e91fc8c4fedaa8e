"""Previews made in a process of their own: bounded in time and memory, few at once.

A file from a stranger is read where it can neither stop the app's other work nor take its memory
along, and where no token is in the environment. A visitor has one file read at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from ditto_hub.demos.importers.preview import Preview
from ditto_hub.errors import DemoError
from ditto_hub.words import Message, text_from_json

SECONDS = 60.0  # for one file, with others at work on the same cores
CPU_SECONDS = 20
AT_ONCE = 2
WAIT_S = 60.0  # for a place among those
KEPT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "TMPDIR")

_places = threading.BoundedSemaphore(AT_ONCE)
_reading: set[str] = set()
_lock = threading.Lock()


def preview_apart(path: str | Path, visitor: str = "", seconds: float = SECONDS) -> Preview:
    """Show what a file offers, read in a process of its own.

    Args:
        path: of the file.
        visitor: whose file it is, of whom one file is read at a time; "" for nobody in particular.
        seconds: after which reading is stopped.

    Raises:
        DemoError: nothing in it can be read, it takes too long, or another one is being read.
    """
    return _asked([str(path)], b"", Path(path).name, visitor, seconds)


def preview_bytes_apart(
    data: bytes, name: str, visitor: str = "", seconds: float = SECONDS
) -> Preview:
    """Show what bytes offer that came with a name, read in a process of their own.

    Raises:
        DemoError: as `preview_apart`.
    """
    return _asked(["-", name], data, name, visitor, seconds)


@contextlib.contextmanager
def _place(visitor: str, name: str) -> Iterator[None]:
    """Hold one of the few places, and the visitor's only one.

    Raises:
        DemoError: the visitor has one already, or none gets free.
    """
    with _lock:
        if visitor and visitor in _reading:
            raise DemoError("files.reader_busy")
        if visitor:
            _reading.add(visitor)
    try:
        if not _places.acquire(timeout=WAIT_S):
            raise DemoError("files.too_slow", name=name, seconds=WAIT_S)
        try:
            yield
        finally:
            _places.release()
    finally:
        with _lock:
            _reading.discard(visitor)


def _asked(asked: list[str], data: bytes, name: str, visitor: str, seconds: float) -> Preview:
    root = str(Path(__file__).parents[3])
    kept = {key: os.environ[key] for key in KEPT if key in os.environ}
    surroundings = {
        **kept,
        "PYTHONPATH": root,
        "OMP_NUM_THREADS": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # which reserves no more than it uses
    }
    command = [sys.executable, "-m", "ditto_hub.demos.importers.child", str(CPU_SECONDS)]
    with _place(visitor, name):
        try:
            done = subprocess.run(
                [*command, *asked],
                input=data,
                capture_output=True,
                timeout=seconds,
                env=surroundings,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DemoError("files.too_slow", name=name, seconds=seconds) from error
        except OSError as error:
            raise DemoError("files.reader_ended", name=name) from error
    if done.returncode == -signal.SIGXCPU:
        raise DemoError("files.too_slow", name=name, seconds=CPU_SECONDS)
    return _answered(done.stdout, name)


def _answered(output: bytes, name: str) -> Preview:
    try:
        answer = json.loads(output)
    except ValueError as error:
        raise DemoError("files.reader_ended", name=name) from error
    if "error" in answer:
        told = text_from_json(answer["error"])
        if isinstance(told, Message):
            raise DemoError(told.code, **told.values)
        raise DemoError(told)
    return Preview.from_json(answer)
