"""DITTO's trained rivals: SPIN, and DPO on pairs that a judge has labelled.

They reuse DITTO's own stages (sampling, the update, the optimiser), so that what differs between
two rows of a table is the method: base, demonstrations and adapter's shape are the same, and so is
the number of preference steps.

    spin      starts from pi_0; each round the previous iterate writes the losers and is the
              reference, and the demonstrations win (Chen et al., arXiv 2401.01335, algorithm 1)
    dpo-base  starts from the base model; pairs of its own samples for the demonstrations' prompts
    dpo-sft   likewise from pi_0 (paper, section 5.3 and figure 3)

The judge that labels comes from the caller as a function; nothing here knows one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

from ditto_hub.config import RunConfig
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.ditto.loop import stage
from ditto_hub.ditto.losses import METRICS, PreferenceLoss
from ditto_hub.ditto.ranking import Comparison, draw
from ditto_hub.ditto.rollout import Rollout, row_seed
from ditto_hub.ditto.sampling import length_cap, sample_round
from ditto_hub.ditto.state import Artifact, Checkpoint, Work
from ditto_hub.ditto.update import explosion, preference_stepper, update_round
from ditto_hub.ditto.warm_start import score_under_reference
from ditto_hub.engine.protocol import Engine, Tensors
from ditto_hub.errors import ConfigError, RunError
from ditto_hub.events import BatchSampled, Event, StepTaken
from ditto_hub.words import Message, Text

RIVALS = ("spin", "dpo-base", "dpo-sft")
DRAWS_A_PAIR = 4  # pairs drawn for each that is wanted, at most; those the judge ties are dropped

Label = Callable[[Sequence[Mapping[str, str]], str, str], str]
"""(prompt, first text, second text) -> "a", "b", or anything else where neither is preferred."""
Steps = Generator[Event | Checkpoint | Artifact, None, Text]


def rival_config(name: str, config: RunConfig) -> RunConfig:
    """Return a run's settings with what makes a rival: its comparisons, its reference, no NLL term.

    The rate goes down by the share that the preference loss has in DITTO's own, 1 / (1 + weight of
    its NLL term): a rate that was chosen with such a term beside it is too high without. A step of
    labelled DPO holds half as many pairs as DITTO's: all its rows differ, where DITTO's winners are
    a handful of demonstrations, so the two cost about the same.

    Raises:
        ConfigError: there is no such rival.
    """
    if name not in RIVALS:
        raise ConfigError("ditto.no_rival", name=name, rivals=", ".join(RIVALS))
    update = config.update
    changes: dict[str, object] = {"sft_weight": 0.0}
    changes["learning_rate"] = update.learning_rate / (1 + update.sft_weight)
    if name == "spin":
        changes |= {"reference": "every-round", "resample": "every-round", "online": 1.0}
        changes |= {"replay": 0.0, "intermodel": 0.0, "edit": 0.0}
    else:
        changes |= {"rounds": 1, "steps": update.rounds * update.steps, "reference": "warm-start"}
        changes |= {"pairs": max(1, update.pairs // 2)}
    for field, value in changes.items():
        config = config.with_value(f"update.{field}", value)
    return config


def begin(policy: Engine, demos: DemoSet, config: RunConfig, start: Tensors) -> Work:
    """Return the state in which a rival starts: an adapter that is policy and reference at once.

    Args:
        start: pi_0's tensors, or a fresh adapter's for the base model.
    """
    work = Work(policy, demos, config)
    work.begin()
    policy.restore(start)
    work.pi_0 = policy.snapshot()
    work.progress.rows = score_under_reference(work, work.progress.rows)
    return work


def rival(
    work: Work, name: str, label: Label | None = None, pairs: int = 0
) -> Iterator[Event | Checkpoint]:
    """Train a rival; its adapter is the policy's afterwards.

    Args:
        work: from `begin`, with `rival_config`'s settings, or one loaded from a checkpoint.
        name: one of `RIVALS`.
        label: says which of two samples is better; for labelled DPO.
        pairs: of samples that it labels.

    Yields:
        Events and checkpoints, as the loop does. The run's own rollouts are not touched.

    Raises:
        ConfigError: labelled DPO without a judge or pairs.
        RunError: the judge preferred neither text of any pair.
    """
    if name == "spin":
        body = _spin(work)
    elif label is None or pairs < 1:
        raise ConfigError("ditto.rival_needs_judge", name=name)
    else:
        body = _labelled_dpo(work, label, pairs)
    for item in body:
        if not isinstance(item, Artifact):
            yield item


def _spin(work: Work) -> Iterator[Event | Checkpoint | Artifact]:
    for t in range(work.config.update.rounds):
        yield from stage(work, "sampling", t, sample_round(work, t))
        yield from stage(work, "update", t, update_round(work, t))
    if work.progress.stopped_early:
        work.policy.restore(work.round_start)
    work.scale()


def _labelled_dpo(work: Work, label: Label, pairs: int) -> Iterator[Event | Checkpoint | Artifact]:
    yield from stage(work, "sampling", 0, label_pairs(work, label, pairs))
    yield from stage(work, "update", 0, train_on_pairs(work))


def label_pairs(work: Work, label: Label, wanted: int) -> Steps:
    """Draw pairs of samples for the demonstrations' prompts until `wanted` of them are labelled.

    Pair k depends on the seed and k alone, so fewer pairs are always the first of more. The rows
    are put behind the demonstrations': winner, loser, winner, loser, ...

    Returns:
        A reason where ties left fewer pairs than wanted.

    Raises:
        RunError: the judge preferred neither text of any pair.
    """
    demos, size = len(work.train), max(1, work.config.sampling.batch_rows // 2)
    found: list[Rollout] = []
    drawn = 0
    while len(found) < 2 * wanted and drawn < DRAWS_A_PAIR * wanted:
        count = min(size, wanted - len(found) // 2, DRAWS_A_PAIR * wanted - drawn)
        rows = _draw_pairs(work, range(drawn, drawn + count))
        for k, (a, b) in enumerate(zip(rows[::2], rows[1::2], strict=True), drawn):
            verdict = label(work.train[k % demos].prompt, a.text, b.text)
            if verdict in ("a", "b"):
                found += [a, b] if verdict == "a" else [b, a]
        drawn += count
        yield BatchSampled(
            rows=len(found),
            total_rows=2 * wanted,
            tokens=sum(len(r.completion_ids) for r in rows),
        )
    if not found:
        raise RunError("ditto.judge_tied_all", drawn=drawn)
    work.progress.rows = [*work.progress.rows, *score_under_reference(work, found)]
    short = wanted - len(found) // 2
    return Message("ditto.pairs_missing", missing=short, wanted=wanted) if short else ""


def labelled(work: Work) -> list[Comparison]:
    """Return the labelled pairs among a work's rows, in the order they were drawn."""
    first = len([r for r in work.progress.rows if r.round < 0])
    return [
        Comparison(winner, winner + 1, "online")
        for winner in range(first, len(work.progress.rows), 2)
    ]


