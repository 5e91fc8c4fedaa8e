"""What a base model's files say before any weight is read: each kind of unfit folder, refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ditto_hub.errors import BaseModelError
from ditto_hub.hub import base_files
from ditto_hub.hub.preflight import preflight, require_usable

WEIGHTS = "model.safetensors"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
INDEX = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002"}}


@pytest.fixture
def base(tiny: Callable[[str], Path], tmp_path: Path) -> Path:
    """Return a copy of a tiny base model."""
    return shutil.copytree(tiny("smollm2"), tmp_path / "base")


def write(path: Path, data: bytes | dict[str, Any]) -> None:
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())


def with_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    write(folder / "config.json", config | changes)


def in_parts(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "model-00001-of-00002.safetensors")
    write(folder / "model.safetensors.index.json", INDEX)


def only_sentencepiece(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")


def cut_weights(folder: Path) -> None:
    write(folder / WEIGHTS, (folder / WEIGHTS).read_bytes()[:-7])


UNFIT: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "weights that git lfs has not fetched": (
        lambda f: write(f / WEIGHTS, POINTER), "pointer", "Git LFS pointer.*git lfs pull"
    ),
    "a tokenizer that git lfs has not fetched": (
        lambda f: write(f / "tokenizer.json", POINTER), "pointer", "tokenizer.json"
    ),
    "a config that git lfs has not fetched": (
        lambda f: write(f / "config.json", POINTER), "pointer", "config.json"
    ),
    "an adapter beside the model": (
        lambda f: write(f / "adapter_config.json", {"peft_type": "LORA"}),
        "adapter", "holds a model and an adapter",
    ),
    "a config of another vocabulary": (
        lambda f: with_config(f, vocab_size=9), "weights", "says 9 token ids"
    ),
    "a config cut short": (
        lambda f: write(f / "config.json", b'{"model_type'), "config", "config.json .* is damaged"
    ),
    "a shard that is missing": (in_parts, "weights", "lacks model-00002-of-00002"),
    "weights cut short": (cut_weights, "weights", "damaged or not whole"),
    "weights of noise": (
        lambda f: write(f / WEIGHTS, b"\xff" * 99), "weights", "damaged or not whole"
    ),
    "weights of nothing": (lambda f: write(f / WEIGHTS, b""), "weights", "damaged or not whole"),
}  # fmt: skip


def test_a_whole_folder_passes(base: Path) -> None:
    """A model as it was saved has nothing to refuse."""
    require_usable(preflight(str(base), ""))


@pytest.mark.parametrize("case", UNFIT)
def test_unfit_folder_is_refused(case: str, base: Path) -> None:
    """What does not go together is refused with its code and in words, before it is loaded."""
    spoil, code, words = UNFIT[case]
    spoil(base)
    found = preflight(str(base), "")
    assert [check.code for check in found.refused] == [code]
    with pytest.raises(BaseModelError, match=words):
        require_usable(found)


def test_sentencepiece_alone_names_its_packages(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tokenizer that only sentencepiece reads is refused where that is not installed."""
    only_sentencepiece(base)
    monkeypatch.setattr(base_files, "_installed", lambda package: False)
    with pytest.raises(BaseModelError, match="pip install sentencepiece protobuf"):
        require_usable(preflight(str(base), ""))
    monkeypatch.setattr(base_files, "_installed", lambda package: True)
    assert preflight(str(base), "").usable


def test_every_refusal_has_its_remedy(base: Path) -> None:
    """Where two things are wrong, what to do about both is said."""
    cut_weights(base)
    with_config(base, quantization_config={"quant_method": "gptq"})
    with pytest.raises(BaseModelError) as caught:
        require_usable(preflight(str(base), ""))
    assert "Download it again." in caught.value.remedy
    assert "made from" in caught.value.remedy


def test_vocabulary_of_a_tower_is_not_the_texts(base: Path) -> None:
    """The rows of a vision tower's own embedding are not compared with the config's."""
    tensors = load_file(base / WEIGHTS)
    tensors["vision_tower.embeddings.weight"] = torch.zeros(3, 4)
    save_file(tensors, base / WEIGHTS)
    assert preflight(str(base), "").usable
