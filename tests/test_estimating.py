"""Estimates as the command line and the app ask for them, and the receipt after a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jobs_server
import pytest
from click.testing import CliRunner, Result
from hub_server import Hub, local_hub
from hub_state import Fault

from ditto_hub import api
from ditto_hub.api.estimating import Watch, find_shape, job_offers, note_estimate
from ditto_hub.backends.local import LocalBackend
from ditto_hub.cli import main
from ditto_hub.config import RunConfig, preset
from ditto_hub.cost.devices import DEVICES, PRICES
from ditto_hub.cost.job_price import SETUP_S
from ditto_hub.cost.profiles import load_profile
from ditto_hub.cost.shapes import SHAPES
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.errors import BaseModelError, ConfigError, MemoryShortError
from ditto_hub.hub.bounds import Timeouts, bound_time
from ditto_hub.hub.prices import live_prices
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY
from ditto_hub.ui.html.estimates import estimate_words
from ditto_hub.ui.serving.base_models import estimate

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.2"
QUICK = (
    "warm_start.max_steps=2", "sampling.samples=2", "update.rounds=2", "update.steps=1",
    "sampling.max_new_tokens=8", "selection.samples=1", "selection.sft_long=false",
)  # fmt: skip


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A local Hub with a list of hardware."""
    bound_time(Timeouts(waits_s=(), patience_s=0.1))
    with local_hub() as found:
        yield found
    bound_time(Timeouts())


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the Hub's client refuse to ask anything."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def told(*words: str) -> Result:
    """Run `ditto-hub estimate`."""
    return CliRunner().invoke(main, ["estimate", "example:harbor", *words])


def quick() -> RunConfig:
    """Return the settings of a short run."""
    found = preset("pocket")
    for text in QUICK:
        found = found.with_setting(text)
    return found


@pytest.mark.usefixtures("offline")
def test_every_device_has_its_row_offline() -> None:
    """7 B at the paper's settings, no network: a row a device, dated prices, the quota."""
    found = told("--base-model", MISTRAL, "--preset", "paper")
    assert found.exit_code == 0, found.output
    rows = {line.split()[0] for line in found.output.splitlines() if line.strip()}
    assert set(DEVICES) <= rows
    assert "free account" in found.output
    assert "measured on none of these GPUs" in found.output
    assert "2026-08-22" in found.output


@pytest.mark.usefixtures("offline")
def test_one_device_is_told_by_stage() -> None:
    """`--device NAME` tells stages, memory, price and what would fit better."""
    found = told("--base-model", MISTRAL, "--preset", "paper", "--device", "a10g-small")
    assert found.exit_code == 0, found.output
    for words in ("warm-start", "sampling", "in all", "GiB", "USD", "base.quantize=4bit"):
        assert words in found.output


def test_an_unknown_device_is_refused() -> None:
    """An unknown flavor exits with 1 and names those there are."""
    found = told("--device", "b200")
    assert found.exit_code == 1
    assert "h200" in found.output


def test_prices_come_from_the_hub_when_it_answers(hub: Hub) -> None:
    """Dollars a minute become dollars an hour, for every flavor the Hub names."""
    found = live_prices("", hub.endpoint)
    assert found["cpu-basic"] == pytest.approx(jobs_server.FLAVORS["cpu-basic"])
    cheap = api.estimate_devices("example:harbor", MISTRAL, prices={"h200": 1.0}, token=NOBODY)
    table = api.estimate_devices("example:harbor", MISTRAL, token=NOBODY)
    one, other = (next(e for e in es if e.device == "h200") for es in (cheap, table))
    assert other.price_usd == pytest.approx((one.price_usd or 0) * PRICES["h200"])


@pytest.mark.parametrize("kind", ["status", "lost-before"])
def test_without_an_answer_the_table_stands(kind: str, hub: Hub) -> None:
    """A Hub that fails is asked once and leaves the table's prices."""
    hub.faults.append(Fault(kind, "jobs/hardware", times=9))
    assert live_prices("", hub.endpoint) == {}
    assert len(hub.requests) == 1


def test_a_shape_comes_from_a_folders_config(tmp_path: Path) -> None:
    """A base that is not known is read from its config; one that cannot be used is refused."""
    from ditto_hub import pocket

    assert find_shape(str(pocket.path()), token=NOBODY) == SHAPES["pocket"]
    with pytest.raises(BaseModelError):
        find_shape(str(tmp_path), token=NOBODY)


def test_a_run_that_cannot_fit_is_refused(tmp_path: Path) -> None:
    """7 B on a T4 raises with what would fit, and nothing is written down."""
    run = api.create_run(
        "example:harbor", config=preset("paper"), output=tmp_path / "run", token=NOBODY
    )
    run.record.base_model["id"] = MISTRAL
    with pytest.raises(MemoryShortError, match="larger hardware"):
        note_estimate(run, "t4-small", NOBODY)
    assert run.record.estimate == {}
    assert note_estimate(run, "l40sx1", NOBODY) is not None
    assert run.record.estimate["device"] == "l40sx1"
    with pytest.raises(ConfigError):
        api.estimate_run("example:harbor", device="nonesuch")


