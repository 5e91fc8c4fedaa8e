"""The plain engine is the oracle: the fast one does every operation of the protocol as it does."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from pair_rows import PAIRS, ROWS
from tiny_models import SHAPE, load_tiny
from tiny_runs import CPU

from ditto_hub.config import Lora, Sampling, Update
from ditto_hub.ditto.losses import DistillationLoss, PreferenceLoss, supervised
from ditto_hub.engine import head
from ditto_hub.engine.base_model import load_base
from ditto_hub.engine.fast import FastEngine
from ditto_hub.engine.plain import PlainEngine
from ditto_hub.engine.protocol import Engine, Row, Tensors
from ditto_hub.tokens import NOBODY

Tiny = Callable[[str], Path]
Build = Callable[..., tuple[PlainEngine, FastEngine]]
BASE = {"id": "tiny", "revision": None}
PROMPTS = [[5, 60, 61, 62], [5, 70], [5, *range(80, 92)]]
SEEDS = [[11, 12, 13, 11], [21, 22], [31, 32, 33]]
STOPS = tuple(range(100, 150))  # about one token in eight ends a row
SMALL_ROWS = [r.row for r in ROWS]
LONG_PROMPT = tuple(range(20, 38))  # longer than the sliding windows below
EVERY_ROW = [
    *SMALL_ROWS,
    Row(LONG_PROMPT, (90, 91, 92)),
    Row(LONG_PROMPT, (95,)),
    Row((5, 70), (93, 94, 96), prompt_counts=True),
    Row((5,), (93, 94, 96), prompt_counts=True),
]
TAUGHT_ROWS = [row for row in EVERY_ROW if not row.prompt_counts]
GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6}
MOE = {"num_experts_per_tok": 2}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", SHAPE),
    "qwen3": ("Qwen3", {**SHAPE, "head_dim": 8, "tie_word_embeddings": True}),
    "gemma2": ("Gemma2", {**SHAPE, **GEMMA, "final_logit_softcapping": 1.5}),
    "gemma3": ("Gemma3", {**SHAPE, **GEMMA, "sliding_window_pattern": 2}),
    "gpt2": ("GPT2", {"n_embd": 16, "n_layer": 2, "n_head": 2}),
    "mistral": ("Mistral", {**SHAPE, "sliding_window": 6}),
    "mixtral": ("Mixtral", {**SHAPE, **MOE, "num_local_experts": 4}),
    "qwen3-moe": (
        "Qwen3Moe",
        {**SHAPE, **MOE, "head_dim": 8, "num_experts": 4, "moe_intermediate_size": 16},
    ),
    "cohere": ("Cohere", {**SHAPE, "logit_scale": 0.25}),
    "granite": ("Granite", {**SHAPE, "logits_scaling": 4.0, "embedding_multiplier": 6.0}),
}
FILTERED = Sampling(temperature=0.8, top_p=0.9, top_k=20)
every_model = pytest.mark.parametrize("name", ["pocket", *MODELS])


@pytest.fixture(scope="module")
def base(tiny: Tiny) -> Callable[[str], tuple[Any, Any]]:
    """Return name -> a random model of a family, or the embedded one, and a tokenizer."""

    @cache
    def build(name: str) -> tuple[Any, Any]:
        if name == "pocket":
            return load_base({"id": "pocket", "revision": None}, device=CPU, token=NOBODY)
        kind, shape = MODELS[name]
        _, tokenizer = load_tiny(tiny("llama3"))
        config = {"Gemma3": "Gemma3Text"}.get(kind, kind) + "Config"
        causal = {"GPT2": "GPT2LMHeadModel"}.get(kind, kind + "ForCausalLM")
        ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = getattr(transformers, config)(
                vocab_size=len(tokenizer), initializer_range=0.2, **shape, **ends
            )
            model = getattr(transformers, causal)(made)
        return model.float().eval().requires_grad_(False), tokenizer

    return build


@pytest.fixture
def pair(base: Callable[[str], tuple[Any, Any]]) -> Build:
    """Return name, dtype -> both engines on one model, their adapters doing something alike."""

    def build(name: str, dtype: torch.dtype = torch.float32) -> tuple[PlainEngine, FastEngine]:
        model, tokenizer = base(name)
        both = [
            kind(copy.deepcopy(model).to(dtype), tokenizer, Lora(rank=2, alpha=4), 0, BASE)
            for kind in (PlainEngine, FastEngine)
        ]
        for engine in both:
            engine.restore(moved(engine.snapshot(), seed=1))
            engine.format.stop_ids = STOPS
        plain, fast = both
        assert isinstance(plain, PlainEngine)
        assert isinstance(fast, FastEngine)
        return plain, fast

    return build


def moved(tensors: Tensors, seed: int) -> Tensors:
    """Return the tensors with noise on each."""
    generator = torch.Generator().manual_seed(seed)
    return {k: v + 0.2 * torch.randn(v.shape, generator=generator) for k, v in tensors.items()}


def trained(
    engine: Engine, rows: list[Row], loss: Any, seed: int | None = None
) -> tuple[float, torch.Tensor]:
    """Return loss and gradient of a backward pass."""
    value = float(engine.backward(rows, loss, seed))
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in engine.parameters()]
    return value, torch.cat([g.flatten().double() for g in grads])


def preference(update: Update | None = None) -> PreferenceLoss:
    """Return a batch of comparisons; its reference is at 0."""
    return PreferenceLoss(ROWS, PAIRS, update or Update(beta=0.1, sft_weight=0.3))


def mean_loss(scores: torch.Tensor) -> torch.Tensor:
    """Return the supervised loss of the rows above."""
    return supervised(scores, sum(r.tokens for r in EVERY_ROW))


def gap(one: torch.Tensor, two: torch.Tensor) -> float:
    """Return how far two gradients are apart, relative to their size."""
    assert two.norm() > 1e-4
    return float((one - two).norm() / two.norm())


# ---- every operation, every family -----------------------------------------------------------


@every_model
@pytest.mark.parametrize("sampling", [Sampling(), FILTERED], ids=["all", "filtered"])
def test_the_same_rows_are_sampled(pair: Build, name: str, sampling: Sampling) -> None:
    """The same seeds draw the same tokens, which end alike and score alike."""
    plain, fast = (
        [r for mine in engine.sample(PROMPTS, SEEDS, sampling, 20) for r in mine]
        for engine in pair(name)
    )
    assert [(r.token_ids, r.ended) for r in fast] == [(r.token_ids, r.ended) for r in plain]
    assert [r.log_prob for r in fast] == pytest.approx([r.log_prob for r in plain], rel=1e-4)


@every_model
def test_the_same_scores(pair: Build, name: str) -> None:
    """Rows score the same, prompts counted or not, shared or not."""
    plain, fast = pair(name)
    scores = plain.log_probs(EVERY_ROW)
    assert fast.log_probs(EVERY_ROW) == pytest.approx(scores, rel=1e-5)
    assert fast.log_probs(SMALL_ROWS) == pytest.approx(scores[: len(SMALL_ROWS)], rel=1e-5)


@every_model
@pytest.mark.parametrize("budget", [0, 30], ids=["one pass", "pass by pass"])
def test_the_same_gradients(pair: Build, name: str, budget: int) -> None:
    """Both kinds of loss have the same value and gradient, in however many passes."""
    plain, fast = pair(name)
    fast.token_budget = budget
    for rows, loss in ((EVERY_ROW, mean_loss), (preference().rows, preference())):
        value, gradient = trained(plain, rows, loss)
        found, theirs = trained(fast, rows, loss)
        assert found == pytest.approx(value, rel=1e-5)
        assert gap(theirs, gradient) < 1e-5


@every_model
def test_the_same_distributions(pair: Build, name: str) -> None:
    """What the model expects in completions is the same, prompts read once or with each row."""
    plain, fast = pair(name)
    theirs = plain.distributions(TAUGHT_ROWS, 6)
    for rows, expected in ((TAUGHT_ROWS, theirs), (TAUGHT_ROWS[:2], theirs[:2])):
        for mine, other in zip(fast.distributions(rows, 6), expected, strict=True):
            assert torch.equal(mine.ids, other.ids)
            torch.testing.assert_close(mine.probs, other.probs, rtol=1e-4, atol=1e-6)
    assert [d.ids.shape for d in theirs] == [(len(r.completion_ids), 6) for r in TAUGHT_ROWS]


@every_model
@pytest.mark.parametrize("budget", [0, 30], ids=["one pass", "pass by pass"])
def test_the_same_distillation(
    pair: Build, name: str, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The divergence from a teacher has one value and gradient, its logits whole or in chunks."""
    plain, fast = pair(name)
    fast.token_budget = budget
    loss = taught(plain)
    value, gradient = trained(plain, loss.rows, loss)
    assert value > 0
    for small in (head.SMALL, 0):
        monkeypatch.setattr(head, "SMALL", small)
        monkeypatch.setitem(head.CHUNK, "cpu", 1500)
        found, theirs = trained(fast, loss.rows, loss)
        assert found == pytest.approx(value, rel=1e-4)
        assert gap(theirs, gradient) < 1e-4


