"""Every fast path changes nothing: with it and without it, the same samples, scores and gradients.

Each path's slow twin is reached from here alone. Where both do the same arithmetic the results are
equal; where sums are taken in another order they are within the tolerances below.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pair_rows import gap, ours
from tiny_runs import CPU, tiny_config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM
from transformers.cache_utils import DynamicCache

from ditto_hub.config import Sampling, Update
from ditto_hub.ditto.rollout import Rollout
from ditto_hub.engine import decoding, graph_decoding, head, merging
from ditto_hub.engine import fast as policy_module
from ditto_hub.engine.base_model import load_base
from ditto_hub.engine.fast import FastEngine
from ditto_hub.tokens import NOBODY

Tiny = Callable[[str], Path]
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
# Relative to the gradient's norm, and to a completion's log-probability. bf16 keeps 8 bits.
GRADIENT = {"float32": 1e-5, "bf16": 3e-2}  # torch 2.8 rounds bf16 coarser on a CPU than 2.13
SCORE = {"float32": 1e-5, "bf16": 5e-3}
PROMPTS = [[5, 60, 61, 62], [5, 70], [5, 80, 81, 82, 83, 84, 85, 86]]
SEEDS = [list(range(8)), [21, 22, 21], [31, 32, 33, 34]]  # one seed twice
ROWS = [  # lengths 3 to 14; one token alone; one row twice; one cut at the cap
    Rollout(0, -1, (5, 60, 61, 62), (90, 91, 92, 93, 94)),
    Rollout(1, -1, (5, 70), (93, 94)),
    Rollout(0, 0, (5, 60, 61, 62), (94,)),
    Rollout(0, 0, (5, 60, 61, 62), (95, 96, 97, 98, 99, 90, 91, 92, 93, 94), ended=False),
    Rollout(1, 0, (5, 70), (97, 93, 98)),
    Rollout(0, 1, (5, 60, 61, 62), (95, 96, 97, 98, 99, 90, 91, 92, 93, 94), ended=False),
]
dtypes = pytest.mark.parametrize("dtype", DTYPES)
caps = pytest.mark.parametrize("cap", [1, 7, 80])  # a cap all rows meet; one past a buffer's block


@pytest.fixture
def make(tiny: Tiny) -> Callable[..., FastEngine]:
    """Return dtype, family -> a policy whose adapter does something."""

    def build(dtype: str = "float32", family: str = "llama3") -> FastEngine:
        base = {"id": str(tiny(family)), "revision": None}
        model, tokenizer = load_base(base, device=CPU, token=NOBODY)
        made = FastEngine(model.to(DTYPES[dtype]), tokenizer, tiny_config().lora, 0, base)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        made.format.stop_ids = tuple(range(100, 150))  # rows end at different times
        return made

    return build


def library_cache(config: Any) -> DynamicCache:
    return DynamicCache(config=config)


# ---- sampling --------------------------------------------------------------------------------


@dtypes
@caps
@pytest.mark.parametrize("family", ["llama3", "gemma"])
def test_a_buffered_cache_draws_the_same(
    make: Callable[..., FastEngine],
    dtype: str,
    cap: int,
    family: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Room for tokens to come changes neither a token nor a bit of a log-probability."""
    policy = make(dtype, family)
    fast = policy.sample(PROMPTS, SEEDS, Sampling(), cap)
    monkeypatch.setattr(policy_module, "roomy_cache", library_cache)
    assert policy.sample(PROMPTS, SEEDS, Sampling(), cap) == fast


