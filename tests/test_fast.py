"""The LoRA model: it samples what it says, scores what it sampled, and leaves the base alone."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load as tensors_from_bytes
from tiny_models import FAMILIES, load_tiny
from tiny_runs import CPU, tiny_config, tiny_policy
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
)

from ditto_hub.config import Lora, Sampling
from ditto_hub.engine.base_model import load_base, pick_device, pick_dtype
from ditto_hub.engine.decoding import (
    cache_argument,
    length_sorted_chunks,
    pad_rows,
    warpers,
)
from ditto_hub.engine.fast import FastEngine
from ditto_hub.engine.probe import probe
from ditto_hub.engine.protocol import Row
from ditto_hub.engine.targets import lora_targets
from ditto_hub.errors import BaseModelError, ChatTemplateError
from ditto_hub.tokens import NOBODY

Tiny = Callable[[str], Path]
families = pytest.mark.parametrize("family", FAMILIES)
PROMPTS = [[5, 60, 61, 62], [5, 70], [5, 80, 81, 82, 83, 84, 85, 86]]
SEEDS = [[11, 12, 13], [21, 22], [31, 32, 33, 34]]
ANSWERS = ((90, 91, 92), (93,), (94, 95, 96, 97, 98))
ROWS = [Row(tuple(p), a) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
CAP = 16


def stir(policy: FastEngine, size: float = 0.3, seed: int = 1) -> FastEngine:
    """Give the adapter weights that matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return policy


def ending(policy: FastEngine) -> FastEngine:
    """Let about one token in six end a completion, so that rows end at different times."""
    policy.format.stop_ids = tuple(range(100, 180))
    return policy


def digest(model: Any) -> dict[str, str]:
    """Return name -> hash of each weight of the base model."""
    return {
        name: hashlib.sha256(value.detach().numpy().tobytes()).hexdigest()
        for name, value in model.named_parameters()
        if "lora_" not in name
    }


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_the_cache_goes_by_the_name_of_the_installed_library(name: str) -> None:
    """transformers 5.24 renamed the argument; a model of before takes it under the old name."""
    newer = type("Newer", (), {"forward": lambda self, input_ids, cache=None: None})
    older = type("Older", (), {"forward": lambda self, input_ids, past_key_values=None: None})
    model = newer() if name == "cache" else older()
    assert cache_argument(model) == name


