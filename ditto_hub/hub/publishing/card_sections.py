"""The card's sections as plain rows and sentences; every number in them comes from the record."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ditto_hub.config import PRESETS, SECTIONS, RunConfig, dials, preset
from ditto_hub.evaluation import guidance
from ditto_hub.hub.publishing.card_subject import CardSubject, DemoFacts
from ditto_hub.runs.record import RunRecord
from ditto_hub.runs.results import OTHERS, Evaluation, Score
from ditto_hub.words import told

BASELINES = ("zero-shot", "few-shot", "sft")
RIVALS = {
    "spin": "SPIN",
    "dpo-base": "DPO on labelled pairs of the base model's samples",
    "dpo-sft": "DPO on labelled pairs of the warm start's samples",
}
# The oldest (peft, transformers) under which an adapter in this form was loaded from a Hub and gave
# the same logits: in all, and with transformers 5. peft 0.14 to 0.17 with huggingface_hub 2 did not
# load any (2026-11). tests/test_publish.py repeats it where such an environment is named.
OLDEST_LOADED = (("0.12.0", "4.46.3"), ("0.18.0", "5.23.0"))
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)

SCORES: dict[str, str] = {
    "held_out_loss": "held-out loss (nats a token)",
    "demonstration_loss": "loss on demonstrations (nats a token)",
    "held_out_style": "style distance on held-out prompts",
    "style_distance": "style distance",
    "length_ratio": "length ratio",
    "distinct_2": "distinct-2 ratio",
    "unfinished": "without an end",
    "kl": "KL to the reference (nats)",
    "margin": "reward margin",
    "ordered": "order of eq. 2",
}


@dataclass(frozen=True)
class Table:
    """Hold a table's head and rows; cells are text, numbers or None."""

    head: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Results:
    """Hold what one judge found, ready to print.

    Args:
        judge: its name.
        words: sentences on prompts, samples and what to keep in mind.
        scores: a method's mean mark with interval and n, or None where it gives none.
        wins: the published method against each other one, or None where not judged so.
        missing: baselines that were not evaluated.
        pictures: files of its plots.
    """

    judge: str
    words: tuple[str, ...]
    scores: Table | None
    wins: Table | None
    missing: tuple[str, ...]
    pictures: tuple[str, ...] = ()


def describe_candidate(candidate: str, distilled: bool = False) -> str:
    """Say in words what an adapter is.

    Args:
        distilled: whether its warm start learnt from the prompted model.
    """
    kind = "distilled" if distilled else "supervised"
    if candidate == "sft":
        return f"the {kind} warm start, before any preference update"
    if candidate == "sft-long":
        return f"the {kind} warm start continued, without preference updates"
    if candidate in RIVALS:
        return f"{RIVALS[candidate]}, trained to compare DITTO with"
    return f"the policy after round {candidate.removeprefix('round-')} of DITTO"


# ---- how to load it ----------------------------------------------------------------------------


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def adapter_code(subject: CardSubject) -> str:
    """Return the lines that load the adapter and generate; they run as they are."""
    sampling = subject.config.sampling
    reading = subject.config.reading.settled({})
    at = f", revision={_quoted(subject.base_revision)}" if subject.base_revision else ""
    thinking = "\n    enable_thinking=False," if subject.thinking else ""
    return f"""from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained({_quoted(subject.base_path)}{at})
model = PeftModel.from_pretrained(base, {_quoted(subject.repo_id)})
tokenizer = AutoTokenizer.from_pretrained({_quoted(subject.repo_id)})

inputs = tokenizer.apply_chat_template(
    [{{"role": "user", "content": "Write an email to the lab to cancel the potluck."}}],
    add_generation_prompt=True,{thinking}
    return_dict=True,
    return_tensors="pt",
)
output = model.generate(
    **inputs,
    do_sample=True,
    temperature={reading.temperature:g},
    top_p={reading.top_p:g},
    top_k={reading.top_k},
    max_new_tokens={sampling.max_new_tokens},
)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""


MERGE_CODE = """merged = model.merge_and_unload()
merged.save_pretrained("merged")
tokenizer.save_pretrained("merged")"""


def vllm_rank(rank: int) -> int:
    """Return the smallest rank that vLLM knows and that is large enough for an adapter's."""
    return next((known for known in VLLM_RANKS if known >= rank), rank)


