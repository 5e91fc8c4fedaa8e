"""Types of models that stand for what models are built of: each trains, resumes and loads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_models import load_tiny
from tiny_runs import CPU

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from families import take_through
from families_models import build_family, small_config

from ditto_hub.config import Lora
from ditto_hub.engine import choice
from ditto_hub.engine.base_model import load_base
from ditto_hub.engine.choice import AnyEngine, open_engine, require_fast
from ditto_hub.engine.families import Family, families, family
from ditto_hub.engine.fast import FastEngine
from ditto_hub.engine.plain import PlainEngine
from ditto_hub.engine.targets import lora_targets
from ditto_hub.errors import BaseModelError
from ditto_hub.hub.architectures import CAUSAL
from ditto_hub.tokens import NOBODY

ENGINES = {"fast": FastEngine, "plain": PlainEngine}
MECHANISMS = {
    "dense": "llama",
    "learned positions": "gpt2",
    "sliding window": "gemma2",
    "shared keys and values": "gemma3n_text",
    "latent attention": "deepseek_v3",
    "experts": "qwen3_moe",
    "experts with sinks": "gpt_oss",
    "experts in one matrix": "granitemoe",
    "linear attention": "qwen3_next",
    "convolution": "lfm2",
    "state space": "mamba2",
    "state space and experts": "granitemoehybrid",
    "vision and text": "gemma3",
}


def opened(folder: Path, targets: str = "attention") -> AnyEngine:
    """Load a base model with an adapter on it."""
    base = {"id": str(folder)}
    loaded = load_base(base, device=CPU, token=NOBODY)
    return open_engine(*loaded, Lora(rank=2, targets=targets), 0, base)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have shorter runs than those the table is made from."""
    few = ("warm_start.max_steps=1", "sampling.max_new_tokens=4", "update.steps=1")
    monkeypatch.setattr("families.SETTINGS", (*sys.modules["families"].SETTINGS, *few))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_each_mechanism_trains(mechanism: str, tmp_path: Path) -> None:
    """A run, a stop, a resume and a load in plain PEFT work, by the engine that the table names."""
    model_type, engines = MECHANISMS[mechanism], []

    def build(*given: Any) -> AnyEngine:
        engines.append(open_engine(*given))
        return engines[-1]

    take_through(build_family(model_type, tmp_path / "base"), tmp_path / "run", build)
    assert {type(engine) for engine in engines} == {ENGINES[family(model_type).trained_by]}


@pytest.mark.filterwarnings("ignore")
def test_no_adapter_on_a_vision_tower(tmp_path: Path) -> None:
    """Of a model that sees, only the language model gets an adapter, with every wish."""
    build_family("gemma3", tmp_path)
    for wish in ("attention", "all-linear"):
        assert all("language_model" in name for name in opened(tmp_path, wish).snapshot())


def test_the_table_has_every_type_that_is_named() -> None:
    """No type that is called supported was left untried."""
    assert set(families()) == set(CAUSAL)


def test_experts_and_routers_are_left_alone(tmp_path: Path) -> None:
    """On a mixture of experts "all-linear" means the layers outside the experts."""
    model, _ = load_tiny(build_family("qwen2_moe", tmp_path))
    assert lora_targets(model, "all-linear") == ["k_proj", "o_proj", "q_proj", "v_proj"]


@pytest.mark.filterwarnings("ignore:The following:RuntimeWarning")
def test_experts_by_name_take_the_plain_engine(tmp_path: Path) -> None:
    """Where PEFT puts the adapter on stacked experts, the fast engine leaves the model to PEFT."""
    build_family("afmoe", tmp_path)
    assert type(opened(tmp_path, "gate_proj,up_proj,down_proj")) is PlainEngine
    assert type(opened(tmp_path, "all-linear")) is FastEngine


def test_the_plain_engine_is_said_once(tmp_path: Path) -> None:
    """A run of a type that is beyond the fast engine says so in a notice."""
    engine = opened(build_family("mamba2", tmp_path))
    (notice,) = engine.notices()
    assert (notice.code, notice.message.values) == ("plain-engine", {"model_type": "mamba2"})
    assert list(engine.notices()) == []


def test_a_type_never_tried_gets_the_plain_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is newer than the table is tried with the engine that knows the least."""
    monkeypatch.setattr(choice, "family", lambda name: Family())
    engine = opened(build_family("llama", tmp_path))
    assert type(engine) is PlainEngine


def test_a_type_never_tried_that_fails_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a new type cannot do is found before the run begins."""
    monkeypatch.setattr(choice, "family", lambda name: Family())
    base = {"id": str(build_family("llama", tmp_path))}
    model, tokenizer = load_base(base, device=CPU, token=NOBODY)
    monkeypatch.setattr(model, "generate", None)
    with pytest.raises(BaseModelError, match="failed when it was tried out"):
        open_engine(model, tokenizer, Lora(rank=2), 0, base)


def test_a_type_that_failed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A type that neither engine trains is refused, adapter or not."""
    monkeypatch.setattr(choice, "family", lambda name: Family("nobody", "why"))
    build_family("llama", tmp_path)
    with pytest.raises(BaseModelError, match="type llama cannot be trained"):
        opened(tmp_path)


def test_several_processes_need_the_fast_engine(tmp_path: Path) -> None:
    """A type for the plain engine is refused where several processes were launched."""
    model, _ = load_tiny(build_family("mamba2", tmp_path))
    with pytest.raises(BaseModelError, match="one process only"):
        require_fast(model)


def test_tiny_models_keep_their_mechanism() -> None:
    """What is made small has one layer of each kind still."""
    kinds = small_config("qwen3_next").layer_types
    assert set(kinds) == {"linear_attention", "full_attention"}
