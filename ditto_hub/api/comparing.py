"""A run beside its baselines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditto_hub.api.notices import NO_PICTURES, noticed, refresh_card
from ditto_hub.errors import ConfigError, JudgeError
from ditto_hub.runs.folder import Run
from ditto_hub.runs.storage import read_file, to_json_bytes
from ditto_hub.tokens import MACHINE, Token
from ditto_hub.validation import Count, Name
from ditto_hub.words import Message

if TYPE_CHECKING:
    from ditto_hub.evaluation.comparison import Progress as Comparing
    from ditto_hub.evaluation.judges import Judge, Question
    from ditto_hub.events import Event
    from ditto_hub.runs.results import Evaluation

CONTEXT = 4096  # tokens; where a base model's config does not say
LABELLED_PAIRS = 100


def evaluate(
    run: Run,
    *,
    methods: Sequence[str] = (),
    prompts: Sequence[Any] = (),
    judges: Sequence[str] = (),
    samples: int = 4,
    seed: int = 0,
    self_prompt: str = "",
    max_pairs: int = 0,
    price: tuple[float, float] | None = None,
    token: Token | str = MACHINE,
    ask: Callable[[Question], str] | None = None,
) -> tuple[Evaluation, ...]:
    """Compare a run with its baselines, save what comes out, and return it, an evaluation a judge.

    Args:
        run: with an adapter.
        methods: names, "rounds" for every round; default the baselines that are always shown.
        prompts: texts or conversations; default the shipped voice's, else new ones the model
            writes in the manner of the demonstrations'.
        judges: grammar[:TRAITS_FILE], stylometric, llm:MODEL[@URL], person; default the grammar
            where the run knows its traits and the prompts are of it, else stylometric.
        samples: answers a method gives to each prompt.
        self_prompt: the user's own instructions, for the method of that name.
        max_pairs: that a language model or a person is asked about; 0 for all, for a person 20.
        price: of a language model that judges, US dollars for a million tokens read and written;
            by default what the Hub's list says of its dearest provider.
        ask: shows a person a question.

    Raises:
        RunError, ConfigError, JudgeError: what was done before is saved.
    """
    from ditto_hub.runs.results import Evaluation

    latest: dict[str, Evaluation] = {}
    for item in stream_evaluate(
        run,
        methods=methods,
        prompts=prompts,
        judges=judges,
        samples=samples,
        seed=seed,
        self_prompt=self_prompt,
        max_pairs=max_pairs,
        price=price,
        token=token,
        ask=ask,
    ):
        if isinstance(item, Evaluation):
            latest[item.judge] = item
    return tuple(latest.values())


def stream_evaluate(
    run: Run,
    *,
    methods: Sequence[str] = (),
    prompts: Sequence[Any] = (),
    judges: Sequence[str] = (),
    samples: int = 4,
    seed: int = 0,
    self_prompt: str = "",
    max_pairs: int = 0,
    price: tuple[float, float] | None = None,
    token: Token | str = MACHINE,
    ask: Callable[[Question], str] | None = None,
) -> Iterator[Comparing | Evaluation]:
    """Do what `evaluate` does, yielding its progress and each evaluation as it is found.

    Args: as `evaluate`.

    Raises:
        RunError, ConfigError, JudgeError: what was done before is saved.
    """
    from ditto_hub.evaluation.comparison import Brief, compare_methods
    from ditto_hub.evaluation.methods import DEFAULT_METHODS
    from ditto_hub.evaluation.prompts import prepare_prompts
    from ditto_hub.runs import results

    run.require_writable()
    wanted = judges or (default_judge(run, prompts),)
    bench = [make_judge(name, run, token=token, ask=ask, seed=seed, price=price) for name in wanted]
    studio = open_studio(run, self_prompt=self_prompt, token=token)
    source, texts = "user", list(prompts)
    if not texts:
        source, texts = own_prompts(run, studio, seed)
    brief = Brief(
        methods=with_rounds(run, methods or DEFAULT_METHODS),
        prompts=prepare_prompts(texts, run.demos()),
        prompts_source=source,
        samples=samples,
        seed=seed,
        max_pairs=max_pairs,
        settings=answer_settings(run, studio.ditto, self_prompt),
        notes=label_notes(run, methods),
        **probe_prompts(run),
    )
    earlier = results.load_all(run)
    try:
        for item in compare_methods(brief, studio, bench, earlier):
            if isinstance(item, results.Evaluation):
                keep(run, item, earlier)
            yield item
    finally:  # a judge that failed takes nothing from what the others found
        if (run.folder / "adapter").is_dir():
            refresh_card(run)


def keep(run: Run, found: Evaluation, earlier: Sequence[Evaluation]) -> None:
    """Save an evaluation, with its pictures in place of earlier ones once it is whole."""
    from ditto_hub.evaluation.report import plots
    from ditto_hub.runs.results import pictures, save_progress

    save_progress(run, found, earlier)
    if found.complete:
        for path in pictures(run, found):
            path.unlink()
        with noticed(run, NO_PICTURES):
            for name, png in plots(found).items():
                run.write(f"evaluation/{name}", png)


def answer_settings(run: Run, ditto: str | None, self_prompt: str) -> dict[str, Any]:
    """Return what answers depend on beside prompts and seed; others are not taken over."""
    settings: dict[str, Any] = {"sampling": run.record.config["sampling"], "ditto": ditto}
    if "reading" in run.record.config:
        settings["reading"] = run.record.config["reading"]
    return {**settings, "self_prompt": self_prompt} if self_prompt else settings


def with_rounds(run: Run, methods: Sequence[str]) -> tuple[str, ...]:
    """Return names of methods with "rounds" spelt out as every round that the run has."""
    rounds = [name for name in run.candidates() if name.startswith("round-")]
    rounds.sort(key=lambda name: int(name.removeprefix("round-")))
    return tuple(m for name in methods for m in (rounds if name == "rounds" else [name]))


def train_rival(
    run: Run,
    name: str,
    *,
    judge: str = "",
    pairs: int = LABELLED_PAIRS,
    settings: Sequence[str] = (),
    token: Token | str,
) -> Iterator[Event]:
    """Train a rival of DITTO from a run's demonstrations, as a candidate that `evaluate` knows.

    An interrupted training goes on, from its last stage, when it is asked for again.

    Args:
        run: with its warm start behind it.
        name: spin, dpo-base or dpo-sft.
        judge: labels the pairs of dpo-base and dpo-sft; by default the one `evaluate` takes.
        pairs: of samples that it labels.
        settings: SECTION.FIELD=JSON texts that change the rival's training alone.

    Raises:
        ConfigError: there is no such rival, or a setting it does not take.
        RunError: the run has no warm start yet, or somebody else is working on it.
        JudgeError: the judge failed, or preferred neither text of any pair.
    """
    from ditto_hub.backends.local import open_policy
    from ditto_hub.ditto.rivals import begin, labelled, rival, rival_config
    from ditto_hub.ditto.state import Checkpoint, Work

    config = rival_config(name, run.config)
    for text in settings:
        config = config.with_setting(text)
    warm, state = run.candidate("sft"), run.folder / "rivals" / f"{name}.safetensors"
    bench = None if name == "spin" else make_judge(judge or default_judge(run), run, token=token)
    with run.lock():
        policy = open_policy(run, token=token)
        if state.is_file():
            work = Work(policy, run.demos(), config)
            work.load_bytes(state.read_bytes())
        else:
            if name != "dpo-base":
                policy.load_adapter(warm)
            work = begin(policy, run.demos(), config, policy.snapshot())
        for item in rival(work, name, bench and _labeller(bench), pairs):
            if not isinstance(item, Checkpoint):
                yield item
            elif item.boundary:
                run.write(f"rivals/{name}.safetensors", item.save())
        for file, data in policy.adapter_files().items():
            run.write(f"candidates/{name}/adapter/{file}", data)
        if bench is not None:
            told = Labels(bench.name, len(labelled(work)))
            run.write(_labels(name), to_json_bytes(asdict(told)))
        state.unlink(missing_ok=True)


@dataclass(frozen=True)
class Labels:
    """Hold who labelled the pairs that a rival was trained on, and how many there are."""

    judge: Name
    pairs: Count


def label_notes(run: Run, methods: Sequence[str]) -> tuple[Message, ...]:
    """Say who labelled the pairs that methods were trained on, and how many."""
    told = []
    for name in methods:
        if (run.folder / _labels(name)).is_file():
            found = read_file(Labels, run.folder / _labels(name))
            told.append(
                Message("evaluation.labelled", method=name, pairs=found.pairs, judge=found.judge)
            )
    return tuple(told)


def _labels(name: str) -> str:
    return f"candidates/{name}/labels.json"


def _labeller(bench: Judge) -> Callable[[Sequence[Mapping[str, str]], str, str], str]:
    """Return a judge as a function that labels a pair of samples in both orders."""
    from ditto_hub.evaluation.judges import judge_pair
    from ditto_hub.runs.results import Answer, EvaluationPrompt

    def label(prompt: Sequence[Mapping[str, str]], a: str, b: str) -> str:
        asked = EvaluationPrompt("labelled", tuple(prompt))
        texts = (Answer("a", asked.id, 0, a), Answer("b", asked.id, 0, b))
        return judge_pair(bench, asked, *texts).verdict or "tie"

    return label


def default_judge(run: Run, prompts: Sequence[Any] = ()) -> str:
    """Return the judge taken when none is named: the grammar's where it can judge, else style.

    Args:
        prompts: the user's own, which need not be of the grammar.
    """
    from ditto_hub.demos.demonstrations import as_messages
    from ditto_hub.pocket.grammar import parse_prompt

    if not traits_of(run):
        return "stylometric"
    try:
        for prompt in prompts:
            parse_prompt(as_messages(prompt)[-1]["content"])
    except JudgeError:
        return "stylometric"
    return "grammar"


def open_studio(run: Run, self_prompt: str = "", *, token: Token | str) -> Any:
    """Return a run's model at work, for `evaluate`."""
    from ditto_hub.backends.local import open_policy
    from ditto_hub.engine.base_model import recommended
    from ditto_hub.evaluation.writers import PolicyStudio

    policy = open_policy(run, token=token)
    sampling = run.config.sampling
    longest = max(
        len(policy.format.encode(d.prompt, d.completion).completion_ids) for d in run.demos()
    )
    cap = min(sampling.max_new_tokens, int((sampling.length_factor or 4) * longest))
    context = getattr(policy.model.config, "max_position_embeddings", None) or CONTEXT
    reading = run.config.reading.settled(recommended(policy.model), sampling)
    return PolicyStudio(
        run, policy, reading, cap=cap, context=int(context), self_prompt=self_prompt
    )


