"""What goes into a repo: read and checked from the run folder, cleaned, nothing private in it.

A bundle is path -> bytes, or a path on disk for the weights. Only names listed here are taken from
an adapter's folder, and no prompt or completion unless it was asked for.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ditto_hub.errors import ConfigError, RunError
from ditto_hub.runs.folder import Run
from ditto_hub.runs.record import RunRecord
from ditto_hub.runs.results import Evaluation
from ditto_hub.runs.storage import require_plain_files, to_json_bytes, to_jsonl_bytes
from ditto_hub.version import VERSION
from ditto_hub.words import Message, told

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"
RECORD, METRICS, DEMOS, PLOT = (
    "ditto_run.json",
    "ditto_metrics.json",
    "demonstrations.jsonl",
    "candidates.png",
)
PICTURE = ".png"
FORMAT = "ditto-hub"
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
)
# Fields of LoraConfig that peft 0.10 knows; a newer one is left out where it says what its absence
# says, so that older versions, which refuse keys they do not know, load the adapter.
OLD_FIELDS = """task_type peft_type auto_mapping base_model_name_or_path revision inference_mode r
target_modules lora_alpha lora_dropout fan_in_fan_out bias use_rslora modules_to_save
init_lora_weights layers_to_transform layers_pattern rank_pattern alpha_pattern megatron_config
megatron_core loftq_config use_dora layer_replication"""
NEW_DEFAULTS: dict[str, Any] = {"qalora_group_size": 16}

Data = bytes | Path
Bundle = dict[str, Data]


@dataclass(frozen=True)
class WeightFiles:
    """Hold an adapter without its tokenizer.

    Args:
        candidate: whose it is.
        config: content of adapter_config.json.
        weights: path of the weights.
    """

    candidate: str
    config: Mapping[str, Any]
    weights: Path


@dataclass(frozen=True)
class AdapterFiles(WeightFiles):
    """Hold an adapter as a run folder has it.

    Args:
        tokenizer: file name -> path.
        probed: the run's probe was made with this adapter.
    """

    tokenizer: Mapping[str, Path]
    probed: bool

    @property
    def chat_template(self) -> str:
        """The chat template's text, or empty where there is none."""
        if path := self.tokenizer.get("chat_template.jinja"):
            return path.read_text(encoding="utf-8")
        path = self.tokenizer["tokenizer_config.json"]
        template = json.loads(path.read_text(encoding="utf-8")).get("chat_template")
        return template if isinstance(template, str) else json.dumps(template or "")


def read_adapter(run: Run, candidate: str | None = None, own_folder: bool = False) -> AdapterFiles:
    """Find a run's adapter and tokenizer and check that they are whole.

    Args:
        candidate: name of one; None for the chosen one.
        own_folder: read it among the candidates even where it is the chosen one.

    Raises:
        RunError: something is missing, damaged, or was edited by hand.
    """
    weights = read_weights(run, candidate, own_folder)
    root = run.folder / "adapter"
    found = {n: root / n for n in TOKENIZER if (root / n).is_file()}
    if "tokenizer_config.json" not in found:
        raise RunError("hub.no_tokenizer", root=root, run_id=run.record.id)
    probed = weights.candidate == (run.record.probe_of or run.record.chosen)
    return AdapterFiles(**vars(weights), tokenizer=found, probed=probed)


def read_weights(run: Run, candidate: str | None = None, own_folder: bool = False) -> WeightFiles:
    """Find a run's adapter and check that it is whole, whether or not a tokenizer is with it.

    Args:
        candidate: name of one; None for the chosen one.
        own_folder: read it among the candidates even where it is the chosen one.

    Raises:
        RunError: something is missing, damaged, or was edited by hand.
    """
    require_plain_files(run.folder)
    if candidate and candidate not in run.candidates():
        have = ", ".join(run.candidates()) or Message("runs.none_yet")
        raise RunError("hub.run_no_candidate", run_id=run.record.id, candidate=candidate, have=have)
    name = candidate or run.record.chosen
    if not name or not isinstance(name, str):
        raise RunError("hub.no_chosen_adapter", run_id=run.record.id, status=run.record.status)
    chosen = name == run.record.chosen and not own_folder
    folder = run.candidate(None if chosen else name)
    config = _read_config(folder / CONFIG)
    _check_weights(folder / WEIGHTS)
    if chosen:
        _check_chosen(run, name, folder / WEIGHTS)
    return WeightFiles(name, config, folder / WEIGHTS)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError("hub.missing_damaged", path=path, error=error) from error
    if not isinstance(data, dict) or data.get("peft_type") != "LORA" or not data.get("r"):
        raise RunError("hub.not_a_lora_config", path=path)
    return data


def _check_chosen(run: Run, name: str, weights: Path) -> None:
    """Refuse an adapter that is not the candidate it is recorded as: a choice was interrupted."""
    its_own = run.folder / "candidates" / name / "adapter" / WEIGHTS
    if its_own.is_file() and sha256(its_own) != sha256(weights):
        raise RunError("hub.adapter_is_not_the_chosen", run_id=run.record.id, name=name)


