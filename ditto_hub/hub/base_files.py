"""What a base model's files say before any weight is read: that they are whole, and go together."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from ditto_hub.engine.families import family
from ditto_hub.hub.architectures import CAUSAL, KNOWN_TO_PEFT
from ditto_hub.words import Message, Text, known

Verdict = Literal["ok", "warning", "refused"]
GIB = 1024**3
POINTER = b"version https://git-lfs.github.com/spec/"
POINTER_BYTES = (len(POINTER), 300)  # how large a pointer is
SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
INDEX = "model.safetensors.index.json"
LONGEST_HEADER = 100_000_000  # bytes; safetensors refuses more
EMBEDDING = re.compile(r"(?:^|\.)(embed_tokens|wte|word_embeddings|embed_in|embeddings)\.weight$")
OTHER_SENSES = re.compile(r"vision|audio|visual|speech")


@dataclass(frozen=True)
class Check:
    """Hold the answer to one question.

    Args:
        code: stable name: exists, access, private, licence, adapter, gguf, config, causal-lm,
            template, weights, quantised, remote-code, peft, pointer, tokenizer or family.
        verdict: ok, warning (say it and go on) or refused.
        message: what was found.
        remedy: what to do, where it is not ok.
    """

    code: str
    verdict: Verdict
    message: Text
    remedy: Text = ""


def checked(said: str, code: str, verdict: Verdict, /, **values: Any) -> Check:
    """Return the answer to a question in the words of the catalogues.

    Args:
        said: of the catalogues' text, which is `<said>.what` and, if it has one, `<said>.remedy`.
        code: of the check.
        verdict: of the check.
        values: what the texts name.
    """
    remedy = Message(f"{said}.remedy", **values) if known(f"{said}.remedy") else ""
    return Check(code, verdict, Message(f"{said}.what", **values), remedy)


@dataclass(frozen=True)
class Files:
    """What a model consists of: names with sizes, and a way to read a small one.

    Args:
        sizes: bytes of each, by name.
        read: returns a file's content, None where it cannot be had.
        start: returns a file's first bytes, as many as asked for; None where they are on the Hub.
    """

    sizes: Mapping[str, int]
    read: Callable[[str], bytes | None]
    start: Callable[[str, int], bytes] | None = None

    def json(self, path: str) -> dict[str, Any]:
        """Return an object from a JSON file; empty where there is none."""
        data = self.read(path) if path in self.sizes else None
        try:
            found = json.loads(data or b"{}")
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def template(self) -> str:
        """Return the chat template, wherever it is kept; several ones as JSON, none as nothing."""
        if "chat_template.jinja" in self.sizes:
            return (self.read("chat_template.jinja") or b"").decode(errors="replace")
        for path in ("chat_template.json", "tokenizer_config.json"):
            template = self.json(path).get("chat_template")
            if template:
                return template if isinstance(template, str) else json.dumps(template)
        return ""

    def weights(self) -> list[str]:
        """Return the names of the files with the model's own weights."""
        own = [n for n in self.sizes if n.endswith(".safetensors") and "/" not in n]
        return [n for n in own if n.startswith("model")] or [
            n for n in own if not n.startswith(("consolidated", "adapter_model"))
        ]

    def header(self, path: str) -> dict[str, Any] | None:
        """Return what a safetensors file says is in it; None where it is damaged or cut."""
        assert self.start is not None
        size = self.sizes[path]
        (length,) = struct.unpack("<Q", self.start(path, 8).ljust(8, b"\xff"))
        if length > min(LONGEST_HEADER, size - 8):
            return None
        try:
            found = json.loads(self.start(path, 8 + length)[8:])
            tensors = {k: v for k, v in found.items() if k != "__metadata__"}
            end = max((int(t["data_offsets"][1]) for t in tensors.values()), default=0)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None
        return tensors if 8 + length + end == size else None


def look(name: str, files: Files) -> Iterator[Check]:
    """Ask what the files answer; stops where a refusal makes the rest moot."""
    pointers = [path for path in sorted(files.sizes) if _is_pointer(path, files)]
    if pointers:
        yield checked("hub.base_pointer", "pointer", "refused", path=pointers[0], name=name)
        return
    if "adapter_config.json" in files.sizes:
        yield _adapter(name, files)
        return
    if "config.json" not in files.sizes:
        yield _no_config(name, files)
        return
    config = files.json("config.json")
    if not config:
        yield checked("hub.base_config_damaged", "config", "refused", name=name)
        return
    yield _causal(name, config)
    yield from _trained(config)
    yield _has_template(name, files)
    yield from _has_weights(name, files)
    yield from _plain(name, config)
    yield from _tokenizer(name, files)
    yield _peft(str(config.get("model_type", "")))


def no_gguf(name: str) -> Check:
    """Return the refusal of GGUF files."""
    return checked("hub.base_gguf", "gguf", "refused", name=name)


def _is_pointer(path: str, files: Files) -> bool:
    least, most = POINTER_BYTES
    return (
        files.start is not None
        and least < files.sizes[path] < most
        and files.start(path, least) == POINTER
    )


