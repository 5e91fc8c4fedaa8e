"""Every field of a record wrong in every way: whatever is done with that run ends in words."""

from __future__ import annotations

import contextlib
import json
import shutil
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from built_apps import SECRET
from click.testing import CliRunner
from test_records import FIELDS, JOB, OLD_RUN, WRONG, damaged

from ditto_hub import api
from ditto_hub.cli import main
from ditto_hub.cost.profiles import load_profile
from ditto_hub.errors import BaseModelError, DittoError, HubError
from ditto_hub.runs.folder import Run, hash_owner, home
from ditto_hub.runs.record import RunRecord
from ditto_hub.tokens import NOBODY
from ditto_hub.ui.html.render import state_of
from ditto_hub.ui.html.run_list import Row, run_card
from ditto_hub.ui.html.story import Tails
from ditto_hub.ui.serving.samples import latest_text
from ditto_hub.ui.serving.session import Visitor, own_run, own_runs
from ditto_hub.ui.steps import remote
from ditto_hub.ui.steps.progress import shown

OWNER = f"browser:{SECRET}"
PAUSED = OLD_RUN.parent / "paused"
DONE = 4
SHARED: Any = SimpleNamespace(profile=load_profile("zerogpu"), sign_in=True)


@pytest.fixture(autouse=True)
def _nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop where a model would be loaded or the Hub asked: what comes before is what is tried."""

    def refuse(*_: Any, **__: Any) -> None:
        raise BaseModelError("api.base_wrote_no_prompts", base_model="x")

    def away(*_: Any, **__: Any) -> None:
        raise HubError("hub.no_answer_in_time", doing="x")

    monkeypatch.setattr("ditto_hub.engine.base_model.load_base", refuse)
    monkeypatch.setattr("ditto_hub.hub.publishing.plot._draw", lambda *_: b"")
    monkeypatch.setattr("ditto_hub.hub.client.HubClient.repeat", away)


def put(source: Path, status: str) -> Path:
    """Put an old run, of a visitor's, where runs are; every field of its record filled."""
    folder = home() / "runs" / f"20261127-{'1' if status == 'paused' else '2'}0000000"
    if not folder.exists():
        shutil.copytree(source, folder)
    record = json.loads((source / "run.json").read_text("utf-8"))
    finished = json.loads((OLD_RUN / "run.json").read_text("utf-8"))
    record = finished | record | {key: record.get(key) or finished.get(key) for key in record}
    record |= {"id": folder.name, "owner": hash_owner(OWNER), "status": status, "job": JOB}
    record |= {"error": {"type": "RunError", "message": "It broke."}}
    record["prompt_authors"] = {"model": 3}
    record["estimate"]["seconds"] = {"update": 1.0}
    record["stage_seconds"] = {"update": 1.0}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


class Named:
    """Stand for the components of a page: each is its name."""

    def __getattr__(self, name: str) -> str:
        return name


PARTS: Any = Named()


def look(folder: Path) -> None:
    """Do what the pages do with a visitor's runs."""
    asking = Visitor(OWNER, None)
    for run in own_runs(asking):
        row = Row(run, state_of(run, None), 1, latest_text(run))
        run_card(row, True, "en")
    run = own_run(folder.name, asking)
    story = Tails().story(run)
    shown(PARTS, run, story, state_of(run, None), None, "en", None)
    remote.whereabouts(SHARED, run, False, "en")


def resume(folder: Path) -> None:
    """Take it up again, here and in the app."""
    run = Run.load(folder)
    run.record.job = {}
    with contextlib.suppress(DittoError):
        list(api.drive(run, token=NOBODY))
    list(api.work(Run.load(folder), load_profile("cpu"), visitor=OWNER, token=NOBODY))


def publish(folder: Path) -> None:
    """Publish it, as far as the first question to the Hub."""
    for _ in api.stream_publish(Run.load(folder), "alice/x", token="hf_x"):
        pass


@pytest.mark.parametrize("path", FIELDS, ids=lambda path: ".".join(map(str, path)))
def test_whatever_is_done_with_a_wrong_record_ends_in_words(path: tuple[Any, ...]) -> None:
    """What is refused when it is read is refused to everybody; the rest raises words, or nothing.

    Of the values that can be read, the first few of each field are listed, shown, resumed and
    published.
    """
    for source, status, acts in ((OLD_RUN, "finished", (look, publish)),
                                 (PAUSED, "paused", (look, resume))):  # fmt: skip
        folder = put(source, status)
        text = (folder / "run.json").read_text("utf-8")
        for wrong in islice((w for w in damaged(text, path) if readable(w)), DONE):
            for act in acts:
                (folder / "run.json").write_text(wrong)
                with contextlib.suppress(DittoError):
                    act(folder)
        (folder / "run.json").write_text(text)
        shutil.rmtree(folder)


def readable(text: str) -> bool:
    """Tell whether a record is taken for one."""
    try:
        RunRecord.from_json(json.loads(text))
    except DittoError:
        return False
    return True


def test_the_command_line_ends_in_words_too() -> None:
    """Resume and publish of a record that cannot be read: one paragraph, exit 1."""
    folder = put(OLD_RUN, "finished")
    for wrong in ({"created": "never"}, {"updated": 9e99}, {"id": ""}, {"stages": [1]}):
        record = json.loads((folder / "run.json").read_text("utf-8"))
        (folder / "run.json").write_text(json.dumps(record | wrong))
        for command in (["resume"], ["publish"], ["runs", "show"], ["generate"]):
            more = ["a/b"] if command[0] in ("publish", "generate") else []
            result = CliRunner().invoke(main, [*command, str(folder), *more])
            assert (result.exit_code, type(result.exception)) == (1, SystemExit), (wrong, command)
        (folder / "run.json").write_text(json.dumps(record))


def test_the_ways_to_be_wrong_are_many() -> None:
    """What the property is tried with."""
    assert len(FIELDS) * len(WRONG) > 1_000