def _check_weights(path: Path) -> None:
    """Refuse a safetensors file that is missing, cut short or no such file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length < 100_000_000 else {}
        ends = [row["data_offsets"][1] for n, row in header.items() if n != "__metadata__"]
    except OSError as error:
        raise RunError("hub.file_missing", path=path, strerror=error.strerror) from error
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError("hub.adapter_file_damaged", path=path) from error
    if not ends or 8 + length + max(ends) != size:
        raise RunError("hub.adapter_wrong_size", path=path, size=size)


def clean_config(config: Mapping[str, Any], base_id: str, revision: str | None) -> bytes:
    """Return adapter_config.json for the Hub: the base's id and revision, no idle keys."""
    told = {**config, "base_model_name_or_path": base_id, "revision": revision}
    told["inference_mode"] = True
    kept = {k: v for k, v in told.items() if v is not None and not _is_idle(k, v)}
    return to_json_bytes(dict(sorted(kept.items())))


def _is_idle(key: str, value: Any) -> bool:
    if key in OLD_FIELDS.split():
        return False
    return value in (False, {}, [], "") or value == NEW_DEFAULTS.get(key) or key == "peft_version"


def published_record(
    record: RunRecord, candidate: str, base: Mapping[str, Any], counted: Mapping[str, int]
) -> dict[str, Any]:
    """Return what of run.json may be read by everybody: no owner, path, notice or message.

    Args:
        counted: of the demonstrations, in numbers.
    """
    return {
        "demonstrations": dict(counted),
        "id": record.id,
        "status": record.status,
        "base_model": dict(base),
        "config": record.config,
        "seed": record.seed,
        "created": record.created,
        "parent": record.parent,
        "stages": [{**s, "reason": told(s.get("reason", ""))} for s in record.stages],
        "candidates": {
            name: {**c, "degenerate": told(c["degenerate"])}
            for name, c in record.candidates.items()
        },
        "published_candidate": candidate,
        "chosen": record.chosen,
        "chosen_rule": record.chosen_rule,
        "chosen_reason": told(record.chosen_reason),
        "order": record.order,
        "stage_seconds": record.stage_seconds,
        "versions": record.versions,
        "hardware": public_hardware(record.hardware),
        "stopped_early": told(record.stopped_early),
        "notices": sorted({str(notice.get("code", "")) for notice in record.notices}),
    }


def public_hardware(hardware: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values that name no machine, user or path."""
    return {
        key: value
        for key, value in hardware.items()
        if isinstance(value, (str, int, float, bool))
        if not any(word in key for word in ("host", "user", "path", "node", "folder"))
        if not (isinstance(value, str) and ("/" in value or "\\" in value))
    }


def published_metrics(evaluations: tuple[Evaluation, ...]) -> list[dict[str, Any]]:
    """Return the numbers of evaluations without any text of a prompt or an answer."""
    return [
        {
            "judge": e.judge,
            "date": e.date,
            "complete": e.complete,
            "prompts": len(e.prompts),
            "prompts_source": e.prompts_source,
            "prompts_independent": e.prompts_independent,
            "samples": e.samples,
            "seed": e.seed,
            "methods": list(e.methods),
            "scores": [vars(s) for s in e.scores],
            "win_rates": [vars(w) for w in e.win_rates],
            "tally": vars(e.tally),
            "degeneration": {m: dict(v) for m, v in e.degeneration.items()},
            "missing": list(e.missing),
            "grammar_hash": e.grammar_hash,
            "ditto": e.settings.get("ditto"),
        }
        for e in evaluations
    ]


def demo_file(run: Run) -> bytes:
    """Return the demonstrations as a published file; what a user edited away stays out."""
    rows = [{k: v for k, v in d.to_json().items() if k != "original"} for d in run.demos()]
    return to_jsonl_bytes(rows)


def with_manifest(bundle: Bundle, record: Mapping[str, Any], **more: Any) -> Bundle:
    """Return the bundle with its record, in which every other file's hash stands."""
    manifest = {path: sha256(data) for path, data in sorted(bundle.items())}
    told = {"format": FORMAT, "schema_version": 1, "ditto_hub": VERSION, "run": dict(record)}
    return {**bundle, RECORD: to_json_bytes({**told, **more, "files": manifest})}


def sha256(data: Data) -> str:
    """Return a file's SHA-256."""
    return _digest(data, hashlib.sha256())


def git_id(data: Data) -> str:
    """Return the id git gives a file, which is how the Hub names files outside LFS."""
    return _digest(data, hashlib.sha1(b"blob %d\0" % size_of(data)))


def size_of(data: Data) -> int:
    """Return a file's size in bytes."""
    return len(data) if isinstance(data, bytes) else data.stat().st_size


def _digest(data: Data, digest: Any) -> str:
    if isinstance(data, bytes):
        digest.update(data)
    else:
        with data.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return str(digest.hexdigest())


def write_folder(bundle: Bundle, folder: Path) -> None:
    """Write a bundle into an empty or new folder.

    Raises:
        ConfigError: the folder holds something.
        StorageError: the disk refused.
    """
    from ditto_hub.runs.storage import told_as_storage_error, write_atomic

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("hub.folder_not_empty", folder=folder)
    with told_as_storage_error(folder):
        for path, data in bundle.items():
            write_atomic(folder / path, data if isinstance(data, bytes) else data.read_bytes())
