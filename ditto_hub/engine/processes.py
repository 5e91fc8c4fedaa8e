"""Several processes, a GPU each, on one run: the first runs the loop, the others compute for it.

The first process asks, all of them compute a share, and it goes on with the whole: so the loop, the
driver and the run folder know nothing of this, and a run may stop and go on with another number
of processes. Each question brings the adapter's weights along. Sums are added in another order than
in one process, so results agree within rounding, not to the byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.distributed as dist

from ditto_hub.config import Lora, Sampling
from ditto_hub.engine.base_model import load_base
from ditto_hub.engine.choice import require_fast
from ditto_hub.engine.fast import FastEngine, loss_gradient
from ditto_hub.engine.merging import ready_to_train
from ditto_hub.engine.protocol import Distribution, Drawn, Loss, Row
from ditto_hub.errors import BackendError
from ditto_hub.tokens import Token


@dataclass(frozen=True)
class Seat:
    """Say which of how many processes this is, as the launcher has it.

    Args:
        rank: from 0, which leads.
        size: processes in all.
        local_rank: of this machine's, which is its GPU's number.
        address: where they meet, HOST:PORT.
    """

    rank: int
    size: int
    local_rank: int
    address: str


@dataclass(frozen=True)
class Question:
    """Hold what the first process asks of all.

    Args:
        task: open, log_probs, distributions, sample, scores, push or end.
        values: of the task; plain values, and tensors on the CPU.
        adapter: the weights to wear; None keeps those worn.
    """

    task: str
    values: dict[str, Any] = field(default_factory=dict)
    adapter: dict[str, torch.Tensor] | None = None


def join(seat: Seat, device: torch.device) -> None:
    """Meet the other processes."""
    if device.type == "cuda":
        torch.cuda.set_device(seat.local_rank)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    where = f"tcp://{seat.address}"
    with meeting():
        dist.init_process_group(backend, init_method=where, rank=seat.rank, world_size=seat.size)


@contextmanager
def meeting() -> Iterator[None]:
    """Do what needs all processes.

    Raises:
        BackendError: one of them has ended. Those left do not meet again.
    """
    try:
        yield
    except RuntimeError as error:  # gloo raises no subclass of its own
        if dist.is_initialized():
            dist.destroy_process_group()
        raise BackendError("engine.process_lost") from error


class TeamEngine(FastEngine):
    """The fast engine in the first of several processes, which leads the others.

    Args: those of `FastEngine`; the others load the same base model.

    Raises:
        BaseModelError: only the plain engine runs this base model.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        lora: Lora,
        seed: int,
        base_model: Mapping[str, Any],
    ) -> None:
        require_fast(model)
        super().__init__(model, tokenizer, lora, seed, base_model)
        self._ask("open", {"base_model": dict(base_model), "lora": asdict(lora)}, wear=False)

    def log_probs(self, rows: Sequence[Row]) -> list[float]:
        """Return what one process does, each having scored a share of the rows."""
        scores = [0.0] * len(rows)
        for found in self._ask("log_probs", {"rows": list(rows)}):
            for i, score in found:
                scores[i] = score
        return scores

    def distributions(self, rows: Sequence[Row], k: int) -> list[Distribution]:
        """Return what one process does, each having looked at a share of the rows."""
        found: dict[int, Distribution] = {}
        for part in self._ask("distributions", {"rows": list(rows), "k": k}):
            found.update(part)
        return [found[i] for i in range(len(rows))]

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        cap: int,
    ) -> list[list[Drawn]]:
        """Return what one process does, each having drawn a share of the rows."""
        values = {
            "prompts": [list(p) for p in prompts],
            "seeds": [list(s) for s in seeds],
            "sampling": asdict(sampling),
            "cap": cap,
        }
        drawn = {key: row for found in self._ask("sample", values) for key, row in found}
        return [[drawn[i, k] for k in range(len(mine))] for i, mine in enumerate(seeds)]

    def backward(self, rows: Sequence[Row], loss: Loss, seed: int | None = None) -> torch.Tensor:
        """Do what one process does, each having run a share of the rows, twice."""
        values: dict[str, Any] = {"rows": list(rows), "seed": seed}
        scores = torch.zeros(len(rows), dtype=torch.float64)
        for numbers, found in self._ask("scores", values):
            scores[numbers] = found.to(scores.dtype)
        value, owed = loss_gradient(loss, scores.to(self.device))
        self._ask("push", {**values, "owed": owed.cpu()}, wear=False)
        return value

    def end(self) -> None:
        """Let the others go, where they are still there."""
        if dist.is_initialized():
            self._ask("end", {}, wear=False)
            dist.destroy_process_group()

    def _ask(self, task: str, values: dict[str, Any], wear: bool = True) -> list[Any]:
        adapter = self.snapshot() if wear else None
        with meeting():
            dist.broadcast_object_list([Question(task, values, adapter)], src=0)
        mine, answers = answer(self, task, values), [None] * dist.get_world_size()
        with meeting():
            dist.gather_object(mine, answers, dst=0)
        return answers


