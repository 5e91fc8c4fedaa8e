"""The base model: where it is, how it is loaded, and what a library raises there in words."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
)
from transformers.utils import cached_file

from ditto_hub import pocket
from ditto_hub.engine import smollm2
from ditto_hub.engine.chat import ChatFormat
from ditto_hub.errors import BaseModelError, DittoError, MemoryShortError
from ditto_hub.tokens import Token, as_token

log = logging.getLogger(__name__)
UNKNOWN_CONTEXT = 4096
QUIET = ("missing_entries", "gated_repo", "connection_errors")
TRIED = (1, 2, 3, 5)  # token ids, any
THREADS = torch.get_num_threads()  # what torch began with
THREADED_PARAMETERS = 20_000_000  # from which a second thread pays


def locate(base_model_id: str) -> str:
    """Return what `from_pretrained` takes: a folder for pocket and smollm2, else the id itself.

    Raises:
        BaseModelError: smollm2 is not on this disk and cannot be fetched.
    """
    if base_model_id == smollm2.NAME:
        return str(smollm2.fetch())
    return pocket.resolve(base_model_id)


def pick_device(wish: str | None = None) -> torch.device:
    """Return the device to run on: as wished, else CUDA, MPS, or the CPU."""
    if wish:
        return torch.device(wish)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def use_threads(parameters: int) -> None:
    """Let torch compute with as many threads as pay for a model of this size on a CPU.

    Threads of a tiny model wait for each other, ten times as long where other processes work too.
    No more are used than torch began with.

    Args:
        parameters: of the model.
    """
    torch.set_num_threads(1 if parameters < THREADED_PARAMETERS else THREADS)


def pick_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device computes in it soundly, float32 elsewhere."""
    # without emulation: a T4 takes bfloat16 and computes it in software
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if bf16 else torch.float32


def reading(token: Token | str) -> dict[str, Any]:
    """Return what every load from the Hub is told: whose token it uses, and to run no code."""
    return {"token": as_token(token).sent, "trust_remote_code": False}


def load_base(
    base_model: Mapping[str, Any],
    *,
    device: torch.device | None = None,
    token: Token | str,
    dtype: str | None = None,
) -> tuple[Any, Any]:
    """Load a base model and its tokenizer, frozen and in evaluation mode.

    Args:
        base_model: {id, revision, quantize}; id is pocket, smollm2, a Hub id or a folder; quantize
            is "4bit" or missing.
        device: where to; default `pick_device()`.
        token: of the Hub, for a private or gated base model.
        dtype: "auto" for that of the stored weights; default what the device computes in.

    Raises:
        BaseModelError: it cannot be loaded, or not in 4 bits.
        MemoryShortError: the device does not hold it.
    """
    device = device or pick_device()
    where = locate(str(base_model["id"]))
    options = {"revision": base_model.get("revision"), **reading(token)}
    with translated(where):
        config = AutoConfig.from_pretrained(where, **options)
        config.attention_dropout = 0.0
        tokenizer = load_tokenizer(where, **options)
        options["dtype"] = dtype or pick_dtype(device)
        if base_model.get("quantize") == "4bit":
            options |= four_bit(device)
        model = _onto(device, lambda: _whole_model(where, config, options))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if device.type == "cpu":
        use_threads(sum(p.numel() for p in model.parameters()))
    return model.eval().requires_grad_(False), tokenizer


