"""The driver: it numbers and saves what the loop yields, stops where told, and goes on."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import follow, made, tiny_config, tiny_demos, tiny_run

from ditto_hub import events as ev
from ditto_hub.backends.driver import Driver, versions
from ditto_hub.backends.local import LocalBackend, open_policy
from ditto_hub.ditto import loop
from ditto_hub.engine import fast as policy
from ditto_hub.errors import BaseModelError, RunBusyError, RunError, StorageError
from ditto_hub.events import Event
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

Tiny = Callable[[str], Path]
LOCAL = LocalBackend(device="cpu", save_every_s=0.0)


@pytest.fixture(scope="module")
def llama(tiny: Tiny) -> Path:
    return tiny("llama3")


@pytest.fixture
def run(llama: Path, tmp_path: Path) -> Run:
    return tiny_run(llama, tmp_path / "run")


@pytest.fixture(scope="module")
def finished(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run that was never stopped."""
    run = tiny_run(llama, tmp_path_factory.mktemp("whole") / "run")
    for _ in LOCAL.drive(run, token=NOBODY):
        pass
    return Run.load(run.folder)


def drive(run: Run, **options: Any) -> list[Event]:
    """Drive a run, freshly loaded, to where it ends."""
    return list(LOCAL.drive(Run.load(run.folder), token=NOBODY, **options))


def status(run: Run) -> str:
    return Run.load(run.folder).record.status


def numbered(run: Run) -> bool:
    """Tell whether the run's events are numbered from 0 without a gap."""
    events = Run.load(run.folder).events()
    return [e.seq for e in events] == list(range(len(events)))


# ---- a run that is never stopped -------------------------------------------------------------


def test_finished_run_is_whole(finished: Run) -> None:
    """A finished run holds the chosen adapter, its probe and all candidates, and no state."""
    names = {p.name for p in finished.folder.iterdir()}
    assert names - {".lock"} == {
        "run.json",
        "demos.jsonl",
        "events.jsonl",
        "candidates",
        "rollouts",
        "adapter",
        "probe.safetensors",
    }
    assert finished.record.status == "finished"
    assert finished.candidates() == ["round-1", "round-2", "sft", "sft-long"]


def test_driver_writes_what_the_loop_yields(llama: Path, finished: Run) -> None:
    """Candidates and rollouts on disk are the loop's artifacts, byte for byte."""
    trace = follow(llama)
    for path, data in trace.files.items():
        assert (finished.folder / path).read_bytes() == data


def test_adapter_is_the_chosen_candidate(finished: Run) -> None:
    """`adapter/` holds the chosen candidate's files, with tokenizer and template beside them."""
    chosen = finished.candidate(finished.record.chosen)
    for path in chosen.iterdir():
        assert (finished.folder / "adapter" / path.name).read_bytes() == path.read_bytes()
    assert (finished.folder / "adapter" / "chat_template.jinja").is_file()
    assert (finished.folder / "adapter" / "tokenizer.json").is_file()


def test_events_are_stamped(finished: Run) -> None:
    """Every event carries the run's id, a number without gaps, and a time that never falls."""
    events = finished.events()
    assert {e.run_id for e in events} == {finished.record.id}
    assert numbered(finished)
    times = [e.time for e in events]
    assert times == sorted(times)
    assert isinstance(events[0], ev.RunStarted)
    assert isinstance(events[-1], ev.RunFinished)


def test_yielded_events_are_those_on_disk(llama: Path, tmp_path: Path) -> None:
    """What a consumer sees is what `events.jsonl` holds."""
    run = tiny_run(llama, tmp_path / "run")
    seen = list(LOCAL.drive(run, token=NOBODY))
    assert seen == Run.load(run.folder).events()


def test_record_tells_the_run(finished: Run) -> None:
    """run.json holds stages with times, candidates with scores, the choice, versions, hardware."""
    record = finished.record
    assert [(s["name"], s["round"]) for s in record.stages] == loop.plan(finished.config)
    assert set(record.candidates) == set(finished.candidates())
    assert record.chosen in record.candidates
    assert record.chosen_reason
    assert record.versions["torch"] == torch.__version__
    assert record.hardware["device"] == "cpu"
    assert set(record.stage_seconds) == {"warm-start", "sampling", "update", "scoring", "sft-long"}
    assert all(seconds > 0 for seconds in record.stage_seconds.values())
    assert [o["round"] for o in record.order] == [0, 1, 2, None]