def own_prompts(run: Run, studio: Any, seed: int, count: int = 10) -> tuple[str, list[str]]:
    """Return prompts that had no part in training or choosing, and where they are from.

    Raises:
        ConfigError: none are shipped, and the model could write none.
    """
    from ditto_hub.evaluation.prompts import write_prompts

    if shipped := shipped_prompts(run, seed, count):
        return "shipped", shipped
    written = write_prompts(studio, count, seed)
    if not written:
        raise ConfigError("api.base_wrote_no_prompts")
    return "model-written", written


def shipped_prompts(run: Run, seed: int = 0, count: int = 10) -> list[str]:
    """Return prompts that come with a run's voice or base model, or none."""
    from ditto_hub.evaluation.prompts import read_prompts
    from ditto_hub.pocket.grammar import requests

    shipped = run.folder / "prompts.jsonl"
    if shipped.is_file():
        return [p[-1]["content"] for p in read_prompts(shipped)][:count]
    if run.record.base_model["id"] == "pocket":  # too small to think of prompts
        return [r.prompt for r in requests(f"own {seed}", count, held_out=True)]
    return []


def of_the_grammar(run: Run) -> bool:
    """Tell whether a run's demonstrations are requests of pocket's grammar, as shipped voices'."""
    from ditto_hub.pocket.grammar import parse_prompt

    try:
        for demo in run.demos():
            parse_prompt(demo.prompt[-1]["content"])
    except JudgeError:
        return False
    return True


