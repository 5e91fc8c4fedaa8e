"""An update step waits for the device once: when loss, norm and metrics are read together.

There is no device here, so a mode stands in for it: what is computed from weights is on the device,
what comes from Python is on the host, and whatever would carry a value from there is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pair_rows import PAIRS, policy_at, scored
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ditto_hub.config import Update
from ditto_hub.ditto.losses import PreferenceLoss
from ditto_hub.ditto.optimizer import Stepper, schedule
from ditto_hub.engine.fast import FastEngine

Tiny = Callable[[str], Path]
READS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim")


class Device(TorchDispatchMode):
    """Note which tensors would be on a device, and each wait for it.

    Args:
        known: what is there at first.
    """

    def __init__(self, known: Any) -> None:
        super().__init__()
        self.kept: dict[int, Any] = {}  # storages, held so that no other takes an address
        self.waits: list[str] = []
        self.put(known)

    def put(self, values: Any) -> None:
        """Note tensors as being on the device."""
        for value in tree_leaves(values):
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                self.kept[storage._cdata] = storage

    def has(self, value: Any) -> bool:
        """Tell whether a tensor is on the device."""
        return isinstance(value, torch.Tensor) and value.untyped_storage()._cdata in self.kept

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(map(self.has, tree_leaves((args, kwargs)))):
            name = func.__name__.partition(".")[0]
            if name in READS or (name == "index" and not self._is_on_device(args[1])):
                self.waits.append(name)
            self.put((out, args) if func._schema.is_mutable else out)
        return out

    def _is_on_device(self, indices: Any) -> bool:
        """Tell whether indices are numbers on the device: a mask, or the host's, would wait."""
        given = [i for i in indices if i is not None]
        return all(self.has(i) and i.dtype != torch.bool for i in given)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], Device]]:
    """Return tensors -> a device on which they are, what moves tensors watched."""
    made: list[Device] = []

    def build(known: Any) -> Device:
        made.append(Device(known))
        return made[0]

    to, tolist = torch.Tensor.to, torch.Tensor.tolist

    def watched_to(self: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        moves = any(isinstance(a, (torch.device, str)) for a in (*args, *options.values()))
        if not made or not moves or made[0].has(self):
            return to(self, *args, **options)
        if not options.pop("non_blocking", False):
            made[0].waits.append("to")
        found = to(self, *args, **options).clone()
        made[0].put(found)
        return found

    def watched_tolist(self: torch.Tensor) -> Any:
        if made and made[0].has(self):
            made[0].waits.append("tolist")
        return tolist(self)

    monkeypatch.setattr(torch.Tensor, "to", watched_to)
    monkeypatch.setattr(torch.Tensor, "tolist", watched_tolist)
    return build


def weights(engine: FastEngine) -> list[torch.Tensor]:
    """Return all that is on the device before a step."""
    return [*engine.model.parameters(), *engine.model.buffers()]


@pytest.mark.parametrize("budget", [0, 30], ids=["one pass", "pass by pass"])
def test_a_step_waits_once(tiny: Tiny, device: Callable[[Any], Device], budget: int) -> None:
    """From rows to moved weights the host reads the device once, in however many passes."""
    engine = policy_at(tiny, weights=1)
    rows = scored(engine, engine.snapshot())
    engine.token_budget = budget
    stepper = Stepper(
        engine,
        optimizer="adamw",
        learning_rate=0.01,
        schedule=schedule("constant", 0, 3),
        max_grad_norm=1.0,
        seed=0,
    )
    loss = PreferenceLoss(rows, PAIRS, Update(sft_weight=0.3))
    stepper.step(loss.rows, loss)  # what is set up once
    watched = device(weights(engine))
    with watched:
        stepper.step(loss.rows, loss)
    assert watched.waits == ["tolist"]


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.item(),
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).all()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.flatten()[[0, 1]] if x.numel() > 1 else x.item(),
        lambda x: x.tolist(),
        lambda x: torch.ones(1).to("cpu") + x,
    ],
)  # fmt: skip
def test_each_way_to_wait_is_seen(
    device: Callable[[Any], Device], read: Callable[[torch.Tensor], Any]
) -> None:
    """The mode above counts each way in which a host waits for a device."""
    there = torch.ones(1)
    watched = device([there])
    with watched:
        read(there * 2)
    assert len(watched.waits) == 1