def test_versions_name_our_packages() -> None:
    """The versions that a result depends on are all there."""
    assert {"python", "torch", "transformers", "peft", "trl"} <= set(versions())


PLAIN = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from safetensors.torch import load_file
base, run = sys.argv[1:]
probe = load_file(run + "/probe.safetensors")
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model = PeftModel.from_pretrained(model, run + "/adapter").eval()
gaps = {"on": 0.0, "off": 0.0, "effect": 0.0}
for k, mask in enumerate(probe["attention_mask"].bool()):
    ids = probe["input_ids"][k][mask][None]
    with torch.no_grad():
        on = model(ids).logits[0, -1]
        with model.disable_adapter():
            off = model(ids).logits[0, -1]
    gaps["on"] = max(gaps["on"], float((on - probe["adapter_on"][k]).abs().max()))
    gaps["off"] = max(gaps["off"], float((off - probe["adapter_off"][k]).abs().max()))
    gaps["effect"] = max(gaps["effect"], float((on - off).abs().max()))
gaps["ours"] = [m for m in sys.modules if m.startswith("ditto_hub")]
print(json.dumps(gaps))
"""


def test_adapter_loads_by_plain_peft(llama: Path, finished: Run) -> None:
    """In a fresh process transformers and peft alone load it, and it differs from the base."""
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(llama), str(finished.folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    gaps = json.loads(done.stdout)
    assert gaps["on"] < 1e-5
    assert gaps["off"] < 1e-5
    assert gaps["effect"] > 1e-3
    assert gaps["ours"] == []


def test_probe_tells_adapter_from_base(finished: Run) -> None:
    """The probe's two sets of logits differ: the adapter does something."""
    probe = load_file(finished.folder / "probe.safetensors")
    assert not torch.equal(probe["adapter_on"], probe["adapter_off"])


# ---- stopping and going on -------------------------------------------------------------------


def test_closing_pauses(run: Run) -> None:
    """Closing the stream pauses the run, says so, and frees it."""
    stream = LOCAL.drive(run, token=NOBODY)
    for _ in range(12):
        next(stream)
    stream.close()
    assert status(run) == "paused"
    assert isinstance(Run.load(run.folder).events()[-1], ev.RunPaused)
    with run.lock():
        pass


def test_paused_at_every_checkpoint(run: Run, finished: Run) -> None:
    """Paused at each checkpoint and resumed each time, a run loses no event and no byte."""
    resumes = 0
    while status(run) != "finished":
        asked = iter(["", "enough"])
        drive(run, should_stop=lambda: next(asked))  # noqa: B023
        resumes += 1
        assert resumes < 60
    assert resumes > 10
    assert made(run.folder) == made(finished.folder)
    assert numbered(run)
    kinds = (ev.StepTaken, ev.BatchSampled, ev.CandidateScored, ev.OrderMeasured, ev.RoundSampled)
    told, expected = (
        [plain(e) for e in Run.load(r.folder).events() if isinstance(e, kinds)]
        for r in (run, finished)
    )
    assert told == expected


def plain(event: Event) -> Event:
    return replace(event, run_id="", seq=0, time=0.0)


def test_every_stage_is_saved_before_the_next(run: Run) -> None:
    """However seldom steps are saved, a stage that has ended is in the state when one begins."""
    ended: list[str] = []
    for event in LocalBackend("cpu", save_every_s=1e9).drive(run, token=NOBODY):
        if isinstance(event, ev.StageStarted) and ended:
            state = run.load_state() or b""
            header = json.loads(state[8 : 8 + int.from_bytes(state[:8], "little")])
            progress = json.loads(header["__metadata__"]["state"])["progress"]
            assert progress["done"] == ended
        elif isinstance(event, ev.StageFinished):
            ended.append(loop.stage_key(event.stage, event.round))


def test_should_stop_pauses_with_its_reason(run: Run) -> None:
    """A reason to stop becomes the pause's reason, told last."""
    events = drive(run, should_stop=lambda: "out of quota")
    assert events[-1] == replace(events[-1], reason="out of quota")
    assert isinstance(events[-1], ev.RunPaused)
    assert status(run) == "paused"


def test_cancel(run: Run) -> None:
    """ "cancel" cancels the run, which keeps what it has and can be resumed."""
    events = drive(run, should_stop=lambda: "cancel")
    assert isinstance(events[-1], ev.RunCancelled)
    assert status(run) == "cancelled"
    assert isinstance(drive(run)[-1], ev.RunFinished)


