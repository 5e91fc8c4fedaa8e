"""One job: train on an author's texts with a setting, judge every method, return a row of numbers.

A worker loads the base model once. Rows hold no text: numbers, settings, versions, the machine.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import authors_judges as judges
import torch
from authors_distil import distil
from authors_fit import Embed, Fit, MiniLM
from authors_settings import SETTINGS, Setting
from authors_teach import Teaching, teach
from authors_texts import Author, Split, read_authors, split
from safetensors.torch import load as tensors_from_bytes

from ditto_hub.backends.driver import Driver, versions
from ditto_hub.backends.local import dress
from ditto_hub.config import Sampling
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.demos.prompting import with_demonstrations
from ditto_hub.ditto.rollout import row_seed
from ditto_hub.engine.base_model import free_memory, load_base, pick_device
from ditto_hub.engine.protocol import Row
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

READING = Sampling(temperature=0.7, top_p=0.9, batch_rows=64)
NEVER_S = 1e9
LOOKS = 4  # at a student's loss while it is taught


@dataclass(frozen=True)
class Job:
    """Name a row: what is trained on what; two jobs of one key make the same row."""

    author: str
    setting: str
    seed: int

    @property
    def key(self) -> str:
        """The row's name."""
        return f"{self.author}/{self.setting}/{self.seed}"


@dataclass(frozen=True)
class Plan:
    """Hold what is the same for all jobs of a rows file.

    Args:
        data: folder with the corpora.
        base: folder or id of the base model.
        words: that every text is cut to.
        samples: texts a method writes to each judged prompt.
        scales: shares of strength at which the last adapters are judged too, beside 1.
        fit_later: whether texts go with the row, for a machine without MiniLM to judge elsewhere.
        device: where to; "" for the best there is.
        threads: of torch, each worker.
    """

    data: str
    base: str
    words: int = 80
    samples: int = 2
    scales: tuple[float, ...] = (0.3, 0.5, 0.7)
    fit_later: bool = False
    device: str = ""
    threads: int = 1

    @property
    def cap(self) -> int:
        """New tokens a text at most: a text of `words` words, and some more."""
        return round(1.5 * self.words)


@dataclass(frozen=True)
class Method:
    """Say how texts are written.

    Args:
        adapter: a candidate, or "" for none.
        scale: of the adapter.
        shown: whether the demonstrations are in the prompt.
    """

    name: str
    adapter: str = ""
    scale: float = 1.0
    shown: bool = False


PROMPTS = (Method("zero-shot"), Method("few-shot", shown=True))


