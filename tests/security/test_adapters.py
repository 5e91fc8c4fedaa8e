"""An adapter from elsewhere: its numbers, its weights' header, and a pickle in its place."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tiny_runs import CPU, tiny_policy

from ditto_hub.engine.adapter_folder import read_adapter_config
from ditto_hub.engine.fast import FastEngine
from ditto_hub.errors import DittoError

WEIGHTS = "adapter_model.safetensors"
CONFIG: dict[str, Any] = {
    "base_model_name_or_path": "pocket", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"],
}  # fmt: skip


class Trap:
    """Leave a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"r": 4096}, {"r": -1}, {"r": 10**30}, {"r": "2" * 5000}, {"r": None}, {"r": [2]},
        {"lora_alpha": "nan"}, {"lora_alpha": 1e400}, {"target_modules": 5},
        {"target_modules": [1]}, {"base_model_name_or_path": 7}, {"base_model_name_or_path": []},
    ],
    ids=lambda wrong: str(wrong)[:40],
)  # fmt: skip
def test_a_config_that_lies_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    """Ranks beyond the setting's range, and values of another kind, end in words."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({**CONFIG, **wrong}))
    with pytest.raises(DittoError):
        read_adapter_config(tmp_path)


@pytest.fixture(scope="module")
def policy(tiny: Callable[[str], Path]) -> FastEngine:
    """Return a tiny model with an adapter."""
    made = tiny_policy(tiny("llama3"))
    assert made.device == CPU
    return made


def put(policy: FastEngine, folder: Path) -> dict[str, bytes]:
    """Write a policy's own adapter into a folder."""
    files = policy.adapter_files()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return files


def header(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return a safetensors file's header and what comes after it."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def told(head: dict[str, Any], rest: bytes, length: int | None = None) -> bytes:
    """Return a safetensors file with another header."""
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + rest


def larger(head: dict[str, Any]) -> dict[str, Any]:
    """Say that the first tensor has a million times its numbers."""
    name = next(n for n in head if n != "__metadata__")
    shape = [head[name]["shape"][0] * 10**6, *head[name]["shape"][1:]]
    return {**head, name: {**head[name], "shape": shape}}


LIES: dict[str, Callable[[dict[str, Any], bytes], bytes]] = {
    "larger": lambda head, rest: told(larger(head), rest),
    "cut": lambda head, rest: told(head, rest[:-7]),
    "long header": lambda head, rest: told(head, rest, 2**62),
    "nested header": lambda head, rest: struct.pack("<Q", 10**6) + b"[" * 10**6,
    "empty": lambda head, rest: b"",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(lie: str, policy: FastEngine, tmp_path: Path) -> None:
    """Shapes and lengths that the file does not have end in words; the adapter stays as it was."""
    before = put(policy, tmp_path)[WEIGHTS]
    (tmp_path / WEIGHTS).write_bytes(LIES[lie](*header(before)))
    with pytest.raises(DittoError, match="whole safetensors file"):
        policy.load_adapter(tmp_path)
    assert policy.adapter_files()[WEIGHTS] == before


def test_a_rank_that_the_weights_do_not_have_is_refused(policy: FastEngine, tmp_path: Path) -> None:
    """Weights of rank 4096 for an adapter of rank 2 are of another shape."""
    from safetensors.torch import save_file

    before = put(policy, tmp_path)[WEIGHTS]
    tensors = load_file(tmp_path / WEIGHTS)
    wide = {
        n: t.repeat(2048, 1) if "lora_A" in n else t.repeat(1, 2048) for n, t in tensors.items()
    }
    save_file(wide, tmp_path / WEIGHTS)
    with pytest.raises(DittoError):
        policy.load_adapter(tmp_path)
    assert policy.adapter_files()[WEIGHTS] == before


def test_a_pickle_is_never_read(policy: FastEngine, tmp_path: Path) -> None:
    """Weights as `.bin`, or a pickle under the right name, run nothing."""
    mark = tmp_path / "ran"
    put(policy, tmp_path)
    trap = pickle.dumps(Trap(mark))
    (tmp_path / "adapter_model.bin").write_bytes(trap)
    (tmp_path / WEIGHTS).unlink()
    for _ in range(2):
        with pytest.raises(DittoError, match="whole safetensors file"):
            policy.load_adapter(tmp_path)
        (tmp_path / WEIGHTS).write_bytes(trap)
    assert not mark.exists()
