"""The losses: numbers by hand, and value and gradient of TRL's own trainers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from pair_rows import PAIRS, ROWS, Tiny, gap, gradients, noise, ours, policy_at, scored
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from tiny_models import load_tiny
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from ditto_hub.config import LOSSES, Update
from ditto_hub.ditto.losses import METRICS, PREFERENCE, Pairs, PreferenceLoss, supervised
from ditto_hub.ditto.update import explosion
from ditto_hub.engine.protocol import Row, Tensors

ONE_PASS, CHUNKS = 0, 24  # tokens at a time; 0 for what memory holds
AT_REFERENCE = {
    "sigmoid": math.log(2),
    "hinge": 1.0,
    "ipo": 25.0,
    "apo_zero": 1.0,
    "apo_down": 1.0,
    "sigmoid_norm": math.log(2),
    "nca_pair": 2 * math.log(2),
}


def s(x: float) -> float:
    """Return the logistic function."""
    return 1 / (1 + math.exp(-x))


# beta 0.5, r_w = 2 over 4 tokens, r_l = -1 over 2 tokens
BY_HAND = {
    "sigmoid": -math.log(s(1.5)),
    "hinge": 0.0,
    "ipo": (0.5 + 0.5 - 1.0) ** 2,
    "apo_zero": 1 - s(1.0) + s(-0.5),
    "apo_down": s(1.0) + 1 - s(1.5),
    "sigmoid_norm": -math.log(s(0.5)),
    "nca_pair": -math.log(s(1.0)) - 0.5 * math.log(s(-1.0)) - 0.5 * math.log(s(0.5)),
}


# ---- by hand ---------------------------------------------------------------------------------


def test_losses_are_all_known() -> None:
    """The settings offer the losses there are, and each has its numbers by hand here."""
    assert set(LOSSES) == set(PREFERENCE) == set(AT_REFERENCE) == set(BY_HAND)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_by_hand(name: str) -> None:
    """A pair of log-ratios 2 and -1 over 4 and 2 tokens has the loss of the formula."""
    ratios, counts = torch.tensor([[2.0], [-1.0]]).double(), torch.tensor([[4], [2]])
    pairs = Pairs(ratios[0], ratios[1], counts[0], counts[1], beta=0.5)
    assert PREFERENCE[name](pairs).tolist() == pytest.approx([BY_HAND[name]], abs=1e-12)


def test_the_supervised_loss_by_hand() -> None:
    """Three rows of 5 nats each over 10 tokens cost 1.5 nats a token."""
    assert float(supervised(torch.full((3,), -5.0), 10)) == pytest.approx(1.5)


@pytest.mark.parametrize(("name", "value"), AT_REFERENCE.items())
def test_loss_where_policy_equals_reference(tiny: Tiny, name: str, value: float) -> None:
    """Where policy equals reference the loss is its number by hand: log 2 for the paper's."""
    policy = policy_at(tiny, weights=1)
    rows = scored(policy, policy.snapshot())
    loss, _ = ours(policy, Update(loss=name, beta=0.1), rows)
    assert loss == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("beta", [0.01, 0.05, 0.1])
def test_no_loss_explodes_before_it_begins(name: str, beta: float) -> None:
    """What counts as exploding lies well above the loss a run starts from, whatever the loss."""
    start = 1 / (4 * beta**2) if name == "ipo" else AT_REFERENCE[name]
    assert explosion(Update(loss=name, beta=beta)) >= 10 * start


def test_an_nll_term_explodes_no_sooner_for_its_weight() -> None:
    """With an NLL term of weight 20 the limit is 20 times further away than the term alone is."""
    assert explosion(Update(sft_weight=20)) == 21 * explosion(Update())


def test_loss_and_metrics_by_hand(tiny: Tiny) -> None:
    """A batch's loss is the mean over its pairs, and so is every metric."""
    policy = policy_at(tiny, weights=1)
    rows = scored(policy, noise(policy.snapshot(), 0.1, 2))
    now = policy.log_probs([r.row for r in rows])
    ratio = [a - r.reference_log_prob for a, r in zip(now, rows, strict=True)]
    margins = [0.3 * (ratio[p.winner] - ratio[p.loser]) for p in PAIRS]
    loss = PreferenceLoss(rows, PAIRS, Update(beta=0.3))
    value = policy.backward(loss.rows, loss)
    expected = sum(math.log1p(math.exp(-m)) for m in margins) / len(PAIRS)
    told = dict(zip(METRICS, loss.metrics.tolist(), strict=True))
    assert float(value) == pytest.approx(expected, rel=1e-4)
    assert told["margin"] == pytest.approx(sum(margins) / len(PAIRS), rel=1e-4)
    assert told["accuracy"] == pytest.approx(sum(m > 0 for m in margins) / len(PAIRS))
    chosen = sum(now[p.winner] for p in PAIRS) / len(PAIRS)
    assert told["chosen_log_prob"] == pytest.approx(chosen, rel=1e-5)


def test_each_different_row_is_asked_for_once() -> None:
    """Seven pairs over six rows ask the engine for six rows."""
    loss = PreferenceLoss(ROWS, PAIRS, Update())
    assert len(loss.rows) == len(set(loss.rows)) == 6


