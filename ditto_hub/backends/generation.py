"""Texts from a run's candidates, an adapter or a base model: drafting, comparing, trying a result.

A `Desk` says in plain values what writes and where it lies, so that it can be sent to a GPU worker;
`write_texts` does the work wherever it is called.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditto_hub.config import Lora, Reading, RunConfig, Sampling
from ditto_hub.demos.demonstrations import Message
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import Token

if TYPE_CHECKING:
    from ditto_hub.engine.choice import AnyEngine

CAP = 512  # new tokens a text, where neither the caller nor a run says


@dataclass(frozen=True)
class WriteRequest:
    """Ask for texts.

    Args:
        messages: a prompt, as turns.
        samples: texts wanted.
        seed: of the sampling; the same seed gives the same random numbers to every candidate.
        candidate: of a run, "" for the chosen one; None for the base model, adapter off.
        few_shot: put the run's demonstrations before the prompt.
        max_new_tokens: a text at most; 0 for what the run's settings say.
    """

    messages: Sequence[Message]
    samples: int = 1
    seed: int = 0
    candidate: str | None = ""
    few_shot: bool = False
    max_new_tokens: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {**asdict(self), "messages": [dict(turn) for turn in self.messages]}


@dataclass(frozen=True)
class Desk:
    """Say what writes, in plain values.

    Args:
        kind: run, adapter or base.
        folder: of the run or the adapter; empty for a base.
        base_model: {id, revision}.
        weights: folder of the base model where it was fetched beforehand; empty where its id says.
        sampling: settings of the draws in training; how many rows side by side.
        reading: settings of the draws that a person reads.
        cap: new tokens a text, where a request does not say.
    """

    kind: str
    folder: str
    base_model: Mapping[str, Any]
    weights: str = ""
    sampling: Mapping[str, Any] = field(default_factory=lambda: asdict(Sampling()))
    reading: Mapping[str, Any] = field(default_factory=lambda: asdict(Reading()))
    cap: int = CAP

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    def adapter(self, candidate: str) -> Path:
        """Return the folder of a candidate's adapter, or of the adapter itself.

        Raises:
            RunError: the run has no such candidate.
        """
        folder = Path(self.folder)
        return Run.load(folder).candidate(candidate or None) if self.kind == "run" else folder

    def lora(self) -> Lora:
        """Return the shape of the adapter that is put on the base model."""
        if self.kind == "run":
            return Run.load(self.folder).config.lora
        if self.kind == "adapter":
            from ditto_hub.engine.adapter_folder import read_adapter_config

            return read_adapter_config(Path(self.folder))[0]
        return RunConfig().lora


def open_desk(desk: Desk, device: str | None = None, *, token: Token | str) -> AnyEngine:
    """Load what writes: the base model with an adapter of the right shape on it.

    Raises:
        BaseModelError: it cannot be loaded, or is another than at the run's beginning.
    """
    from ditto_hub.engine.base_model import load_base, pick_device
    from ditto_hub.engine.choice import open_engine
    from ditto_hub.engine.fingerprint import require_same_base

    require_same_base(desk.base_model)
    base = {"id": desk.weights, "revision": None} if desk.weights else desk.base_model
    model, tokenizer = load_base(base, device=pick_device(device), token=token)
    return open_engine(model, tokenizer, desk.lora(), 0, desk.base_model)


def write_texts(
    policy: AnyEngine, desk: Desk, requests: Sequence[WriteRequest]
) -> Iterator[list[tuple[int, list[str]]]]:
    """Write, side by side what the same adapter writes, and yield after each batch.

    Args:
        policy: from `open_desk`.
        desk: what it was opened for.
        requests: with their messages whole: demonstrations are put before a prompt by the caller.

    Yields:
        (number of the request, its texts) of each that is done.

    Raises:
        RunError: there is no such candidate.
        ChatTemplateError: the base model's template refuses a prompt.
    """
    from ditto_hub.ditto.rollout import row_seed
    from ditto_hub.engine.base_model import recommended

    own = recommended(policy.model)
    sampling = Reading(**desk.reading).settled(own, Sampling(**desk.sampling))
    for (candidate, cap), numbers in _grouped(desk, requests).items():
        with _wearing(policy, desk, candidate):
            for batch in _batches(numbers, requests, sampling.batch_rows):
                mine = [requests[i] for i in batch]
                ids = [policy.format.prompt_ids(r.messages) for r in mine]
                seeds = [[row_seed(r.seed, "generate", k) for k in range(r.samples)] for r in mine]
                drawn = policy.sample(ids, seeds, sampling, cap)
                yield [
                    (i, [policy.format.decode(row.token_ids) for row in rows])
                    for i, rows in zip(batch, drawn, strict=True)
                ]


def _grouped(
    desk: Desk, requests: Sequence[WriteRequest]
) -> dict[tuple[str | None, int], list[int]]:
    """Return (candidate, cap) -> the numbers of its requests, in the order they first appear."""
    groups: dict[tuple[str | None, int], list[int]] = {}
    for i, request in enumerate(requests):
        candidate = None if desk.kind == "base" else request.candidate
        groups.setdefault((candidate, request.max_new_tokens or desk.cap), []).append(i)
    return groups


def _batches(
    numbers: Sequence[int], requests: Sequence[WriteRequest], rows: int
) -> Iterator[list[int]]:
    batch: list[int] = []
    for i in numbers:
        if batch and sum(requests[k].samples for k in batch) + requests[i].samples > rows:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


@contextlib.contextmanager
def _wearing(policy: AnyEngine, desk: Desk, candidate: str | None) -> Iterator[None]:
    if candidate is None:
        with policy.adapter_off():
            yield
        return
    policy.load_adapter(desk.adapter(candidate))
    yield


def whole(request: WriteRequest, messages: Sequence[Message]) -> WriteRequest:
    """Return a request with its messages as the model is to read them."""
    return replace(request, messages=messages, few_shot=False)