class Bench:
    """A base model in memory, and the jobs that run on it.

    Args:
        plan: of all jobs.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        device = pick_device(plan.device or None)
        self.model, self.tokenizer = load_base({"id": plan.base}, device=device, token=NOBODY)
        torch.set_num_threads(plan.threads)

    @cached_property
    def embed(self) -> Embed:
        """What turns texts into vectors, loaded when it is first needed."""
        return MiniLM(self.plan.device or "cpu")

    def run(self, job: Job) -> dict[str, Any]:
        """Do a job and return its row."""
        began = time.monotonic()
        setting = SETTINGS[job.setting]
        corpus, _, number = job.author.rpartition("-")
        authors = read_authors(Path(self.plan.data), corpus, self.plan.words)
        author = authors[int(number)]
        texts = split(author, job.seed)
        with self._trained(setting, texts, job.seed) as (run, policy):
            trained_s = time.monotonic() - began
            others = [a for a in authors if a is not author]
            embed = _later if self.plan.fit_later else self.embed
            case = Case(author, others, setting.texts, job.seed, embed)
            judging = Judging(self.plan, run, policy, case)
            found = judging.row()
            found["teachings"] = judging.taught(dict(setting.teachings), found["methods"])
            row = {**asdict(job), "key": job.key, "texts": setting.texts, **found}
            row["drawn"] = judging.drawn
            row |= {
                "changes": list(setting.changes),
                "words": self.plan.words,
                "samples": self.plan.samples,
                "chosen": run.record.chosen,
                "candidates": {
                    name: {**found, "degenerate": str(found["degenerate"])}
                    for name, found in run.record.candidates.items()
                },
                "stages_s": {k: round(v, 2) for k, v in run.record.stage_seconds.items()},
                "trained_s": round(trained_s, 1),
                "seconds": round(time.monotonic() - began, 1),
                "device": policy.device_name(),
                "machine": platform.machine(),
                "versions": versions(),
            }
        return row

    @contextmanager
    def _trained(self, setting: Setting, texts: Split, seed: int) -> Iterator[tuple[Run, Any]]:
        """Train, and give the run with a policy to judge it by; nothing is left afterwards."""
        work = Path(tempfile.mkdtemp(prefix="authors-"))
        opened: list[Any] = []
        try:
            config = setting.config(seed, self.plan.cap)
            base = {"id": self.plan.base, "revision": None}
            demos = texts.demos(setting.texts)
            run = Run.create(demos, base, config, work / "run", None)
            if setting.distilled:
                written = distil(
                    run, self._open(run, opened), READING, self.plan.cap, setting.distilled, seed
                )
                pairs = [(d.prompt[-1]["content"], d.completion) for d in demos]
                demos = DemoSet.from_pairs([*pairs, *written])
                run = Run.create(demos, base, config, work / "distilled", None)
            if not setting.prompting:
                for _ in Driver(
                    run, lambda r: self._open(r, opened), save_every_s=NEVER_S
                ).events():
                    pass
            yield run, self._open(run, opened)
        finally:
            self._close(opened)
            free_memory()
            shutil.rmtree(work, ignore_errors=True)

    def _open(self, run: Run, opened: list[Any]) -> Any:
        """Put a fresh adapter on the base model, the one before taken off."""
        self._close(opened)
        opened.append(dress(run, self.model, self.tokenizer))
        return opened[-1]

    def _close(self, opened: list[Any]) -> None:
        while opened:
            opened.pop().unload()


@dataclass(frozen=True)
class Case:
    """Hold what a run was shown and what judges it.

    Args:
        author: whose texts they are.
        others: authors of the same corpus.
        count: of texts that the run was shown.
        seed: of the job.
        embed: turns texts into vectors.
    """

    author: Author
    others: Sequence[Author]
    count: int
    seed: int
    embed: Embed

    @property
    def texts(self) -> Split:
        """Which of the author's texts are shown and which judge."""
        return split(self.author, self.seed)


