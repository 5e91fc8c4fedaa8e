"""A finished run cannot fail by what shows it: its card, its pictures, its comparison."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from publish_fixtures import base_folder, made, run  # noqa: F401
from tiny_runs import tiny_config, tiny_demos

from ditto_hub import api
from ditto_hub.api import notices
from ditto_hub.api.publishing import PublishOptions, write_card
from ditto_hub.cli import main
from ditto_hub.events import Noticed, RunFinished
from ditto_hub.hub.publishing import plot
from ditto_hub.hub.publishing.packing import CardPreview
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY
from ditto_hub.ui.html.receipts import card_text
from ditto_hub.ui.html.side_by_side import data_url

CARD = "adapter/README.md"
TINY = [
    f"--set={setting}"
    for setting in (
        "update.rounds=1", "update.steps=1", "update.pairs=4", "sampling.samples=2",
        "sampling.max_new_tokens=8", "warm_start.max_steps=2", "selection.samples=2",
    )
]  # fmt: skip


def broken(*_: object) -> None:
    raise OSError("no room for pictures")


@pytest.mark.parametrize("name", ["模型", "m" * 100, "ünï.code_", "..a--b..git", "日本"])
def test_card_names_a_folder_as_the_hub_would(name: str, run: Run, tmp_path: Path) -> None:  # noqa: F811
    """A base model in a folder of any name has its card, which names no repo that is not there."""
    base = tmp_path / name
    base.mkdir()
    run.record.base_model = {"id": str(base), "revision": None}
    run.save_record()
    write_card(run)
    card = (run.folder / CARD).read_text("utf-8")
    assert "which is not on the Hub" in card
    assert "base_model" not in card


def test_a_pocket_card_names_no_repo_that_is_not_there(run: Run) -> None:  # noqa: F811
    """Before it is published, the embedded model has no repo; a card with an owner names theirs."""
    run.record.base_model = {"id": "pocket", "revision": None}
    run.save_record()
    found = api.preview(run, "my-voice", PublishOptions(), token=NOBODY)
    assert "base_model" not in found.front
    assert "huggingface.co/your-name" not in found.body
    assert 'from_pretrained("base-model")' in found.body
    found = api.preview(run, "alice/my-voice", PublishOptions(), token=NOBODY)
    assert "base_model: alice/ditto-pocket" in found.front


def test_card_of_a_base_that_has_moved(run: Run, tmp_path: Path) -> None:  # noqa: F811
    """A base model's folder that is not there any more does not keep the card from being made."""
    run.record.base_model = {"id": str(tmp_path / "gone" / "模型"), "revision": None}
    write_card(run)
    assert "makes base, which is not on the Hub" in (run.folder / CARD).read_text("utf-8")


def test_card_without_a_picture(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Where the candidates' picture cannot be drawn, the card is written without it."""
    monkeypatch.setattr(plot, "_draw", broken)
    write_card(run)
    assert "---" in (run.folder / CARD).read_text("utf-8")
    assert not list((run.folder / "adapter").glob("*.png"))


@pytest.mark.parametrize("error", [OSError, ValueError, RuntimeError, KeyError])
def test_run_finishes_without_its_card(
    error: type[Exception],
    tiny: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever keeps a card from being written, the run is finished and says so in a notice."""

    def fail(_: Run) -> None:
        raise error("broken")

    monkeypatch.setattr(notices, "write_card", fail)
    made_run = api.create_run(
        tiny_demos(), str(tiny("smollm2")), tiny_config("update.rounds=1"),
        output=tmp_path / "run", token="",
    )  # fmt: skip
    events = list(api.stream_resume(made_run))
    told = [e for e in events if isinstance(e, Noticed) and e.code == notices.NO_CARD]
    assert len(told) == 1
    assert f"ditto-hub card {made_run.folder}" in str(told[0].message)
    again = Run.load(made_run.folder)
    assert again.record.status == "finished"
    assert notices.NO_CARD in notices.notices(again)
    assert [e.seq for e in again.events()] == list(range(len(again.events())))
    assert any(isinstance(e, RunFinished) for e in events)


def test_card_can_be_asked_for_again(run: Run) -> None:  # noqa: F811
    """`ditto-hub card` writes the card and prints where it is."""
    (run.folder / CARD).unlink()
    result = CliRunner().invoke(main, ["card", str(run.folder)])
    assert result.exit_code == 0, result.output
    assert Path(result.output.strip()).read_text("utf-8").startswith("---")


def test_notice_goes_when_the_card_is_there(
    run: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A card that could be written at last takes its notice away, and no other one."""
    others = list(run.record.notices)
    with monkeypatch.context() as patch:
        patch.setattr(notices, "write_card", broken)
        assert notices.refresh_card(run)
    assert notices.notices(run)
    assert not notices.refresh_card(run)
    assert Run.load(run.folder).record.notices == others


def test_whole_command_on_a_folder_named_in_chinese(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`train` ends well on it, with card and comparison, also where pictures cannot be drawn."""
    monkeypatch.setattr("ditto_hub.evaluation.report.plots", broken)
    base = shutil.copytree(tiny("smollm2"), tmp_path / "模型")
    demos = tmp_path / "demos.jsonl"
    rows = [{"prompt": d.prompt_text, "completion": d.completion} for d in tiny_demos(4)]
    demos.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    out = tmp_path / "run"
    result = CliRunner().invoke(
        main, ["train", str(demos), "--base-model", str(base), "--output", str(out), *TINY]
    )
    assert result.exit_code == 0, result.output
    assert (out / CARD).is_file()
    assert list((out / "evaluation").glob("*.json"))
    assert notices.NO_PICTURES in notices.notices(Run.load(out))
    assert "pictures could not be drawn" in result.output


def test_comparison_that_fails_ends_no_run(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the comparison, `train` ends well and says how to ask for it again."""
    monkeypatch.setattr("ditto_hub.api.stream_evaluate", broken)
    demos = tmp_path / "demos.jsonl"
    rows = [{"prompt": d.prompt_text, "completion": d.completion} for d in tiny_demos(4)]
    demos.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    out = tmp_path / "run"
    result = CliRunner().invoke(
        main,
        ["train", str(demos), "--base-model", str(tiny("smollm2")), "--output", str(out), *TINY],
    )
    assert result.exit_code == 0, result.output
    assert f"ditto-hub evaluate {out}" in result.output


def test_each_picture_of_a_card_is_shown_as_itself() -> None:
    """A preview has no files to point to: each picture is put in, a strange one is left alone."""
    body = "![a, b](one.png)\n![c](evaluation-a%20b.png)\n![d](https://a.b/c.png)\n"
    pictures = {"one.png": b"1", "evaluation-a b.png": b"2"}
    found, rest = card_text(CardPreview("", body, pictures, (), ()))
    assert found.split("\n")[:2] == [f"![a, b]({data_url(b'1')})", f"![c]({data_url(b'2')})"]
    assert "(https://a.b/c.png)" in found
    assert rest == ""