def test_its_own_teacher_teaches_nothing(pair: Build) -> None:
    """Where the student expects what its teacher does, divergence and gradient are 0."""
    for engine in pair("llama"):
        rows = [
            replace(row, expected=mine)
            for row, mine in zip(TAUGHT_ROWS, engine.distributions(TAUGHT_ROWS, 6), strict=True)
        ]
        value, gradient = trained(engine, rows, DistillationLoss(rows))
        assert value == pytest.approx(0, abs=1e-5)
        assert gradient.norm() < 1e-4


def test_every_token_kept_is_the_whole_divergence(pair: Build) -> None:
    """With as many tokens kept as there are, the loss is the Kullback-Leibler divergence itself."""
    plain, _ = pair("llama")
    size = plain.model.get_output_embeddings().weight.shape[0]
    loss = taught(plain, size)
    teacher, student = (log_softmaxes(plain, w) for w in (True, False))
    divergence = (teacher.exp() * (teacher - student)).sum(1).mean()
    value, _ = trained(plain, loss.rows, loss)
    assert value == pytest.approx(float(divergence), abs=2 * abs(head.LEAST * math.log(head.LEAST)))


def taught(engine: PlainEngine, k: int = 6) -> DistillationLoss:
    """Return a batch whose teacher wears another adapter."""
    with engine.as_adapter(moved(engine.snapshot(), seed=2)):
        expected = engine.distributions(TAUGHT_ROWS, k)
    return DistillationLoss(
        [replace(row, expected=mine) for row, mine in zip(TAUGHT_ROWS, expected, strict=True)]
    )


