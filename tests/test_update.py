"""The update: a stock DPOTrainer's loss and gradients, from fewer forward passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from tiny_models import load_tiny
from tiny_runs import tiny_config, tiny_demos, tiny_policy
from trl import DPOConfig, DPOTrainer

from ditto_hub.algorithm.policy import Policy, Tensors
from ditto_hub.algorithm.ranking import Comparison
from ditto_hub.algorithm.rollout import Rollout
from ditto_hub.algorithm.state import Work
from ditto_hub.algorithm.steps import Stepper, epoch_batches, schedule
from ditto_hub.algorithm.update import (
    UpdateTrainer,
    dpo_trainer,
    explosion,
    pair_batch,
    update_round,
)
from ditto_hub.algorithm.warm_start import score_under_reference, sft_batch, sft_trainer
from ditto_hub.config import LOSSES, RunConfig, Update
from ditto_hub.events import StepTaken

Tiny = Callable[[str], Path]
ROWS = [
    Rollout(0, -1, (5, 60, 61, 62), (90, 91, 92, 93, 94)),
    Rollout(1, -1, (5, 70), (93, 94)),
    Rollout(0, 0, (5, 60, 61, 62), (94,)),
    Rollout(0, 0, (5, 60, 61, 62), (95, 96, 97, 98, 99, 90, 91, 92, 93)),
    Rollout(1, 0, (5, 70), (97, 93, 98)),
    Rollout(0, 1, (5, 60, 61, 62), (99, 98, 97)),
]
PAIRS = [  # seven pairs over six rows: winners and losers repeat, and one pair comes twice
    Comparison(0, 2, "replay"),
    Comparison(0, 3, "replay"),
    Comparison(1, 4, "online"),
    Comparison(0, 5, "online"),
    Comparison(0, 5, "online"),
    Comparison(5, 2, "intermodel"),
    Comparison(5, 3, "intermodel"),
]
ONE_PASS = 10_000


def noise(tensors: Tensors, size: float, seed: int) -> Tensors:
    """Return the tensors with something added to each."""
    generator = torch.Generator().manual_seed(seed)
    return {k: v + size * torch.randn(v.shape, generator=generator) for k, v in tensors.items()}


def policy_at(tiny: Tiny, weights: int, family: str = "llama3", **lora: Any) -> Policy:
    """Return a policy whose adapter's weights a number decides."""
    policy = tiny_policy(tiny(family), tiny_config(*(f"lora.{k}={v}" for k, v in lora.items())))
    policy.restore(noise(policy.snapshot(), 0.3, weights))
    return policy


def scored(policy: Policy, reference: Tensors) -> list[Rollout]:
    """Return the rows with their log-probability under the reference."""
    with policy.as_adapter(reference):
        scores = policy.log_probs([(r.prompt_ids, r.completion_ids) for r in ROWS])
    return [replace(r, reference_log_prob=s) for r, s in zip(ROWS, scores, strict=True)]


def gradients(named: Any) -> dict[str, torch.Tensor]:
    """Return the adapter's gradients, by layer."""
    return {
        name.partition("model.model.")[2]: p.grad.clone()
        for name, p in named
        if ".default" in name and p.grad is not None
    }


def ours(
    policy: Policy, update: Update, rows: Sequence[Rollout]
) -> tuple[float, dict[str, torch.Tensor]]:
    """Return loss and gradients of our update step on the pairs."""
    trainer = dpo_trainer(policy, update)
    batch = pair_batch(rows, PAIRS, policy.format.pad_id)
    with policy.dropout_off():
        loss = trainer.training_step(policy.model, batch)
    found = gradients(policy.model.named_parameters())
    policy.model.zero_grad(set_to_none=True)
    return float(loss), found


def stock(
    folder: Path, pi_0: Tensors, pi: Tensors, options: dict[str, Any], tmp_path: Path
) -> tuple[float, dict[str, torch.Tensor]]:
    """Return loss and gradients of TRL's own trainer: built at pi_0, which it keeps as `ref`."""
    base, tokenizer = load_tiny(folder)
    shape = LoraConfig(
        r=2,
        lora_alpha=4,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, shape)
    set_peft_model_state_dict(model, pi_0)
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=len(PAIRS),
            use_cpu=True,
            bf16=False,
            max_length=None,
            report_to=[],
            **options,
        ),
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