# ---- the contract with TRL -------------------------------------------------------------------

CONTRACT = {name: ({"loss": name}, {"loss_type": [name]}) for name in LOSSES}
CONTRACT["sigmoid and sft"] = (
    {"sft_weight": 0.5},
    {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
)
# TRL 1.16's own default still has the old name.
stock_warns = pytest.mark.filterwarnings(
    "ignore:`gradient_checkpointing` is deprecated:FutureWarning"
)


@stock_warns
@pytest.mark.parametrize(("settings", "options"), CONTRACT.values(), ids=CONTRACT)
def test_preference_losses_equal_a_stock_trainers(
    tiny: Tiny, tmp_path: Path, settings: dict[str, Any], options: dict[str, Any]
) -> None:
    """Loss and gradients are TRL's, with the SFT adapter as reference, in one pass and in many."""
    policy = policy_at(tiny, weights=1)
    pi_0 = policy.snapshot()
    pi = noise(pi_0, 0.1, seed=2)
    policy.restore(pi)
    rows = scored(policy, pi_0)
    update = Update(beta=0.3, **settings)
    theirs, their_grads = stock(tiny("llama3"), pi_0, pi, {"beta": 0.3, **options}, tmp_path)
    for policy.token_budget in (ONE_PASS, CHUNKS):
        loss, grads = ours(policy, update, rows)
        assert loss == pytest.approx(theirs, rel=1e-5)
        assert gap(grads, their_grads) < 1e-5


@stock_warns
@pytest.mark.parametrize("on_prompt", [False, True], ids=["completions", "prompts too"])
def test_the_supervised_loss_equals_a_stock_trainers(
    tiny: Tiny, tmp_path: Path, on_prompt: bool
) -> None:
    """Loss and gradients are SFTTrainer's, on completions alone or on whole sequences."""
    policy = policy_at(tiny, weights=1)
    theirs, their_grads = stock_sft(tiny("llama3"), policy.snapshot(), on_prompt, tmp_path)
    rows = [Row(r.prompt_ids, r.completion_ids, on_prompt) for r in ROWS]
    tokens = sum(row.tokens for row in rows)
    for policy.token_budget in (ONE_PASS, CHUNKS):
        loss = float(policy.backward(rows, lambda scores: supervised(scores, tokens)))
        assert loss == pytest.approx(theirs, rel=1e-5)
        assert gap(gradients(policy.model.named_parameters()), their_grads) < 1e-5


def adapted(folder: Path, tensors: Tensors) -> tuple[Any, Any]:
    """Return a model with our adapter on it as PEFT puts it there, and its tokenizer."""
    base, tokenizer = load_tiny(folder)
    shape = LoraConfig(
        r=2,
        lora_alpha=4,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, shape)
    set_peft_model_state_dict(model, tensors)
    return model, tokenizer


def arguments(folder: Path) -> dict[str, Any]:
    """Return what both stock trainers are given."""
    return {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "max_length": None,
        "report_to": [],
    }


def stock(
    folder: Path, pi_0: Tensors, pi: Tensors, options: dict[str, Any], tmp_path: Path
) -> tuple[float, dict[str, torch.Tensor]]:
    """Return loss and gradients of TRL's own trainer: built at pi_0, which it keeps as `ref`."""
    model, tokenizer = adapted(folder, pi_0)
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(per_device_train_batch_size=len(PAIRS), **arguments(tmp_path), **options),
        train_dataset=Dataset.from_list([{"prompt": "Hi", "chosen": " you", "rejected": " me"}]),
        processing_class=tokenizer,
    )
    assert "ref" in model.peft_config
    trainer.current_gradient_accumulation_steps = 1
    set_peft_model_state_dict(model, pi)
    batch = trainer.data_collator(
        [
            {
                "prompt_ids": list(ROWS[p.winner].prompt_ids),
                "chosen_ids": list(ROWS[p.winner].completion_ids),
                "rejected_ids": list(ROWS[p.loser].completion_ids),
            }
            for p in PAIRS
        ]
    )
    loss = trainer.training_step(model, batch)
    return float(loss), gradients(model.named_parameters())


def stock_sft(
    folder: Path, pi: Tensors, on_prompt: bool, tmp_path: Path
) -> tuple[float, dict[str, torch.Tensor]]:
    """Return loss and gradients of TRL's SFTTrainer on a batch of the rows."""
    model, tokenizer = adapted(folder, pi)
    examples = [
        {
            "input_ids": [*r.prompt_ids, *r.completion_ids],
            "labels": [
                *(r.prompt_ids if on_prompt else [-100] * len(r.prompt_ids)),
                *r.completion_ids,
            ],
        }
        for r in ROWS
    ]
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            per_device_train_batch_size=len(ROWS),
            completion_only_loss=not on_prompt,
            **arguments(tmp_path),
        ),
        train_dataset=Dataset.from_list([{"prompt": "Hi", "completion": " you"}]),
        processing_class=tokenizer,
    )
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer.training_step(model, trainer.data_collator(examples))
    return float(loss), gradients(model.named_parameters())
