"""Estimates: arithmetic on measured rates, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ditto_hub.config import RunConfig
from ditto_hub.cost.estimates import Rates, Workload, estimate

RATES = Rates("test", 100.0, 1000.0, 10.0, 8, 2**30, "made up")
WORK = Workload(train=4, held_out=0, prompt_tokens=10, completion_tokens=15, longest_completion=20)


def config(*settings: str) -> RunConfig:
    """Return settings changed by texts."""
    found = RunConfig()
    for text in ("sampling.samples=2", "selection.samples=2", "update.pairs=10", *settings):
        found = found.with_setting(text)
    return found


def test_warm_start_by_hand() -> None:
    """Thirty steps of four rows of 25 tokens at 100 tokens a second take 30 s."""
    assert estimate(config(), WORK, RATES).seconds["warm-start"] == pytest.approx(30.0)


def test_distillation_by_hand() -> None:
    """Eight prompts by the model and four by the person, two texts each, in two batches of 16.

    Drafting: 32 drafts of 30 tokens in one batch, at four times the rows of the rates, read once at
    40 tokens: 12.04 s. Teaching: 30 tokens twice at double the rows: 12 s; and 28 readings of 110
    tokens, 28 completions of 15: 3.5 s. Warm start: 30 steps of four rows, of 28 there are.
    """
    distil = ("warm_start.objective=distillation", "warm_start.prompts=8")
    seconds = estimate(config(*distil), WORK, RATES).seconds
    assert list(seconds)[:3] == ["drafting", "teaching", "warm-start"]
    assert seconds["drafting"] == pytest.approx(12.04)
    assert seconds["teaching"] == pytest.approx(12 + 3.5)
    assert seconds["warm-start"] == pytest.approx(30.0)
    wide = estimate(config(*distil, "warm_start.batch_size=100"), WORK, RATES).seconds
    assert wide["warm-start"] == pytest.approx(30 * 28 * 25 / 100)
    none = estimate(config(*distil, "warm_start.prompts=0"), WORK, RATES).seconds
    assert "drafting" not in none
    assert none["teaching"] < seconds["teaching"]


def test_updates_run_each_different_row_once() -> None:
    """Ten pairs over four demonstrations with two samples each hold at most 12 rows: 3 s a step."""
    assert estimate(config(), WORK, RATES).seconds["update"] == pytest.approx(40 * 3.0)


def test_sampling_lasts_as_long_as_its_longest_row() -> None:
    """One batch of eight rows, 30 steps at 10 a second, and three scoring passes: 3.6 s a round."""
    assert estimate(config(), WORK, RATES).seconds["sampling"] == pytest.approx(4 * 3.6)


def test_the_sum_is_that_of_the_stages() -> None:
    """Leaving the continuation out takes its training and one scoring off."""
    whole, less = (
        estimate(config(f"selection.sft_long={word}"), WORK, RATES) for word in ("true", "false")
    )
    assert "sft-long" not in less.seconds
    assert whole.total_seconds == pytest.approx(sum(whole.seconds.values()))
    assert less.total_seconds < whole.total_seconds


def test_a_faster_device_takes_less_time() -> None:
    """Twice the training rate halves the updates."""
    fast = replace(RATES, train_tokens_per_s=200.0)
    slow, quick = (estimate(config(), WORK, rates).seconds["update"] for rates in (RATES, fast))
    assert quick == pytest.approx(slow / 2)
