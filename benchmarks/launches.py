"""What a step asks of the host: operations launched, passes, and waits for the device.

    python benchmarks/launches.py                 a model of 32 layers of tiny width, on a CPU

Counted with a dispatch mode below autograd, so that backward passes count too; views cost a GPU
nothing and are left out. On a GPU each counted operation is a launch or more: where the model is
small or the host slow, a step takes as long as its launches. Ours and TRL's run the same pairs.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from gpu import MODELS, Bench, Model
from torch.utils._python_dispatch import TorchDispatchMode

from ditto_hub.cost.shapes import BaseShape
from ditto_hub.engine import scoring

LAYERS = BaseShape(32, 64, 128, 4, 2, 16, 1024)
VIEWS = ("view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "select", "split",
         "unsqueeze", "squeeze", "detach", "alias", "as_strided", "split_with_sizes", "unbind",
         "chunk", "reshape", "lift_fresh")  # fmt: skip
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero")


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count operations by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.by_name: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.by_name[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    def told(self) -> dict[str, int]:
        """Return launches, and waits for the device."""
        waits = sum(self.by_name[name] for name in WAITS)
        views = sum(self.by_name[name] for name in VIEWS)
        return {"launches": self.by_name.total() - waits - views, "waits": waits}


def count(act: Callable[[], Any]) -> dict[str, Any]:
    """Return what a call launches, after one to warm up."""
    act()
    with Launches() as launches:
        act()
    told: dict[str, Any] = dict(launches.told())
    return told | {"most": dict(launches.by_name.most_common(12))}


def main() -> None:
    """Count, print a table, then JSON."""
    parser = argparse.ArgumentParser(description="Launches and waits of a step.")
    parser.add_argument("--length", type=int, default=24, help="tokens of a sample")
    given = parser.parse_args()
    MODELS["layers"] = Model("mistral", LAYERS)
    bench = Bench("layers", torch.device("cpu"), given.length)
    bench.policy.pass_tokens = 2**31  # as on a GPU: one pass
    scoring.WORTH["cpu"] = scoring.WORTH["cuda"]
    drawn = bench.sample(given.length)
    update, _ = bench.update_step(drawn)
    found = {
        "supervised step": count(bench.supervised_step()),
        "update": count(update),
        "update, TRL": count(bench.stock_update(drawn)),
        "scoring of 70 rows": count(lambda: bench.score(drawn)),
    }
    for name, told in found.items():
        print(f"{name:24} {told['launches']:8} launches {told['waits']:4} waits")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
