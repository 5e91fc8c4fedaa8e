"""Several processes, a GPU each, on one run: the first runs the loop, the others compute for it.

The first process asks, all of them compute a share, and it goes on with the whole: so the loop, the
driver and the run folder know nothing of this, and a run may stop and go on with another number
of processes. Each question brings the adapter's weights along. Sums are added in another order than
in one process, so results agree within rounding, not to the byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from ditto_hub.config import Lora, Sampling

if TYPE_CHECKING:
    from ditto_hub.algorithm.policy import Policy

Passes = Sequence[Mapping[str, torch.Tensor]]


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
        task: open, log_probs, sample, forward, backward, supervise or end.
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
    dist.init_process_group(backend, init_method=where, rank=seat.rank, world_size=seat.size)


class Team:
    """Lead the other processes; made in the first one when all have joined.

    Args:
        policy: the run's own.
        base_model: {id, revision} that the others load.
        lora: the adapter's shape.
    """

    def __init__(self, policy: Policy, base_model: Mapping[str, Any], lora: Lora) -> None:
        self.policy = policy
        self._ask("open", {"base_model": dict(base_model), "lora": asdict(lora)}, wear=False)

    def log_probs(self, rows: Sequence[Any], token_budget: int) -> list[float]:
        """Return what `Policy.log_probs` does, each process having scored a share of the rows."""
        values = {"rows": [(list(p), list(c)) for p, c in rows], "token_budget": token_budget}
        scores = [0.0] * len(rows)
        for found in self._ask("log_probs", values):
            for i, score in found:
                scores[i] = score
        return scores

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        cap: int,
    ) -> list[list[Any]]:
        """Return what `Policy.sample` does, each process having drawn a share of the rows."""
        values = {
            "prompts": [list(p) for p in prompts],
            "seeds": [list(s) for s in seeds],
            "sampling": asdict(sampling),
            "cap": cap,
        }
        drawn = {key: row for found in self._ask("sample", values) for key, row in found}
        return [[drawn[i, k] for k in range(len(mine))] for i, mine in enumerate(seeds)]

    def forward(self, passes: Passes) -> list[torch.Tensor]:
        """Return the log-probabilities of each pass, without a graph."""
        found = self._ask("forward", {"passes": _to_cpu(passes)})
        numbered = {i: out for one in found for i, out in one}
        return [numbered[i].to(self.policy.device) for i in range(len(passes))]

    def backward(self, passes: Passes, gradients: Sequence[torch.Tensor]) -> None:
        """Put into the adapter's gradients what those of the passes' log-probabilities give."""
        values = {"passes": _to_cpu(passes), "gradients": [g.cpu() for g in gradients]}
        self._ask("backward", values)

    def supervise(self, batch: Mapping[str, torch.Tensor]) -> float:
        """Return the mean loss of a batch's labels, its gradient in the adapter's."""
        parts: list[float] = self._ask("supervise", {"batch": _to_cpu([batch])[0]})
        return sum(parts)

    def end(self) -> None:
        """Let the others go."""
        self._ask("end", {}, wear=False)
        dist.destroy_process_group()

    def _ask(self, task: str, values: dict[str, Any], wear: bool = True) -> list[Any]:
        adapter = self.policy.snapshot() if wear else None
        dist.broadcast_object_list([Question(task, values, adapter)], src=0)
        answers: list[Any] = [None] * dist.get_world_size()
        dist.gather_object(answer(self.policy, task, values), answers, dst=0)
        return answers


def assist(seat: Seat, device: torch.device, token: str | None = None) -> None:
    """Answer the first process's questions until it lets this one go.

    Raises:
        BaseModelError: the base model cannot be loaded.
    """
    from ditto_hub.algorithm.base_model import load_base
    from ditto_hub.algorithm.policy import Policy

    join(seat, device)
    policy: Policy | None = None
    while True:
        box: list[Any] = [None]
        dist.broadcast_object_list(box, src=0)
        asked: Question = box[0]
        if asked.task == "open":
            base = asked.values["base_model"]
            model, tokenizer = load_base(base, device=device, token=token)
            policy = Policy(model, tokenizer, Lora(**asked.values["lora"]), 0, base)
        if asked.adapter is not None and policy is not None:
            policy.restore(asked.adapter)
        dist.gather_object(answer(policy, asked.task, asked.values), dst=0)
        if asked.task == "end":
            dist.destroy_process_group()
            return


def answer(policy: Any, task: str, values: Mapping[str, Any]) -> Any:
    """Return this process's share of the answer to a question."""
    rank, size = dist.get_rank(), dist.get_world_size()
    if task == "log_probs":
        mine = range(rank, len(values["rows"]), size)
        scores = policy.own_log_probs([values["rows"][i] for i in mine], values["token_budget"])
        return list(zip(mine, scores, strict=True))
    if task == "sample":
        return _draw(policy, values, rank, size)
    if task == "forward":
        mine = range(rank, len(values["passes"]), size)
        with torch.no_grad():
            return [(i, _run(policy, values["passes"][i]).cpu()) for i in mine]
    if task == "backward":
        for i in range(rank, len(values["passes"]), size):
            out = _run(policy, values["passes"][i])
            torch.autograd.backward(out, values["gradients"][i].to(policy.device))
        _add_gradients(policy)
    if task == "supervise":
        return _supervise(policy, values["batch"], rank, size)
    return None


def _draw(policy: Any, values: Mapping[str, Any], rank: int, size: int) -> list[Any]:
    every = [(i, k) for i, mine in enumerate(values["seeds"]) for k in range(len(mine))]
    share = every[rank::size]
    wanted: dict[int, list[int]] = {}
    for i, k in share:
        wanted.setdefault(i, []).append(values["seeds"][i][k])
    drawn = policy.own_sample(
        [values["prompts"][i] for i in wanted],
        list(wanted.values()),
        Sampling(**values["sampling"]),
        values["cap"],
    )
    rows = {i: iter(mine) for i, mine in zip(wanted, drawn, strict=True)}
    return [((i, k), next(rows[i])) for i, k in share]


def _supervise(policy: Any, batch: Mapping[str, torch.Tensor], rank: int, size: int) -> float:
    trained = (batch["labels"][:, 1:] != -100).sum()
    mine = {name: value[rank::size] for name, value in batch.items()}
    policy.model.train()
    for parameter in policy.parameters():
        parameter.grad = None
    loss = 0.0
    if len(mine["input_ids"]):
        part = -_run(policy, mine).sum() / trained.to(policy.device)
        torch.autograd.backward(part)
        loss = float(part.detach())
    _add_gradients(policy)
    policy.model.eval()
    return loss


def _run(policy: Any, part: Mapping[str, torch.Tensor]) -> torch.Tensor:
    inputs = {name: value.to(policy.device) for name, value in part.items()}
    found: torch.Tensor = policy.model(**inputs, fused_lm_head=True, use_cache=False).log_probs
    return found


def _add_gradients(policy: Any) -> None:
    """Sum the adapter's gradients over all processes, in place, and clear them in the others."""
    for parameter in policy.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
        if dist.get_rank():
            parameter.grad = None


def _to_cpu(passes: Passes) -> list[dict[str, torch.Tensor]]:
    return [{name: value.cpu() for name, value in part.items()} for part in passes]
