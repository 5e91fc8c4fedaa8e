"""Whole `pocket` runs on an emulated ZeroGPU that kills at the declared second."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from device_api import DeviceApi
from lease_client import OWNER, App, started
from tiny_runs import made

from ditto_hub import api
from ditto_hub import events as ev
from ditto_hub.config import RunConfig, preset
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

CAP_S = 20
# pocket's own settings, fewer of each: about half a minute on a core
SMALLER = (
    "warm_start.max_steps=12",
    "sampling.samples=4",
    "sampling.batch_rows=8",
    "update.rounds=2",
    "update.steps=8",
)
KILLS = (
    ["warm-start", 6, "StepTaken"],
    ["sampling", 2, "BatchSampled"],
    ["update", 5, "StepTaken"],
    ["scoring", 1, "BatchSampled"],
    ["sft-long", 9, "StepTaken"],
)


@pytest.fixture(scope="module")
def device() -> Iterator[DeviceApi]:
    with DeviceApi(quota_s=300) as device:
        yield device


@pytest.fixture(scope="module")
def app(device: DeviceApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with started(device, tmp_path_factory.mktemp("home"), "--base", "pocket") as app:
        yield app


@pytest.fixture(autouse=True)
def fresh(device: DeviceApi, app: App) -> None:
    """Begin each test with a whole quota and an empty ledger."""
    device.new_day()
    device.leases.clear()
    for account in app.log.parent.glob("ledger/*.json"):
        account.unlink()


def config() -> RunConfig:
    """Return pocket's settings, smaller."""
    found = preset("pocket", 0)
    for text in SMALLER:
        found = found.with_setting(text)
    return found


def created(folder: Path) -> Run:
    """Return a new run on the embedded model."""
    return api.create_run(
        "example:harbor", "pocket", config(), output=folder, owner=OWNER, token=NOBODY
    )


def results(run: Run) -> dict[str, bytes]:
    """Return what a run has made, without the card, which tells how long it took.

    Of a sample, without pi's score, which nothing is trained on: its last digits were seen to
    differ from those of a run in this process (about 1e-6), token ids and adapters never.
    """
    found = {k: v for k, v in made(run.folder).items() if not k.endswith("README.md")}
    for name in [name for name in found if name.startswith("rollouts/")]:
        rows = [json.loads(line) for line in found[name].splitlines()]
        for row in rows:
            row.pop("policy_log_prob", None)
        found[name] = json.dumps(rows).encode()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return what one long local run makes."""
    return results(api.resume(created(tmp_path_factory.mktemp("whole") / "run")))


def test_several_leases(
    app: App, device: DeviceApi, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """With 300 s and a cap, a run in several leases ends in the local run's bytes, none killed."""
    run = created(tmp_path / "run")
    ends = app.chain(run, cap_s=CAP_S // 2)
    assert len(ends) > 1
    assert all(isinstance(end, ev.LeaseEnded) for end in ends)
    assert not any(lease.killed for lease in device.leases)
    assert all(lease.used_s <= lease.declared_s <= CAP_S for lease in device.leases)
    assert results(run) == whole


def test_killed_in_every_stage(app: App, whole: dict[str, bytes], tmp_path: Path) -> None:
    """A run whose worker is killed once in every stage ends in the local run's bytes."""
    run, kills = created(tmp_path / "run"), list(KILLS)
    ends = []
    for kill in (*kills, None):
        if kill:
            run.write("die.json", json.dumps(kill).encode())
        ends += app.chain(run, cap_s=CAP_S, most=1 if kill else 60)
        while kill and (run.folder / "die.json").exists():
            ends += app.chain(run, cap_s=CAP_S, most=1)
    assert sum(isinstance(e, ev.LeaseRefused) and e.reason == "aborted" for e in ends) >= len(KILLS)
    assert results(run) == whole


def test_quota_ends_midway(
    app: App, device: DeviceApi, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """A run that the day's quota ends is paused with its hour, and a second day finishes it."""
    run = created(tmp_path / "run")
    app.chain(run, cap_s=CAP_S // 2, most=1)
    device.leave(1)
    first = app.chain(run, cap_s=CAP_S // 2)
    assert isinstance(first[-1], ev.LeaseRefused)
    assert first[-1].reason in ("quota", "kept")
    assert first[-1].retry_at is not None
    assert Run.load(run.folder).record.status == "paused"
    device.new_day()
    for account in app.log.parent.glob("ledger/*.json"):
        account.unlink()  # a day later the account is begun anew
    second = app.chain(run, cap_s=CAP_S)
    assert isinstance(second[-1], ev.LeaseEnded)
    assert results(run) == whole