def probe_prompts(run: Run) -> dict[str, Any]:
    """Return the forgetting probe's fields of a `Brief`: general prompts, and who marks them.

    The embedded base model knows its grammar and nothing else, so there the prompts are the
    grammar's, as seen in pre-training, and their content can be marked.
    """
    from ditto_hub.demos.demonstrations import as_messages
    from ditto_hub.evaluation.forgetting import GENERAL_PROMPTS
    from ditto_hub.pocket.grammar import parse_prompt, requests
    from ditto_hub.pocket.judge import content

    if run.record.base_model["id"] != "pocket":
        return {"probes": tuple(as_messages(text) for text in GENERAL_PROMPTS)}

    def right(prompt: Sequence[Mapping[str, str]], text: str) -> float:
        found = content(parse_prompt(prompt[-1]["content"]), text)
        return sum(found.values()) / len(found)

    drawn = requests("forgetting", len(GENERAL_PROMPTS), held_out=False)
    return {"probes": tuple(as_messages(r.prompt) for r in drawn), "right": right}


def make_judge(
    text: str,
    run: Run,
    *,
    token: Token | str,
    ask: Callable[[Question], str] | None = None,
    seed: int = 0,
    price: tuple[float, float] | None = None,
) -> Any:
    """Return a judge by the command line's name for it.

    Raises:
        JudgeError: no such judge, or it lacks something.
    """
    name, _, rest = text.partition(":")
    examples = [d.completion for d in run.demos().train]
    if name == "grammar":
        from ditto_hub.evaluation.judges import TraitJudge

        traits = json.loads(Path(rest).read_text("utf-8")) if rest else traits_of(run)
        return TraitJudge(traits)
    if name == "stylometric":
        from ditto_hub.evaluation.stylometric import StylometricJudge

        return StylometricJudge(examples)
    if name == "llm":
        from ditto_hub.evaluation.language_judge import Endpoint, LanguageModelJudge
        from ditto_hub.hub.prices import token_price

        cache = run.folder / "evaluation" / "cache"
        endpoint = Endpoint.parse(rest, token)
        if price is None and endpoint.base_url is None:
            price = token_price(endpoint.model)
        endpoint = replace(endpoint, price=price)
        return LanguageModelJudge(endpoint, examples, cache=cache)
    if name == "person" and ask is not None:
        from ditto_hub.evaluation.judges import PersonJudge

        return PersonJudge(ask, examples, seed)
    raise JudgeError("api.no_judge", text=text)


def traits_of(run: Run) -> dict[str, Any] | None:
    """Return the traits that came with a shipped voice, for the grammar's judge alone."""
    path = run.folder / "traits.json"
    if not path.is_file():
        return None
    traits: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return traits