@dtypes
@caps
def test_rows_that_leave_change_nothing(
    make: Callable[..., FastEngine], dtype: str, cap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended rows leave the batch or stay to its end: the others draw the same tokens."""
    policy = make(dtype)
    fast = policy.sample(PROMPTS, SEEDS, Sampling(), cap)
    monkeypatch.setattr(policy_module, "LEAVE", False)
    slow = policy.sample(PROMPTS, SEEDS, Sampling(), cap)
    assert [r.token_ids for mine in slow for r in mine] == [
        r.token_ids for mine in fast for r in mine
    ]
    assert cap == 1 or len({len(r.token_ids) for mine in fast for r in mine}) > 2


def test_a_merged_adapter_draws_the_same(
    make: Callable[..., FastEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding from weights with the adapter in them draws what decoding beside it draws."""
    policy = make()
    fast = policy.sample(PROMPTS, SEEDS, Sampling(), 30)
    monkeypatch.setattr(policy_module, "ready_to_decode", contextlib.nullcontext)
    slow = policy.sample(PROMPTS, SEEDS, Sampling(), 30)
    for one, two in zip(
        [r for mine in fast for r in mine], [r for mine in slow for r in mine], strict=True
    ):
        assert one.token_ids == two.token_ids
        assert one.log_prob == pytest.approx(two.log_prob, abs=1e-3)


@dtypes
@caps
@pytest.mark.parametrize("family", ["llama3", "mistral", "qwen3", "gemma"])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.8, top_k=20, top_p=0.9)])
def test_fixed_buffers_draw_the_same(
    make: Callable[..., FastEngine],
    dtype: str,
    cap: int,
    family: str,
    sampling: Sampling,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a GPU replays draws the tokens of the plain loop, rows leaving and blocks growing."""
    monkeypatch.setattr(graph_decoding, "SEEN_BLOCK", 16)
    monkeypatch.setattr(graph_decoding, "PEEK", 3)
    monkeypatch.setattr(graph_decoding, "LEAVE_AT", 0.8)
    policy = make(dtype, family)
    plain = [r for mine in policy.sample(PROMPTS, SEEDS, sampling, cap) for r in mine]
    policy.fixed_buffers = True
    fixed = [r for mine in policy.sample(PROMPTS, SEEDS, sampling, cap) for r in mine]
    same = [a.token_ids == b.token_ids for a, b in zip(plain, fixed, strict=True)]
    assert all(same) if dtype == "float32" else cap > 7 or sum(same) >= 0.7 * len(same)
    for one, two, alike in zip(plain, fixed, same, strict=True):
        if alike:
            assert (one.ended, one.log_prob) == (two.ended, pytest.approx(two.log_prob, rel=2e-2))


@pytest.mark.parametrize("family", ["llama3", "mistral", "qwen3", "gemma", "phi3"])
def test_a_gpu_step_asks_the_host_for_nothing(tiny: Tiny, family: str) -> None:
    """No step reads a value back or moves one between devices: else it could not be recorded.

    Tensors on the device "meta" have shapes and no values, so that any look at one raises.
    """
    base = {"id": str(tiny(family)), "revision": None}
    model, tokenizer = load_base(base, device=CPU, token=NOBODY)
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(model.config, dtype=torch.bfloat16)
    policy = FastEngine(made, tokenizer, tiny_config().lora, 0, base)
    mask = torch.ones((3, 4), dtype=torch.long, device="meta")
    cache = DynamicCache(config=made.config)
    draws = torch.zeros((3, 9), dtype=torch.float64, device="meta")
    stop, warp = torch.zeros(2, dtype=torch.long, device="meta"), decoding.warpers(Sampling())
    with torch.no_grad(), merging.ready_to_decode(policy.model):
        assert any(isinstance(m, merging.Beside) for m in policy.model.modules())
        policy._next_logits({"input_ids": mask}, cache)  # the prompts, before any recording
        decoder = graph_decoding.FixedDecoder(policy._next_logits, cache, mask, draws, warp, stop)
        addresses = [id(tensor) for tensor in decoder.by_row]
        with OneDevice("meta"):
            decoder.step(3, decoder.room)
            decoder.step(2, decoder.room)
    assert [id(tensor) for tensor in decoder.by_row] == addresses


class OneDevice(TorchDispatchMode):
    """Refuse every operation that touches a tensor of another device."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.allowed = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, out)):
            if isinstance(value, torch.Tensor) and value.device.type != self.allowed:
                raise AssertionError(f"{func} on {value.device}")
        return out


def test_one_device_is_held() -> None:
    """The check above does see a value that the host sends or asks for."""
    there = torch.zeros(2, device="meta")
    with OneDevice("meta"):
        with pytest.raises(AssertionError, match="on cpu"):
            there + torch.zeros(2).to("meta")
        with pytest.raises(RuntimeError, match="meta"):
            there.sum().item()


def test_an_adapter_beside_is_pefts(make: Callable[..., FastEngine]) -> None:
    """In bf16 the two small products beside a layer give PEFT's output; outside PEFT is back."""
    policy = make("bf16")
    ids = torch.tensor([[5, 60, 61, 62]])
    with torch.no_grad():
        theirs = policy.model(input_ids=ids).logits
        layers = dict(policy.model.named_modules())
        with merging.ready_to_decode(policy.model):
            ours_ = policy.model(input_ids=ids).logits
        assert dict(policy.model.named_modules()) == layers
        with policy.adapter_off(), merging.ready_to_decode(policy.model):
            off = policy.model(input_ids=ids).logits
    assert gap({"all": ours_.float()}, {"all": theirs.float()}) < GRADIENT["bf16"]
    assert gap({"all": off.float()}, {"all": theirs.float()}) > 10 * GRADIENT["bf16"]


def test_prompts_read_once_or_for_every_row(make: Callable[..., FastEngine]) -> None:
    """A prompt given once with all its seeds, or once a seed, gives the same rows."""
    policy = make()
    together = policy.sample(PROMPTS, SEEDS, Sampling(), 30)
    apart = policy.sample(
        [p for p, mine in zip(PROMPTS, SEEDS, strict=True) for _ in mine],
        [[seed] for mine in SEEDS for seed in mine],
        Sampling(),
        30,
    )
    assert [r.token_ids for mine in together for r in mine] == [r[0].token_ids for r in apart]


# ---- scores ----------------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("tokens", [1, 8, 30])
def test_small_passes_score_the_same(
    make: Callable[..., FastEngine], dtype: str, tokens: int
) -> None:
    """Passes that stay in a core's cache give the scores of one pass over everything."""
    policy = make(dtype)
    rows = [r.row for r in ROWS]
    policy.pass_tokens = 2**31
    whole = policy.log_probs(rows)
    policy.pass_tokens = tokens
    assert policy.log_probs(rows) == pytest.approx(whole, rel=SCORE[dtype])
    assert whole[3] == whole[5]  # the same row twice


# ---- updates ---------------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize(
    ("pass_tokens", "budget"),
    [(8, 16_384), (30, 16_384), (8, 8), (30, 40)],
    ids=["tiny passes", "passes", "twice, tiny", "twice"],
)
def test_passes_change_no_gradient(
    make: Callable[..., FastEngine], dtype: str, pass_tokens: int, budget: int
) -> None:
    """One backward through many passes, or each pass run twice: the gradient of one pass."""
    policy = make(dtype)
    policy.pass_tokens = 2**31
    whole, whole_grads = ours(policy, Update(sft_weight=0.3), ROWS)
    policy.pass_tokens, policy.token_budget = pass_tokens, budget
    cut, cut_grads = ours(policy, Update(sft_weight=0.3), ROWS)
    assert cut == pytest.approx(whole, rel=SCORE[dtype])
    assert gap(cut_grads, whole_grads) < GRADIENT[dtype]