@torch.no_grad()
def log_softmaxes(engine: PlainEngine, teacher: bool) -> torch.Tensor:
    """Return (N, V) of the completions' places, from teacher or student."""
    tensors = moved(engine.snapshot(), seed=2) if teacher else engine.snapshot()
    with engine.as_adapter(tensors):
        rows = [
            engine.model(torch.tensor([r.ids])).logits[0, r.start - 1 : -1] for r in TAUGHT_ROWS
        ]
    return torch.cat(rows).log_softmax(-1)


@every_model
def test_adapters_are_worn_and_taken_off_alike(pair: Build, name: str) -> None:
    """Snapshots, another adapter worn for a while, and the base alone give the same scores."""
    found = []
    for engine in pair(name):
        mine = engine.snapshot()
        scores = [engine.log_probs(EVERY_ROW)]
        with engine.as_adapter(moved(mine, seed=2)):
            scores.append(engine.log_probs(EVERY_ROW))
        with engine.adapter_off():
            scores.append(engine.log_probs(EVERY_ROW))
        engine.restore(moved(mine, seed=3))
        scores.append(engine.log_probs(EVERY_ROW))
        engine.restore(mine)
        assert all(torch.equal(v, mine[k]) for k, v in engine.snapshot().items())
        assert engine.log_probs(EVERY_ROW) == scores[0]
        found.append(scores)
    for plain, fast in zip(*found, strict=True):
        assert fast == pytest.approx(plain, rel=1e-5)
    assert len({scores[0] for scores in found[0]}) == 4