def logits_of(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        out = model(input_ids=torch.tensor([ids]), use_cache=False)
    return out.logits[0]


def plain_score(model: Any, prompt: list[int], completion: list[int]) -> float:
    """Return a completion's log-probability, written out by hand."""
    logits = logits_of(model, [*prompt, *completion]).double()
    score = 0.0
    for place, token in enumerate(completion, start=len(prompt)):
        row = logits[place - 1]
        score += float(row[token] - torch.logsumexp(row, 0))
    return score


@pytest.fixture
def policy(tiny: Tiny) -> FastEngine:
    return stir(tiny_policy(tiny("llama3")))


# ---- sampling --------------------------------------------------------------------------------


@families
def test_a_row_depends_on_its_seed_alone(tiny: Tiny, family: str) -> None:
    """Drawn alone, unpadded, or beside others of other lengths, a row has the same tokens."""
    policy = ending(stir(tiny_policy(tiny(family))))
    together = policy.sample(PROMPTS, SEEDS, Sampling(), CAP)
    alone = [
        [policy.sample([prompt], [[seed]], Sampling(), CAP)[0][0] for seed in seeds]
        for prompt, seeds in zip(PROMPTS, SEEDS, strict=True)
    ]
    assert [[r.token_ids for r in rows] for rows in together] == [
        [r.token_ids for r in rows] for rows in alone
    ]
    assert len({len(r.token_ids) for rows in together for r in rows}) > 3  # rows did leave


def test_order_of_rows_does_not_matter(policy: FastEngine) -> None:
    """The same seeds in another order give the same rows in that order."""
    forth = policy.sample(PROMPTS, SEEDS, Sampling(), CAP)
    back = policy.sample(PROMPTS[::-1], [s[::-1] for s in SEEDS[::-1]], Sampling(), CAP)
    assert [[r.token_ids for r in rows[::-1]] for rows in back[::-1]] == [
        [r.token_ids for r in rows] for rows in forth
    ]


def test_same_seed_same_row_other_seed_other_row(policy: FastEngine) -> None:
    """A seed draws the same completion each time, and another seed another one."""
    one, again, other = (
        policy.sample([PROMPTS[0]], [[seed]], Sampling(), CAP)[0][0] for seed in (1, 1, 2)
    )
    assert one == again
    assert one.token_ids != other.token_ids


def test_a_longer_cap_only_continues(policy: FastEngine) -> None:
    """A completion under a small cap is the beginning of the one under a larger cap."""
    short, long = (policy.sample([PROMPTS[0]], [[1]], Sampling(), cap)[0][0] for cap in (5, CAP))
    assert short.token_ids == long.token_ids[:5]


def test_global_random_state_is_left_alone(policy: FastEngine) -> None:
    """Sampling neither reads nor moves torch's own random state."""
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    policy.sample(PROMPTS, SEEDS, Sampling(), CAP)
    assert torch.equal(before, torch.random.get_rng_state())


def test_ends_with_one_stop_token(policy: FastEngine) -> None:
    """A completion that ended holds its stop token last and nowhere else; a cut one holds none."""
    ending(policy)
    rows = [r for rows in policy.sample(PROMPTS, SEEDS, Sampling(), 6) for r in rows]
    stops = set(policy.format.stop_ids)
    assert {r.ended for r in rows} == {True, False}
    for row in rows:
        assert [i in stops for i in row.token_ids] == [False] * (len(row.token_ids) - 1) + [
            row.ended
        ]
        assert row.ended or len(row.token_ids) == 6


def test_end_on_the_last_token_counts(policy: FastEngine) -> None:
    """A stop token drawn in the very last place is an end, not a cut."""
    policy.format.stop_ids = tuple(range(400))
    row = policy.sample([PROMPTS[0]], [[1]], Sampling(), 1)[0][0]
    assert (row.ended, len(row.token_ids)) == (True, 1)


@families
def test_log_prob_is_that_of_scoring(tiny: Tiny, family: str) -> None:
    """What sampling says of its rows is what `log_probs` says of the same tokens."""
    policy = ending(stir(tiny_policy(tiny(family))))
    seeds = [
        list(range(20)),
        list(range(30, 40)),
        list(range(50, 60)),
    ]  # some end, yet stay a while
    drawn = policy.sample(PROMPTS, seeds, Sampling(temperature=0.7, top_k=40), CAP)
    rows = [
        Row(tuple(p), r.token_ids) for p, mine in zip(PROMPTS, drawn, strict=True) for r in mine
    ]
    said = [r.log_prob for mine in drawn for r in mine]
    assert policy.log_probs(rows) == pytest.approx(said, abs=2e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.1, 3.0])
def test_frequencies_are_the_softmax(policy: FastEngine, temperature: float) -> None:
    """Tokens come as often as the softmax of the logits over the temperature says."""
    n = 4000
    sampling = Sampling(temperature=temperature)
    rows = policy.sample([PROMPTS[0]], [list(range(n))], sampling, 1)[0]
    counts = Counter(r.token_ids[0] for r in rows)
    expected = (logits_of(policy.model, PROMPTS[0])[-1].double() / temperature).softmax(0)
    found = torch.tensor([counts[i] / n for i in range(len(expected))])
    deviation = (expected * (1 - expected) / n).sqrt()
    assert ((found - expected).abs() < 5 * deviation + 1 / n).all()