def assist(seat: Seat, device: torch.device, token: Token | str) -> None:
    """Answer the first process's questions until it lets this one go.

    Raises:
        BaseModelError: the base model cannot be loaded.
        BackendError: another process has ended.
    """
    join(seat, device)
    engine: FastEngine | None = None
    while True:
        box: list[Any] = [None]
        with meeting():
            dist.broadcast_object_list(box, src=0)
        asked: Question = box[0]
        if asked.task == "open":
            base = asked.values["base_model"]
            model, tokenizer = load_base(base, device=device, token=token)
            engine = FastEngine(model, tokenizer, Lora(**asked.values["lora"]), 0, base)
        if asked.adapter is not None and engine is not None:
            engine.restore(asked.adapter)
        mine = answer(engine, asked.task, asked.values)
        with meeting():
            dist.gather_object(mine, dst=0)
        if asked.task == "end":
            dist.destroy_process_group()
            return


def answer(engine: FastEngine | None, task: str, values: Mapping[str, Any]) -> Any:
    """Return this process's share of the answer to a question."""
    rank, size = dist.get_rank(), dist.get_world_size()
    if engine is None or task in ("open", "end"):
        return None
    if task == "sample":
        return _draw(engine, values, rank, size)
    mine = list(range(rank, len(values["rows"]), size))
    rows = [values["rows"][i] for i in mine]
    if task == "log_probs":
        return list(zip(mine, FastEngine.log_probs(engine, rows), strict=True))
    if task == "distributions":
        return list(zip(mine, FastEngine.distributions(engine, rows, values["k"]), strict=True))
    seed = values["seed"]
    with engine.training(seed), ready_to_train(engine.model):
        if task == "scores":
            return mine, engine.scores(rows, seed).cpu() if rows else torch.zeros(0)
        engine.clear_gradients()
        if rows:
            engine.push(rows, values["owed"][mine].to(engine.device), seed)
    _add_gradients(engine)
    return None


def _draw(engine: FastEngine, values: Mapping[str, Any], rank: int, size: int) -> list[Any]:
    every = [(i, k) for i, mine in enumerate(values["seeds"]) for k in range(len(mine))]
    share = every[rank::size]
    wanted: dict[int, list[int]] = {}
    for i, k in share:
        wanted.setdefault(i, []).append(values["seeds"][i][k])
    drawn = FastEngine.sample(
        engine,
        [values["prompts"][i] for i in wanted],
        list(wanted.values()),
        Sampling(**values["sampling"]),
        values["cap"],
    )
    rows = {i: iter(mine) for i, mine in zip(wanted, drawn, strict=True)}
    return [((i, k), next(rows[i])) for i, k in share]


def _add_gradients(engine: FastEngine) -> None:
    """Sum the adapter's gradients over all processes, in place, and clear them in the others."""
    for parameter in engine.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        with meeting():
            dist.all_reduce(parameter.grad)
        if dist.get_rank():
            parameter.grad = None
