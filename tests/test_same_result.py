"""Every fast path changes nothing: with it and without it, the same samples, scores and gradients.

Each path's slow twin is reached from here alone. Where both do the same arithmetic the results are
equal; where sums are taken in another order they are within the tolerances below.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_update import PAIRS, gap, ours
from tiny_runs import CPU, tiny_config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM
from transformers.cache_utils import DynamicCache
from trl.trainer.utils import add_fused_lm_head

from ditto_hub.algorithm import decoding, graph_decoding, head, merging, unique_rows
from ditto_hub.algorithm import policy as policy_module
from ditto_hub.algorithm.base_model import load_base
from ditto_hub.algorithm.policy import Policy
from ditto_hub.algorithm.rollout import Rollout
from ditto_hub.algorithm.unique_rows import UniqueRows, turns
from ditto_hub.config import LOSSES, Sampling, Update

Tiny = Callable[[str], Path]
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
# Relative to the gradient's norm, and to a completion's log-probability. bf16 keeps 8 bits.
GRADIENT = {"float32": 1e-5, "bf16": 2e-2}
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
def make(tiny: Tiny) -> Callable[..., Policy]:
    """Return dtype, family -> a policy whose adapter does something."""

    def build(dtype: str = "float32", family: str = "llama3") -> Policy:
        base = {"id": str(tiny(family)), "revision": None}
        model, tokenizer = load_base(base, device=CPU)
        made = Policy(model.to(DTYPES[dtype]), tokenizer, tiny_config().lora, 0, base)
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
    make: Callable[..., Policy], dtype: str, cap: int, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for tokens to come changes neither a token nor a bit of a log-probability."""
    policy = make(dtype, family)
    fast = policy.sample(PROMPTS, SEEDS, Sampling(), cap)
    monkeypatch.setattr(policy_module, "roomy_cache", library_cache)
    assert policy.sample(PROMPTS, SEEDS, Sampling(), cap) == fast


@dtypes
@caps
def test_rows_that_leave_change_nothing(
    make: Callable[..., Policy], dtype: str, cap: int, monkeypatch: pytest.MonkeyPatch
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
    make: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
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
    make: Callable[..., Policy],
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
    model, tokenizer = load_base(base, device=CPU)
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(model.config, dtype=torch.bfloat16)
    policy = Policy(made, tokenizer, tiny_config().lora, 0, base)
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


def test_an_adapter_beside_is_pefts(make: Callable[..., Policy]) -> None:
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


def test_prompts_read_once_or_for_every_row(make: Callable[..., Policy]) -> None:
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
def test_small_passes_score_the_same(make: Callable[..., Policy], dtype: str, tokens: int) -> None:
    """Passes that stay in a core's cache give the scores of one pass over everything."""
    policy = make(dtype)
    rows = [(r.prompt_ids, r.completion_ids) for r in ROWS]
    policy.pass_tokens = 2**31
    whole = policy.log_probs(rows)
    policy.pass_tokens = tokens
    assert policy.log_probs(rows) == pytest.approx(whole, rel=SCORE[dtype])
    assert whole[3] == whole[5]  # the same row twice


@dtypes
@pytest.mark.parametrize("family", ["llama3", "gemma", "qwen3"])
def test_the_head_is_trls_on_labelled_positions(
    make: Callable[..., Policy], dtype: str, family: str
) -> None:
    """Scoring completions alone gives TRL's own log-probabilities, and its gradients."""
    policy = make(dtype, family)
    fast = _scored(policy)
    add_fused_lm_head(policy.model.get_base_model())
    slow = _scored(policy)
    assert fast[0] == pytest.approx(slow[0], rel=SCORE[dtype])
    assert gap({"all": fast[1]}, {"all": slow[1]}) < GRADIENT[dtype]


def test_the_head_leaves_prompts_and_padding_out(
    make: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No logit is computed but for a completion's tokens, away from CUDA too."""
    policy, seen = make(), []
    scope = head._add_compact_head.__globals__
    real = scope["_ChunkedLogProbFunction"]

    def spy(hidden: torch.Tensor, *rest: Any) -> Any:
        seen.append(hidden.shape[0])
        return real.apply(hidden, *rest)

    monkeypatch.setitem(scope, "_ChunkedLogProbFunction", SimpleNamespace(apply=spy))
    policy.log_probs([(r.prompt_ids, r.completion_ids) for r in ROWS])
    assert sum(seen) == sum(len(r.completion_ids) for r in ROWS)


def _scored(policy: Policy) -> tuple[list[float], torch.Tensor]:
    """Return the rows' log-probabilities and the adapter's gradient of their sum."""
    ids, mask = decoding.pad_rows([(*r.prompt_ids, *r.completion_ids) for r in ROWS], 0)
    labels = ids.masked_fill(mask == 0, -100)
    for line, row in zip(labels, ROWS, strict=True):
        line[: len(row.prompt_ids)] = -100
    policy.model.zero_grad(set_to_none=True)
    out = policy.model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True)
    out.log_probs.sum().backward()
    grads = [p.grad.flatten() for p in policy.parameters() if p.grad is not None]
    return out.log_probs.sum(1).tolist(), torch.cat(grads)


# ---- updates ---------------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize(
    ("pass_tokens", "budget"),
    [(8, 16_384), (30, 16_384), (8, 8), (30, 40)],
    ids=["tiny passes", "passes", "twice, tiny", "twice"],
)
def test_passes_change_no_gradient(
    make: Callable[..., Policy], dtype: str, pass_tokens: int, budget: int
) -> None:
    """One backward through many passes, or each pass run twice: the gradient of one pass."""
    policy = make(dtype)
    policy.pass_tokens = 2**31
    whole, whole_grads = ours(policy, Update(sft_weight=0.3), ROWS)
    policy.pass_tokens = pass_tokens
    with _budget(budget):
        cut, cut_grads = ours(policy, Update(sft_weight=0.3), ROWS)
    assert cut == pytest.approx(whole, rel=SCORE[dtype])
    assert gap(cut_grads, whole_grads) < GRADIENT[dtype]


