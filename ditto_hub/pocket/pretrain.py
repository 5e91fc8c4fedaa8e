"""Pre-train the embedded base model: `python -m ditto_hub.pocket.pretrain --output DIR`.

Tokenizer, weights, chat template and card, from nothing but the grammar and a seed, in at most
fifteen minutes on two cores. Nothing of the judge is imported here; `measure` has the numbers.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ditto_hub.pocket.corpus import Conversation, conversations
from ditto_hub.pocket.grammar import grammar_hash

logger = logging.getLogger(__name__)

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
IGNORED = -100  # label of a token that is not trained


@dataclass(frozen=True)
class Pretraining:
    """Everything that decides the weights.

    Args:
        steps: optimiser steps.
        tokens_per_step: of a padded batch, at most.
        learning_rate: AdamW's, of embeddings and norms, before its schedule.
        matrix_learning_rate: Muon's, of the matrices inside the layers, on the same schedule.
        warm_up: steps in which the rates rise in a line; then they stay.
        decay: share of the steps, the last ones, in which the rates fall in a line to nothing.
        matrix_weight_decay: of the matrices inside the layers.
        seed: of texts, tokenizer, weights and batches.
        vocabulary: tokens, the three special ones among them.
        threads: of torch; the sums, so the last bits, depend on it.
    """

    steps: int = 1500
    tokens_per_step: int = 3072
    learning_rate: float = 3e-3
    matrix_learning_rate: float = 2e-2
    warm_up: int = 40
    decay: float = 0.5
    matrix_weight_decay: float = 0.1
    seed: int = 7
    vocabulary: int = 1024
    threads: int = 2


@dataclass(frozen=True)
class Example:
    """A conversation as token ids, and which of them are trained."""

    ids: list[int]
    trained: list[bool]


def train_tokenizer(texts: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer, with special tokens and the chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START],
        chat_template=CHAT_TEMPLATE,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Make the untrained model, about two million parameters."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=192,
            intermediate_size=384,
            num_hidden_layers=5,
            num_attention_heads=6,
            num_key_value_heads=6,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def encode(conversation: Conversation, tokenizer: PreTrainedTokenizerFast) -> Example:
    """Tokenise a conversation as the chat template renders it; completions are trained."""
    ids: list[int] = []
    trained: list[bool] = []
    for message in conversation:
        spoken = message["role"] == "assistant"
        pieces = (
            (f"{START}{message['role']}\n", False),
            (f"{message['content']}{END}", spoken),
            ("\n", False),
        )
        for text, train in pieces:
            tokens = tokenizer.encode(text, add_special_tokens=False)
            ids += tokens
            trained += [train] * len(tokens)
    return Example(ids, trained)


def batches(examples: list[Example], budget: int, rng: random.Random) -> list[list[Example]]:
    """Group examples of similar length, so that little is padding, in random order.

    Args:
        examples: in any order.
        budget: tokens of a padded batch, at most (an example longer than that stands alone).
        rng: shuffles examples of one length, and the batches.
    """
    pool = sorted(rng.sample(examples, len(examples)), key=lambda e: len(e.ids))
    grouped: list[list[Example]] = [[]]
    for example in pool:
        if grouped[-1] and (len(grouped[-1]) + 1) * len(example.ids) > budget:
            grouped.append([])
        grouped[-1].append(example)
    rng.shuffle(grouped)
    return grouped


def collate(batch: list[Example], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad on the right; under a causal mask the padding needs no mask of its own.

    Returns:
        Token ids and labels, both (B, T).
    """
    length = max(len(e.ids) for e in batch)
    ids = torch.full((len(batch), length), pad)
    labels = torch.full((len(batch), length), IGNORED)
    for row, example in enumerate(batch):
        tokens = torch.tensor(example.ids)
        ids[row, : len(tokens)] = tokens
        labels[row, : len(tokens)] = tokens.where(torch.tensor(example.trained), IGNORED)
    return ids, labels


def schedule(settings: Pretraining) -> Iterator[float]:
    """Give each step's share of the learning rates: up, level, down to nothing."""
    falling = settings.steps * settings.decay
    for step in range(settings.steps):
        yield min((step + 1) / settings.warm_up, (settings.steps - step) / falling, 1.0)


class Muon:
    """Momentum whose updates are made orthogonal, for matrices; about twice as fast as AdamW here.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/ (here in float32).

    Args:
        matrices: parameters of two dimensions.
        learning_rate: before the schedule.
        weight_decay: decoupled, times the learning rate.
    """

    def __init__(
        self, matrices: list[torch.nn.Parameter], learning_rate: float, weight_decay: float
    ) -> None:
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.momenta = [(p, torch.zeros_like(p)) for p in matrices]

    @torch.no_grad()
    def step(self, share: float) -> None:
        """Update the matrices from their gradients at a share of the learning rate."""
        rate = self.learning_rate * share
        for parameter, momentum in self.momenta:
            assert parameter.grad is not None
            momentum.mul_(0.95).add_(parameter.grad)
            update = orthogonal(parameter.grad.add(momentum, alpha=0.95))
            wide = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
            parameter.mul_(1 - rate * self.weight_decay).add_(update, alpha=-rate * wide)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Bring all singular values of a matrix near 1, by five Newton-Schulz iterations."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    x: torch.Tensor = matrix / (matrix.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x


