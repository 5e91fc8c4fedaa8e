"""A lease from the inside and its books, without a platform: the clock, the cuts, what crosses."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import made, tiny_run

from ditto_hub import events as ev
from ditto_hub.api.leasing import desk_of, stream_back
from ditto_hub.backends.backtranslation import PromptRequest
from ditto_hub.backends.local import LocalBackend
from ditto_hub.backends.zerogpu import function as zerogpu
from ditto_hub.backends.zerogpu import lease
from ditto_hub.backends.zerogpu.broker import LeaseBackend, Platform, Use, prompts_s
from ditto_hub.backends.zerogpu.lease import LeaseClock, Pace
from ditto_hub.backends.zerogpu.ledger import Ledger
from ditto_hub.backends.zerogpu.marks import halve_rows
from ditto_hub.backends.zerogpu.refusals import Ask, Refusal
from ditto_hub.cost.profiles import load_profile
from ditto_hub.errors import BaseModelError, DittoError, describe
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

SETTINGS = ("sampling.batch_rows=3", "warm_start.stop=held-out")
HELD = {"n": 4, "held_out": 1}
DISTIL = ("warm_start.objective=distillation", "warm_start.prompts=1", "update.rounds=1")


@pytest.fixture(scope="module")
def llama(tiny: Callable[[str], Path]) -> Path:
    return tiny("llama3")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (BaseModelError("engine.no_4bit_on_mps"), "bitsandbytes 沒有適用於 MPS 的 4 位元權重。"),
        (ZeroDivisionError("secret"), "訓練因意料之外的錯誤（ZeroDivisionError）而停止。"),
    ],
)
def test_an_error_crosses_with_its_code(error: Exception, told: str) -> None:
    """What failed inside a lease is told in the visitor's language outside it."""
    crossed = json.loads(json.dumps(lease.in_plain(error)))
    with pytest.raises(DittoError) as raised:
        Use(ask=Ask(0, 0, 0.0), error=crossed).raise_error()
    assert describe(raised.value, "zh-TW")[0] == told


def backend(
    folder: Path, do: Callable[[dict[str, Any]], Iterator[dict[str, Any]]], **options: Any
) -> LeaseBackend:
    """Return a backend on a platform that runs leases here."""
    platform = Platform(do, lambda: 1.5, lambda: 1.0, lambda error: None)
    return LeaseBackend(platform, Ledger("hub:ann", (300.0,), folder / "ledger"), 60, **options)