def serve_code(subject: CardSubject) -> str:
    """Return the command that serves base and adapter with vLLM."""
    at = f" --revision {subject.base_revision}" if subject.base_revision else ""
    name = subject.repo_id.split("/")[-1]
    rank = vllm_rank(subject.rank)
    return (
        f"vllm serve {subject.base_path}{at} \\\n    --enable-lora --max-lora-rank {rank}"
        f" --lora-modules {name}={subject.repo_id}"
    )


# ---- how it was made ---------------------------------------------------------------------------


def demo_words(demos: DemoFacts) -> tuple[str, ...]:
    """Say number, lengths and origin of the demonstrations, and whose prompts they have."""
    count, lengths = len(demos.characters), demos.characters
    origins = ", ".join(f"{n} {name}" for name, n in sorted(demos.origins.items()))
    held = f"{demos.held_out} of them held out" if demos.held_out else "none of them held out"
    span = f"completions of {min(lengths):,} to {max(lengths):,} characters" if lengths else ""
    parts = (f"{count} in all", held, span, origins, prompt_words(demos))
    return tuple(part for part in parts if part)


def prompt_words(demos: DemoFacts) -> str:
    """Say how many prompts are not the author's own; nothing where all are."""
    count, by = len(demos.characters), demos.prompt_authors
    said = (
        ("model", "were written by the base model"),
        ("text", "were made of the text's first words"),
    )
    return "; ".join(
        f"prompts of {by[name]} of {count} demonstrations {how}" for name, how in said if name in by
    )


def candidates(record: RunRecord, published: str) -> Table | None:
    """Return every candidate with its scores, the published one marked; None without any."""
    scored = {n: c["scores"] for n, c in record.candidates.items() if c.get("scores")}
    names = [k for k in SCORES if any(k in s for s in scored.values())]
    if not names:
        return None
    rows = []
    for name, values in scored.items():
        marks = ["published"] * (name == published) + ["chosen"] * (name == record.chosen)
        note = told(record.candidates[name].get("degenerate", "")) or ", ".join(marks)
        cells = [float(values[k]) if values.get(k) is not None else None for k in names]
        rows.append((name, *cells, note or None))
    return Table(("candidate", *(SCORES[k] for k in names), ""), tuple(rows))


def order_words(record: RunRecord) -> str:
    """Say how far the implicit reward follows the order that eq. 2 asks for."""
    if not record.order:
        return ""
    share = float(record.order[-1]["ordered"])
    return (
        f"After the last candidate scored, {share:.0%} of the neighbours in the ranking (the"
        " demonstrations, the newest samples, and so on to the oldest) had implicit rewards in that"
        " order."
    )


def settings(config: RunConfig) -> Table:
    """Return every hyper-parameter with its meaning."""
    rows: list[tuple[Any, ...]] = [("preset", config.preset, "where the values come from")]
    rows.append(("seed", config.seed, "of the whole run"))
    for section in SECTIONS:
        part = getattr(config, section)
        for name, dial in dials(section).items():
            rows.append((f"{section}.{name}", getattr(part, name), dial.text))
    return Table(("setting", "value", "meaning"), tuple(rows))


def cost(record: RunRecord) -> Table | None:
    """Return hardware, seconds, and energy or money where the record knows them."""
    from ditto_hub.hub.publishing.bundle import public_hardware

    rows: list[tuple[Any, ...]] = [
        (key.replace("_", " "), value) for key, value in public_hardware(record.hardware).items()
    ]
    rows += [(f"seconds of {stage}", float(s)) for stage, s in record.stage_seconds.items()]
    if len(record.stage_seconds) > 1:
        rows.append(("seconds in all", float(sum(record.stage_seconds.values()))))
    if record.stage_seconds and record.estimate.get("total_seconds"):
        rows.append(("seconds estimated at the start", float(record.estimate["total_seconds"])))
    return Table(("what", "value"), tuple(rows)) if rows else None