class Judging:
    """Judge the methods of one run.

    Args:
        plan: of all jobs.
        run: trained, or without candidates.
        policy: the base model with an adapter of the run's shape.
        case: the author's texts, and the others'.
    """

    def __init__(self, plan: Plan, run: Run, policy: Any, case: Case) -> None:
        self.plan, self.run, self.policy = plan, run, policy
        self.case, self.texts = case, case.texts
        self.shown = [t.completion for t in self.texts.shown(case.count)]
        self.tensors: dict[str, dict[str, torch.Tensor]] = {}
        self.drawn: dict[str, list[tuple[str, str]]] = {}

    @cached_property
    def style(self) -> judges.Style:
        """The author's own judge of style."""
        return judges.Style(self.texts, self.case.others, self.plan.words)

    @cached_property
    def fit(self) -> Fit:
        """The judge of whether a text answers its prompt."""
        return Fit(self.case.author, self.case.others, self.case.embed)

    def row(self) -> dict[str, Any]:
        """Return the judgement of every method; the author's own shown texts for comparison."""
        with self.policy.adapter_off():
            base_loss = self.own_loss(PROMPTS[0])
        found = {m.name: self._judge(m) for m in self._methods()}
        ceiling = fmean(self.style.score(text) for text in self.shown)
        return {
            "judges": judges.VERSION,
            "base_loss": round(base_loss, 5),
            "author_style": round(ceiling, 4),
            "methods": {name: rounded(values) for name, values in found.items()},
        }

    def taught(
        self, teachings: dict[str, Teaching], methods: dict[str, dict[str, float]]
    ) -> dict[str, list[dict[str, float]]]:
        """Train and judge students beside the other methods; return their losses on the way."""
        fresh, found = self.policy.snapshot(), {}
        for name, teaching in teachings.items():
            began, looks = time.monotonic(), []
            self.policy.restore(fresh)
            for step in teach(
                self.run, self.policy, teaching, self.plan.cap, self.case.seed, self._read
            ):
                if step["step"] % max(1, teaching.steps // LOOKS) == 0:
                    looks.append(rounded({**step, "unseen": self.own_loss(PROMPTS[0])}))
            looks[-1]["seconds"] = round(time.monotonic() - began, 1)
            self.tensors[name] = self.policy.snapshot()
            methods[name] = rounded(self._judge(Method(name, name)))
            shown = Method(f"{name}+few-shot", name, shown=True)
            looks[-1]["unseen_shown"] = round(self._loss_of(shown), 5)
            found[name] = looks
        self.policy.restore(fresh)
        return found

    def _loss_of(self, method: Method) -> float:
        with self._wearing(method):
            return self.own_loss(method)

    def _read(self, name: str) -> dict[str, torch.Tensor]:
        if name in self.tensors:
            return self.tensors[name]
        file = self.run.candidate(name) / "adapter_model.safetensors"
        return tensors_from_bytes(file.read_bytes())

    def _methods(self) -> Iterator[Method]:
        names = self.run.candidates()
        if not names:
            yield from PROMPTS
            return
        rounds = sorted((n for n in names if n.startswith("round-")), key=lambda n: int(n[6:]))
        for name in (*(n for n in ("sft",) if n in names), *rounds):
            yield Method(name, name)
        last = [*rounds[-1:], *(n for n in ("sft-long",) if n in names)]
        if "sft-long" in names:
            yield Method("sft-long", "sft-long")
        for name in last:
            for scale in self.plan.scales:
                yield Method(f"{name}@{scale:g}", name, scale)
        for name in last:
            yield Method(f"{name}+few-shot", name, 1.0, shown=True)

    def _judge(self, method: Method) -> dict[str, float]:
        with self._wearing(method):
            loss = self.own_loss(method)
            drawn = self._write(method)
        texts = [text for _, text, _ in drawn]
        if self.plan.fit_later:
            self.drawn[method.name] = [(topic, text) for topic, text, _ in drawn]
        fits = [] if self.plan.fit_later else [self.fit.score(t, topic) for topic, t, _ in drawn]
        signs = judges.signs(texts, self.shown, [ended for _, _, ended in drawn])
        return {
            "style": fmean(map(self.style.score, texts)),
            "fit": fmean(fits) if fits else 1.0,
            "loss": loss,
            "n": len(texts),
            **signs,
        }

    def _write(self, method: Method) -> list[tuple[str, str, bool]]:
        """Return (topic, text, whether it ended) of every draw."""
        asked = self.texts.judged
        ids = [self.policy.format.prompt_ids(self._messages(t.prompt, method)) for t in asked]
        seeds = [
            [row_seed(self.case.seed, "authors", i, k) for k in range(self.plan.samples)]
            for i in range(len(asked))
        ]
        drawn = self.policy.sample(ids, seeds, READING, self.plan.cap)
        return [
            (text.topic, self.policy.format.decode(row.token_ids), row.ended)
            for text, rows in zip(asked, drawn, strict=True)
            for row in rows
        ]

    def own_loss(self, method: Method) -> float:
        """Return nats a byte of the unseen texts; their ends are our cuts, and do not count."""
        encoded = [
            self.policy.format.encode(self._messages(t.prompt, method), t.completion)
            for t in self.texts.judged
        ]
        rows = [Row(tuple(e.prompt_ids), tuple(e.completion_ids[:-1])) for e in encoded]
        total = float(sum(self.policy.log_probs(rows)))
        return -total / sum(len(t.completion.encode()) for t in self.texts.judged)

    def _messages(self, prompt: str, method: Method) -> list[dict[str, str]]:
        asked = _user(prompt)
        if not method.shown:
            return asked
        demos = self.texts.demos(self.case.count)
        return with_demonstrations(asked, tuple(demos), lambda messages: True)

    @contextmanager
    def _wearing(self, method: Method) -> Iterator[None]:
        if not method.adapter:
            with self.policy.adapter_off():
                yield
            return
        self.policy.restore(scaled(self._read(method.adapter), method.scale))
        yield


def _later(texts: Sequence[str]) -> Any:
    raise AssertionError("fit is judged elsewhere")


def scaled(tensors: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Return an adapter that changes the weights by a share of what this one does."""
    return {name: t * share if "lora_B" in name else t for name, t in tensors.items()}


def rounded(values: dict[str, float]) -> dict[str, float]:
    """Return numbers at the precision that rows keep."""
    return {name: round(float(value), 5) for name, value in values.items()}


def _user(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]