def in_short_leases(order: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Be a platform whose leases are over before they begin."""
    return zerogpu._lease({**order, "usable_s": 0.0})


@pytest.mark.parametrize("settings", [SETTINGS, (*SETTINGS, *DISTIL)], ids=["", "distilled"])
def test_cut_between_any_two_steps(llama: Path, tmp_path: Path, settings: tuple[str, ...]) -> None:
    """A run of leases that each end at their first checkpoint makes the bytes of one long run."""
    whole = tiny_run(llama, tmp_path / "whole", *settings, **HELD)
    for _ in LocalBackend("cpu").drive(whole, token=NOBODY):
        pass
    run = tiny_run(llama, tmp_path / "run", *settings, **HELD)
    leases = 0
    while run.record.status != "finished":
        *_, end = backend(tmp_path, in_short_leases).drive(run, token=NOBODY)
        leases += 1
        assert isinstance(end, ev.LeaseEnded)
        assert end.goes_on == (end.reason == "time")
    assert leases > 20
    assert made(run.folder) == made(whole.folder)
    assert [e.seq for e in run.events()] == list(range(len(run.events())))


def test_orders_are_plain_and_hold_no_token(llama: Path, tmp_path: Path) -> None:
    """What crosses into the worker is JSON: paths and numbers, and never a token or an owner."""
    orders: list[dict[str, Any]] = []

    def keep(order: dict[str, Any]) -> Iterator[dict[str, Any]]:
        orders.append(order)
        return zerogpu._lease(order)

    run = tiny_run(llama, tmp_path / "run", *SETTINGS, **HELD)
    list(backend(tmp_path, keep).drive(run, token="hf_secret"))
    text = json.dumps(orders)
    assert "hf_secret" not in text
    assert "ann" not in text.replace(str(tmp_path), "")


def test_restarted_in_the_middle(llama: Path, tmp_path: Path) -> None:
    """A run that a Space's end left "running" is found paused, and goes on from its last save."""
    run = tiny_run(llama, tmp_path / "run", *SETTINGS, **HELD)
    list(backend(tmp_path, in_short_leases).drive(run, token=NOBODY))
    run.record.status = "running"
    run.save_record()
    events = list(backend(tmp_path, zerogpu._lease).drive(run, token=NOBODY))
    assert isinstance(events[-1], ev.LeaseEnded)
    assert [e.reason for e in run.events() if isinstance(e, ev.RunPaused)] == [
        "lease",
        "interrupted",
    ]


def test_stopped_by_its_owner(llama: Path, tmp_path: Path) -> None:
    """A pause asked for in the main process reaches the worker, and no other lease follows."""
    run = tiny_run(llama, tmp_path / "run", *SETTINGS, **HELD)
    *_, end = backend(tmp_path, zerogpu._lease).drive(run, lambda: "stopped", token=NOBODY)
    assert isinstance(end, ev.LeaseEnded)
    assert (end.reason, end.goes_on) == ("stopped", False)
    assert Run.load(run.folder).record.status == "paused"


def test_cancelled(llama: Path, tmp_path: Path) -> None:
    """A run cancelled during a lease is cancelled, not paused."""
    run = tiny_run(llama, tmp_path / "run", *SETTINGS, **HELD)
    *_, end = backend(tmp_path, zerogpu._lease).drive(run, lambda: "cancel", token=NOBODY)
    assert isinstance(end, ev.LeaseEnded)
    assert (end.reason, end.goes_on) == ("cancelled", False)
    assert Run.load(run.folder).record.status == "cancelled"


def test_error_inside_is_raised_outside(tmp_path: Path) -> None:
    """What fails in the worker is raised in the main process in the same words, after its event."""
    run = tiny_run(tmp_path / "nothing", tmp_path / "run", *SETTINGS, **HELD)
    seen: list[ev.Event] = []
    with pytest.raises(BaseModelError, match="Could not load"):
        seen.extend(backend(tmp_path, zerogpu._lease).drive(run, token=NOBODY))
    kinds = [type(e).__name__ for e in run.events()]
    assert kinds[-2:] == ["RunFailed", "LeaseEnded"]


def test_a_new_stage_is_as_slow_as_the_estimate_and_the_run_say() -> None:
    """Of a stage not seen yet the estimate tells, by how much slower the seen ones were."""
    pace = Pace(expected={"warm-start": 0.5, "sampling": 4.0})
    assert pace.next_s("sampling") == 4.0
    pace.add("warm-start", 1.5)
    assert pace.next_s("sampling") == 12.0
    assert pace.next_s("update") == 1.5
    pace.add("sampling", 6.0)
    assert pace.next_s("sampling") == 6.0


def test_a_long_stage_is_left_to_the_next_lease(llama: Path, tmp_path: Path) -> None:
    """A lease ends before a stage that its estimate says is too long for what is left of it."""
    run = tiny_run(llama, tmp_path / "run", *SETTINGS, **HELD)
    run.record.estimate = {"seconds": {"warm-start": 1e-6, "sampling": 1e4}}
    run.save_record()
    *_, end = backend(tmp_path, zerogpu._lease).drive(run, token=NOBODY)
    assert isinstance(end, ev.LeaseEnded)
    assert (end.reason, end.goes_on) == ("time", True)
    assert {e.stage for e in run.events() if isinstance(e, ev.StageFinished)} == {"warm-start"}


@pytest.mark.parametrize(("stage", "rows"), [("drafting", 2), ("teaching", 8)])
def test_rows_of_distillation_are_halved(
    llama: Path, tmp_path: Path, stage: str, rows: int
) -> None:
    """What no lease holds of drafts or teacher's texts is drawn in half as many rows at a time."""
    run = tiny_run(llama, tmp_path / "run", *DISTIL, **HELD)
    run.append_events([ev.StageStarted(stage=stage, index=0, total_steps=1)])
    assert halve_rows(run)
    assert run.config.sampling.batch_rows == rows


def test_a_batch_no_lease_holds_is_halved(llama: Path, tmp_path: Path) -> None:
    """Taken away at its end in its first batch of samples, a run goes on in smaller ones."""
    settings = ("warm_start.stop=held-out",)
    run = tiny_run(llama, tmp_path / "run", *settings, "sampling.batch_rows=3", **HELD)

    def overrun(order: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"born": time.monotonic() - order["usable_s"]}
        begun = ev.StageStarted(stage="sampling", round=0, index=1, total_steps=2)
        Run.load(order["folder"]).append_events([begun])
        raise RuntimeError("taken away")

    platform = Platform(overrun, lambda: 1.5, lambda: 1.0, lambda error: Refusal("aborted"))
    ledger = Ledger("hub:ann", (3000.0,), tmp_path / "ledger")
    *_, end = LeaseBackend(platform, ledger, 60).drive(run, token=NOBODY)
    assert isinstance(end, ev.LeaseRefused)
    assert (end.reason, end.goes_on) == ("aborted", True)
    assert run.config.sampling.batch_rows == 1
    assert [notice["code"] for notice in run.record.notices] == ["lease-rows"]
    *_, end = LeaseBackend(platform, ledger, 60).drive(run, token=NOBODY)
    assert end.goes_on  # type: ignore[union-attr]  # nothing left to halve: the second try is one
    list(backend(tmp_path, zerogpu._lease).drive(run, token=NOBODY))
    small = tiny_run(llama, tmp_path / "small", *settings, "sampling.batch_rows=1", **HELD)
    for _ in LocalBackend("cpu").drive(small, token=NOBODY):
        pass
    assert made(run.folder) == made(small.folder)


def test_use_is_charged(llama: Path, tmp_path: Path) -> None:
    """A lease costs the seconds it was used, not those it declared."""
    run = tiny_run(llama, tmp_path / "run", *SETTINGS, **HELD)
    used = backend(tmp_path, zerogpu._lease)
    began = time.monotonic()
    list(used.drive(run, token=NOBODY))
    took = time.monotonic() - began
    assert 300 - took <= used.ledger.standing().left_s < 300


def test_unknown_error_of_the_platform_is_raised(llama: Path, tmp_path: Path) -> None:
    """What is no refusal is not swallowed."""

    def broken(order: dict[str, Any]) -> Iterator[dict[str, Any]]:
        raise ZeroDivisionError
        yield {}

    run = tiny_run(llama, tmp_path / "run", *SETTINGS, **HELD)
    with pytest.raises(ZeroDivisionError):
        list(backend(tmp_path, broken).drive(run, token=NOBODY))


def test_platforms_errors_are_known() -> None:
    """A device API that cannot be reached is no GPU; one of our own errors is no refusal."""
    import httpx

    unreachable = zerogpu.refusal_of(httpx.ConnectError("refused"))
    assert unreachable == Refusal("no-gpu", None, 60.0)
    assert zerogpu.refusal_of(BaseModelError("It broke.")) is None


# ---- the clock -----------------------------------------------------------------------------------


class Time:
    """A monotonic clock that a test sets."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Set the lease's clock by hand."""
    fake = Time()
    monkeypatch.setattr(lease.time, "monotonic", fake.monotonic)
    return fake


def steps(clock: LeaseClock, now: Time, seconds: float, total: int = 100) -> int:
    """Return how many steps of that length a clock lets happen."""
    for step in range(1, total + 1):
        now.now += seconds
        clock.see(ev.StepTaken(
            stage="update", step=step, total_steps=total, loss=0.0, learning_rate=0.0, grad_norm=0.0
        ))  # fmt: skip
        if clock():
            return step
    return total


def test_stops_while_another_step_and_a_save_still_fit(now: Time) -> None:
    """A lease ends when less is left than its longest step, two saves and the leaving take."""
    pace = Pace(save=0.5)
    clock = LeaseClock(20.0, 100.0, pace)
    assert steps(clock, now, 1.0) == 17  # 3.0 s left: 1.3 + 1.0 + 1.0 is more
    assert pace.longest == {"update": 1.0}


def test_leaving_is_counted(now: Time) -> None:
    """The seconds that leaving the GPU took before are kept for it."""
    clock = LeaseClock(20.0, 100.0, Pace(leave=2.0))
    assert steps(clock, now, 1.0) == 15  # 5.0 s left: 1.3 + 3.0 + 1.0 is more


def test_stop_is_asked_first(now: Time) -> None:
    """A reason from outside goes before the clock's own."""
    clock = LeaseClock(0.0, 100.0, Pace(), stop=lambda: "cancel")
    assert clock() == "cancel"


def test_end_of_a_stage_has_a_pace_of_its_own(now: Time) -> None:
    """What follows a stage's last step is told apart: scoring is longer than one step."""
    pace = Pace()
    clock = LeaseClock(1000.0, 100.0, pace, ["update", "scoring"])
    steps(clock, now, 1.0, total=3)
    now.now += 9.0
    clock.see(ev.StageFinished(stage="update", seconds=12.0))
    clock()
    assert pace.longest == {"update": 1.0, "update/end": 9.0}


def test_looks_ahead_over_the_end_of_a_stage(now: Time) -> None:
    """When a stage has ended it is the next one's first step that has to fit."""
    for scoring, why in ((3.0, ""), (6.0, "lease")):
        clock = LeaseClock(10.0, now.now, Pace(longest={"scoring": scoring}), ["update", "scoring"])
        now.now += 3.0
        clock.see(ev.StageStarted(stage="update", index=0, total_steps=1))
        clock.see(ev.StageFinished(stage="update", seconds=3.0))
        assert clock() == why


def test_known_pace_stops_before_a_long_stage(now: Time) -> None:
    """What an earlier lease measured keeps this one from beginning what it cannot end."""
    clock = LeaseClock(10.0, 100.0, Pace(longest={"update": 8.0}), ["update"])
    assert steps(clock, now, 1.0) == 1


def test_clock_starts_at_the_workers_birth(now: Time) -> None:
    """What a fresh worker did before its first line counts; a warm one's clock starts anew."""
    lease._note_birth()
    now.now += 3.0
    assert lease.began() == 100.0
    assert lease.began() == 103.0


def test_prompts_are_written_in_one_lease(llama: Path, tmp_path: Path) -> None:
    """A lease writes the prompts that would be written here, and declares time for each text."""
    orders: list[dict[str, Any]] = []

    def leased(order: dict[str, Any]) -> Iterator[dict[str, Any]]:
        orders.append(json.loads(json.dumps(order)))
        return zerogpu._lease(orders[-1])

    texts = ["The roof of the shed leaks again.", "See you on the pier at noon, then."]
    desk = desk_of(str(llama))
    written = backend(tmp_path, leased).write(desk, [PromptRequest(text) for text in texts])
    here = stream_back(texts, str(llama), load_profile("own"), visitor="", token=NOBODY)
    assert dict(enumerate(written)) == dict(here)
    assert [order["task"] for order in orders] == ["prompts"]
    assert orders[0]["declared_s"] >= 30
    assert prompts_s(50) == 110.0