def command(subject: CardSubject) -> str:
    """Return the command that repeats the run on the same demonstrations."""
    config = subject.config
    base = "pocket" if subject.pocket else subject.base_id
    if subject.record.base_model.get("source"):
        base = str(subject.record.base_model["id"])
    words = ["ditto-hub", "train", "DEMOS.jsonl", "--base-model", base]
    start = preset(config.preset, config.seed) if config.preset in PRESETS else RunConfig()
    if config.preset in PRESETS:
        words += ["--preset", config.preset]
    words += ["--seed", str(config.seed)]
    for section in SECTIONS:
        mine, theirs = getattr(config, section), getattr(start, section)
        for name in dials(section):
            value = getattr(mine, name)
            if value != getattr(theirs, name):
                words += ["--set", f"{section}.{name}={json.dumps(value)}"]
    return " ".join(shlex.quote(word) for word in words)


# ---- results -----------------------------------------------------------------------------------


def results(
    evaluation: Evaluation, candidate: str, pictures: tuple[str, ...] = ()
) -> Results | None:
    """Return an evaluation ready to print, or None where its numbers are no results."""
    if not evaluation.reportable:
        return None
    method = evaluation.method_of(candidate)
    unseen = sum(not prompt.seen for prompt in evaluation.prompts)
    source = {"user": "the user's own", "model-written": "written by the base model"}.get(
        evaluation.prompts_source, evaluation.prompts_source
    )
    samples = "one sample" if evaluation.samples == 1 else f"{evaluation.samples} samples"
    words = [
        f"{unseen} prompts ({source}), {samples} a prompt and method, {evaluation.date}.",
        *map(told, evaluation.notes),
        *map(told, guidance.prompting_ahead([evaluation], candidate)),
    ]
    missing = [m for m in (*BASELINES, method) if m not in evaluation.methods]
    scores = _scores(evaluation, method)
    wins = _wins(evaluation, method)
    return Results(evaluation.judge, tuple(words), scores, wins, tuple(missing), pictures)