@pytest.mark.parametrize(("why", "expected"), [("cancel", "cancelled"), ("quota", "paused")])
def test_closing_after_the_stop_changes_nothing(run: Run, why: str, expected: str) -> None:
    """A consumer that leaves on hearing of the stop does not turn it into another one."""
    stream = LOCAL.drive(run, should_stop=lambda: why, token=NOBODY)
    while not isinstance(event := next(stream), ev.RunPaused | ev.RunCancelled):
        pass
    stream.close()
    assert status(run) == expected
    assert Run.load(run.folder).events()[-1] == event


def test_closing_after_the_end_changes_nothing(run: Run) -> None:
    """A consumer that leaves on hearing RunFinished leaves a finished run."""
    stream = LOCAL.drive(run, token=NOBODY)
    while not isinstance(next(stream), ev.RunFinished):
        pass
    stream.close()
    assert status(run) == "finished"
    assert not (run.folder / "state").exists()


def test_resumed_run_says_so(run: Run) -> None:
    """RunStarted tells whether the run goes on from a state."""
    drive(run, should_stop=lambda: "enough")
    drive(run)
    started = [e for e in Run.load(run.folder).events() if isinstance(e, ev.RunStarted)]
    assert [e.resumed for e in started] == [False, True]


def test_interrupt_pauses(run: Run, monkeypatch: pytest.MonkeyPatch, finished: Run) -> None:
    """Ctrl-C in the middle of the work keeps the run, resumable to the same bytes."""
    interrupt_at(monkeypatch, policy.FastEngine, "_next_logits", 20)
    with pytest.raises(KeyboardInterrupt):
        drive(run)
    monkeypatch.undo()
    assert status(run) == "paused"
    assert Run.load(run.folder).events()[-1].reason == "interrupted"
    drive(run)
    assert made(run.folder) == made(finished.folder)


def interrupt_at(
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    n: int,
    error: BaseException | None = None,
) -> None:
    """Let the n-th call of a function raise."""
    inner, calls = getattr(owner, name), iter(range(n - 1))

    def call(*args: Any, **kwargs: Any) -> Any:
        if next(calls, None) is None:
            raise error or KeyboardInterrupt
        return inner(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)


# ---- failing ---------------------------------------------------------------------------------