def test_no_filter_unless_asked(policy: FastEngine) -> None:
    """With the defaults nothing filters the logits, the library's top-k of 50 included."""
    policy.model.generation_config.top_k = 50
    assert list(warpers(Sampling())) == []
    rows = policy.sample([PROMPTS[0]], [list(range(400))], Sampling(), 1)[0]
    logits = logits_of(policy.model, PROMPTS[0])[-1]
    likely = set(logits.topk(50).indices.tolist())
    assert any(r.token_ids[0] not in likely for r in rows)


def test_top_k_keeps_the_likeliest(policy: FastEngine) -> None:
    """With top_k=3 only the three likeliest tokens are drawn, and each of them is."""
    rows = policy.sample([PROMPTS[0]], [list(range(300))], Sampling(top_k=3), 1)[0]
    logits = logits_of(policy.model, PROMPTS[0])[-1]
    assert {r.token_ids[0] for r in rows} == set(logits.topk(3).indices.tolist())


def test_top_p_keeps_the_nucleus(policy: FastEngine) -> None:
    """With top_p=0.3 only the smallest set of tokens that holds 0.3 of the mass is drawn."""
    rows = policy.sample([PROMPTS[0]], [list(range(300))], Sampling(top_p=0.3), 1)[0]
    probs, order = logits_of(policy.model, PROMPTS[0])[-1].softmax(0).sort(descending=True)
    size = int((probs.cumsum(0) < 0.3).sum()) + 1
    assert {r.token_ids[0] for r in rows} <= set(order[:size].tolist())


@pytest.mark.parametrize("changed", [{"temperature": 2.0}, {"top_p": 0.3}, {"top_k": 3}], ids=str)
def test_each_filter_changes_what_is_drawn(policy: FastEngine, changed: dict[str, Any]) -> None:
    """Temperature, top-p and top-k each change the completions of the same seeds."""
    plain, other = (
        policy.sample(PROMPTS, SEEDS, sampling, CAP)
        for sampling in (Sampling(), Sampling(**changed))
    )
    assert [[r.token_ids for r in rows] for rows in plain] != [
        [r.token_ids for r in rows] for rows in other
    ]


@families
def test_base_weights_are_bit_identical_after_sampling(tiny: Tiny, family: str) -> None:
    """Sampling puts the very same tensors back: not one bit of the base model changes."""
    policy = stir(tiny_policy(tiny(family)))
    before = digest(policy.model)
    places = [p.data_ptr() for p in policy.model.parameters()]
    policy.sample(PROMPTS, SEEDS, Sampling(), 4)
    assert digest(policy.model) == before
    assert [p.data_ptr() for p in policy.model.parameters()] == places


