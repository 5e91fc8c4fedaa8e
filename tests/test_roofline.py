"""Estimates for devices that are not at hand: counted by hand, and refused in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ditto_hub.config import RunConfig, preset
from ditto_hub.cost.devices import DEVICES, GB, PRICES, QUOTAS, find_device
from ditto_hub.cost.estimates import Workload, compare_used, prompt_seconds, refine
from ditto_hub.cost.quota import (
    Use,
    budget,
    estimate_leased,
    fit_quota,
    fitting_words,
)
from ditto_hub.cost.roofline import (
    MATRIX_SHARE,
    MEMORY_SHARE,
    Job,
    decode_step_s,
    estimate_on,
    fitting_budget,
    guess_tokens,
    memory_bytes,
    rates,
    room,
)
from ditto_hub.cost.shapes import SHAPES, BaseShape, shape_of_config
from ditto_hub.errors import ConfigError

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.2"
QWEN = "Qwen/Qwen3-4B-Instruct-2507"
LETTER = Workload(6, 1, 60.0, 250.0, 330)
NOTE = Workload(6, 1, 50.0, 110.0, 140)


def job(base: str = MISTRAL, name: str = "paper", work: Workload = LETTER,
        device: str = "l40sx1", **settings: object) -> Job:  # fmt: skip
    """Return a run on a device."""
    config = preset(name)
    for key, value in settings.items():
        config = config.with_value(key.replace("__", "."), value)
    return Job(SHAPES[base], config, work, DEVICES[device])


# ---- shapes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "parameters"),
    [
        ("pocket", 2_041_920),
        ("HuggingFaceTB/SmolLM2-360M-Instruct", 361_821_120),
        (QWEN, 4_022_468_096),
        (MISTRAL, 7_241_732_096),
    ],
)
def test_shapes_count_to_the_published_parameters(base: str, parameters: int) -> None:
    """Layers and widths multiply out to the number of weights that the Hub shows."""
    assert SHAPES[base].parameters == parameters


def test_a_shape_is_read_from_a_config() -> None:
    """A config.json with the same numbers gives the same shape; one without layers gives none."""
    config = {
        "model_type": "qwen3", "num_hidden_layers": 36, "hidden_size": 2560,
        "intermediate_size": 9728, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True,
    }  # fmt: skip
    assert shape_of_config(config) == SHAPES[QWEN]
    assert shape_of_config({"text_config": config}) == SHAPES[QWEN]
    assert shape_of_config({"model_type": "mamba", "hidden_size": 8}) is None


def test_an_adapters_weights_by_hand() -> None:
    """Rank 16 on Mistral's attention: 32 layers of 16 x (8192 + 5120 + 5120 + 8192)."""
    expected = 32 * 16 * (8192 + 5120 + 5120 + 8192)
    assert SHAPES[MISTRAL].adapter_parameters(16, "attention") == expected
    assert SHAPES[MISTRAL].adapter_parameters(16, "all-linear") > expected


def test_activations_match_what_a_backward_pass_keeps() -> None:
    """The bytes a token counted here are those of a real layer's saved tensors, within a tenth."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import MistralConfig, MistralForCausalLM

    shape = BaseShape(2, 64, 160, 4, 2, 16, 128)
    config = MistralConfig(
        hidden_size=64, intermediate_size=160, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, num_hidden_layers=2, vocab_size=128, sliding_window=None,
    )  # fmt: skip
    model = MistralForCausalLM(config).to(torch.bfloat16).requires_grad_(False)
    lora = LoraConfig(r=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    wrapped = get_peft_model(model, lora)
    weights = {p.untyped_storage().data_ptr() for p in wrapped.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        alive.append(tensor)
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(0, 128, (2, 64))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        wrapped.get_base_model().model(input_ids=ids, use_cache=False)
    counted = shape.activation_bytes(2, "attention", 16)
    assert sum(kept.values()) / ids.numel() == pytest.approx(counted, rel=0.15)


# ---- rates and memory --------------------------------------------------------------------------


def test_training_is_four_operations_a_weight_and_token() -> None:
    """The base is frozen, so a token costs two forward and two backward a multiplied weight."""
    found, shape = rates(job()), SHAPES[MISTRAL]
    flops = DEVICES["l40sx1"].flops * MATRIX_SHARE
    assert found.train_tokens_per_s == pytest.approx(flops / (4 * shape.multiplied))
    assert found.score_tokens_per_s == pytest.approx(2 * found.train_tokens_per_s)
    assert "not measured" in str(found.source)


def test_a_decoding_step_reads_the_weights_once() -> None:
    """On an L4, one row: no faster than 14.2 GB of weights at 0.7 of 300 GB a second."""
    floor = 2 * SHAPES[MISTRAL].multiplied / (3.0e11 * MEMORY_SHARE)
    step = decode_step_s(job(device="l4x1"), 1)
    assert floor < step < 1.1 * floor


def test_a_fast_gpu_waits_for_the_host() -> None:
    """On an H200 a small batch's step is what launching 32 layers costs."""
    assert decode_step_s(job(device="h200"), 1) == pytest.approx(32 * 1.0e-3 + 3e-3)