def test_the_receipt_of_a_run(tmp_path: Path) -> None:
    """A run keeps what was estimated, refines it by its own steps, and shows it with the use."""
    run = api.create_run("example:harbor", config=quick(), output=tmp_path / "run", token=NOBODY)
    note_estimate(run, "cpu-basic", NOBODY)
    for _ in api.drive(run, backend=LocalBackend("cpu"), token=NOBODY):
        pass
    record = Run.load(tmp_path / "run").record
    used = sum(record.stage_seconds.values())
    assert record.estimate["seconds"]["update"] > 0
    assert 0 < record.estimate["refined_seconds"] < 10 * used
    shown = CliRunner().invoke(main, ["runs", "show", str(tmp_path / "run")])
    assert "(estimated" in shown.output
    assert "in all" in shown.output
    assert "seconds estimated at the start" in (tmp_path / "run/adapter/README.md").read_text(
        "utf-8"
    )


def test_a_resumed_run_is_not_refined_from_half_its_events(tmp_path: Path) -> None:
    """What was worked before a resume is unknown to its first steps, so they say nothing."""
    from ditto_hub.events import RunStarted, StageFinished

    run = api.create_run("example:harbor", config=quick(), output=tmp_path / "run", token=NOBODY)
    watch = Watch(run)
    about = {"base_model": "pocket", "demonstrations": 4, "held_out": 1, "total_stages": 6}
    watch.see(RunStarted(**about, resumed=True))
    watch.see(StageFinished(stage="update", seconds=1.0))
    assert run.record.estimate == {}


def test_jobs_are_offered_cheapest_first() -> None:
    """Only GPUs the run fits, each with its setting up in time and money; none without figures."""
    demos = api.read_demos("example:harbor")
    found = job_offers(demos, MISTRAL, preset("fast"), token=NOBODY)
    assert [offer.usd for offer in found] == sorted(offer.usd for offer in found)
    names = {offer.flavor for offer in found}
    assert "a100-large" in names
    assert not names & {"cpu-basic", "t4-small", "zero-a10g"}
    assert all(offer.seconds > SETUP_S for offer in found)
    assert job_offers(demos, "/nowhere", preset("fast"), token=NOBODY) == []


# ---- texts without prompts ---------------------------------------------------------------------

TEXTS = [
    f"Note {n}. The bus was late again, so I walked, and it rained on my shoes." for n in "abcd"
]


def bare() -> DemoSet:
    """Return four demonstrations, two of which lack their prompts."""
    return DemoSet.from_pairs(
        (f"Write {n}." if n > 1 else "", text) for n, text in enumerate(TEXTS)
    )


def test_prompts_that_are_missing_are_estimated() -> None:
    """They are counted where they are written: on this machine or a lease, not on a job."""
    own = load_profile("own")
    here = estimate(bare(), "smollm2", None, "", own, NOBODY)
    on_job = estimate(bare(), "smollm2", None, "l4x1", own, NOBODY)
    assert next(iter(here.seconds)) == "prompts"
    assert here.prompts_seconds > 0
    assert on_job.prompts_seconds == 0
    assert "writes the missing prompts" in estimate_words(here, own, "en")
    assert "missing prompts" not in estimate_words(on_job, own, "en")


def test_a_lease_that_writes_prompts_is_said() -> None:
    """On ZeroGPU it is one more lease, and its seconds of the quota are told."""
    zero = load_profile("zerogpu")
    found = estimate(bare(), "smollm2", None, "", zero, NOBODY)
    assert found.budget is not None
    said = estimate_words(found, zero, "en")
    assert f"<dd>{found.budget.leases + 1}</dd>" in said
    assert f"takes another {round(found.budget.prompts)} s" in said


@pytest.mark.parametrize("device", ["zero-a10g", "all"])
def test_texts_alone_are_estimated_on_the_command_line(tmp_path: Path, device: str) -> None:
    """`estimate --texts-alone` reads texts and counts the prompts."""
    file = tmp_path / "texts.txt"
    file.write_text("\n---\n".join(TEXTS))
    words = ("estimate", str(file), "--texts-alone", "--base-model", "smollm2", "--device", device)
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0
    assert "prompts " in result.stdout


def test_this_machine_is_timed_once_and_threads_count_for_large_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A CPU's rates are its own, for a while; a small model runs on one thread."""
    from ditto_hub.api import estimating
    from ditto_hub.engine import pace

    monkeypatch.setattr(pace, "THREADS", 4)
    monkeypatch.setattr(pace, "HOLDS_S", 1e9)
    unseen = estimating.this_machine(False, 135_000_000)
    small, large = (estimating.this_machine(True, n) for n in (2_000_000, 135_000_000))
    assert unseen.flops == DEVICES["cpu-basic"].flops
    assert large.flops == pytest.approx(4 * small.flops)
    assert large.bandwidth == small.bandwidth > 1e8
    assert "timed on this machine" in str(large.source)