def train_on_pairs(work: Work) -> Steps:
    """Take the preference steps on the labelled pairs, drawn without replacement while they last.

    Returns:
        Why it stopped before its last step, or nothing.
    """
    progress, update = work.progress, work.config.update
    stepper = work.take_stepper(lambda: preference_stepper(work, "labelled"))
    pool = {"online": labelled(work)}
    while progress.step < update.steps:
        rng = random.Random(row_seed(work.config.seed, "labelled", progress.step))
        pairs = draw(pool, {"online": update.pairs}, rng)
        loss = PreferenceLoss(progress.rows, pairs, update)
        result = stepper.step(loss.rows, loss, explode=explosion(update))
        if not result.sound:
            progress.stopped_early = Message(
                "ditto.step_loss", step=progress.step + 1, loss=f"{result.loss:g}"
            )
            break
        progress.step += 1
        yield StepTaken(
            step=progress.step,
            total_steps=update.steps,
            loss=result.loss,
            learning_rate=result.learning_rate,
            grad_norm=result.grad_norm,
            metrics=dict(zip(METRICS, result.metrics, strict=True)),
        )
        yield work.checkpoint()
    if progress.step:  # where no step was sound it is still the adapter it began with
        work.scale()
    return progress.stopped_early


def _draw_pairs(work: Work, numbers: Sequence[int]) -> list[Rollout]:
    """Draw two samples a number, prompts in turn; rows in the order of the numbers."""
    demos, policy, seed = work.demo_rows, work.policy, work.config.seed
    mine: dict[int, list[tuple[int, int]]] = {}
    for k in numbers:
        mine.setdefault(k % len(demos), []).extend((k, side) for side in (0, 1))
    drawn = policy.sample(
        [demos[d].prompt_ids for d in mine],
        [[row_seed(seed, "pair", k, side) for k, side in keys] for keys in mine.values()],
        work.config.sampling,
        length_cap(work),
    )
    rows = {
        key: Rollout(
            demo=d,
            round=0,
            prompt_ids=demos[d].prompt_ids,
            completion_ids=row.token_ids,
            text=policy.format.decode(row.token_ids),
            ended=row.ended,
            policy_log_prob=row.log_prob,
        )
        for (d, keys), texts in zip(mine.items(), drawn, strict=True)
        for key, row in zip(keys, texts, strict=True)
    }
    return [rows[k, side] for k in numbers for side in (0, 1)]
