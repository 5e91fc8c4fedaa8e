"""The fast engine on a real GPU against the plain one, and CUDA graphs that record again."""

from __future__ import annotations

import pytest
import torch

from ditto_hub import pocket
from ditto_hub.config import Lora, Sampling
from ditto_hub.ditto.losses import supervised
from ditto_hub.engine import graph_decoding
from ditto_hub.engine.base_model import load_base
from ditto_hub.engine.fast import FastEngine
from ditto_hub.engine.plain import PlainEngine
from ditto_hub.engine.protocol import Row
from ditto_hub.events import GraphsRecorded
from ditto_hub.tokens import NOBODY

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
ROWS = [Row((5, 60, 61, 62), tuple(range(70, 70 + n))) for n in (3, 12, 30)]
ROWS += [Row((5, 64), (90, 91, 92)), Row((5, 64), (93,))]


def engines(dtype: torch.dtype) -> tuple[FastEngine, PlainEngine]:
    """Return both engines on pocket, the same noise in their adapters."""
    made = []
    for kind in (FastEngine, PlainEngine):
        base = {"id": pocket.resolve("pocket"), "revision": None}
        model, tokenizer = load_base(base, device=torch.device("cuda"), token=NOBODY)
        made.append(kind(model.to(dtype), tokenizer, Lora(), 0, base))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in made[-1].parameters():
                noise = 0.02 * torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise.to(parameter.device))
    return made[0], made[1]  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("dtype", "within"), [(torch.float32, 1e-3), (torch.bfloat16, 5e-2)], ids=["float32", "bf16"]
)
def test_both_engines_agree(dtype: torch.dtype, within: float) -> None:
    """Scores and gradients of the fast engine are the plain one's, within the dtype's rounding."""
    fast, plain = engines(dtype)
    assert fast.log_probs(ROWS) == pytest.approx(plain.log_probs(ROWS), rel=within)
    grads = []
    for engine in (fast, plain):
        engine.backward(ROWS, lambda scores: supervised(scores, 50))
        grads.append(torch.cat([p.grad.flatten().float() for p in engine.parameters()]))  # type: ignore[union-attr]
    assert float((grads[0] - grads[1]).norm() / grads[1].norm()) < 4 * within


def test_graphs_record_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that grow and rows that leave record graph after graph, in one pool, and no fallback.

    What they draw is what the plain engine draws.
    """
    monkeypatch.setattr(graph_decoding, "SEEN_BLOCK", 16)
    monkeypatch.setattr(graph_decoding, "PEEK", 4)
    fast, plain = engines(torch.float32)
    prompts, seeds = [[5, 60, 61], [5, 64, 65, 66]], [list(range(20)), list(range(30, 50))]
    drawn = fast.sample(prompts, seeds, Sampling(), 90)
    told = [e for e in fast.notices() if isinstance(e, GraphsRecorded)]
    assert told
    assert told[0].recorded >= 3
    assert told[0].replayed > told[0].recorded
    assert told[0].fallback == ""
    expected = plain.sample(prompts, seeds, Sampling(), 90)
    same = [
        a.token_ids == b.token_ids
        for one, two in zip(drawn, expected, strict=True)
        for a, b in zip(one, two, strict=True)
    ]
    assert sum(same) >= 0.9 * len(same)  # a draw at a rounding's edge may fall on either side
