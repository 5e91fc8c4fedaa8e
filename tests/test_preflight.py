"""Can this base model be used? Asked of folders, of the local Hub, and of a Hub that fails."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from hub_server import Fault, Hub, local_hub

from ditto_hub import pocket
from ditto_hub.errors import BaseModelError, HubError
from ditto_hub.hub import architectures, bounds
from ditto_hub.hub.preflight import GIB, Preflight, preflight, require_usable
from ditto_hub.hub.publishing.licences import DEMANDS, Licence
from ditto_hub.tokens import MACHINE, NOBODY


def weights(size: int = 4) -> bytes:
    header = {"w": {"dtype": "F32", "shape": [size], "data_offsets": [0, 4 * size]}}
    data = json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + bytes(4 * size)


def a_model(**changes: Any) -> dict[str, bytes]:
    """Return the small files of a usable model; a change of None leaves a file out."""
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    files: dict[str, Any] = {
        "config.json": config | changes.pop("config", {}),
        "tokenizer_config.json": {"chat_template": "{{ messages }}"},
        "model.safetensors": weights(),
        "README.md": b"---\nlicense: apache-2.0\n---\n# model\n",
    }
    files.update({k.replace("__", "."): v for k, v in changes.items()})
    return {
        name: data if isinstance(data, bytes) else json.dumps(data).encode()
        for name, data in files.items()
        if data is not None
    }


def in_folder(files: dict[str, bytes], folder: Path) -> Preflight:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return preflight(str(folder), token=NOBODY)


QUANTISED = {"quantization_config": {"quant_method": "gptq"}}
OWN_CODE = {"auto_map": {"AutoModelForCausalLM": "m.M"}, "model_type": "mystery"}
ENCODER = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}
SEQ2SEQ = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}
CLASSIFIER = {"architectures": ["LlamaForSequenceClassification"]}
REFUSED: dict[str, tuple[dict[str, bytes], str, str]] = {
    "an encoder": (a_model(config=ENCODER), "causal-lm", "BertForMaskedLM"),
    "an encoder and decoder": (a_model(config=SEQ2SEQ), "causal-lm", "no causal language model"),
    "a classifier": (a_model(config=CLASSIFIER), "causal-lm", "no causal language model"),
    "no chat template": (a_model(tokenizer_config__json={}), "template", "no chat template"),
    "pickled weights": (
        a_model(model__safetensors=None) | {"pytorch_model.bin": b"x"},
        "weights",
        "only pickled weights",
    ),
    "no weights": (a_model(model__safetensors=None), "weights", "no safetensors"),
    "quantised": (a_model(config=QUANTISED), "quantised", r"quantised \(gptq\)"),
    "own code": (a_model(config=OWN_CODE), "remote-code", "brings its own code"),
    "an adapter": (
        {"adapter_config.json": b'{"base_model_name_or_path": "b/b"}'},
        "adapter",
        "itself an adapter, of b/b",
    ),
    "GGUF": ({"model-q4.gguf": b"GGUF"}, "gguf", "GGUF files"),
    "nothing of a model": ({"notes.txt": b"x"}, "exists", "no config.json"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_folders(case: str, tmp_path: Path) -> None:
    """Each kind of unusable model is refused by its own code, with what to do."""
    files, code, message = REFUSED[case]
    found = in_folder(files, tmp_path)
    assert [c.code for c in found.refused] == [code]
    assert found.refused[0].remedy
    with pytest.raises(BaseModelError, match=message):
        require_usable(found)


@pytest.mark.parametrize("case", REFUSED)
def test_refused_on_the_hub(case: str, hub: Hub) -> None:
    """The same models are refused on the Hub, by the same codes."""
    files, code, _ = REFUSED[case]
    hub.state.add_repo("base/model", files)
    assert [c.code for c in preflight("base/model", "", None, hub.endpoint).refused] == [code]


ACCEPTED: dict[str, dict[str, bytes]] = {
    "plain": a_model(),
    "template in a file": a_model(tokenizer_config__json={}) | {"chat_template.jinja": b"{{ m }}"},
    "known, with own code beside": a_model(config=OWN_CODE | {"model_type": "phi3"}),
    "unknown architecture": a_model(
        config={"model_type": "new9", "architectures": ["New9ForCausalLM"]}
    ),
    "several templates": a_model(
        tokenizer_config__json={"chat_template": [{"name": "default", "template": "{{ m }}"}]}
    ),
    "text and pictures": a_model(
        config={"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]}
    ),
    "shards": a_model(model__safetensors=None)
    | {
        "model-00001-of-00002.safetensors": weights(),
        "model-00002-of-00002.safetensors": weights(),
    },
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted_folders(case: str, tmp_path: Path) -> None:
    """Usable models pass, from a folder, without any network."""
    assert require_usable(in_folder(ACCEPTED[case], tmp_path)).weight_bytes > 0


def test_memory_counts_the_weights_once(tmp_path: Path) -> None:
    """Consolidated copies and adapters beside the weights are not counted."""
    files = a_model() | {"consolidated.safetensors": weights(99), "model.safetensors": weights(50)}
    found = in_folder(files, tmp_path)
    assert found.weight_bytes == len(weights(50))
    assert found.memory_bytes == found.weight_bytes * 4 // 3 + GIB // 2


@pytest.mark.parametrize(
    ("template", "thinks"), [("{{ enable_thinking }}", True), ("{{ m }}", False)]
)
def test_thinking_mode_is_noticed(template: str, thinks: bool, tmp_path: Path) -> None:
    """A template that asks for enable_thinking is one of a thinking model."""
    files = a_model(tokenizer_config__json={"chat_template": template})
    assert in_folder(files, tmp_path).thinking is thinks


def test_pocket_needs_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The embedded model passes with the Hub out of reach."""
    for name, data in a_model().items():
        (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(pocket, "MODEL_DIR", tmp_path)
    monkeypatch.setattr("ditto_hub.hub.preflight.HubClient", None)
    found = require_usable(preflight("pocket", token=NOBODY))
    assert (found.kind, found.licence.id) == ("pocket", "apache-2.0")


# ---- on the Hub --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with local_hub() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub) -> Iterator[Hub]:
    bounds.bound_time(bounds.Timeouts(connect_s=2, read_s=0.5, waits_s=(0.01,)))
    server.state.repos.clear()
    server.forget()
    yield server
    bounds.bound_time(bounds.Timeouts())


@pytest.fixture
def token(hub: Hub) -> str:
    return next(iter(hub.state.tokens))


def test_hub_model_passes_without_its_weights(hub: Hub) -> None:
    """A usable model passes, its commit is named, and no weight is downloaded."""
    repo = hub.state.add_repo("base/model", a_model())
    found = require_usable(preflight("base/model", "", None, hub.endpoint))
    assert found.revision == repo.head.oid
    assert not any("safetensors" in request for request in hub.requests)


def test_missing_model(hub: Hub) -> None:
    """A model that is not there is refused, and private ones are thought of."""
    found = preflight("base/none", "", None, hub.endpoint)
    assert found.refused[0].code == "exists"
    assert "hf auth login" in str(found.refused[0].remedy)


@pytest.mark.parametrize("name", ["a/b/c", "no such thing", "..", "x" * 120])
def test_no_id_and_no_folder(name: str) -> None:
    """What is neither an id nor a folder is refused without asking anybody."""
    assert [c.code for c in preflight(name, token=NOBODY).refused] == ["exists"]


def test_gguf_file_by_name() -> None:
    """A GGUF file given by its name is refused as that."""
    assert preflight("models/q4.gguf", token=NOBODY).refused[0].code == "gguf"


@pytest.mark.parametrize("signed_in", [True, False])
def test_gated_without_access(signed_in: bool, hub: Hub, token: str) -> None:
    """A gated model is refused to whoever has no access, with the page where it is asked for."""
    hub.state.add_repo("base/gated", a_model(), gated="manual")
    found = preflight("base/gated", token if signed_in else "", None, hub.endpoint)
    assert [c.code for c in found.refused] == ["access"]
    assert "https://huggingface.co/base/gated" in str(found.refused[0].remedy)
    assert found.gated


def test_gated_with_access(hub: Hub, token: str) -> None:
    """A gated model passes for whoever was let in; others are thought of in a warning."""
    hub.state.add_repo("base/gated", a_model(), gated="auto", allowed={"alice"})
    found = require_usable(preflight("base/gated", token, None, hub.endpoint))
    assert "access" in [c.code for c in found.warnings]


def test_private_model(hub: Hub, token: str) -> None:
    """A private model passes for its owner with a warning, and is not there for others."""
    hub.state.add_repo("alice/own", a_model(), private=True)
    found = preflight("alice/own", token, None, hub.endpoint)
    assert found.usable
    assert "private" in [c.code for c in found.warnings]
    assert not preflight("alice/own", "", None, hub.endpoint).usable


def test_bad_token_is_not_a_missing_model(hub: Hub) -> None:
    """A token that the Hub does not accept is told as that."""
    hub.state.add_repo("base/model", a_model())
    with pytest.raises(HubError, match="does not accept the token"):
        preflight("base/model", "hf_wrong", None, hub.endpoint)


def test_passing_failure_is_tried_again(hub: Hub) -> None:
    """One failed answer is not the end."""
    hub.state.add_repo("base/model", a_model())
    hub.faults.append(Fault("status", status=502))
    assert preflight("base/model", "", None, hub.endpoint).usable


@pytest.mark.parametrize("kind", ["stalled", "lost-before", "status"])
def test_hub_that_fails(kind: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a cached copy a Hub that fails is an error, in bounded time."""
    monkeypatch.setattr("ditto_hub.hub.preflight._cached", lambda *_: None)
    hub.faults.append(Fault(kind, times=99))
    with pytest.raises(HubError):
        preflight("base/model", "", None, hub.endpoint)


def test_cached_copy_when_offline(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the model cached, offline mode is no obstacle, and it is said."""
    snapshot = tmp_path / "models--base--model" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    for name, data in a_model().items():
        (snapshot / name).write_bytes(data)
    refs = tmp_path / "models--base--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    found = require_usable(preflight("base/model", MACHINE, None, hub.endpoint))
    assert "cached" in str(found.warnings[0].message)


# ---- licences and architectures ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ({}, Licence()),
        ({"license": "mit"}, Licence("mit")),
        ({"license": ["mit", "gemma"]}, Licence("mit")),
        (
            {"license": "other", "license_name": "mine", "license_link": "LICENSE"},
            Licence("other", "mine", "https://huggingface.co/b/m/blob/main/LICENSE"),
        ),
    ],
)
def test_licence_of_a_card(card: dict[str, Any], licence: Licence) -> None:
    """A card's licence is read in every form, a relative link completed."""
    assert Licence.from_card(card, "b/m") == licence


def test_no_licence_is_a_warning(tmp_path: Path) -> None:
    """A model without a stated licence passes with a warning."""
    found = in_folder(a_model(README__md=None), tmp_path)
    assert [c.code for c in found.warnings] == ["licence"]


@pytest.mark.parametrize("licence", [*DEMANDS, "other", "", "something-new"])
def test_every_licence_says_what_it_demands(licence: str) -> None:
    """There is a sentence for each licence, known or not."""
    assert str(Licence(licence).demands).endswith(".")


@pytest.mark.parametrize(("licence", "word"), [("llama3.2", "Llama"), ("llama2", ""), ("mit", "")])
def test_names_that_a_licence_asks_for(licence: str, word: str) -> None:
    """Llama's licences from 3 on ask for a name that begins with Llama."""
    assert Licence(licence).name_must_begin_with == word


def test_tables_are_what_is_installed() -> None:
    """Every type in our tables is one that the installed libraries know."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as targets
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as causal

    assert set(causal) >= architectures.CAUSAL
    assert set(targets) >= architectures.KNOWN_TO_PEFT