def gap(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Return how far two gradients are apart, relative to their size."""
    assert a.keys() == b.keys()
    assert a
    one, two = (torch.cat([g[k].flatten().double() for k in sorted(g)]) for g in (a, b))
    assert two.norm() > 1e-4
    return float((one - two).norm() / two.norm())


# ---- the contract with TRL -------------------------------------------------------------------

CONTRACT = {
    "sigmoid": ({}, {"loss_type": ["sigmoid"]}),
    "ipo": ({"loss": "ipo"}, {"loss_type": ["ipo"]}),
    "sigmoid and sft": (
        {"sft_weight": 0.5},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
    ),
    "apo_zero": ({"loss": "apo_zero"}, {"loss_type": ["apo_zero"]}),
}


# TRL 1.16's own default still has the old name.
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("budget", [ONE_PASS, 24], ids=["one pass", "chunks"])
@pytest.mark.parametrize(("settings", "options"), CONTRACT.values(), ids=CONTRACT)
def test_equals_a_stock_trainer(
    tiny: Tiny, tmp_path: Path, settings: dict[str, Any], options: dict[str, Any], budget: int
) -> None:
    """Loss and gradients are TRL's, with the SFT adapter as reference, to one part in 100,000."""
    policy = policy_at(tiny, weights=1)
    pi_0 = policy.snapshot()
    pi = noise(pi_0, 0.1, seed=2)
    policy.restore(pi)
    rows = scored(policy, pi_0)
    update = Update(beta=0.3, **settings)
    loss, grads = with_budget(budget, lambda: ours(policy, update, rows))
    theirs, their_grads = stock(tiny("llama3"), pi_0, pi, {"beta": 0.3, **options}, tmp_path)
    assert loss == pytest.approx(theirs, rel=1e-5)
    assert gap(grads, their_grads) < 1e-5


def with_budget(tokens: int, act: Callable[[], Any]) -> Any:
    """Do something while trainers are built with a token budget that settings do not allow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UpdateTrainer, "token_budget", property(lambda _: tokens, lambda *_: None))
        return act()


@pytest.mark.parametrize("tokens", [1, 10, 30, 60])
@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_chunks_change_nothing(tiny: Tiny, tokens: int, loss: str) -> None:
    """Whatever the budget, down to a row at a time, loss and gradients are those of one pass."""
    policy = policy_at(tiny, weights=1)
    rows = scored(policy, noise(policy.snapshot(), 0.1, 2))
    update = Update(loss=loss, sft_weight=0.3)
    whole, whole_grads = with_budget(ONE_PASS, lambda: ours(policy, update, rows))
    cut, cut_grads = with_budget(tokens, lambda: ours(policy, update, rows))
    assert cut == pytest.approx(whole, rel=1e-6)
    assert gap(cut_grads, whole_grads) < 1e-5


def test_budget_bounds_a_forward_pass(tiny: Tiny) -> None:
    """No forward pass of an update has more tokens than the budget."""
    policy = policy_at(tiny, weights=1)
    sizes = []
    hook = policy.model.get_input_embeddings().register_forward_hook(
        lambda _, given, __: sizes.append(given[0].numel())
    )
    rows = scored(policy, policy.snapshot())
    sizes.clear()  # of the scoring, which has a budget of its own
    with_budget(30, lambda: ours(policy, Update(), rows))
    hook.remove()
    assert max(sizes) <= 30
    assert len(sizes) > 4


def test_each_different_row_runs_once(tiny: Tiny) -> None:
    """A batch of seven pairs over six rows is a pass of two prompts and one of six completions."""
    policy = policy_at(tiny, weights=1)
    rows = scored(policy, policy.snapshot())
    shapes = []
    hook = policy.model.get_input_embeddings().register_forward_hook(
        lambda _, given, __: shapes.append(tuple(given[0].shape))
    )
    ours(policy, Update(), rows)
    hook.remove()
    assert shapes == [(2, 3), (6, 10)]  # the prompt's last token runs with the completion


# ---- losses ----------------------------------------------------------------------------------

AT_REFERENCE = {
    "sigmoid": math.log(2),
    "hinge": 1.0,
    "ipo": 25.0,
    "apo_zero": 1.0,
    "apo_down": 1.0,
    "sigmoid_norm": math.log(2),
    "nca_pair": 2 * math.log(2),
}


def test_losses_are_all_known() -> None:
    """Each loss that the settings offer has its number by hand below."""
    assert set(AT_REFERENCE) == set(LOSSES)


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


def test_loss_by_hand(tiny: Tiny) -> None:
    """The loss is the mean of -log sigmoid of beta times the difference of log-ratios."""
    policy = policy_at(tiny, weights=1)
    rows = scored(policy, noise(policy.snapshot(), 0.1, 2))
    now = policy.log_probs([(r.prompt_ids, r.completion_ids) for r in rows])
    ratio = [a - r.reference_log_prob for a, r in zip(now, rows, strict=True)]
    margins = [0.3 * (ratio[p.winner] - ratio[p.loser]) for p in PAIRS]
    expected = sum(math.log1p(math.exp(-m)) for m in margins) / len(PAIRS)
    loss, _ = ours(policy, Update(beta=0.3), rows)
    assert loss == pytest.approx(expected, rel=1e-4)


def test_a_step_raises_the_margin(tiny: Tiny) -> None:
    """Steps on the pairs raise winners over losers."""
    policy = policy_at(tiny, weights=1)
    rows = scored(policy, policy.snapshot())
    first, *_, last = steps(policy, rows, n=5, learning_rate=0.02)
    assert last < first - 0.01


def steps(
    policy: Policy,
    rows: Sequence[Rollout],
    n: int = 3,
    update: Update | None = None,
    **options: Any,
) -> list[float]:
    """Take some update steps and return their losses."""
    update = update or Update()
    trainer = dpo_trainer(policy, update)
    given = {"optimizer": "adamw", "learning_rate": 0.01, "max_grad_norm": 1.0, "seed": 0}
    stepper = Stepper(policy, schedule=schedule("constant", 0, n), **(given | options))
    batch = pair_batch(rows, PAIRS, policy.format.pad_id)
    with policy.dropout_off():
        return [stepper.step(trainer, batch).loss for _ in range(n)]


# ---- the trainer leaves nothing behind -------------------------------------------------------


def test_no_ref_adapter_is_left(tiny: Tiny) -> None:
    """TRL's copy of the adapter is gone: the only adapter is the policy's own."""
    policy = policy_at(tiny, weights=1)
    before = [name for name, _ in policy.model.named_parameters()]
    dpo_trainer(policy, Update())
    assert list(policy.model.peft_config) == ["default"]
    assert [name for name, _ in policy.model.named_parameters()] == before


@pytest.mark.parametrize("build", [lambda p: dpo_trainer(p, Update()), sft_trainer])
def test_building_a_trainer_changes_no_file(tiny: Tiny, build: Callable[[Policy], Any]) -> None:
    """Adapter, tokenizer and scores are the same whether or not a trainer was built."""
    policy = policy_at(tiny, weights=1)
    rows = [(r.prompt_ids, r.completion_ids) for r in ROWS]
    before = policy.adapter_files(), policy.tokenizer_files(), policy.log_probs(rows)
    build(policy)
    assert (policy.adapter_files(), policy.tokenizer_files(), policy.log_probs(rows)) == before


def test_dropout_is_off_in_updates_only(tiny: Tiny) -> None:
    """The adapter's dropout changes a supervised step from one seed to another, no update step."""
    policy = policy_at(tiny, weights=1, dropout=0.5)
    rows = scored(policy, policy.snapshot())
    update = [ours(policy, Update(), rows)[0] for _ in range(2)]
    batch = sft_batch(ROWS[:2], policy.format.pad_id, False)
    trainer = sft_trainer(policy)
    warm = [float(trainer.training_step(policy.model, dict(batch))) for _ in range(2)]
    assert update[0] == update[1] == pytest.approx(math.log(2), rel=1e-4)
    assert warm[0] != warm[1]


# ---- optimisers and schedules ----------------------------------------------------------------


def moved(policy: Policy, **options: Any) -> torch.Tensor:
    """Return how far one step moves each weight."""
    before = [p.detach().clone() for p in policy.parameters()]
    steps(policy, scored(policy, policy.snapshot()), n=1, **options)
    after = policy.parameters()
    return torch.cat([(a - b).abs().flatten() for a, b in zip(after, before, strict=True)])


def test_first_step_of_adamw(tiny: Tiny) -> None:
    """AdamW's first step moves every weight by the learning rate, and decays none."""
    size = moved(policy_at(tiny, weights=1), optimizer="adamw", learning_rate=1e-3)
    assert float(size.detach().median()) == pytest.approx(1e-3, rel=1e-2)


def test_first_step_of_rmsprop(tiny: Tiny) -> None:
    """RMSprop's first step, without bias correction, is ten times AdamW's."""
    size = moved(policy_at(tiny, weights=1), optimizer="rmsprop", learning_rate=1e-3)
    assert float(size.detach().median()) == pytest.approx(1e-2, rel=1e-2)


def test_clip(tiny: Tiny) -> None:
    """The gradient is clipped to the norm given, and not at all at 0."""
    policy = policy_at(tiny, weights=1)
    rows = scored(policy, policy.snapshot())
    trainer = dpo_trainer(policy, Update())
    batch = pair_batch(rows, PAIRS, policy.format.pad_id)
    norms = {}
    for clip in (0.0, 1e-3):
        stepper = Stepper(
            policy,
            optimizer="adamw",
            learning_rate=0.0,
            schedule=schedule("constant", 0, 1),
            max_grad_norm=clip,
            seed=0,
        )
        told = stepper.step(trainer, batch).grad_norm
        norms[clip] = (
            told,
            float(torch.cat([p.grad.flatten() for p in stepper.parameters]).norm()),
        )
    assert norms[0.0][0] == pytest.approx(norms[0.0][1])
    assert norms[1e-3] == pytest.approx((norms[0.0][0], 1e-3), rel=1e-3)


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
def test_optimiser_goes_on_from_its_state(tiny: Tiny, optimizer: str) -> None:
    """Steps before and after a saved state are, bit for bit, the steps of one optimiser."""
    policy = policy_at(tiny, weights=1)
    rows = scored(policy, policy.snapshot())
    begin = policy.snapshot()
    trainer = dpo_trainer(policy, Update())
    batch = pair_batch(rows, PAIRS, policy.format.pad_id)

    def stepper() -> Stepper:
        shape = schedule("linear", 0.5, 6)
        return Stepper(
            policy,
            optimizer=optimizer,
            learning_rate=0.01,
            schedule=shape,
            max_grad_norm=1.0,
            seed=3,
        )

    whole = stepper()
    for _ in range(4):
        whole.step(trainer, batch)
    expected = policy.snapshot()
    policy.restore(begin)
    first = stepper()
    for _ in range(2):
        first.step(trainer, batch)
    second = stepper()
    second.load_state(first.state())
    for _ in range(2):
        second.step(trainer, batch)
    assert all(torch.equal(expected[k], v) for k, v in policy.snapshot().items())


@pytest.mark.parametrize("bad", [math.nan, math.inf, 60.0])
def test_an_unsound_step_is_not_taken(tiny: Tiny, bad: float) -> None:
    """Where the loss is no number, or above the limit, not one weight moves."""
    policy = policy_at(tiny, weights=1)
    before = policy.snapshot()

    class Trainer:
        def training_step(self, model: Any, _: object) -> torch.Tensor:
            for parameter in policy.parameters():
                parameter.grad = torch.ones_like(parameter)
            return torch.tensor(bad)

    stepper = Stepper(
        policy,
        optimizer="adamw",
        learning_rate=0.1,
        schedule=schedule("constant", 0, 1),
        max_grad_norm=1.0,
        seed=0,
    )
    assert not stepper.step(Trainer(), {}, explode=50.0).sound
    assert all(torch.equal(before[k], v) for k, v in policy.snapshot().items())


@pytest.mark.parametrize(
    ("shape", "warmup", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1]),
        ("constant", 0.5, [0.5, 1, 1, 1]),
        ("constant", 0.25, [1, 1, 1, 1]),
        ("constant", 1, [0.25, 0.5, 0.75, 1]),
        ("linear", 0, [1, 0.75, 0.5, 0.25]),
        ("linear", 0.5, [0.5, 1, 1, 0.5]),
        ("cosine", 0, [1, 0.853553, 0.5, 0.146447]),
    ],
)
def test_schedule(shape: str, warmup: float, expected: list[float]) -> None:
    """The rate rises linearly over the warm-up, then holds or falls; it never starts at 0."""
    factor = schedule(shape, warmup, 4)
    assert [factor(step) for step in range(4)] == pytest.approx(expected, abs=1e-6)


