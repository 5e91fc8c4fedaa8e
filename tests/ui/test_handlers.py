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

from ditto_hub.cost.profiles import load_profile
from ditto_hub.errors import DittoError
from ditto_hub.runs.folder import Run, hash_owner, home
from ditto_hub.ui.app import build_app
from ditto_hub.ui.serving.events import Asker

STEPS = ("compare", "voting", "measuring", "publish", "chat", "runs")
OWNER, STRANGER, MISSING = "o" * 43, "s" * 43, "20261122-ffffffff"
# what a handler is given where it asks for more than who and which run
GIVEN: dict[str, Any] = {
    "ticked": ["sft"], "prompt": "Hi?", "words": "", "seed": 0, "candidate": "sft", "first": "A?",
    "second": "B?", "name": "person", "number": "0", "lines": "A?", "before": "", "kept": {},
    "namespace": "bob", "base_id": "", "seen": "private", "demos": True, "outputs": True,
    "samples": True, "use_local": True, "open_id": "", "text": "Hi?", "turns": [],
    "beside": True, "replaces": "",
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


def test_an_event_never_fires_two_that_it_fires_anew(app: gr.Blocks) -> None:
    """Handlers that are asked once more after they answered listen to nothing that others hear."""
    heard: dict[tuple[Any, ...], list[str]] = {}
    for block in app.fns.values():
        if block.fn and block.trigger_mode == "always_last":
            for part, event in block.targets:
                if part is not None:  # else it comes after another
                    heard.setdefault((part, event), []).append(block.name)
    assert [names for names in heard.values() if len(names) > 1] == []


@pytest.fixture(scope="module")
def handlers(app: gr.Blocks) -> dict[str, Callable[..., Any]]:
    """Return every handler of these steps that is told a run, by its name.

    Those of My runs are told it by what was pressed.
    """
    found = {}
    for block in app.fns.values():
        function = getattr(inspect.unwrap(block.fn), "act", None) if block.fn else None
        step = getattr(block.fn, "__module__", "").rpartition(".")[2]
        told = step == "runs" or (function and "run_id" in inspect.signature(function).parameters)
        if function and step in STEPS and told:
            found[f"{step}.{getattr(function, 'func', function).__qualname__} {len(found)}"] = (
                function
            )
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
    request: Any = SimpleNamespace(headers={}, query_params={}, username=None)
    event: Any = SimpleNamespace(run=run_id, step="train")
    given = {
        **GIVEN,
        "run_id": run_id,
        "parent": run_id,
        "asker": Asker(secret, request, event=event),
    }
    names = list(inspect.signature(handler).parameters.values())
    try:
        answer = handler(*[given[p.name] for p in names if p.kind != p.VAR_POSITIONAL])
        answers = list(answer) if isinstance(answer, GeneratorType) else [answer]
        return str([list(each.values()) for each in answers])
    except DittoError as error:
        return str(error)


def digest(run: Run) -> dict[str, str]:
    files = [p for p in sorted(run.folder.rglob("*")) if p.is_file()]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_a_page_that_is_still_loading_is_told_nothing(app: gr.Blocks) -> None:
    """An event that comes before the page's secret changes nothing, and is no server error."""
    look = next(
        block.fn for block in app.fns.values()
        if getattr(block.fn, "__module__", "").endswith("steps.runs")
        and getattr(block.fn, "__name__", "") == "look"
    )  # fmt: skip
    request: Any = SimpleNamespace(headers={}, query_params={}, username=None)
    act = inspect.unwrap(look)
    assert all(value == gr.skip() for value in act(None, request, None, None, None, "", ""))
    with pytest.raises(DittoError):
        act("short", request, None, None, None, "", "")


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
        if ".keep " in name:  # only notes what the page's own form says
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
        if ".keep " not in name:
            assert SECRET not in ask(handler, run.record.id, ""), name


def test_the_owner_is_answered(handlers: dict[str, Callable[..., Any]], run: Run) -> None:
    """The same questions by the owner bring the run's own things."""
    card = next(h for name, h in handlers.items() if "_wire_card" in name)
    assert "How to load it" in ask(card, run.record.id, OWNER)


def test_no_part_of_the_page_is_rendered_anew(app: gr.Blocks) -> None:
    """Gradio's render fails where two visitors need it at once, and drops what is pressed."""
    assert app.renderables == []


def test_every_event_is_private(app: gr.Blocks) -> None:
    """None of these handlers is an endpoint for programs."""
    named = {name.strip("/") for name in app.get_api_info()["named_endpoints"]}
    assert named == {
        "check", "estimate", "start", "status", "texts", "write_text", "publish_adapter",
    }  # fmt: skip