@dtypes
@pytest.mark.parametrize("family", ["llama3", "mistral", "qwen3", "gemma", "phi3", "smollm2"])
@pytest.mark.parametrize("pass_tokens", [16, 2**31])
def test_a_shared_prompt_changes_nothing(
    make: Callable[..., FastEngine], dtype: str, family: str, pass_tokens: int
) -> None:
    """A prompt read once for all its rows, or with each: the same scores, loss and gradient."""
    policy = make(dtype, family)
    policy.pass_tokens = pass_tokens
    rows = [r.row for r in ROWS]
    scores = policy.log_probs(rows)
    shared, shared_grads = ours(policy, Update(sft_weight=0.3), ROWS)
    policy.scorer.can_share = False
    assert policy.log_probs(rows) == pytest.approx(scores, rel=SCORE[dtype])
    whole, whole_grads = ours(policy, Update(sft_weight=0.3), ROWS)
    assert shared == pytest.approx(whole, rel=SCORE[dtype])
    assert gap(shared_grads, whole_grads) < GRADIENT[dtype]


@dtypes
@pytest.mark.parametrize("family", ["llama3", "gemma", "qwen3"])
def test_a_chunked_head_changes_nothing(
    make: Callable[..., FastEngine], dtype: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Projecting some tokens at a time, slopes made there: the loss and gradient of all at once."""
    policy = make(dtype, family)
    whole, whole_grads = ours(policy, Update(sft_weight=0.3), ROWS)
    monkeypatch.setattr(head, "SMALL", 0)
    monkeypatch.setattr(head, "CHUNK", {"cpu": 700})
    cut, cut_grads = ours(policy, Update(sft_weight=0.3), ROWS)
    assert cut == pytest.approx(whole, rel=SCORE[dtype])
    assert gap(cut_grads, whole_grads) < GRADIENT[dtype]


@dtypes
def test_training_beside_the_layers_is_pefts(
    make: Callable[..., FastEngine], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32 the gradient is that of PEFT's own layers; in bf16, where both round, it is no
    further from the float32 one than PEFT's is."""
    policy = make(dtype)
    fast, fast_grads = ours(policy, Update(sft_weight=0.3), ROWS)
    monkeypatch.setattr(policy_module, "ready_to_train", contextlib.nullcontext)
    slow, slow_grads = ours(policy, Update(sft_weight=0.3), ROWS)
    _, exact = ours(make(), Update(sft_weight=0.3), ROWS)
    assert fast == pytest.approx(slow, rel=SCORE[dtype])
    assert gap(fast_grads, exact) < max(1.4 * gap(slow_grads, exact), 1e-5)