@pytest.mark.parametrize("name", ["llama", "gemma2", "granite"])
def test_bfloat16_agrees_loosely(pair: Build, name: str) -> None:
    """In half precision scores and gradients agree as far as eight bits go."""
    plain, fast = pair(name, torch.bfloat16)
    assert fast.log_probs(EVERY_ROW) == pytest.approx(plain.log_probs(EVERY_ROW), rel=3e-2)
    (_, gradient), (_, theirs) = (trained(e, EVERY_ROW, mean_loss) for e in (plain, fast))
    assert gap(theirs, gradient) < 6e-2


# ---- the head --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "gemma2", "cohere", "granite"])
def test_a_head_in_chunks_is_the_plain_one(
    pair: Build, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slopes made a few tokens at a time, through scale and soft cap, are autograd's."""
    plain, fast = pair(name)
    assert not fast.scorer.head.whole
    monkeypatch.setattr(head, "SMALL", 0)
    monkeypatch.setitem(head.CHUNK, "cpu", 1500)
    value, gradient = trained(plain, EVERY_ROW, mean_loss)
    found, theirs = trained(fast, EVERY_ROW, mean_loss)
    assert found == pytest.approx(value, rel=1e-5)
    assert gap(theirs, gradient) < 1e-5


def test_an_unknown_head_runs_whole(base: Callable[[str], tuple[Any, Any]]) -> None:
    """Where the logits are not what this reads off the configuration, the model's own are used."""
    model, tokenizer = base("granite")
    model = copy.deepcopy(model)
    plain = PlainEngine(copy.deepcopy(model), tokenizer, Lora(rank=2), 0, BASE)
    model.config.logits_scaling = 1.0  # says what the model, built before, does not do
    model.logits_scaling = 4.0
    forward = model.forward
    model.forward = lambda *a, **k: scaled(forward(*a, **k), 0.25)
    fast = FastEngine(model, tokenizer, Lora(rank=2), 0, BASE)
    assert fast.scorer.head.whole
    assert not fast.scorer.can_share
    assert fast.log_probs(EVERY_ROW) == pytest.approx(plain.log_probs(EVERY_ROW), rel=1e-5)
    (_, gradient), (_, theirs) = (trained(e, EVERY_ROW, mean_loss) for e in (plain, fast))
    assert gap(theirs, gradient) < 1e-5


def scaled(out: Any, factor: float) -> Any:
    """Return a model's output with its logits changed."""
    out.logits = out.logits * factor
    return out


def test_dropout_is_fixed_by_the_seed(base: Callable[[str], tuple[Any, Any]]) -> None:
    """A seed gives one loss and gradient, in one pass or pass by pass; another seed others."""
    model, tokenizer = base("llama")
    lora = Lora(rank=2, dropout=0.5)
    engine = FastEngine(copy.deepcopy(model), tokenizer, lora, 0, BASE)
    engine.restore(moved(engine.snapshot(), seed=1))
    for engine.token_budget in (0, 30):
        one, again, other = (trained(engine, EVERY_ROW, mean_loss, seed) for seed in (1, 1, 2))
        assert one[0] == again[0] != other[0]
        assert torch.equal(one[1], again[1])


def test_the_value_is_that_of_the_gradient(base: Callable[[str], tuple[Any, Any]]) -> None:
    """Pass by pass, dropout is the same in both passes: the gradient is that of the loss told."""
    model, tokenizer = base("llama")
    engine = FastEngine(copy.deepcopy(model), tokenizer, Lora(rank=2, dropout=0.5), 0, BASE)
    engine.restore(moved(engine.snapshot(), seed=1))
    engine.token_budget, step = 30, 1e-5
    value, gradient = trained(engine, EVERY_ROW, mean_loss, seed=4)
    with torch.no_grad():
        for p in engine.parameters():
            p -= step * p.grad if p.grad is not None else 0.0
    after, _ = trained(engine, EVERY_ROW, mean_loss, seed=4)
    assert value - after == pytest.approx(step * float(gradient @ gradient), rel=0.1)