def test_base_weights_are_back_after_a_crash(
    policy: FastEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sampling that fails midway leaves the base model as it was, and the adapter on."""
    before, scores = digest(policy.model), policy.log_probs(ROWS)
    calls = iter([True, True])
    inner = policy._next_logits

    def fail(*args: Any) -> torch.Tensor:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return inner(*args)

    monkeypatch.setattr(policy, "_next_logits", fail)
    with pytest.raises(KeyboardInterrupt):
        policy.sample(PROMPTS, SEEDS, Sampling(), CAP)
    assert digest(policy.model) == before
    assert policy.log_probs(ROWS) == scores


@families
def test_sampling_uses_the_adapter(tiny: Tiny, family: str) -> None:
    """Completions with the adapter on differ from those with it off."""
    policy = stir(tiny_policy(tiny(family)))
    on = policy.sample(PROMPTS, SEEDS, Sampling(), CAP)
    with policy.adapter_off():
        off = policy.sample(PROMPTS, SEEDS, Sampling(), CAP)
    assert [[r.token_ids for r in rows] for rows in on] != [
        [r.token_ids for r in rows] for rows in off
    ]


def test_sampling_with_the_adapter_off_is_the_base(tiny: Tiny, policy: FastEngine) -> None:
    """With the adapter off, completions are those of the base with an untrained adapter."""
    fresh = tiny_policy(tiny("llama3")).sample(PROMPTS, SEEDS, Sampling(), CAP)
    with policy.adapter_off():
        off = policy.sample(PROMPTS, SEEDS, Sampling(), CAP)
    assert [[r.token_ids for r in rows] for rows in off] == [
        [r.token_ids for r in rows] for rows in fresh
    ]


# ---- scoring ---------------------------------------------------------------------------------


@families
def test_log_probs_by_hand(tiny: Tiny, family: str) -> None:
    """`log_probs` is the sum of a plain log-softmax over the completion's tokens."""
    policy = stir(tiny_policy(tiny(family)))
    by_hand = [plain_score(policy.model, list(r.prompt_ids), list(r.completion_ids)) for r in ROWS]
    assert policy.log_probs(ROWS) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("tokens", [1, 20, 10_000])
def test_small_passes_keep_scores_and_their_order(policy: FastEngine, tokens: int) -> None:
    """Rows score the same in one pass or in many, in their order."""
    by_hand = [plain_score(policy.model, list(r.prompt_ids), list(r.completion_ids)) for r in ROWS]
    policy.pass_tokens = tokens
    assert policy.log_probs(ROWS) == pytest.approx(by_hand, rel=1e-5)


def test_no_rows(policy: FastEngine) -> None:
    """Nothing in, nothing out."""
    assert list(length_sorted_chunks([], 10)) == []
    assert policy.log_probs([]) == []


@pytest.mark.parametrize(
    ("lengths", "budget", "chunks"),
    [
        ([3, 1, 2], 100, [[1, 2, 0]]),
        ([3, 1, 2], 4, [[1, 2], [0]]),
        ([5, 5, 5], 10, [[0, 1], [2]]),
        ([9, 1], 4, [[1], [0]]),
    ],
)
def test_chunks(lengths: list[int], budget: int, chunks: list[list[int]]) -> None:
    """Rows are chunked shortest first; a row over the budget goes alone."""
    assert list(length_sorted_chunks(lengths, budget)) == chunks


def test_padding() -> None:
    """Rows are padded right for training and left for sampling, and masked there."""
    right, left = pad_rows([[1, 2], [3]], 0), pad_rows([[1, 2], [3]], 0, left=True)
    assert [t.tolist() for t in right] == [[[1, 2], [3, 0]], [[1, 1], [1, 0]]]
    assert [t.tolist() for t in left] == [[[1, 2], [0, 3]], [[1, 1], [0, 1]]]


@families
def test_adapter_off_is_the_base_logit_for_logit(tiny: Tiny, family: str) -> None:
    """With the adapter off every logit equals that of the base model nobody touched."""
    policy = stir(tiny_policy(tiny(family)))
    base = load_tiny(tiny(family))[0].eval()
    with policy.adapter_off():
        off = logits_of(policy.model, PROMPTS[2])
    assert torch.equal(off, logits_of(base, PROMPTS[2]))
    assert not torch.equal(logits_of(policy.model, PROMPTS[2]), off)


def test_a_fresh_adapter_is_the_base(tiny: Tiny) -> None:
    """Before training the adapter changes no logit."""
    base = load_tiny(tiny("llama3"))[0].eval()
    policy = tiny_policy(tiny("llama3"))
    assert torch.equal(logits_of(policy.model, PROMPTS[0]), logits_of(base, PROMPTS[0]))


def test_unload_gives_the_base_back(tiny: Tiny) -> None:
    """Unloading takes the adapter and TRL's head off: the base is as it was, forward included."""
    base, tokenizer = load_base(
        {"id": str(tiny("llama3")), "revision": None}, device=CPU, token=NOBODY
    )
    before = logits_of(base, PROMPTS[0])
    policy = stir(FastEngine(base, tokenizer, Lora(rank=2), 0, {"id": "x", "revision": None}))
    policy.unload()
    assert torch.equal(logits_of(base, PROMPTS[0]), before)
    assert "forward" not in vars(base)
    assert not any("lora" in name for name, _ in base.named_parameters())


# ---- weights ---------------------------------------------------------------------------------


def test_snapshot_and_restore(policy: FastEngine) -> None:
    """A snapshot is a copy, and restoring it brings every weight back bit by bit."""
    kept, scores = policy.snapshot(), policy.log_probs(ROWS)
    stir(policy, seed=2)
    assert policy.log_probs(ROWS) != scores
    policy.restore(kept)
    assert policy.log_probs(ROWS) == scores
    assert all(torch.equal(kept[name], value) for name, value in policy.snapshot().items())


def test_restored_weights_train(policy: FastEngine) -> None:
    """After a restore the adapter's parameters, and no others, still want gradients."""
    before = [p.shape for p in policy.parameters()]
    policy.restore(policy.snapshot())
    assert [p.shape for p in policy.parameters()] == before
    wanting = [name for name, p in policy.model.named_parameters() if p.requires_grad]
    assert wanting
    assert all("lora_" in name for name in wanting)


def test_as_adapter(tiny: Tiny, policy: FastEngine) -> None:
    """Inside the block the policy wears the other adapter; after it, its own, also on an error."""
    other = stir(tiny_policy(tiny("llama3")), seed=9)
    mine, theirs = policy.log_probs(ROWS), other.log_probs(ROWS)
    with suppress(ZeroDivisionError), policy.as_adapter(other.snapshot()):
        assert policy.log_probs(ROWS) == theirs
        raise ZeroDivisionError
    assert policy.log_probs(ROWS) == mine


@pytest.mark.parametrize(
    ("lora", "told"),
    [
        ("lora.rank=4", "does not fit"),
        ("lora.targets=all-linear", "has the layer .* does not"),
        ("lora.targets=q_proj", "lacks .*k_proj"),
    ],
)
def test_foreign_adapter_is_refused(tiny: Tiny, policy: FastEngine, lora: str, told: str) -> None:
    """An adapter of another rank, or with more or fewer layers, is refused in words."""
    other = tiny_policy(tiny("llama3"), tiny_config(lora)).snapshot()
    with pytest.raises(BaseModelError, match=told):
        policy.restore(other)


def test_seed_decides_the_first_weights(tiny: Tiny) -> None:
    """The same seed starts from the same adapter, another one from another."""
    one, again, other = (
        tiny_policy(tiny("llama3"), tiny_config(seed=s)).adapter_files()[
            "adapter_model.safetensors"
        ]
        for s in (1, 1, 2)
    )
    assert one == again != other


@families
def test_plain_peft_loads_the_files(tiny: Tiny, tmp_path: Path, family: str) -> None:
    """transformers and peft alone load the adapter's two files, with the same logits."""
    policy = stir(tiny_policy(tiny(family)))
    for name, data in policy.adapter_files().items():
        (tmp_path / name).write_bytes(data)
    base = AutoModelForCausalLM.from_pretrained(tiny(family), dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, tmp_path).eval()
    assert torch.equal(logits_of(loaded, PROMPTS[2]), logits_of(policy.model.eval(), PROMPTS[2]))


def test_files_are_the_same_bytes_for_the_same_weights(policy: FastEngine) -> None:
    """Writing an adapter twice gives the same bytes."""
    assert policy.adapter_files() == policy.adapter_files()


def test_config_names_the_base_and_revision(tiny: Tiny) -> None:
    """The adapter's config names the base model's id and revision, for inference."""
    model, tokenizer = load_base(
        {"id": str(tiny("llama3")), "revision": None}, device=CPU, token=NOBODY
    )
    about = {"id": "org/model", "revision": "abc"}
    files = FastEngine(model, tokenizer, Lora(rank=2), 0, about).adapter_files()
    config = json.loads(files["adapter_config.json"])
    told = ("base_model_name_or_path", "revision", "inference_mode", "r")
    assert [config[key] for key in told] == ["org/model", "abc", True, 2]


def test_tokenizer_files_say_nothing_of_how_it_was_loaded(policy: FastEngine) -> None:
    """A run made offline and one made online publish the same bytes."""
    policy.tokenizer.init_kwargs["local_files_only"] = True
    assert b"local" not in policy.tokenizer_files()["tokenizer_config.json"]


def test_tokenizer_files_hold_the_template(policy: FastEngine) -> None:
    """The tokenizer's files bring the chat template along."""
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} <= set(
        policy.tokenizer_files()
    )