def test_epochs() -> None:
    """Every row comes once an epoch, epochs differ, and a batch may reach into the next."""
    drawn = [i for step in range(15) for i in epoch_batches(5, 2, step, seed=1)]
    epochs = [drawn[i : i + 5] for i in range(0, 30, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_batch_larger_than_the_set() -> None:
    """With fewer rows than a batch has places, each row comes once."""
    assert sorted(epoch_batches(3, 8, 0, seed=1)) == [0, 1, 2]


# ---- a round ---------------------------------------------------------------------------------


def work_with_samples(tiny: Tiny, config: RunConfig) -> Work:
    """Return a work that has drawn one sample a demonstration and not updated yet."""
    work = Work(tiny_policy(tiny("llama3"), config), tiny_demos(), config)
    work.begin()
    work.pi_0 = work.policy.snapshot()
    samples = [replace(r, round=0, completion_ids=(97, 98, 99)) for r in work.demo_rows]
    work.progress.rows = score_under_reference(work, [*work.progress.rows, *samples])
    return work


def test_round_tells_of_its_steps(tiny: Tiny) -> None:
    """A round yields its K steps with losses, rewards and the count of each kind of pair."""
    work = work_with_samples(tiny, tiny_config("update.steps=3", "update.beta=0.1"))
    events = [e for e in update_round(work, 0) if isinstance(e, StepTaken)]
    assert [e.step for e in events] == [1, 2, 3]
    assert events[0].loss == pytest.approx(math.log(2), rel=1e-4)
    assert {e.metrics["pairs_online"] for e in events} == {4.0}
    assert events[-1].metrics["chosen_reward"] > events[-1].metrics["rejected_reward"]


def test_round_trains_without_dropout(tiny: Tiny) -> None:
    """Where policy equals reference a round starts from log 2, whatever the adapter's dropout."""
    work = work_with_samples(tiny, tiny_config("lora.dropout=0.5"))
    work.pi_0 = noise(work.pi_0, 0.3, seed=1)
    work.policy.restore(work.pi_0)
    work.progress.rows = score_under_reference(work, work.progress.rows)
    first = next(e for e in update_round(work, 0) if isinstance(e, StepTaken))
    assert first.loss == pytest.approx(math.log(2), rel=1e-4)


def test_only_copies_end_the_rounds(tiny: Tiny) -> None:
    """When every sample is a copy there is nothing to compare, and the rounds end, saying so."""
    work = work_with_samples(tiny, tiny_config())
    work.progress.rows = [
        replace(r, copy_of="demonstration") if r.round == 0 else r for r in work.progress.rows
    ]
    assert list(update_round(work, 0)) == []
    assert "copy" in work.progress.stopped_early


def test_pair_batch() -> None:
    """A batch puts winners first, pads right, masks prompts, and numbers the different rows."""
    rows = [replace(r, reference_log_prob=-float(i)) for i, r in enumerate(ROWS)]
    batch = pair_batch(rows, [Comparison(1, 4, "online"), Comparison(1, 2, "online")], 0)
    assert batch["input_ids"].tolist() == [
        [5, 70, 93, 94, 0],
        [5, 70, 93, 94, 0],
        [5, 70, 97, 93, 98],
        [5, 60, 61, 62, 94],
    ]
    assert batch["completion_mask"].tolist() == [
        [0, 0, 1, 1, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 1, 1, 1],
        [0, 0, 0, 0, 1],
    ]
    assert batch["rows"].tolist() == [0, 0, 1, 2]
    assert batch["ref_chosen_logps"].tolist() == [-1.0, -1.0]
    assert batch["ref_rejected_logps"].tolist() == [-4.0, -2.0]