def _whole_model(where: str, config: Any, options: dict[str, Any]) -> Any:
    """Load a model, unless weights of it are missing: they would be random."""
    model, found = AutoModelForCausalLM.from_pretrained(
        where,
        config=config,
        use_safetensors=True,
        output_loading_info=True,
        **options,
    )
    missing = sorted(found.get("missing_keys") or ())
    if missing:
        raise BaseModelError(
            "engine.weights_missing", where=where, names=missing[0], n=len(missing)
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise BaseModelError("engine.model_with_adapter", where=where)
    return model


@contextlib.contextmanager
def translated(where: str, doing: str = "engine.base_broken") -> Iterator[None]:
    """Say in words what the libraries raise inside the block; the cause is kept in the log.

    Everything that is not ours: tokenizers raises bare exceptions and panics, transformers whatever
    a broken file makes it stumble over.

    Args:
        where: the base model, as it is told to people.
        doing: code of what is said where nothing better is known.

    Raises:
        BaseModelError: what a library raised.
    """
    try:
        yield
    except (DittoError, torch.OutOfMemoryError):
        raise
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"  # of Rust, no Exception
        if not isinstance(error, Exception) and not panic:
            raise
        log.info("could not use the base model %r", where, exc_info=True)
        text = str(error).strip()
        first = (text.splitlines() or [""])[0].strip()[:300]
        code = _code_of(error, text) or doing
        raise BaseModelError(
            code, where=where, kind=type(error).__name__, why=first.rstrip(".")
        ) from error


def _code_of(error: BaseException, text: str) -> str:
    """Return the code of what people are told, nothing where an error is of no known kind."""
    if "ignore_mismatched_sizes" in text:
        return "engine.base_mismatched"
    if "sentencepiece" in text or "tiktoken" in text:
        return "engine.base_needs_packages"
    if type(error).__name__ == "SafetensorError":
        return "engine.base_damaged"
    known = isinstance(error, OSError | ValueError | ImportError) and text
    return "engine.base_refused" if known else ""


def try_out(model: Any, where: str) -> None:
    """Run a few tokens forth and back through a model with an adapter on it.

    What a model cannot do it refuses here, and not in the middle of a run.

    Raises:
        BaseModelError: it fails, or its numbers are not finite.
        MemoryShortError: not even that fits the device.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    rows = model.get_input_embeddings().weight.shape[0]
    with translated(where, "engine.base_fails"), torch.random.fork_rng(devices=[]):
        ids = torch.tensor([TRIED], device=model.device) % rows
        logits = model(input_ids=ids, use_cache=False).logits.float()
        logits.log_softmax(-1)[..., 0].sum().backward()
        finite = bool(torch.isfinite(logits).all())
    for parameter in trained:
        parameter.grad = None
    if not finite:
        raise BaseModelError("engine.base_not_finite", where=where)


def _onto(device: torch.device, load: Callable[[], Any]) -> Any:
    """Load a model onto a device, unless it does not fit."""
    try:
        model = load()
        placed = getattr(model, "is_loaded_in_4bit", False)  # by its device_map; may not be moved
        return model if placed else model.to(device)
    except torch.OutOfMemoryError as error:
        raise MemoryShortError("engine.base_too_large", device=device.type) from error


def four_bit(device: torch.device) -> dict[str, Any]:
    """Return what loads a base model's linear layers as NF4, computing in the device's dtype.

    Raises:
        BaseModelError: bitsandbytes is not installed, or does not know the device.
    """
    if find_spec("bitsandbytes") is None:
        raise BaseModelError("engine.no_bitsandbytes")
    if device.type == "mps":
        raise BaseModelError("engine.no_4bit_on_mps")
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=pick_dtype(device),
    )
    return {"quantization_config": quantization, "device_map": {"": device}}


def load_tokenizer(where: str, **options: Any) -> Any:
    """Return a base model's tokenizer with its chat template, wherever that is kept."""
    tokenizer = AutoTokenizer.from_pretrained(where, **options)
    if not tokenizer.chat_template:
        named = {name: options.get(name) for name in ("revision", "token")}
        quiet = {f"_raise_exceptions_for_{what}": False for what in QUIET}
        found = cached_file(where, "chat_template.json", **quiet, **named)
        if found:  # where processors keep it
            tokenizer.chat_template = json.loads(Path(found).read_text("utf-8"))["chat_template"]
    return tokenizer


def load_format(base_model_id: str, token: Token | str, revision: str | None = None) -> ChatFormat:
    """Return how a base model's chat template writes, without loading its weights.

    Raises:
        BaseModelError: its tokenizer or its config cannot be read.
        ChatTemplateError: it has no chat template that can be used.
    """
    options = {"revision": revision, **reading(token)}
    with translated(base_model_id):
        where = locate(base_model_id)
        config = AutoConfig.from_pretrained(where, **options)
        return ChatFormat(load_tokenizer(where, **options), *_bounds(config))


def _bounds(config: Any) -> tuple[int | None, int | None]:
    """Return how many ids a model knows and how many tokens it reads, where its config says so."""
    text = config.get_text_config()
    found = [getattr(text, name, None) for name in ("vocab_size", "max_position_embeddings")]
    rows, context = (int(n) if n else None for n in found)
    return rows, context


def context_length(base_model_id: str, token: Token | str) -> int:
    """Return how many tokens a base model can take, answer included; 4096 where nothing says.

    Raises:
        BaseModelError: its config cannot be read.
    """
    with translated(base_model_id):
        config = AutoConfig.from_pretrained(locate(base_model_id), **reading(token))
        return _bounds(config)[1] or UNKNOWN_CONTEXT


def load_config(base_model_id: str, token: Token | str, revision: str | None = None) -> Any:
    """Return a base model's config, without loading its weights.

    Raises:
        BaseModelError: it cannot be read.
    """
    with translated(base_model_id):
        where = locate(base_model_id)
        return AutoConfig.from_pretrained(where, revision=revision, **reading(token))


def load_recommended(
    base_model_id: str, token: Token | str, revision: str | None = None
) -> dict[str, float]:
    """Return what `recommended` does, without loading the model's weights."""
    where = locate(base_model_id)
    try:
        found = GenerationConfig.from_pretrained(where, revision=revision, **reading(token))
    except (OSError, ValueError):  # it has none, or none that can be read
        return {}
    return _recommends(found)


def recommended(model: Any) -> dict[str, float]:
    """Return temperature, top_p and top_k that a model's generation config recommends, if any."""
    return _recommends(getattr(model, "generation_config", None))


def _recommends(config: Any) -> dict[str, float]:
    if not getattr(config, "do_sample", None):
        return {}
    found = {name: getattr(config, name, None) for name in ("temperature", "top_p", "top_k")}
    return {name: value for name, value in found.items() if value is not None}


def strip_adapters(model: Any) -> None:
    """Take off what an earlier use of a base model left on it: its layers and its forward again.

    A GPU worker is used again by other visitors, and what it holds in memory with it.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
    for attribute in ("forward", "peft_config"):
        model.__dict__.pop(attribute, None)
    model.eval().requires_grad_(False)


def free_memory() -> None:
    """Give memory back that nothing uses any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