def completion_loss(
    model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Give the mean cross-entropy of the trained tokens; no logits are computed for the others.

    Args:
        model: in training.
        ids: (B, T).
        labels: (B, T), `IGNORED` where a token is not trained.
    """
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state  # (B, T, D)
    targets = labels[:, 1:]
    counted = targets != IGNORED
    logits = model.lm_head(hidden[:, :-1][counted])  # (tokens trained, V)
    loss: torch.Tensor = torch.nn.functional.cross_entropy(logits, targets[counted])
    return loss


def train(
    model: LlamaForCausalLM, plan: list[list[Example]], settings: Pretraining, pad: int
) -> None:
    """Run the optimiser over the planned batches, one a step."""
    layers = [p for p in model.model.layers.parameters() if p.ndim > 1]
    inside = {id(p) for p in layers}
    muon = Muon(layers, settings.matrix_learning_rate, settings.matrix_weight_decay)
    adam = torch.optim.AdamW(
        [p for p in model.parameters() if id(p) not in inside], weight_decay=0.0, betas=(0.9, 0.98)
    )
    model.train()
    started, seen = time.monotonic(), 0
    for step, (batch, share) in enumerate(zip(plan, schedule(settings), strict=True)):
        ids, labels = collate(batch, pad)
        loss = completion_loss(model, ids, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.param_groups[0]["lr"] = settings.learning_rate * share
        adam.step()
        muon.step(share)
        model.zero_grad(set_to_none=True)
        seen += ids.numel()
        if step % 20 == 0 or step == settings.steps - 1:
            spent = time.monotonic() - started
            logger.info("step %d loss %.3f tokens %d seconds %.0f", step, loss.item(), seen, spent)


def plan_batches(tokenizer: PreTrainedTokenizerFast, settings: Pretraining) -> list[list[Example]]:
    """Draw fresh conversations until there is a batch for every step; none is seen twice."""
    rng = random.Random(f"batches {settings.seed}")
    plan: list[list[Example]] = []
    part = 1
    while len(plan) < settings.steps:
        drawn = conversations(2000, settings.seed + 1000 * part)
        examples = [encode(c, tokenizer) for c in drawn]
        plan += batches(examples, settings.tokens_per_step, rng)
        part += 1
    return plan[: settings.steps]


def pretrain(output: Path, settings: Pretraining) -> None:
    """Build the embedded base model's folder from nothing.

    Args:
        output: the folder; made if it is not there.
        settings: decide every byte, on one machine and with one version of torch.
    """
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    sample = conversations(3000, settings.seed)
    texts = [f"{START}{m['role']}\n{m['content']}" for c in sample for m in c]
    tokenizer = train_tokenizer(texts, settings.vocabulary)
    model = build_model(tokenizer)
    plan = plan_batches(tokenizer, settings)
    logger.info("%d parameters, %d batches", model.num_parameters(), len(plan))
    train(model, plan, settings, tokenizer.pad_token_id)
    save(model, tokenizer, output)
    write_card(output, settings, model.num_parameters())


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, output: Path) -> None:
    """Write weights, configuration and tokenizer; no sampling setting among them."""
    model.eval()
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    text = json.dumps(ends, indent=2) + "\n"
    (output / "generation_config.json").write_text(text, encoding="utf-8")


def write_card(output: Path, settings: Pretraining, parameters: int) -> None:
    """Write the model's card, as far as it is known without measuring."""
    card = CARD.format(
        parameters=f"{parameters:,}",
        settings=", ".join(f"{k} {v}" for k, v in asdict(settings).items()),
        hash=grammar_hash(),
    )
    (output / "README.md").write_text(card, encoding="utf-8")


CARD = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
language: en
---
# pocket

The embedded base model of DITTO Hub: a causal language model of {parameters} parameters (Llama
architecture, float32) that writes short emails and notes to a group. It is there so that the whole
product runs, and is tested, in a minute without a GPU or a network. It knows nothing else, and
must not be used for anything else.

Pre-trained from random weights on conversations drawn from a grammar; no text by people, no
personal data. Most of the text is in bland house styles, the rest by personas composed at random
from 22 traits, so that it can take up a voice which it is shown, and shows none by itself.

- Built by `python -m ditto_hub.pocket.pretrain`: {settings}.
- Grammar: `{hash}` (SHA-256 of the sources of grammar and judge).
"""


def main() -> None:
    """Read the command line and pre-train."""
    parser = argparse.ArgumentParser(description="Pre-train the embedded base model.")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=Pretraining.steps, help="optimiser steps")
    parser.add_argument("--seed", type=int, default=Pretraining.seed, help="of everything")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    pretrain(given.output, Pretraining(steps=given.steps, seed=given.seed))


if __name__ == "__main__":
    main()
