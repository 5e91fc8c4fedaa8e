"""How texts are drawn that a person reads: by settings of their own, never those of training."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ditto_hub.config import Reading, RunConfig, Sampling, preset
from ditto_hub.engine.base_model import recommended


def a_model(**settings: object) -> SimpleNamespace:
    """Return what looks like a model with a generation config."""
    return SimpleNamespace(generation_config=SimpleNamespace(**settings))


def test_the_base_models_recommendation_comes_first() -> None:
    """Where it samples by default and says how."""
    model = a_model(do_sample=True, temperature=0.6, top_p=0.95, top_k=20)
    drawn = Reading().settled(recommended(model))
    assert (drawn.temperature, drawn.top_p, drawn.top_k) == (0.6, 0.95, 20)


@pytest.mark.parametrize("model", [a_model(do_sample=False, temperature=0.1), SimpleNamespace()])
def test_else_it_is_what_the_field_recommends(model: SimpleNamespace) -> None:
    """A model that decodes greedily by default recommends nothing."""
    drawn = Reading().settled(recommended(model))
    assert (drawn.temperature, drawn.top_p, drawn.top_k) == (0.7, 0.9, 0)


def test_settings_win_over_both() -> None:
    """And zero switches top-k off, which minus one leaves to the base model."""
    drawn = Reading(1.2, 1.0, 0).settled({"temperature": 0.6, "top_k": 20})
    assert (drawn.temperature, drawn.top_p, drawn.top_k) == (1.2, 1.0, 0)


def test_the_rest_of_the_draw_is_the_samplings() -> None:
    """Rows side by side do not change."""
    assert Reading().settled({}, Sampling(batch_rows=3)).batch_rows == 3


def test_training_samples_at_its_own_settings() -> None:
    """Rollouts come from the whole distribution, whatever is read."""
    config = RunConfig().with_value("reading.temperature", 0.3)
    assert (config.sampling.temperature, config.sampling.top_p) == (1.0, 1.0)


def test_an_older_run_reads_as_it_did() -> None:
    """Its record has one section for both."""
    old = RunConfig().with_value("sampling.top_p", 0.8).to_json()
    del old["reading"]
    assert RunConfig.from_record(old).reading == Reading(1.0, 0.8, 0)
    assert RunConfig.from_record(RunConfig().to_json()).reading == Reading()


def test_the_paper_reads_at_temperature_one() -> None:
    """As its samples were drawn."""
    assert preset("paper").reading.settled({}).temperature == 1.0