def test_rows_within_the_budget_run_once(make: Callable[..., Policy]) -> None:
    """Only demonstrations whose rows exceed the token budget pay for a second forward pass."""
    policy = make()
    policy.pass_tokens = 20
    once = _forwards(policy, budget=16_384, share=False)
    in_turns = _forwards(policy, budget=50, share=False)
    twice = _forwards(policy, budget=20, share=False)
    assert sum(in_turns) < 1.2 * sum(once)  # a little more padding
    assert sum(twice) > 1.8 * sum(once)
    assert max(twice) <= 20


@dtypes
@pytest.mark.parametrize("family", ["llama3", "mistral", "qwen3", "gemma", "phi3", "smollm2"])
@pytest.mark.parametrize("pass_tokens", [16, 2**31])
def test_a_shared_prompt_changes_no_gradient(
    make: Callable[..., Policy], dtype: str, family: str, pass_tokens: int
) -> None:
    """A prompt read once for all its rows, or with each: the same loss and the same gradient."""
    policy = make(dtype, family)
    policy.pass_tokens = pass_tokens
    shared, shared_grads = ours(policy, Update(sft_weight=0.3), ROWS)
    with _unshared():
        whole, whole_grads = ours(policy, Update(sft_weight=0.3), ROWS)
    assert shared == pytest.approx(whole, rel=SCORE[dtype])
    assert gap(shared_grads, whole_grads) < GRADIENT[dtype]


@dtypes
@pytest.mark.parametrize("family", ["llama3", "mistral", "qwen3", "gemma", "phi3", "smollm2"])
def test_a_shared_prompt_scores_the_same(
    make: Callable[..., Policy], dtype: str, family: str
) -> None:
    """A row's log-probability is the same, its prompt read with it or once for several."""
    policy = make(dtype, family)
    rows = [(r.prompt_ids, r.completion_ids) for r in ROWS]
    shared = policy.log_probs(rows)
    policy.can_share = False
    assert shared == pytest.approx(policy.log_probs(rows), rel=SCORE[dtype])


def test_a_shared_prompt_runs_once(make: Callable[..., Policy]) -> None:
    """The tokens that run are each prompt's and each completion's, and one more a row."""
    policy = make()
    run = _forwards(policy, budget=16_384)
    prompts = {r.prompt_ids for r in ROWS}
    used = {i for p in PAIRS for i in (p.winner, p.loser)}
    least = sum(len(p) - 1 for p in prompts) + sum(1 + len(ROWS[i].completion_ids) for i in used)
    padding = sum(run) - least
    assert 0 <= padding < least
    assert sum(run) < sum(_forwards(policy, budget=16_384, share=False))


@pytest.mark.parametrize("loss", LOSSES)
def test_turns_change_no_loss(make: Callable[..., Policy], loss: str) -> None:
    """Demonstrations that take turns, whatever the loss: the gradient of all at once."""
    policy = make()
    update = Update(loss=loss, sft_weight=0.3)
    whole, whole_grads = ours(policy, update, ROWS)
    with _budget(50), _unshared():
        cut, cut_grads = ours(policy, update, ROWS)
    assert cut == pytest.approx(whole, rel=1e-5)
    assert gap(cut_grads, whole_grads) < GRADIENT["float32"]


def test_a_turn_holds_whole_demonstrations() -> None:
    """Rows that pairs join stay together; others share a turn as long as they fit."""
    pairs = [(0, 1), (2, 3), (1, 4)]
    assert turns(pairs, 5, lambda group: len(group) <= 5) == [[0, 1, 4, 2, 3]]
    assert turns(pairs, 5, lambda group: len(group) <= 4) == [[0, 1, 4], [2, 3]]
    assert turns([], 3, lambda group: len(group) <= 2) == [[0, 1], [2]]


