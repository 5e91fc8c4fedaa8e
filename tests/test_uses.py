"""Lines to copy for other programs: they hold the run's own values, and they run."""

from __future__ import annotations

import ast
import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_folders import DEMOS, SECRET, make_run
from test_card import a_subject

from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.hub.publishing.options import PublishOptions
from ditto_hub.hub.publishing.packing import preview_card
from ditto_hub.hub.publishing.uses import prompted, uses
from ditto_hub.tokens import NOBODY

Tiny = Callable[[str], Path]


def lines(name: str, **changes: Any) -> str:
    (found,) = [use.code for use in uses(a_subject(**changes)) if use.name == name]
    return found


def words(code: str) -> list[list[str]]:
    """Return the commands of shell lines, as a shell reads them."""
    joined = code.replace("\\\n", " ")
    return [shlex.split(part) for part in joined.split("\n\n")]


@pytest.mark.parametrize(("rank", "served"), [(8, "8"), (12, "16"), (16, "16"), (200, "256")])
def test_vllm_takes_the_adapters_rank(rank: int, served: str) -> None:
    """The least rank that vLLM knows and the adapter fits in; the request names the module."""
    serve, ask = words(lines("vllm", rank=rank))
    assert serve[:4] == ["vllm", "serve", "acme/Llama-tiny", "--revision"]
    assert serve[serve.index("--max-lora-rank") + 1] == served
    assert serve[-1] == "my-voice=alice/my-voice"
    asked = json.loads(ask[-1])
    assert (asked["model"], asked["chat_template_kwargs"]) == (
        "my-voice", {"enable_thinking": False},
    )  # fmt: skip


def test_tgi_asks_for_the_repo() -> None:
    """The adapter is named to the server and in the request by its repo's id."""
    serve, ask = words(lines("tgi", thinking=False))
    assert "LORA_ADAPTERS=alice/my-voice" in serve
    assert serve[-4:] == ["--model-id", "acme/Llama-tiny", "--revision", "a" * 40]
    asked = json.loads(ask[-1])
    assert (asked["model"], "chat_template_kwargs" in asked) == ("alice/my-voice", False)


def test_the_demonstrations_are_shown_word_for_word() -> None:
    """The messages are the demonstrations as turns, whatever is written in them."""
    demos = DemoSet.from_pairs([('Say "no".', "No \\ 'thanks'\n\u2028👋"), ("Ask.", "Please?")])
    code = prompted(a_subject(), demos.demos).code
    (messages,) = [
        ast.literal_eval(node.value)
        for node in ast.parse(code).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "messages"
    ]
    said = [(turn["role"], turn["content"]) for turn in messages]
    assert said[:-1] == [
        ("user", 'Say "no".'),
        ("assistant", "No \\ 'thanks'\n\u2028👋"),
        ("user", "Ask."),
        ("assistant", "Please?"),
    ]
    assert said[-1][0] == "user"


def test_the_lines_with_demonstrations_run(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    """They load the base model and print an answer, with nothing of this package."""
    subject = a_subject(base_id=str(tiny("llama3")), base_revision=None)
    code = prompted(subject, DEMOS.demos).code.replace("max_new_tokens=", "max_new_tokens=4 or ")
    exec(code, {})
    assert capsys.readouterr().out.endswith("\n")


def test_no_demonstration_is_in_the_other_lines(tiny: Tiny, tmp_path: Path) -> None:
    """Only the lines that show the demonstrations hold any of their words."""
    run = make_run(tmp_path / "run", tiny("llama3"), {"id": "acme/Llama-tiny", "revision": None})
    found = preview_card(run, "alice/my-voice", PublishOptions(), NOBODY)
    assert {use.name: SECRET in use.code for use in found.uses} == {
        "peft": False, "vllm": False, "tgi": False, "prompt": True,
    }  # fmt: skip
    assert SECRET not in found.body
    assert all(use.code for use in found.uses)


def test_values_come_from_the_run() -> None:
    """Temperature and length of an answer are the run's own."""
    subject = a_subject()
    record = replace(
        subject.record,
        config=subject.config.with_setting("reading.temperature=0.31")
        .with_setting("sampling.max_new_tokens=77")
        .to_json(),
    )
    changed = replace(subject, record=record)
    for use in (*uses(changed), prompted(changed, DEMOS.demos)):
        assert "0.31" in use.code
        assert "77" in use.code