def test_memory_holds_the_weights_and_grows_with_the_budget() -> None:
    """7 B takes its 14.5 GB and more; twice the token budget keeps twice the activations."""
    small, large = (memory_bytes(job(update__token_budget=n)) for n in (2048, 4096))
    assert small > 2 * SHAPES[MISTRAL].parameters
    kept = SHAPES[MISTRAL].activation_bytes(2, "attention", 16)
    assert large - small == pytest.approx(1.1 * 2048 * kept, rel=0.05)


@pytest.mark.parametrize("changed", [
    {"lora__rank": 64}, {"lora__targets": "all-linear"}, {"base__quantize": "4bit"},
    {"sampling__samples": 40}, {"update__token_budget": 1024},
])  # fmt: skip
def test_each_setting_moves_memory_or_not_at_all(changed: dict[str, object]) -> None:
    """Ranks, layers, 4 bits and budgets change the memory told; sampling may hide behind them."""
    before, after = memory_bytes(job()), memory_bytes(job(**changed))
    assert after != before or "sampling__samples" in changed


def test_four_bits_fit_where_sixteen_do_not() -> None:
    """7 B at the paper's settings: too much for 24 GB as it is, not with 4-bit weights."""
    plain = estimate_on(job(device="a10g-small"))
    assert not plain.fits
    assert any("4bit" in remedy for remedy in plain.remedies)
    assert estimate_on(job(device="a10g-small", base__quantize="4bit")).fits


def test_what_cannot_fit_is_refused_with_what_would() -> None:
    """7 B on a T4 fits in no batch: larger hardware and a smaller base are named, with prices."""
    found = estimate_on(job(device="t4-small"))
    assert not found.possible
    told = " ".join(map(str, found.remedies))
    assert "larger hardware: l40sx1" in told
    assert "SmolLM2-360M" in told


@pytest.mark.parametrize("remedied", ["l4x1", "a10g-small"])
def test_a_remedy_holds(remedied: str) -> None:
    """The token budget that is advised fits, and twice of it does not."""
    tight = job(QWEN, "fast", device=remedied, update__token_budget=16_384)
    best = fitting_budget(tight)
    assert best
    for budget_tokens, fits in ((best, True), (2 * best, False)):
        config = tight.config.with_value("update.token_budget", budget_tokens)
        assert (memory_bytes(replace(tight, config=config)) <= room(tight.device)) is fits


