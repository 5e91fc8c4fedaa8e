"""How many threads a model computes with on a CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from ditto_hub.engine import base_model
from ditto_hub.tokens import NOBODY


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_tiny_model_uses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads would only wait for each other."""
    monkeypatch.setattr(base_model, "THREADS", 2)
    torch.set_num_threads(2)
    base_model.load_base({"id": "pocket"}, device=torch.device("cpu"), token=NOBODY)
    assert torch.get_num_threads() == 1


def test_a_larger_one_uses_all_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a tiny one in the same process too."""
    monkeypatch.setattr(base_model, "THREADS", 2)
    base_model.use_threads(2_000_000)
    base_model.use_threads(135_000_000)
    assert torch.get_num_threads() == 2


def test_no_more_than_torch_began_with() -> None:
    """Whoever set OMP_NUM_THREADS is obeyed."""
    base_model.use_threads(7_000_000_000)
    assert torch.get_num_threads() == base_model.THREADS