def _adapter(name: str, files: Files) -> Check:
    if "config.json" in files.sizes:
        return checked("hub.base_with_adapter", "adapter", "refused", name=name)
    base = files.json("adapter_config.json").get("base_model_name_or_path") or "?"
    return checked("hub.base_is_adapter", "adapter", "refused", name=name, base=base)


def _no_config(name: str, files: Files) -> Check:
    if any(path.lower().endswith(".gguf") for path in files.sizes):
        return no_gguf(name)
    return checked("hub.base_no_config", "exists", "refused", name=name)


def _causal(name: str, config: Mapping[str, Any]) -> Check:
    given = config.get("architectures")
    architectures = [str(a) for a in given] if isinstance(given, list) else []
    model_type = str(config.get("model_type", ""))
    if any(a.endswith(("ForCausalLM", "LMHeadModel")) for a in architectures) or (
        not architectures and model_type in CAUSAL
    ):
        return checked("hub.base_causal", "causal-lm", "ok", name=name, type=model_type)
    if model_type in CAUSAL and any("ConditionalGeneration" in a for a in architectures):
        return checked("hub.base_more_than_text", "causal-lm", "warning", name=name)
    told = ", ".join(architectures) or model_type or "?"
    return checked("hub.base_not_causal", "causal-lm", "refused", name=name, type=told)


def _trained(config: Mapping[str, Any]) -> Iterator[Check]:
    """Yield whether models of this type can be trained, by the table of those that were tried."""
    model_type = str(config.get("model_type", ""))
    found = family(model_type)
    if found.trained_by == "nobody":
        why = found.why.rstrip(".")
        yield checked("hub.base_untrainable", "family", "refused", type=model_type, why=why)
    elif found.trained_by == "plain":
        yield checked("hub.base_plain_engine", "family", "ok", type=model_type)


def _has_template(name: str, files: Files) -> Check:
    if files.template():
        return checked("hub.base_template", "template", "ok")
    return checked("hub.base_no_template", "template", "refused", name=name)


def _has_weights(name: str, files: Files) -> Iterator[Check]:
    found = files.weights()
    if not found:
        pickled = any(n.endswith((".bin", ".pt", ".pth")) for n in files.sizes)
        said = "hub.base_pickled" if pickled else "hub.base_no_weights"
        yield checked(said, "weights", "refused", name=name)
        return
    size = sum(files.sizes[n] for n in found) / GIB
    yield checked("hub.base_weights", "weights", "ok", gib=size)
    missing = sorted(_shards(files) - set(files.sizes))
    if missing:
        yield checked("hub.base_shard_missing", "weights", "refused", name=name, path=missing[0])
    elif files.start is not None:
        yield from _whole(name, files, found)


def _shards(files: Files) -> set[str]:
    """Return the names of the files that the index says the weights are in."""
    named = {} if "model.safetensors" in files.sizes else files.json(INDEX).get("weight_map")
    return {str(path) for path in named.values()} if isinstance(named, dict) else set()


def _whole(name: str, files: Files, weights: list[str]) -> Iterator[Check]:
    """Yield which file of weights is cut, or has another vocabulary than the config."""
    headers = {path: files.header(path) for path in weights}
    damaged = [path for path, header in headers.items() if header is None]
    if damaged:
        yield checked("hub.base_weights_cut", "weights", "refused", name=name, path=damaged[0])
        return
    shapes = [
        tensor.get("shape")
        for header in headers.values()
        for key, tensor in (header or {}).items()
        if EMBEDDING.search(key) and not OTHER_SENSES.search(key)
    ]
    config = files.json("config.json")
    text = config.get("text_config")
    vocab = config.get("vocab_size") or (text.get("vocab_size") if isinstance(text, dict) else None)
    if vocab and len(shapes) == 1 and shapes[0] and shapes[0][0] != vocab:
        rows = shapes[0][0]
        said = "hub.base_vocabulary"
        yield checked(said, "weights", "refused", name=name, vocab=vocab, rows=rows)


def _plain(name: str, config: Mapping[str, Any]) -> Iterator[Check]:
    quantised = config.get("quantization_config")
    if isinstance(quantised, dict):
        method = quantised.get("quant_method", "?")
        yield checked("hub.base_quantised", "quantised", "refused", name=name, method=method)
    model_type = str(config.get("model_type", ""))
    if config.get("auto_map") and model_type not in CAUSAL:
        yield checked("hub.base_own_code", "remote-code", "refused", name=name, type=model_type)


def _tokenizer(name: str, files: Files) -> Iterator[Check]:
    given = [path for path in SENTENCEPIECE if path in files.sizes]
    missing = [p for p in ("sentencepiece", "google.protobuf") if not _installed(p)]
    if given and missing and "tokenizer.json" not in files.sizes:
        yield checked("hub.base_sentencepiece", "tokenizer", "refused", name=name, path=given[0])


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False


def _peft(model_type: str) -> Check:
    if model_type in KNOWN_TO_PEFT:
        return checked("hub.base_known_to_peft", "peft", "ok", type=model_type)
    verdict: Verdict = "ok" if model_type in CAUSAL else "warning"
    return checked("hub.base_layers_by_name", "peft", verdict, type=model_type or "?")
