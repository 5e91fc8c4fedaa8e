"""The base model in 4 bits: said in the settings, recorded, and refused where it cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from ditto_hub import api
from ditto_hub.backends.local import LocalBackend
from ditto_hub.config import RunConfig
from ditto_hub.engine import base_model
from ditto_hub.engine.base_model import four_bit, load_base, pick_dtype
from ditto_hub.errors import BaseModelError, ConfigError, MemoryShortError
from ditto_hub.tokens import NOBODY

SETTINGS = (
    "base.quantize=4bit", "warm_start.max_steps=2", "sampling.samples=2", "update.rounds=1",
    "sampling.max_new_tokens=8", "selection.samples=1", "selection.sft_long=false",
    "update.steps=1",
)  # fmt: skip


def config() -> RunConfig:
    """Return the settings of a short run in 4 bits."""
    found = RunConfig()
    for text in SETTINGS:
        found = found.with_setting(text)
    return found


def test_it_is_off_unless_asked_for() -> None:
    """The setting is a choice of two words."""
    assert RunConfig().base.quantize == "none"
    with pytest.raises(ConfigError, match="one of none, 4bit"):
        RunConfig().with_setting("base.quantize=3bit")


def test_a_run_in_four_bits_or_the_reason_why_not(tmp_path: Path) -> None:
    """With bitsandbytes a run finishes and says so; without, it fails and names what to install."""
    run = api.create_run(
        "example:harbor", "pocket", config(), output=tmp_path / "run", token=NOBODY
    )
    assert run.record.base_model["quantize"] == "4bit"
    if find_spec("bitsandbytes") is None:
        with pytest.raises(BaseModelError, match=r"ditto-hub\[4bit\]"):
            list(api.drive(run, backend=LocalBackend("cpu"), token=NOBODY))
        return
    list(api.drive(run, backend=LocalBackend("cpu"), token=NOBODY))
    assert run.record.status == "finished"
    assert all(math.isfinite(v) for v in run.record.candidates["sft"]["scores"].values())
    model, _ = load_base(run.record.base_model, device=torch.device("cpu"), token=NOBODY)
    assert type(model.model.layers[0].self_attn.q_proj).__name__ == "Linear4bit"


def test_four_bits_are_asked_for_as_nf4(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of transformers: NF4, double quantised, computing in the device's dtype."""
    monkeypatch.setattr(base_model, "find_spec", lambda name: object())
    monkeypatch.setattr(
        "transformers.utils.quantization_config.BitsAndBytesConfig.post_init", lambda self: None
    )
    asked = four_bit(torch.device("cpu"))
    assert asked["quantization_config"].bnb_4bit_quant_type == "nf4"
    assert asked["quantization_config"].bnb_4bit_use_double_quant
    assert asked["device_map"] == {"": torch.device("cpu")}
    with pytest.raises(BaseModelError, match="MPS"):
        four_bit(torch.device("mps"))


def test_a_base_that_does_not_load_is_told(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that ends while the weights are loaded is told with what would fit."""

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(base_model.AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(MemoryShortError, match="estimate"):
        load_base({"id": str(tiny("smollm2"))}, device=torch.device("cpu"), token=NOBODY)


@pytest.mark.parametrize(("real", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_only_where_the_hardware_has_it(
    real: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU that only emulates it computes in float32; so do CPU and MPS."""

    def supported(including_emulation: bool = True) -> bool:
        return real or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert pick_dtype(torch.device("cuda")) is dtype
    assert pick_dtype(torch.device("cpu")) is torch.float32
    assert pick_dtype(torch.device("mps")) is torch.float32