def test_probe(policy: FastEngine) -> None:
    """The probe holds the last position's logits with the adapter on and off, unpadded values."""
    data = probe(policy, PROMPTS)
    tensors = tensors_from_bytes(data)
    with policy.adapter_off():
        off = torch.stack([logits_of(policy.model, p)[-1] for p in PROMPTS])
    on = torch.stack([logits_of(policy.model, p)[-1] for p in PROMPTS])
    assert torch.equal(tensors["adapter_on"], on)
    assert torch.equal(tensors["adapter_off"], off)
    assert tensors["input_ids"].shape == tensors["attention_mask"].shape == (3, 8)
    lengths = tensors["attention_mask"].sum(1).tolist()
    rows = zip(PROMPTS, tensors["input_ids"], tensors["attention_mask"], strict=True)
    assert lengths == [len(p) for p in PROMPTS]
    assert all(ids[mask.bool()].tolist() == p for p, ids, mask in rows)


def test_probe_says_where_it_was_computed(policy: FastEngine) -> None:
    """The probe's metadata name dtype and device."""
    data = probe(policy, PROMPTS)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["__metadata__"] == {"dtype": "float32", "device": "cpu"}


# ---- where the adapter goes ------------------------------------------------------------------

ATTENTION = {
    "llama3": ["k_proj", "o_proj", "q_proj", "v_proj"],
    "mistral": ["k_proj", "o_proj", "q_proj", "v_proj"],
    "qwen3": ["k_proj", "o_proj", "q_proj", "v_proj"],
    "gemma": ["k_proj", "o_proj", "q_proj", "v_proj"],
    "phi3": ["o_proj", "qkv_proj"],
    "smollm2": ["k_proj", "o_proj", "q_proj", "v_proj"],
}
MLP = {family: ["down_proj", "gate_proj", "up_proj"] for family in FAMILIES}
MLP["phi3"] = ["down_proj", "gate_up_proj"]
SMALL = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 400}


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(**SMALL))