def _interval(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _scores(evaluation: Evaluation, method: str) -> Table | None:
    marks = list(dict.fromkeys(s.mark for s in evaluation.scores))
    found: dict[tuple[str, str], Score] = {(s.method, s.mark): s for s in evaluation.scores}
    rows = [
        (name + (" (this adapter)" if name == method else ""), s.mark, f"{s.mean:.3f}",
         _interval(s.low, s.high), s.n, s.prompts)
        for name in evaluation.methods for mark in marks if (s := found.get((name, mark)))
    ]  # fmt: skip
    head = ("method", "mark", "mean", "95 % interval", "n", "prompts")
    return Table(head, tuple(rows)) if rows else None


def _wins(evaluation: Evaluation, method: str) -> Table | None:
    rows = [
        (w.against, f"{w.rate:.1%}", f"{w.low:.1%} to {w.high:.1%}",
         f"{w.wins} / {w.ties} / {w.losses}", w.n, w.prompts, "small sample" if w.small else None)
        for w in evaluation.win_rates if w.method == method
    ]  # fmt: skip
    rows.sort(key=lambda row: row[0] == OTHERS)
    head = ("against", "preferred", "95 % interval", "won / tied / lost", "n", "prompts", "")
    return Table(head, tuple(rows)) if rows else None


# ---- limits ------------------------------------------------------------------------------------


def limits(subject: CardSubject) -> tuple[str, ...]:
    """Return the caveats that are true of this run."""
    record, demos = subject.record, subject.demos
    count = len(demos.characters)
    said = [
        f"It was made from {count} demonstrations: it knows how its author sounded in those, and"
        " nothing else about them. Other kinds of text may come out less like them.",
        "It imitates how somebody writes. Use it only with that person's consent, and do not pass"
        " its output off as written by them.",
        "Text close to the demonstrations may come back, names and other details in it included;"
        " what it states as fact is invented.",
        forgetting(subject),
    ]
    if subject.pocket:
        said.append(
            "The base is a model of about two million parameters that writes short emails and notes"
            " and knows nothing else: a demonstration of the method, of no other use."
        )
    if source := record.base_model.get("source"):
        said.append(
            f"The base model's weights were {source}; with the Hub's own weights of"
            f" {subject.base_id} the adapter may write slightly differently."
        )
    if not demos.held_out:
        said.append(
            "No demonstration was held out, so selection had no text it was not trained on."
        )
    if subject.candidate.startswith("sft"):
        said.append(
            "Plain supervised fine-tuning scored best and was kept: no preference update is in it."
            if subject.candidate == record.chosen
            else "It has no preference update in it."
        )
    known = guidance.advice(count - demos.held_out, "pocket" if subject.pocket else subject.base_id)
    if subject.pocket:
        known = (*known[:1], *known[1:][-1:])
    return (*said, *map(told, known), *_ending(subject), *_kept_scores(subject))


def forgetting(subject: CardSubject) -> str:
    """Say what the adapter costs answers that have nothing to do with the demonstrations."""
    for found in subject.evaluations:
        marks = found.forgetting.get(found.method_of(subject.candidate), {})
        if math.isfinite(marks.get("divergence", math.nan)):
            return (
                "With the adapter on, the base model's own answers to prompts that have nothing to"
                " do with the demonstrations become less likely by"
                f" {marks['divergence']:.2f} nats a token. With the adapter off the base model is"
                " unchanged."
            )
    return (
        "Forgetting was not measured: with the adapter on, abilities that the demonstrations do not"
        " show may be weaker. With the adapter off the base model is unchanged."
    )


def _ending(subject: CardSubject) -> list[str]:
    record, said = subject.record, []
    if record.status != "finished":
        said.append(f"The run did not finish (it is {record.status}); this is what it had by then.")
    if record.stopped_early:
        said.append(f"The run ended early: {told(record.stopped_early)}.")
    if record.chosen and subject.candidate != record.chosen:
        said.append(f"The run's own choice was {record.chosen}; this one was picked by hand.")
    return said


def _kept_scores(subject: CardSubject) -> list[str]:
    entry: Mapping[str, Any] = subject.record.candidates.get(subject.candidate) or {}
    scores: Mapping[str, float] = entry.get("scores") or {}
    said = []
    if entry.get("degenerate"):
        said.append(f"This candidate was called degenerate: {told(entry['degenerate'])}.")
    if scores.get("unfinished", 0) > 0:
        said.append(f"{scores['unfinished']:.0%} of its samples reached the length cap unfinished.")
    ratio = scores.get("length_ratio", 1.0)
    if ratio > 1.25 or ratio < 0.8:
        said.append(f"Its samples were {ratio:.2f} times as long as the demonstrations.")
    return said


CITATIONS = """@article{shaikh2024ditto,
  title = {Show, Don't Tell: Aligning Language Models with Demonstrated Feedback},
  author = {Shaikh, Omar and Lam, Michelle S. and Hejna, Joey and Shao, Yijia and Cho, Hyundong
            and Bernstein, Michael S. and Yang, Diyi},
  journal = {arXiv preprint arXiv:2406.00888},
  year = {2024}
}
@inproceedings{rafailov2023dpo,
  title = {Direct Preference Optimization: Your Language Model is Secretly a Reward Model},
  author = {Rafailov, Rafael and Sharma, Archit and Mitchell, Eric and Ermon, Stefano
            and Manning, Christopher D. and Finn, Chelsea},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023}
}
@misc{trl,
  title = {TRL: Transformer Reinforcement Learning},
  author = {von Werra, Leandro and Belkada, Younes and Tunstall, Lewis and Beeching, Edward
            and Thrush, Tristan and Lambert, Nathan and Huang, Shengyi},
  howpublished = {https://github.com/huggingface/trl},
  year = {2020}
}
@misc{peft,
  title = {PEFT: State-of-the-art Parameter-Efficient Fine-Tuning Methods},
  author = {Mangrulkar, Sourab and Gugger, Sylvain and Debut, Lysandre and Belkada, Younes
            and Paul, Sayak and Bossan, Benjamin},
  howpublished = {https://github.com/huggingface/peft},
  year = {2022}
}"""
