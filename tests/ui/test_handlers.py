"""Every handler of the steps after training, asked by somebody whose run it is not."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import GeneratorType, SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from run_folders import SECRET, make_run

from ditto_hub.errors import RunError
from ditto_hub.profiles import load_profile
from ditto_hub.runs import Run, hash_owner, home
from ditto_hub.ui.app import build_app

STEPS = ("compare", "voting", "measuring", "publish", "trying")
OWNER, STRANGER, MISSING = "o" * 43, "s" * 43, "20261122-ffffffff"
# what a handler is told where it asks for more than who and which run
GIVEN: dict[str, Any] = {
    "ticked": ["sft"], "prompt": "Hi?", "words": "", "seed": 0, "candidate": "sft", "first": "A?",
    "second": "B?", "name": "person", "number": "0", "lines": "A?", "before": "", "kept": {},
    "namespace": "bob", "base_id": "", "seen": "private", "demos": True, "outputs": True,
    "samples": True, "use_local": True, "text": "Hi?", "turns": [], "token": None, "profile": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def app() -> gr.Blocks:
    """Build the app without serving it, within a loop, for Gradio opens one where none runs.

    In a thread of its own: where browser tests ran before, Playwright's loop runs in this one.
    """

    async def build() -> gr.Blocks:
        return build_app(load_profile("own"))

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, build()).result()


@pytest.fixture(scope="module")
def handlers(app: gr.Blocks) -> dict[str, Callable[..., Any]]:
    """Return every handler of these steps that is told a run, by its name."""
    found = {}
    for block in app.fns.values():
        function = inspect.unwrap(block.fn) if block.fn else None
        step = getattr(function, "__module__", "").rpartition(".")[2]
        if function and step in STEPS and "run_id" in inspect.signature(function).parameters:
            found[f"{step}.{function.__qualname__}"] = function
    return found


@pytest.fixture
def run(tiny: Callable[[str], Path]) -> Run:
    """Put a finished run of the owner's into the home folder."""
    folder = home() / "runs" / "20261122-0a1b2c3d"
    made = make_run(folder, tiny("llama3"), {"id": "base/tiny", "revision": None})
    made.record.owner = hash_owner(f"browser:{OWNER}")
    made.save_record()
    return made


def ask(handler: Callable[..., Any], run_id: str, secret: str) -> str:
    """Call a handler as Gradio does, and return all it says."""
    request = SimpleNamespace(headers={}, query_params={}, username=None)
    given = {**GIVEN, "run_id": run_id, "secret": secret, "request": request}
    names = list(inspect.signature(handler).parameters.values())
    values = [given[p.name] for p in names if p.default is p.empty and p.kind != p.VAR_POSITIONAL]
    try:
        answer = handler(*values)
        return str(list(answer) if isinstance(answer, GeneratorType) else answer)
    except RunError as error:
        return str(error)


def digest(run: Run) -> dict[str, str]:
    files = [p for p in sorted(run.folder.rglob("*")) if p.is_file()]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_there_are_handlers(handlers: dict[str, Callable[..., Any]]) -> None:
    """The walk below finds what it is meant to find, in every step."""
    assert {name.split(".")[0] for name in handlers} == set(STEPS)
    assert len(handlers) >= 14


def test_a_stranger_gets_nothing_and_changes_nothing(
    handlers: dict[str, Callable[..., Any]], run: Run
) -> None:
    """No handler tells another visitor's run apart from one that is not there."""
    before = digest(run)
    for name, handler in handlers.items():
        if name.endswith("keep"):  # only notes what the page's own form says
            continue
        theirs = ask(handler, run.record.id, STRANGER)
        nobodys = ask(handler, MISSING, STRANGER)
        assert SECRET not in theirs, name
        assert theirs.replace(run.record.id, "X") == nobodys.replace(MISSING, "X"), name
    assert digest(run) == before


def test_no_handler_answers_without_a_secret(
    handlers: dict[str, Callable[..., Any]], run: Run
) -> None:
    """Neither signed in nor a secret: nobody."""
    for name, handler in handlers.items():
        if not name.endswith("keep"):
            assert SECRET not in ask(handler, run.record.id, ""), name


def test_the_owner_is_answered(handlers: dict[str, Callable[..., Any]], run: Run) -> None:
    """The same questions by the owner bring the run's own things."""
    card = next(h for name, h in handlers.items() if "_wire_card" in name)
    assert "How to load it" in ask(card, run.record.id, OWNER)


def test_every_event_is_private(app: gr.Blocks) -> None:
    """None of these handlers is an endpoint for programs."""
    named = {name.strip("/") for name in app.get_api_info()["named_endpoints"]}
    assert named == {"check", "estimate", "status"}