def neox() -> GPTNeoXForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return GPTNeoXForCausalLM(GPTNeoXConfig(**shape, intermediate_size=32, vocab_size=400))


@families
def test_targets(tiny: Tiny, family: str) -> None:
    """Attention and all-linear targets are found from the architecture, never the head."""
    model, _ = load_tiny(tiny(family))
    assert lora_targets(model, "attention") == ATTENTION[family]
    assert lora_targets(model, "all-linear") == sorted(ATTENTION[family] + MLP[family])


@pytest.mark.parametrize(
    ("build", "wish", "expected"),
    [
        (gpt2, "attention", ["attn.c_proj", "c_attn"]),
        (gpt2, "all-linear", ["c_attn", "c_fc", "c_proj"]),
        (neox, "attention", ["dense", "query_key_value"]),
        (neox, "all-linear", ["dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value"]),
    ],
)
def test_targets_of_older_architectures(
    build: Callable[[], Any], wish: str, expected: list[str]
) -> None:
    """GPT-2's Conv1D and GPT-NeoX's fused layers are found; "attention" means no other layer."""
    assert lora_targets(build(), wish) == expected


@pytest.mark.parametrize("build", [gpt2, neox])
def test_older_architectures_work(tiny: Tiny, build: Callable[[], Any]) -> None:
    """On GPT-2 and GPT-NeoX, too, sampling agrees with scoring and stays off the MLP."""
    _, tokenizer = load_tiny(tiny("llama3"))
    model = build().eval().requires_grad_(False)
    about = {"id": "x", "revision": None}
    policy = stir(FastEngine(model, tokenizer, Lora(rank=2), 0, about))
    drawn = policy.sample(PROMPTS, SEEDS, Sampling(), CAP)
    rows = [
        Row(tuple(p), r.token_ids) for p, mine in zip(PROMPTS, drawn, strict=True) for r in mine
    ]
    said = [r.log_prob for mine in drawn for r in mine]
    assert policy.log_probs(rows) == pytest.approx(said, abs=2e-4)
    assert not any("mlp" in n for n, p in policy.model.named_parameters() if p.requires_grad)


