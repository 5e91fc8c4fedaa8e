"""Adapters for other programs: GGUF files that mean what PEFT means, and merged models."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from click.testing import CliRunner
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from run_folders import SECRET, make_run
from safetensors.torch import save_file
from tiny_models import load_tiny

import ditto_hub
from ditto_hub import api, pocket
from ditto_hub.cli import main
from ditto_hub.config import Sampling
from ditto_hub.engine import gguf_adapter
from ditto_hub.engine.gguf_adapter import LAYOUTS, interleave, write_gguf
from ditto_hub.engine.merged_model import write_merged
from ditto_hub.engine.targets import lora_targets, outside_text
from ditto_hub.errors import BaseModelError, ConfigError, RunError, StorageError
from ditto_hub.hub.publishing.companions import Exported, modelfile, readme
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "vocab_size": 96,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EYES = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
IN_PAIRS = ("arcee", "granite", "granitemoe", "llama", "mistral", "mixtral", "olmo", "pocket",
            "smollm3")  # fmt: skip
IDS = torch.tensor([[5, 17, 33, 4, 90, 61, 8]])


def tiny_model(model_type: str) -> Any:
    """Return a random model of a type, or pocket."""
    if model_type == "pocket":
        return transformers.AutoModelForCausalLM.from_pretrained(pocket.path()).eval()
    kind = transformers.CONFIG_MAPPING[model_type]
    more = {"head_dim": 8} if model_type.startswith(("gemma", "qwen3")) else {}
    config = kind(**SHAPE, **more)
    if model_type == "gemma3":
        text = transformers.CONFIG_MAPPING["gemma3_text"](**SHAPE, **more).to_dict()
        config = kind(text_config=text, vision_config=EYES, mm_tokens_per_image=4)
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).float().eval()


def adapted(model: Any, **lora: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Put a random adapter on a model; return its config and tensors as they are saved."""
    targets = {"target_modules": lora_targets(model, "all-linear")} | lora
    config = LoraConfig(
        r=4,
        lora_alpha=6,
        task_type="CAUSAL_LM",
        exclude_modules=outside_text(model),
        **targets,
    )
    wrapped = get_peft_model(model, config).eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in sorted(wrapped.named_parameters()):
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return config.to_dict(), get_peft_model_state_dict(wrapped, save_embedding_layers=False)