def test_known_failure(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A known error becomes RunFailed in its own words, is kept in the record, and is raised."""
    interrupt_at(monkeypatch, loop, "choose", 1, RunError("It broke.", "Mend it."))
    with pytest.raises(RunError, match="It broke"):
        drive(run)
    failed = Run.load(run.folder).events()[-1]
    assert isinstance(failed, ev.RunFailed)
    assert (failed.error, failed.message) == ("RunError", "It broke.")
    assert Run.load(run.folder).record.error == {"type": "RunError", "message": "It broke."}
    assert status(run) == "failed"


def test_unknown_failure_tells_no_text(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error is told by its class alone: its message may hold a user's text."""
    interrupt_at(monkeypatch, loop, "choose", 1, ZeroDivisionError("see you there!"))
    with pytest.raises(ZeroDivisionError):
        drive(run)
    assert status(run) == "failed"
    told = (run.folder / "events.jsonl").read_text() + (run.folder / "run.json").read_text()
    assert "ZeroDivisionError" in told
    assert "see you" not in told


def test_failed_run_resumes(run: Run, monkeypatch: pytest.MonkeyPatch, finished: Run) -> None:
    """What a failure left is gone on with, the error forgotten, to the same bytes."""
    interrupt_at(monkeypatch, policy.FastEngine, "_next_logits", 20, RuntimeError("cosmic ray"))
    with pytest.raises(RuntimeError):
        drive(run)
    monkeypatch.undo()
    drive(run)
    assert Run.load(run.folder).record.error is None
    assert made(run.folder) == made(finished.folder)


def test_disk_full_midway(run: Run, monkeypatch: pytest.MonkeyPatch, finished: Run) -> None:
    """A disk that fills up in a run is a StorageError; with room again the run resumes."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    inner, calls = os.fsync, iter(range(30))

    def fsync(fd: int) -> None:
        if next(calls, None) is None:
            raise full
        inner(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match="No space left"):
        drive(run)
    monkeypatch.undo()
    drive(run)
    assert made(run.folder) == made(finished.folder)
    assert numbered(run)


def test_base_that_is_gone(tmp_path: Path) -> None:
    """A base model that cannot be loaded fails the run with its reason, before any stage."""
    run = tiny_run(tmp_path / "gone", tmp_path / "run")
    with pytest.raises(BaseModelError, match="gone"):
        drive(run)
    assert [type(e) for e in Run.load(run.folder).events()] == [ev.RunFailed]
    assert status(run) == "failed"


# ---- one driver at a time --------------------------------------------------------------------


def test_second_driver_is_refused(run: Run) -> None:
    """While one driver works on a run another is refused, and disturbs nothing."""
    stream = LOCAL.drive(run, token=NOBODY)
    next(stream)
    with pytest.raises(RunBusyError):
        drive(run)
    assert status(run) == "running"
    assert isinstance(list(stream)[-1], ev.RunFinished)


def test_finished_run_refuses(finished: Run) -> None:
    """A finished run has nothing to resume."""
    before = finished.events()
    with pytest.raises(RunError, match="finished"):
        drive(finished)
    assert Run.load(finished.folder).events() == before


def test_run_finished_by_another_meanwhile(run: Run) -> None:
    """A driver that was made before another process finished the run refuses it as well."""
    stale = LOCAL.drive(Run.load(run.folder), token=NOBODY)
    drive(run)
    with pytest.raises(RunError, match="finished"):
        next(stale)
    assert status(run) == "finished"


@pytest.mark.parametrize("left", ["running", "created", "paused", "failed", "cancelled"])
def test_any_other_status_resumes(run: Run, left: str) -> None:
    """A run in any other state is driven, also one whose process was killed while running."""
    run.record.status = left
    run.save_record()
    assert isinstance(drive(run)[-1], ev.RunFinished)


def test_leftovers_are_swept(run: Run) -> None:
    """Half-written files of a killed process are gone once the run is driven again."""
    (run.folder / "state").mkdir()
    (run.folder / "state" / ".state.safetensors.99999.tmp").write_bytes(b"half")
    (run.folder / ".run.json.99999.tmp").write_bytes(b"{")
    drive(run)
    assert not list(run.folder.rglob("*.tmp"))


# ---- where the adapter starts ----------------------------------------------------------------


def test_child_starts_from_its_parent(llama: Path, finished: Run, tmp_path: Path) -> None:
    """A run with a parent's adapter in `parent/` starts from that, not from nothing."""
    run = tiny_run(llama, tmp_path / "child")
    for path in (finished.folder / "adapter").iterdir():
        run.write(f"parent/{path.name}", path.read_bytes())
    child = open_policy(run, "cpu", token=NOBODY)
    fresh = open_policy(tiny_run(llama, tmp_path / "fresh"), "cpu", token=NOBODY)
    mine, theirs = child.adapter_files(), finished.folder / "adapter" / "adapter_model.safetensors"
    assert mine["adapter_model.safetensors"] == theirs.read_bytes()
    assert fresh.adapter_files() != mine


def test_parent_of_another_shape(llama: Path, finished: Run, tmp_path: Path) -> None:
    """A parent whose adapter does not fit the child's settings is refused in words."""
    run = tiny_run(llama, tmp_path / "child", "lora.rank=4")
    for path in (finished.folder / "adapter").iterdir():
        run.write(f"parent/{path.name}", path.read_bytes())
    with pytest.raises(BaseModelError, match="does not fit"):
        drive(run)


# ---- the driver alone, over a policy that cannot be opened twice ------------------------------


def test_nothing_happens_before_the_first_event(run: Run) -> None:
    """Making a driver locks nothing and writes nothing until it is asked for events."""
    Driver(run, lambda _: pytest.fail("opened")).events()
    assert status(run) == "created"


def test_stream_is_an_iterator_of_events(run: Run) -> None:
    """A backend gives a plain iterator of events."""
    stream: Iterator[Event] = LOCAL.drive(run, token=NOBODY)
    assert all(isinstance(e, Event) for e in stream)


def test_seed_and_demonstrations_come_from_the_folder(llama: Path, tmp_path: Path) -> None:
    """A run's files follow from its folder alone: settings, seed and demonstrations."""
    run = tiny_run(llama, tmp_path / "run", "lora.rank=3", n=3)
    drive(run)
    trace = follow(llama, tiny_config("lora.rank=3"), tiny_demos(3))
    on_disk = made(run.folder)
    assert all(on_disk[path] == data for path, data in trace.files.items())
