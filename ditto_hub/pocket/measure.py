"""Measure the embedded base model: `python -m ditto_hub.pocket.measure --model DIR`.

Two questions, at temperature 1 on held-out prompts. Does it write what the prompt asks for? And is
a voice latent: hardly there unprompted, there with five demonstrations in the prompt? The second is
asked of personas from the tuning range, so that those for reporting stay unseen.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ditto_hub.pocket import path
from ditto_hub.pocket.grammar import grammar_hash, requests
from ditto_hub.pocket.judge import GrammarJudge, Verdict
from ditto_hub.pocket.persona import TUNING_SEEDS, Persona, demonstrations

Messages = list[dict[str, str]]
MAX_NEW_TOKENS = 200


class Writer:
    """The model and its tokenizer, for sampling replies to conversations.

    Args:
        folder: of the model.
        batch_size: conversations sampled at once.
    """

    def __init__(self, folder: Path, batch_size: int = 50) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(
            folder, padding_side="left", trust_remote_code=False, token=False
        )
        self.model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            trust_remote_code=False,
            use_safetensors=True,
            token=False,
        ).eval()
        self.batch_size = batch_size

    def write(self, chats: list[Messages], seed: int) -> list[str]:
        """Sample one reply to each conversation at temperature 1."""
        torch.manual_seed(seed)
        starts = range(0, len(chats), self.batch_size)
        return [t for i in starts for t in self._sample(chats[i : i + self.batch_size])]

    def _sample(self, chats: list[Messages]) -> list[str]:
        rows = self.tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            tokens = self.model.generate(
                **rows, do_sample=True, top_k=0, top_p=1.0, max_new_tokens=MAX_NEW_TOKENS
            )
        replies = tokens[:, rows["input_ids"].shape[1] :]
        texts: list[str] = self.tokenizer.batch_decode(replies, skip_special_tokens=True)
        return texts


def ask(prompt: str, shown: Iterable[tuple[str, str]] = ()) -> Messages:
    """Put a prompt after demonstrations, as turns of one conversation."""
    messages: Messages = []
    for question, answer in shown:
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": answer})
    return [*messages, {"role": "user", "content": prompt}]


def measure(
    writer: Writer, n_prompts: int = 400, n_personas: int = 12, shown: int = 5
) -> dict[str, Any]:
    """Measure content on unseen prompts, and the persona scores without and with demonstrations.

    Args:
        writer: the model.
        n_prompts: held-out prompts for the content, and in all for the persona scores.
        n_personas: of the tuning range.
        shown: demonstrations in the few-shot prompt.
    """
    drawn = requests("measure content", n_prompts, held_out=True)
    texts = writer.write([ask(r.prompt) for r in drawn], seed=1)
    anyone = GrammarJudge(Persona.from_seed(TUNING_SEEDS[0]))
    found = [anyone.score(r, t) for r, t in zip(drawn, texts, strict=True)]
    result: dict[str, Any] = {"prompts": n_prompts, "content, zero-shot": _content(found)}
    zero: list[Verdict] = []
    few: list[Verdict] = []
    for seed in TUNING_SEEDS[:n_personas]:
        judge = GrammarJudge(Persona.from_seed(seed))
        demos = demonstrations(seed, shown, "measure")
        prompts = requests(
            f"measure {seed}",
            n_prompts // n_personas,
            held_out=True,
            exclude=[prompt for prompt, _ in demos],
        )
        for demos_in, verdicts in (([], zero), (demos, few)):
            texts = writer.write([ask(r.prompt, demos_in) for r in prompts], seed=seed)
            verdicts += [judge.score(r, t) for r, t in zip(prompts, texts, strict=True)]
    result |= {"personas": n_personas, "demonstrations": shown, "grammar": grammar_hash()}
    result["persona, zero-shot"] = _persona(zero)
    result["persona, few-shot"] = _persona(few)
    result["content, few-shot"] = _content(few)
    result["traits, few-shot"] = {t: _mean(v.traits[t] for v in few) for t in few[0].traits}
    return result


def _mean(values: Iterable[float]) -> float:
    listed = [float(v) for v in values]
    return round(sum(listed) / len(listed), 3)


def _content(verdicts: list[Verdict]) -> dict[str, float]:
    named = {key: _mean(v.content[key] for v in verdicts) for key in verdicts[0].content}
    three = ("topic", "audience", "time")
    return named | {
        "topic, audience, time": _mean(all(v.content[k] for k in three) for v in verdicts)
    }


def _persona(verdicts: list[Verdict]) -> dict[str, float]:
    return {
        "score": _mean(v.persona_score for v in verdicts),
        "all traits": _mean(all(v.traits.values()) for v in verdicts),
        "whole": _mean(v.whole for v in verdicts),
    }


def write_numbers(folder: Path, result: dict[str, Any]) -> None:
    """Put the numbers into the model's card, in place of older ones."""
    card = folder / "README.md"
    kept = card.read_text(encoding="utf-8").partition("## Measured")[0].rstrip()
    rows = [(k, v) for k, v in result.items() if isinstance(v, dict) and not k.startswith("traits")]
    lines = [f"| {k} | {n} | {value:.3f} |" for k, v in rows for n, value in v.items()]
    head = (
        f"At temperature 1, on {result['prompts']} held-out prompts, {result['personas']} held-out "
        f"personas (tuning range), {result['demonstrations']} demonstrations in the few-shot "
        "prompt.\n\n| | | share |\n|---|---|---|\n"
    )
    card.write_text(f"{kept}\n\n## Measured\n\n{head}" + "\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line, measure, and write the numbers as JSON to stdout."""
    parser = argparse.ArgumentParser(description="Measure the embedded base model.")
    parser.add_argument("--model", type=Path, default=path(), help="folder of the model")
    parser.add_argument("--prompts", type=int, default=400, help="held-out prompts")
    parser.add_argument("--personas", type=int, default=12, help="from the tuning range")
    parser.add_argument("--card", action="store_true", help="write the numbers into its card")
    given = parser.parse_args()
    result = measure(Writer(given.model), given.prompts, given.personas)
    if given.card:
        write_numbers(given.model, result)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