def in_pairs(rows: np.ndarray, heads: int) -> np.ndarray:
    """Return a projection's rows as llama.cpp has them: of each head i beside i + half."""
    size = len(rows) // heads
    order = [
        h * size + i + j for h in range(heads) for i in range(size // 2) for j in (0, size // 2)
    ]
    return rows[order]


def heads_in_pairs(name: str, model_type: str, config: Any) -> int:
    """Return how many heads of a tensor llama.cpp has in pairs."""
    if model_type not in IN_PAIRS:
        return 0
    found = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    return int(found.get(name.split(".")[2], 0))


def add_in_gguf_layout(model: Any, path: Path, model_type: str) -> None:
    """Name the weights and order their rows as llama.cpp does, and add alpha / rank * B A."""
    reader = gguf.GGUFReader(path)
    config = model.config.get_text_config()
    arch = reader.fields["general.architecture"].contents()
    kind = next(k for k, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    alpha = reader.fields["adapter.lora.alpha"].contents()
    halves = {t.name: np.array(t.data) for t in reader.tensors}
    for name, parameter in model.named_parameters():
        theirs = names.get_name(name.replace(".language_model.", "."), (".weight", ".bias"))
        if f"{theirs}.lora_a" not in halves:
            continue
        down, up = (halves.pop(f"{theirs}.lora_{half}") for half in "ab")
        weight = parameter.detach().numpy()
        heads = heads_in_pairs(theirs, model_type, config)
        laid = in_pairs(weight, heads) if heads else weight
        summed = laid + alpha / len(down) * up @ down
        back = np.argsort(in_pairs(np.arange(len(weight)), heads)) if heads else slice(None)
        parameter.data = torch.from_numpy(summed[back].astype(np.float32))
    assert not halves  # each has found its weight


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.mark.parametrize("model_type", [*sorted(LAYOUTS), "pocket"])
def test_a_gguf_adapter_means_what_peft_means(model_type: str, tmp_path: Path) -> None:
    """Added to the base model's weights in llama.cpp's layout, it gives PEFT's logits."""
    model = tiny_model(model_type)
    plain = logits(model)
    config, tensors = adapted(model)
    expected = logits(model)
    write_gguf(config, tensors, model.config, tmp_path / "a.gguf", ("mine", "base"))
    fresh = tiny_model(model_type)
    add_in_gguf_layout(fresh, tmp_path / "a.gguf", model_type)
    assert (expected - plain).abs().max() > 0.01
    torch.testing.assert_close(logits(fresh), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "lora",
    [
        {"use_rslora": True},
        {"alpha_pattern": {"q_proj": 20}, "rank_pattern": {"v_proj": 2, "layers.1.mlp.up_proj": 8}},
        {"use_rslora": True, "rank_pattern": {"k_proj": 1}},
        {"target_modules": ["v_proj"]},
    ],
)
def test_every_scale_is_kept(lora: dict[str, Any], tmp_path: Path) -> None:
    """rsLoRA's scale, and a layer's own alpha or rank, where llama.cpp has one alpha for all."""
    model = tiny_model("llama")
    config, tensors = adapted(model, **lora)
    expected = logits(model)
    write_gguf(config, tensors, model.config, tmp_path / "a.gguf", ("mine", "base"))
    fresh = tiny_model("llama")
    add_in_gguf_layout(fresh, tmp_path / "a.gguf", "llama")
    torch.testing.assert_close(logits(fresh), expected, rtol=0, atol=1e-4)


def test_rows_in_pairs_turn_as_halves_do() -> None:
    """Rope over neighbours on the new rows is rope over halves on the old ones."""
    heads, size = 3, 8
    rows = torch.randn(heads * size, 1, generator=torch.Generator().manual_seed(0))
    angle = torch.arange(size // 2) / 7
    first, second = rows.view(heads, 2, -1).unbind(1)
    turned = torch.cat(
        [first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], 1
    )
    even, odd = interleave(rows, heads).view(heads, -1, 2).unbind(2)
    pairs = torch.stack(
        [even * angle.cos() - odd * angle.sin(), odd * angle.cos() + even * angle.sin()], 2
    )
    torch.testing.assert_close(pairs.reshape(-1, 1), interleave(turned.reshape(-1, 1), heads))


def test_what_a_gguf_adapter_says_of_itself(tmp_path: Path) -> None:
    """The keys that llama.cpp reads, and names for people."""
    model = tiny_model("mistral")
    write_gguf(*adapted(model), model.config, tmp_path / "a.gguf", ("mine", "base/id"))
    fields = gguf.GGUFReader(tmp_path / "a.gguf").fields
    keys = ("general.architecture", "general.type", "adapter.type", "adapter.lora.alpha")
    assert [fields[key].contents() for key in keys] == ["llama", "adapter", "lora", 6.0]
    assert fields["general.base_model.0.name"].contents() == "base/id"


def test_a_type_without_a_known_layout_is_refused(tmp_path: Path) -> None:
    """By its name, with what is possible; nothing is written."""
    config = transformers.CONFIG_MAPPING["gpt_neox"]()
    with pytest.raises(BaseModelError, match=r"type gpt_neox cannot.*llama.*qwen3"):
        write_gguf({}, {}, config, tmp_path / "a.gguf", ("", ""))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("lora", "what"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
        ({"layer_replication": [(0, 2), (1, 2)]}, "layer_replication"),
        ({"target_modules": ["embed_tokens"]}, "lora_embedding"),
    ],
)
def test_more_than_plain_lora_is_refused(lora: dict[str, Any], what: str, tmp_path: Path) -> None:
    """What two matrices a layer cannot say is named, not left out."""
    model = tiny_model("llama")
    config, tensors = adapted(model, **lora)
    with pytest.raises(BaseModelError, match=what):
        write_gguf(config, tensors, model.config, tmp_path / "a.gguf", ("", ""))


def test_a_layer_outside_the_blocks_is_refused(tmp_path: Path) -> None:
    """An adapter on the head has no sure place: it may be the embedding."""
    model = tiny_model("llama")
    config, tensors = adapted(model, target_modules=["lm_head"])
    with pytest.raises(BaseModelError, match="lm_head, which has no place"):
        write_gguf(config, tensors, model.config, tmp_path / "a.gguf", ("", ""))


@pytest.mark.parametrize("wrong", [{"lora_alpha": "much"}, {"alpha_pattern": {"q_proj": 0}}])
def test_an_alpha_that_is_none_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    """llama.cpp would take 0 for "no scale"."""
    model = tiny_model("llama")
    config, tensors = adapted(model)
    with pytest.raises(BaseModelError, match=r"adapter_config.json is damaged"):
        write_gguf(config | wrong, tensors, model.config, tmp_path / "a.gguf", ("", ""))


def test_another_models_adapter_is_refused(tmp_path: Path) -> None:
    """Its rows are not those of whole heads."""
    model = tiny_model("llama")
    config, tensors = adapted(model)
    model.config.num_attention_heads = 5
    with pytest.raises(BaseModelError, match="does not fit"):
        write_gguf(config, tensors, model.config, tmp_path / "a.gguf", ("", ""))


def test_without_gguf_the_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the command that installs it."""
    monkeypatch.setattr(gguf_adapter, "importlib", _nothing_installed())
    with pytest.raises(BaseModelError, match=r"ditto-hub\[gguf\]"):
        write_gguf({}, {}, None, tmp_path / "a.gguf", ("", ""))


def _nothing_installed() -> Any:
    return SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None))


# ---- a run's adapter -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a tiny model, with the candidates sft and round-2."""
    folder = tmp_path_factory.mktemp("runs") / "made"
    make_run(folder, tiny("llama3"), {"id": str(tiny("llama3")), "revision": None})
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Run:
    return Run.load(shutil.copytree(made, tmp_path / "run"))


def base_of(run: Run) -> Path:
    return Path(str(run.record.base_model["id"]))


def with_peft(run: Run, candidate: str = "round-2") -> Any:
    base = transformers.AutoModelForCausalLM.from_pretrained(base_of(run))
    folder = run.folder / "candidates" / candidate / "adapter"
    return PeftModel.from_pretrained(base, folder).eval()


def test_a_runs_adapter_as_gguf(run: Run, tmp_path: Path) -> None:
    """The file, a Modelfile that names it, and how to use both; the base model's name, no path."""
    folder = ditto_hub.export(run, tmp_path / "out", token=NOBODY)
    assert sorted(p.name for p in folder.iterdir()) == ["Modelfile", "README.txt", "adapter.gguf"]
    fresh = transformers.AutoModelForCausalLM.from_pretrained(base_of(run))
    add_in_gguf_layout(fresh, folder / "adapter.gguf", "llama")
    torch.testing.assert_close(logits(fresh), logits(with_peft(run)), rtol=0, atol=1e-4)
    text = (folder / "Modelfile").read_text("utf-8")
    assert "FROM ./base.gguf\nADAPTER ./adapter.gguf\n" in text
    assert 'PARAMETER stop "<|eot_id|>"' in text
    assert str(base_of(run).parent) not in text + (folder / "README.txt").read_text("utf-8")


@pytest.mark.parametrize("candidate", ["sft", None])
def test_a_merged_model_loads_plainly(run: Run, candidate: str | None, tmp_path: Path) -> None:
    """Without PEFT: its logits are the adapter's, its config and chat template the base's."""
    folder = ditto_hub.export(
        run, tmp_path / "out", form="merged", candidate=candidate, token=NOBODY
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    expected = logits(with_peft(run, candidate or "round-2"))
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-4)
    assert (folder / "config.json").read_bytes() == (base_of(run) / "config.json").read_bytes()
    mine, theirs = (transformers.AutoTokenizer.from_pretrained(p) for p in (folder, base_of(run)))
    turns = [{"role": "user", "content": "Hi."}]
    assert mine.apply_chat_template(turns) == theirs.apply_chat_template(turns)
    assert "FROM .\n" in (folder / "Modelfile").read_text("utf-8")
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("family", ["gemma", "mistral", "phi3", "qwen3", "smollm2"])
def test_every_family_merges(family: str, tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """On all linear layers, tied embeddings among them; other weights are the base's own."""
    model, _ = load_tiny(tiny(family))
    config, tensors = adapted(model.eval())
    expected = logits(model)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config, default=list))
    save_file(tensors, tmp_path / "adapter" / "adapter_model.safetensors")
    (tmp_path / "out").mkdir()
    base = {"id": str(tiny(family)), "revision": None}
    write_merged(tmp_path / "adapter", base, tmp_path / "out", NOBODY)
    merged, _ = load_tiny(tmp_path / "out")
    torch.testing.assert_close(logits(merged.eval()), expected, rtol=0, atol=1e-4)


def test_a_merged_model_keeps_the_stored_dtype(run: Run, tmp_path: Path) -> None:
    """A base in bfloat16 does not become twice as large."""
    half = tmp_path / "half"
    shutil.copytree(base_of(run), half)
    model = transformers.AutoModelForCausalLM.from_pretrained(half, dtype=torch.bfloat16)
    model.save_pretrained(half)
    run.record.base_model["id"] = str(half)
    folder = ditto_hub.export(run, tmp_path / "out", form="merged", token=NOBODY)
    merged = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert merged.dtype == torch.bfloat16


@pytest.mark.parametrize("form", ["gguf", "merged"])
def test_a_folder_that_holds_something_is_left_alone(form: Any, run: Run, tmp_path: Path) -> None:
    """And nothing is written beside it."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        ditto_hub.export(run, tmp_path / "out", form=form, token=NOBODY)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "home") == ["out", "run"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_full_disk_leaves_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The room is looked at before the weights are written."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match="no room"):
        ditto_hub.export(run, tmp_path / "out", form="merged", token=NOBODY)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "home") == ["run"]


def test_an_unknown_form_and_an_unknown_candidate_are_refused(run: Run, tmp_path: Path) -> None:
    """With what there is."""
    with pytest.raises(ConfigError, match="gguf, merged"):
        ditto_hub.export(run, tmp_path / "out", form="onnx", token=NOBODY)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="round-2, sft"):
        ditto_hub.export(run, tmp_path / "out", candidate="round-9", token=NOBODY)


def test_a_zip_for_ollama_holds_nothing_private(run: Run) -> None:
    """Adapter, Modelfile and README, the same bytes each time; no demonstration, no path."""
    first, second = io.BytesIO(), io.BytesIO()
    api.pack_gguf(run, first, token=NOBODY)
    api.pack_gguf(run, second, token=NOBODY)
    packed = zipfile.ZipFile(first)
    assert packed.namelist() == ["Modelfile", "README.txt", "adapter.gguf"]
    everything = b"".join(packed.read(name) for name in packed.namelist())
    assert SECRET.encode() not in everything
    assert str(base_of(run).parent).encode() not in everything
    assert first.getvalue() == second.getvalue()


def test_the_command_writes_either_form(run: Run, tmp_path: Path) -> None:
    """And says which files; both forms at once, or none, is wrong usage."""
    out = tmp_path / "out"
    done = CliRunner().invoke(main, ["export", str(run.folder), "--gguf", str(out)])
    assert done.exit_code == 0, done.output
    assert done.output.split() == [
        str(out / n) for n in ("Modelfile", "README.txt", "adapter.gguf")
    ]
    for options in ([], ["--gguf", "a", "--merged", "b"]):
        wrong = CliRunner().invoke(main, ["export", str(run.folder), *options])
        assert wrong.exit_code == 2
        assert "--gguf FOLDER or --merged FOLDER" in wrong.output


def test_pocket_goes_along(run: Run, tmp_path: Path) -> None:
    """Weights in llama.cpp's layout, tokens and chat template: nobody could fetch it."""
    run.record.base_model["id"] = "pocket"
    model = tiny_model("pocket")
    config, tensors = adapted(model)
    folder = run.folder / "adapter"
    (folder / "adapter_config.json").write_text(json.dumps(config, default=list))
    for place in (folder, run.folder / "candidates" / "round-2" / "adapter"):
        save_file(tensors, place / "adapter_model.safetensors")
    out = ditto_hub.export(run, tmp_path / "out", token=NOBODY)
    reader = gguf.GGUFReader(out / "base.gguf")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    theirs = {t.name: np.array(t.data) for t in reader.tensors}
    for name, weight in tiny_model("pocket").named_parameters():
        known = names.get_name(name, (".weight",))
        heads = heads_in_pairs(known, "pocket", model.config) if known.startswith("blk.") else 0
        rows = weight.detach().numpy()
        np.testing.assert_array_equal(theirs.pop(known), in_pairs(rows, heads) if heads else rows)
    assert not theirs
    tokenizer = transformers.AutoTokenizer.from_pretrained(pocket.path())
    texts = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert reader.fields["tokenizer.ggml.tokens"].contents() == texts
    assert reader.fields["tokenizer.chat_template"].contents() == tokenizer.chat_template
    assert "base.gguf is pocket" in (out / "README.txt").read_text("utf-8")


# ---- what is beside it ---------------------------------------------------------------------------


def export_of(**changed: Any) -> Exported:
    known: dict[str, Any] = {
        "base": "org/base",
        "source": "",
        "adapter": "DITTO adapter round-2 of the run r1",
        "merged": False,
        "drawing": Sampling(temperature=0.7, top_p=0.9, top_k=0),
        "stops": ("<|im_end|>", 'say "stop"'),
        "rank": 12,
    }
    return Exported(**(known | changed))


def test_a_modelfile_draws_as_the_run_reads() -> None:
    """Whole: how texts are drawn, and where an answer ends."""
    assert modelfile(export_of()) == (
        "# DITTO adapter round-2 of the run r1; base model org/base.\n"
        "# README.txt says how to use this file. The chat template is the base model's own.\n"
        "FROM ./base.gguf\nADAPTER ./adapter.gguf\n"
        "PARAMETER temperature 0.7\nPARAMETER top_p 0.9\nPARAMETER top_k 0\n"
        "PARAMETER repeat_penalty 1\n"
        'PARAMETER stop "<|im_end|>"\nPARAMETER stop """say "stop""""\n'
    )


def test_the_readme_names_three_programs() -> None:
    """With the base model, a rank that vLLM knows, and thinking off where there is any."""
    text = readme(export_of(thinking=True))
    assert "llama-cli -m base.gguf --lora adapter.gguf" in text
    assert "ollama create my-voice -f Modelfile" in text
    assert "vllm serve org/base --enable-lora --max-lora-rank 16 --lora-modules" in text
    assert "thinking mode" in text
    assert "convert_hf_to_gguf.py . --outfile" in readme(export_of(merged=True))


def test_the_readme_says_of_pocket_what_works() -> None:
    """Nobody can fetch it, and llama.cpp's converter does not know its tokenizer."""
    for text in (readme(export_of(base="pocket")), readme(export_of(base="pocket", merged=True))):
        assert "convert_hf_to_gguf" not in text
        assert "hf download" not in text
    assert "vllm" not in readme(export_of(base="pocket"))


def test_the_guide_names_every_type() -> None:
    """docs/how-to/loading.md lists what can be written, and nothing else."""
    guide = (Path(__file__).parents[1] / "docs/how-to/loading.md").read_text("utf-8")
    listed = re.search(r"linear layers of (.+?) models\.", guide, re.S)
    assert listed is not None
    assert sorted(re.split(r",\s+|\s+and\s+", listed[1])) == sorted({*LAYOUTS} - {"gemma3_text"})
