"""Base models whose files are damaged at random: said in words, or used as they are."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import CPU, PAIRS

from ditto_hub.config import Lora, Sampling
from ditto_hub.engine.base_model import context_length, load_base, load_format, translated
from ditto_hub.engine.choice import open_engine
from ditto_hub.engine.format_check import check_format
from ditto_hub.engine.protocol import Row
from ditto_hub.errors import BaseModelError, DittoError
from ditto_hub.tokens import NOBODY

Tiny = Callable[[str], Path]
VALUES = (None, -1, 0, 1, 7, 1.5, True, "", "x", [], [1], {}, {"a": 1}, "é")
SEEDS = 16


def mangle_json(data: bytes, dice: random.Random) -> bytes:
    """Return an object with one value, somewhere inside it, replaced or gone."""
    whole = json.loads(data)
    place: Any = whole
    for _ in range(dice.randint(0, 3)):
        inside = place.values() if isinstance(place, dict) else place
        deeper = [part for part in inside if isinstance(part, dict | list) and part]
        place = dice.choice(deeper) if deeper else place
    key = dice.choice(list(place) if isinstance(place, dict) else range(len(place)))
    if dice.random() < 0.2:
        del place[key]
    else:
        place[key] = dice.choice(VALUES)
    return json.dumps(whole).encode()


def mangle_bytes(data: bytes, dice: random.Random) -> bytes:
    """Return bytes cut short, or with a few of the first ones changed."""
    if dice.random() < 0.3:
        return data[: dice.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        changed[dice.randrange(min(len(data), 600))] = dice.randrange(256)
    return bytes(changed)


def mangle_header(data: bytes, dice: random.Random) -> bytes:
    """Return safetensors with one value of the header replaced or gone."""
    size = int.from_bytes(data[:8], "little")
    header = mangle_json(data[8 : 8 + size], dice)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


WAYS = {
    "config": ("config.json", mangle_json),
    "config's bytes": ("config.json", mangle_bytes),
    "tokenizer": ("tokenizer.json", mangle_json),
    "tokenizer's bytes": ("tokenizer.json", mangle_bytes),
    "tokenizer's settings": ("tokenizer_config.json", mangle_json),
    "weights' header": ("model.safetensors", mangle_header),
    "weights' bytes": ("model.safetensors", mangle_bytes),
}


def use(folder: Path) -> None:
    """Do with a base model what a check and the beginning of a run do."""
    context_length(str(folder), NOBODY)
    check_format(load_format(str(folder), NOBODY))
    base = {"id": str(folder), "revision": None}
    engine = open_engine(*load_base(base, device=CPU, token=NOBODY), Lora(rank=2), 0, base)
    prompt, answer = PAIRS[0]
    coded = engine.format.encode([{"role": "user", "content": prompt}], answer)
    rows = [Row(tuple(coded.prompt_ids), tuple(coded.completion_ids))]
    engine.backward(rows, lambda scores: -scores.sum())
    engine.sample([rows[0].prompt_ids], [[1]], Sampling(), 2)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", WAYS)
def test_damage_is_said_in_words(tiny: Tiny, tmp_path: Path, way: str) -> None:
    """Whatever is damaged in a base model, nothing but an error of ours comes of it."""
    name, mangle = WAYS[way]
    whole, escaped = (tiny("llama3") / name).read_bytes(), []
    shutil.copytree(tiny("llama3"), tmp_path / "base")
    for seed in range(SEEDS):
        (tmp_path / "base" / name).write_bytes(mangle(whole, random.Random(f"{way} {seed}")))
        try:
            use(tmp_path / "base")
        except DittoError:
            continue
        except BaseException as error:  # of Rust's panics, too
            escaped.append(f"{seed}: {error!r}")
    assert escaped == []


class PanicException(BaseException):
    """Stand in for what tokenizers raises where Rust gives up, which is no Exception."""


@pytest.mark.parametrize("error", [KeyError("model"), RuntimeError(""), PanicException("index")])
def test_the_cause_is_kept_in_the_log(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """People are told which base model it was; what a library raised is for operators."""
    with caplog.at_level("INFO"), pytest.raises(BaseModelError, match="'x'"), translated("x"):
        raise error
    assert caplog.records[0].exc_info[1] is error  # type: ignore[index]


def test_an_interrupt_is_no_fault_of_the_model() -> None:
    """Ctrl+C while a base model loads is not told as a damaged one."""
    with pytest.raises(KeyboardInterrupt), translated("x"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_said_in_words(tiny: Tiny, tmp_path: Path, missing: str) -> None:
    """A base model without one of its files is refused."""
    shutil.copytree(tiny("llama3"), tmp_path / "base")
    (tmp_path / "base" / missing).unlink()
    with pytest.raises(DittoError):
        use(tmp_path / "base")
