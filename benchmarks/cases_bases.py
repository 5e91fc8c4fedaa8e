"""The rows of benchmarks/cases.py that are about base models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from case_runs import Case, Outcome, command, train
from safetensors import safe_open

from ditto_hub.engine.base_model import load_format
from ditto_hub.errors import DittoError

Look = Callable[[Path, Path], tuple[str, bool]]
TALK = "openai/list-content.jsonl"
ASK = [{"role": "user", "content": "Ask the shop if the blue kettle is back."}]


def cut(outcome: Outcome) -> str:
    """Return how a command ended, short enough for a table."""
    words = outcome.text
    return f"exit {outcome.code}: " + (words if len(words) < 110 else f"... {words[-105:]}")


def trained(base: Path, work: Path, *more: object) -> Outcome:
    """Train on a base model of the cases."""
    return train(base, base.parents[1] / TALK, work / "run", *more)


def trains_or_says(name: str) -> Look:
    """Look whether training ends well, or is refused before there is a run."""

    def look(cases: Path, work: Path) -> tuple[str, bool]:
        base = cases / "bases" / name
        estimate = command("estimate", cases / TALK, "--base-model", base)
        found = trained(base, work)
        early = found.code == 1 and not (work / "run").exists()
        return cut(found), estimate.in_words and (found.code == 0 or early)

    return look


def refused(name: str, *words: str, demos: str = TALK) -> Look:
    """Look whether `check` and `train` refuse with these words and make no run."""

    def look(cases: Path, work: Path) -> tuple[str, bool]:
        base = cases / "bases" / name
        found = train(base, cases / demos, work / "run")
        checked = command("check", cases / demos, "--base-model", base)
        right = found.refuses(*words) and checked.refuses(*words)
        return cut(found), right and not (work / "run").exists()

    return look


def finishes(cases: Path, work: Path, name: str) -> tuple[str, bool]:
    """Look whether a run on a folder of this name is whole: card, comparison, `evaluate`."""
    base = cases / "bases" / "模型"
    if name != base.name:
        base = shutil.copytree(base, work / name)
    found = train(base, cases / TALK, work / "run", "--compare")
    again = command("evaluate", work / "run", "--methods", "zero-shot,ditto", "--samples", "1")
    card = (work / "run/adapter/README.md").is_file()
    compared = any((work / "run/evaluation").glob("*.json"))
    right = found.code == again.code == 0 and card and compared
    return f"{cut(found)}; card {card}, comparison {compared}, evaluate {again.code}", right


def round_trip(cases: Path, work: Path) -> tuple[str, bool]:
    """Look whether a completion comes back without its end of turn."""
    form, text = load_format(str(cases / "bases/chatml-plain-text"), ""), "Hello there! Warmly, Kim"
    back = form.decode(form.encode(ASK, text).completion_ids)
    found = trained(cases / "bases/chatml-plain-text", work)
    return f"{back!r}, train {found.code}", back == text and found.code == 0


def header_in_prompt(cases: Path, work: Path) -> tuple[str, bool]:
    """Look whether the role's header is read from the template and never sampled."""
    base = cases / "bases/no-generation-prompt"
    prompt = load_format(str(base), "").text(ASK)
    found = trained(base, work)
    texts = [
        json.loads(line)["text"]
        for path in (work / "run/rollouts").glob("*.jsonl")
        for line in path.read_text("utf-8").splitlines()
    ]
    clean = bool(texts) and not any(text.startswith("assistant") for text in texts)
    right = found.code == 0 and prompt.endswith("<|im_start|>assistant\n") and clean
    return f"prompt ends {prompt[-22:]!r}, train {found.code}", right


def words_arrive(cases: Path, work: Path) -> tuple[str, bool]:
    """Look whether a template of parts gets the user's words, or is refused."""
    base = cases / "bases/parts-only"
    found = trained(base, work)
    try:
        inside = ASK[0]["content"] in load_format(str(base), "").text(ASK)
    except DittoError:
        inside = False
    right = inside if found.code == 0 else found.refuses("template")
    return f"words in the prompt {inside}, train {found.code}", right


def no_tower(cases: Path, work: Path) -> tuple[str, bool]:
    """Look whether the adapter's tensors are the language model's only."""
    found = trained(cases / "bases/gemma3-vlm", work, "--set", "lora.targets=all-linear")
    path = work / "run/adapter/adapter_model.safetensors"
    if not path.is_file():
        return cut(found), False
    with safe_open(path, "pt") as file:
        names = list(file.keys())
    outside = [n for n in names if "vision" in n or "projector" in n]
    return f"{len(names)} tensors, {len(outside)} outside the language model", not outside


def no_traceback(cases: Path, work: Path) -> tuple[str, bool]:
    """Look what a base of 64 tokens says of long demonstrations."""
    base, demos = cases / "bases/gpt2-32", cases / "long/long.jsonl"
    checked = command("check", demos, "--base-model", base)
    found = train(base, demos, work / "run")
    right = "over-long" in checked.text and checked.in_words and found.refuses("64")
    return cut(found), right


CASES = (
    *(Case(f"bases/{name}", "trains, or is refused before", trains_or_says(name))
      for name in ("qwen3_moe", "gpt_oss", "mixtral", "granitemoe", "lfm2", "qwen3_5",
                   "qwen3_next", "pad-not-resized")),
    Case("bases/模型", "whole run", lambda cases, work: finishes(cases, work, "模型")),
    Case("a folder of 100 letters", "whole run",
         lambda cases, work: finishes(cases, work, "m" * 100)),
    Case("bases/added-not-resized", "refused", refused("added-not-resized", "ids")),
    Case("bases/full-with-adapter", "refused",
         refused("full-with-adapter", "holds a model and an adapter")),
    Case("bases/config-vocab-mismatch", "refused",
         refused("config-vocab-mismatch", "config.json")),
    Case("bases/chatml-plain-text", "comes back", round_trip),
    Case("bases/no-generation-prompt", "header in the prompt", header_in_prompt),
    Case("bases/parts-only", "words in the prompt", words_arrive),
    Case("bases/gpt2-32", "over-long", no_traceback),
    Case("bases/spm-only", "names sentencepiece",
         refused("spm-only", "sentencepiece", "protobuf")),
    Case("bases/gemma3-vlm", "no tensor on the tower", no_tower),
    Case("bases/lfs-pointer", "refused", refused("lfs-pointer", "Git LFS pointer", "git lfs pull")),
)  # fmt: skip