def test_targets_by_name(tiny: Tiny) -> None:
    """Layers named by the user are taken as named."""
    model, _ = load_tiny(tiny("llama3"))
    assert lora_targets(model, "v_proj, q_proj") == ["q_proj", "v_proj"]


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ("q_proj,w_proj", "no linear layer named w_proj"),
        ("lm_head", "no linear layer named lm_head"),
        ("", "no linear layer named"),
    ],
)
def test_targets_that_are_not_there(tiny: Tiny, wish: str, told: str) -> None:
    """A layer that the base model lacks is refused by name; so is the head."""
    model, _ = load_tiny(tiny("llama3"))
    with pytest.raises(BaseModelError, match=told):
        lora_targets(model, wish)


def test_no_attention_to_be_found() -> None:
    """A model whose attention cannot be told from its names says which setting helps."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with pytest.raises(BaseModelError, match=r"lora\.targets=all-linear"):
        lora_targets(model, "attention")


@families
def test_dropout_is_off_in_the_base(tiny: Tiny, family: str) -> None:
    """The base model is loaded frozen, in evaluation mode, without dropout."""
    model, _ = load_base({"id": str(tiny(family)), "revision": None}, device=CPU, token=NOBODY)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert all(m.p == 0 for m in model.modules() if isinstance(m, torch.nn.Dropout))


def test_dropout_is_on_in_training_with_a_seed_alone(tiny: Tiny) -> None:
    """The adapter's dropout is on inside `training(seed)`, and off after it and without a seed."""
    policy = tiny_policy(tiny("llama3"), tiny_config("lora.dropout=0.5"))
    drops = [m for m in policy.model.modules() if isinstance(m, torch.nn.Dropout) and m.p]
    with policy.training(3):
        assert drops
        assert all(m.training for m in drops)
    with policy.training(None):
        assert not any(m.training for m in drops)
    assert not any(m.training for m in policy.model.modules())


# ---- refusals --------------------------------------------------------------------------------


def test_missing_base(tmp_path: Path) -> None:
    """A base model that is not there is refused by name."""
    with pytest.raises(BaseModelError, match="nowhere"):
        load_base({"id": str(tmp_path / "nowhere"), "revision": None}, device=CPU, token=NOBODY)


def test_empty_folder_as_base(tmp_path: Path) -> None:
    """A folder without a model is refused."""
    with pytest.raises(BaseModelError, match="Could not load the base model"):
        load_base({"id": str(tmp_path), "revision": None}, device=CPU, token=NOBODY)


def test_damaged_weights(tiny: Tiny, tmp_path: Path) -> None:
    """Weights that are cut short are refused as a base model, not as a traceback."""
    for path in tiny("llama3").iterdir():
        (tmp_path / path.name).write_bytes(
            path.read_bytes()[: -1000 if "safe" in path.name else None]
        )
    with pytest.raises(BaseModelError, match="Could not load the base model"):
        load_base({"id": str(tmp_path), "revision": None}, device=CPU, token=NOBODY)


def test_no_chat_template(tiny: Tiny) -> None:
    """A base model without a chat template is refused before an adapter is put on it."""
    model, tokenizer = load_tiny(tiny("llama3"))
    tokenizer.chat_template = None
    with pytest.raises(ChatTemplateError, match="no chat template"):
        FastEngine(model, tokenizer, Lora(rank=2), 0, {"id": "x", "revision": None})
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_device_and_dtype() -> None:
    """A wish for a device is followed; a CPU computes in float32."""
    assert pick_device("cpu") == CPU
    assert pick_dtype(CPU) == torch.float32