@pytest.mark.parametrize("copies", [1, 6])
def test_memory_is_bounded_by_the_budget(make: Callable[..., Policy], copies: int) -> None:
    """What a backward pass needs is kept for the budget's tokens, however large the batch is."""
    policy = make()
    rows = [r for r in ROWS for _ in range(copies)]
    with _budget(20):
        peak = _kept(lambda: _spread_out(policy, rows))
    with _budget(20):
        small = _kept(lambda: _spread_out(policy, ROWS))
    assert peak <= 1.3 * small  # passes are cut a little differently


def test_memory_grows_with_the_batch_without_a_budget(make: Callable[..., Policy]) -> None:
    """The figure of the test above does see activations: without a bound they add up."""
    policy = make()
    small = _kept(lambda: _spread_out(policy, ROWS))
    large = _kept(lambda: _spread_out(policy, [r for r in ROWS for _ in range(6)]))
    assert large > 4 * small


def _spread_out(policy: Policy, rows: list[Rollout]) -> None:
    """Run forward and backward over all rows, each as a row of its own."""
    from ditto_hub.algorithm.update import UpdateTrainer

    ids, mask = decoding.pad_rows([(*r.prompt_ids, *r.completion_ids) for r in rows], 0)
    labels = ids.masked_fill(mask == 0, -100)
    unique = UniqueRows(policy.model, UpdateTrainer.token_budget, 20)
    out = unique(input_ids=ids, attention_mask=mask, labels=labels, rows=torch.arange(len(rows)))
    out.log_probs.sum().backward()
    unique.backward()
    policy.model.zero_grad(set_to_none=True)


@contextlib.contextmanager
def _unshared() -> Iterator[None]:
    """Have every row read its own prompt."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unique_rows, "can_share", lambda config: False)
        yield


def _forwards(policy: Policy, budget: int, share: bool = True) -> list[int]:
    sizes: list[int] = []
    hook = policy.model.get_input_embeddings().register_forward_hook(
        lambda _, given, __: sizes.append(given[0].numel())
    )
    with _budget(budget), contextlib.nullcontext() if share else _unshared():
        ours(policy, Update(), ROWS)
    hook.remove()
    return sizes


def _kept(act: Callable[[], Any]) -> int:
    """Return the most bytes that autograd kept at any time for a backward pass."""
    kept = {"now": 0, "peak": 0}

    class Held:
        def __init__(self, value: torch.Tensor) -> None:
            self.value = value
            kept["now"] += value.numel() * value.element_size()
            kept["peak"] = max(kept.values())

        def __del__(self) -> None:
            kept["now"] -= self.value.numel() * self.value.element_size()

    gc.collect()
    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.value):
        act()
    return kept["peak"]


@contextlib.contextmanager
def _budget(tokens: int) -> Iterator[None]:
    """Have trainers take a token budget that settings do not allow."""
    from ditto_hub.algorithm.update import UpdateTrainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UpdateTrainer, "token_budget", _Fixed(tokens))
        yield


class _Fixed:
    """A class attribute that an instance cannot change."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __get__(self, *_: object) -> int:
        return self.value

    def __set__(self, *_: object) -> None:
        pass


def test_pairs_repeat_rows() -> None:
    """The batches of these tests do hold rows that several pairs share."""
    assert len({i for p in PAIRS for i in (p.winner, p.loser)}) < 2 * len(PAIRS)


def test_turns_add_up_to_one_routing_loss(
    make: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With experts, rows that take turns weigh in the routing loss by their share of the rows."""
    policy = make()
    told = iter([3.0, 1.0])

    def routed(self: UniqueRows, part: dict[str, torch.Tensor]) -> SimpleNamespace:
        empty = torch.zeros(part["input_ids"].shape[0], part["input_ids"].shape[1] - 1)
        return SimpleNamespace(log_probs=empty.requires_grad_(), aux_loss=torch.tensor(next(told)))

    monkeypatch.setattr(UniqueRows, "_run", routed)
    monkeypatch.setattr(unique_rows, "can_share", lambda config: False)
    ids = torch.full((8, 5), 7)
    unique = UniqueRows(policy.model, 30, 2**31)
    asked = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": ids,
        "rows": torch.tensor([0, 2, 4, 6, 1, 3, 5, 7]),  # four pairs: three fit into a turn
    }
    first = unique(**asked)
    assert unique.backward()
    second = unique(**asked)
    assert not unique.backward()
    assert first.aux_loss == pytest.approx(3.0 * 6 / 8)
    assert second.aux_loss == pytest.approx(3.0 * 6 / 8 + 1.0 * 2 / 8)