def test_the_price_is_by_the_minute() -> None:
    """A begun minute counts whole, at the table's price or at the one told now."""
    found = estimate_on(job())
    minutes = -(-found.total_seconds // 60)
    assert found.price_usd == pytest.approx(minutes / 60 * PRICES["l40sx1"])
    dear = estimate_on(job(), price_usd_h=60.0)
    assert dear.price_usd == pytest.approx(minutes)


def test_every_device_has_its_source() -> None:
    """Figures say where they are from, when, and whether they were measured."""
    for name, device in DEVICES.items():
        assert device.name == name
        assert device.source
        assert device.date
        assert device.rates in ("computed", "measured")
        assert 10 * GB < device.memory_bytes < 200 * GB
    assert {q.name: q.seconds for q in QUOTAS.values()}["free"] == 300


def test_unknown_hardware_is_named() -> None:
    """An unknown device is refused with those there are; a flavor alike is its sibling."""
    with pytest.raises(ConfigError, match="cpu-basic"):
        find_device("b200")
    assert find_device("a10g-large").name == "a10g-small"


@pytest.mark.parametrize(
    ("text", "low", "high"), [("word " * 100, 110, 160), ("字" * 100, 90, 130), ("", 0, 0)]
)
def test_tokens_are_guessed_on_the_high_side(text: str, low: float, high: float) -> None:
    """A hundred English words are some 130 tokens, a hundred Chinese characters about 110."""
    assert low <= guess_tokens(text) <= high


# ---- a day's quota -----------------------------------------------------------------------------


def test_the_sum_of_a_day_by_hand() -> None:
    """100 s of work in leases of 20 s, 6 s of each to begin: 8 leases, 148 s."""
    small = replace(job(QWEN, "fast", device="zero-a10g"), shape=SHAPES["pocket"])
    found = budget(small, 100.0, Use(drafts=0, methods=0, tries=0, cap_s=20))
    assert found.start_s == pytest.approx(6.0, abs=0.01)
    assert found.leases == 8
    assert found.training == pytest.approx(100 + 8 * found.start_s)
    assert found.total == found.training


def test_missing_prompts_are_a_lease_of_their_own() -> None:
    """They cost its start and their writing, are in the sum, and make training no longer."""
    some = job(QWEN, "fast", replace(NOTE, unwritten=5), "zero-a10g")
    found, plain = estimate_leased(some), estimate_leased(replace(some, work=NOTE))
    assert found.budget is not None
    assert plain.budget is not None
    assert plain.budget.prompts == 0
    assert found.prompts_seconds == pytest.approx(5 * prompt_seconds(NOTE, rates(some)))
    assert found.budget.prompts == pytest.approx(found.budget.start_s + found.prompts_seconds)
    assert found.budget.total == pytest.approx(plain.budget.total + found.budget.prompts)
    assert found.budget.training == plain.budget.training


def test_fast_is_made_for_a_free_account() -> None:
    """Drafting, training, comparing and trying fit 300 s with a 4 B base and notes of 100 words."""
    found = estimate_leased(job(QWEN, "fast", NOTE, "zero-a10g"))
    assert found.fits
    assert found.budget is not None
    assert found.budget.fits(QUOTAS["free"].seconds)
    assert min(found.budget.drafting, found.budget.comparing, found.budget.trying) > 0


def test_what_brings_a_run_into_the_day() -> None:
    """The settings and the length that are advised for a run over 300 s do fit."""
    over = job(QWEN, "fast", Workload(6, 1, 60.0, 170.0, 215), "zero-a10g")
    assert not estimate_leased(over).budget.fits(300)  # type: ignore[union-attr]
    settings = fit_quota(over, 300)
    assert settings
    config = over.config
    for text in settings:
        config = config.with_setting(text)
    assert estimate_leased(replace(over, config=config)).budget.fits(300)  # type: ignore[union-attr]
    assert 0 < fitting_words(over, 300) < 215 / 1.3


def test_only_leased_devices_have_a_budget() -> None:
    """A device by the hour has a price, a leased one a quota."""
    hired, leased = (estimate_leased(job(device=d)) for d in ("h200", "zero-a10g"))
    assert (hired.budget, hired.price_usd is None) == (None, False)
    assert leased.budget is not None
    assert leased.price_usd is None


# ---- the receipt -------------------------------------------------------------------------------


def test_a_receipt_sets_estimated_beside_used() -> None:
    """A row a stage and one for all; a stage that nobody estimated has none."""
    estimated = {"seconds": {"update": 10.0}, "total_seconds": 12.0}
    rows = compare_used(estimated, {"update": 8.0, "scoring": 1.0})
    assert rows == [("update", 10.0, 8.0), ("scoring", None, 1.0), ("in all", 12.0, 9.0)]
    assert compare_used({}, {}) == []


def test_first_steps_refine_the_estimate() -> None:
    """The refined total stands beside the first one, or in its place where there was none."""
    assert refine({"total_seconds": 5.0}, 2.0, 4.0)["refined_seconds"] == 6.0
    alone = refine({}, 2.0, 4.0)
    assert (alone["total_seconds"], alone["basis"]) == (6.0, "the run's own first steps")


def test_an_estimate_is_plain_json() -> None:
    """It can be written into a record and read by a page."""
    import json

    found = estimate_leased(Job(SHAPES[QWEN], RunConfig(), NOTE, DEVICES["zero-a10g"]))
    data = json.loads(json.dumps(found.to_json()))
    assert data["budget"]["total"] == pytest.approx(found.budget.total)  # type: ignore[union-attr]
    assert data["total_seconds"] == pytest.approx(sum(data["seconds"].values()))
