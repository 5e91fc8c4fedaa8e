"""Files that unfold, nest or repeat without end: memory bounded, work in proportion, told apart."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import pyarrow as pa
import pytest
from hostile import FILES, chatgpt, filled, parquet

from ditto_hub.demos.importers import apart, preview_bytes
from ditto_hub.demos.importers.apart import preview_apart, preview_bytes_apart
from ditto_hub.errors import DemoError

MOST_MB = 200
GOOD = b'{"prompt": "a", "completion": "b"}\n'


@pytest.mark.parametrize("name", FILES)
def test_no_file_takes_much_memory(tmp_path: Path, name: str) -> None:
    """Reading takes at most 200 MB over the start, and ends in a preview or in words."""
    file = tmp_path / name
    file.write_bytes(FILES[name]())
    script = Path(__file__).with_name("peak.py")
    done = subprocess.run(
        [sys.executable, str(script), str(file)], capture_output=True, text=True, timeout=120
    )
    file.unlink()
    assert done.returncode == 0, done.stderr[-500:]
    peak, said = json.loads(done.stdout)
    assert peak < MOST_MB, said


# ---- work in proportion -------------------------------------------------------------------------


def letter(body: str, kind: str = "plain") -> bytes:
    """Return a letter."""
    message = EmailMessage()
    message["From"], message["Subject"] = "ann@example.org", "x"
    message.set_content(body, subtype=kind)
    return bytes(message)


def parts(count: int) -> bytes:
    """Return a message of ChatGPT with very many marks of citations that never end."""
    text = "\ue200" * count
    return chatgpt(2).replace(b'"hi"', json.dumps(text).encode())


# name, and a file in proportion to a number
GROWING: dict[str, Callable[[int], tuple[str, bytes]]] = {
    "rows": lambda n: ("a.jsonl", GOOD * (n * 2)),
    "array": lambda n: ("a.json", b"[" + b",".join([GOOD] * (n * 2)) + b"]"),
    "broken lines": lambda n: ("a.jsonl", GOOD + b'{"prompt"\n' * (n * 10)),
    "open lines": lambda n: ("a.jsonl", GOOD + b'{"prompt": [\n' * (n * 10)),
    "blank lines": lambda n: ("a.jsonl", GOOD + b"\n" * (n * 200) + GOOD),
    "blank cells": lambda n: ("a.csv", b"prompt,completion\n" + b"\n" * (n * 40) + b"a,b\n"),
    "columns": lambda n: ("a.csv", b"a," * (n * 10) + b"b\n" + b"1," * (n * 10) + b"1\n"),
    "same columns": lambda n: ("a.csv", b"prompt," * n + b"completion\n" + b"1," * n + b"1\n"),
    "keys": lambda n: ("a.jsonl", json.dumps({f"k{k}": "x" for k in range(n * 20)}).encode()),
    "quotes": lambda n: ("a.csv", b"prompt,completion\n" + b'a,"b\n' * (n * 20)),
    "one role": lambda n: ("c.json", chatgpt(n * 4, text="hi" * 100)),
    "citations": lambda n: ("c.json", parts(n * 100)),
    "turns": lambda n: ("a.json", filled('[{"messages":[', '{"role":"user","content":"a"},',
                                         '{"role":"assistant","content":"b"}]}]', n * 30)),
    "quoted lines": lambda n: ("a.eml", letter("hi\n" + "> a\n" * (n * 20))),
    "copied headers": lambda n: ("a.eml", letter("hi\n\nFrom: a\nTo: b\nCc: c\n" + "Bcc: d\n" * n)),
    "announced": lambda n: ("a.eml", letter("On " + "a wrote " * (n * 20))),
    "tags": lambda n: ("a.eml", letter("<p>" + "<b>a" * (n * 20), "html")),
    "entities": lambda n: ("a.eml", letter("a&amp;" * (n * 20), "html")),
    "comments": lambda n: ("a.eml", letter("<!--" * (n * 20), "html")),
    "declarations": lambda n: ("a.eml", letter("<![" * (n * 20), "html")),
    "letters": lambda n: ("a.mbox", b"".join([b"From a\nTo: b\nSubject: c\n\nhi\n\n"] * n)),
    "chat": lambda n: ("a.txt", b"01/03/2025, 10:00 - A: b\n01/03/2025, 10:00 - B: c\n" * (n * 2)),
    "chat of one": lambda n: ("a.txt", b"01/03/2025, 10:00 - A: b\n" + b" " * (n * 500) + b"x\n"),
    "thought": lambda n: ("a.jsonl", json.dumps(
        {"prompt": "a", "completion": "<think>" * (n * 20)}).encode()),
    "parquet": lambda n: ("a.parquet", parquet(
        pa.table({"prompt": ["a"] * n, "completion": [f"b{k}" for k in range(n)]}))),
}  # fmt: skip


def work(file: tuple[str, bytes]) -> float:
    """Return the processor time that reading a file takes, the lesser of two."""
    name, data = file
    taken = []
    gc.collect()
    gc.disable()  # its work grows with all that there is
    try:
        for _ in range(2):
            start = time.process_time()
            with contextlib.suppress(DemoError):
                preview_bytes(data, name)
            taken.append(time.process_time() - start)
    finally:
        gc.enable()
    return min(taken)


@pytest.mark.parametrize("kind", GROWING)
def test_work_grows_no_faster_than_a_file(kind: str) -> None:
    """Of a file four times as large reading takes less than eight times the work.

    Quadratic work would be sixteen times. Work too small to be measured counts as little.
    """
    preview_bytes(GOOD, "a.jsonl")
    small, large = work(GROWING[kind](500)), work(GROWING[kind](2000))
    assert large < 8 * max(small, 0.01)


# ---- apart --------------------------------------------------------------------------------------


def test_a_file_is_read_apart_as_it_is_here(tmp_path: Path) -> None:
    """What another process reads is the same preview, and the same error."""
    data = GOOD * 2 + b'{"prompt": "a", "completion": "b", "label": false, "x": 1}\n{broken'
    file = tmp_path / "a.jsonl"
    file.write_bytes(data)
    here = preview_bytes(data, "a.jsonl")
    assert preview_apart(file) == preview_bytes_apart(data, "a.jsonl") == here
    with pytest.raises(DemoError, match="is empty") as told:
        preview_bytes_apart(b" ", "a.jsonl")
    assert told.value.code == "files.empty"


def test_reading_stops_when_its_time_is_over(tmp_path: Path) -> None:
    """A file that takes too long is refused in words."""
    file = tmp_path / "a.jsonl"
    file.write_bytes(GOOD)
    with pytest.raises(DemoError) as told:
        preview_apart(file, seconds=0.001)
    assert told.value.code == "files.too_slow"


@pytest.mark.parametrize(
    ("ended", "code"), [(-signal.SIGXCPU, "files.too_slow"), (-9, "files.reader_ended")]
)
def test_a_reader_that_is_killed_is_told(
    monkeypatch: pytest.MonkeyPatch, ended: int, code: str
) -> None:
    """A process that ends for its time or its memory gives an error in words."""
    done = subprocess.CompletedProcess[bytes]([], ended, b"", b"")
    monkeypatch.setattr(apart.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(DemoError) as told:
        preview_bytes_apart(GOOD, "a.jsonl")
    assert told.value.code == code


def test_no_token_reaches_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that reads strangers' files has no secret in its environment."""
    given: dict[str, str] = {}

    def run(*_: object, **how: object) -> subprocess.CompletedProcess[bytes]:
        given.update(how["env"])  # type: ignore[call-overload]
        return subprocess.CompletedProcess([], 1, b"", b"")

    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setattr(apart.subprocess, "run", run)
    with pytest.raises(DemoError):
        preview_bytes_apart(GOOD, "a.jsonl")
    assert "PATH" in given
    assert given.keys() <= {*apart.KEPT, "PYTHONPATH", *given.keys() - os.environ.keys(),
                            "OMP_NUM_THREADS"}  # fmt: skip
    assert "secret" not in given.values()


def test_a_visitor_has_one_file_read_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second file of a visitor is refused while the first is read; another visitor's is not."""
    began, go = threading.Event(), threading.Event()

    def run(*_: object, **__: object) -> subprocess.CompletedProcess[bytes]:
        began.set()
        go.wait(10)
        return subprocess.CompletedProcess([], 0, json.dumps({"error": "x"}).encode(), b"")

    def ask() -> None:
        with pytest.raises(DemoError):
            preview_bytes_apart(GOOD, "a.jsonl", "ann")

    monkeypatch.setattr(apart.subprocess, "run", run)
    first = threading.Thread(target=ask)
    first.start()
    assert began.wait(10)
    with pytest.raises(DemoError) as told:
        preview_bytes_apart(GOOD, "b.jsonl", "ann")
    go.set()
    first.join()
    assert told.value.code == "files.reader_busy"
    with pytest.raises(DemoError, match="x"):
        preview_bytes_apart(GOOD, "b.jsonl", "ann")
