"""Do a base model's chat format and demonstrations go together? Asked before anything runs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import FAMILIES, SHAPE, Family, build_tiny, build_tokenizer
from tiny_runs import tiny_config, tiny_demos, tiny_policy
from tokenizers import AddedToken
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    PreTrainedTokenizerBase,
)

from ditto_hub import api
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.demos.findings import Finding
from ditto_hub.ditto.sampling import length_cap
from ditto_hub.ditto.state import Work
from ditto_hub.engine.base_fit import findings, require_fit
from ditto_hub.engine.base_model import load_format
from ditto_hub.engine.chat import ChatFormat, Turn
from ditto_hub.engine.fingerprint import fingerprint
from ditto_hub.engine.format_check import check_format
from ditto_hub.errors import BaseModelError, ChatTemplateError, DemoError
from ditto_hub.runs.folder import Run

ASK: list[Turn] = [{"role": "user", "content": "Write to the lab."}]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
)
OPENS = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
PARTS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% for c in m.content %}"
    "{% if c.type == 'text' %}{{ c.text }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    + OPENS
)


def with_template(template: str, family: str = "smollm2") -> PreTrainedTokenizerBase:
    tokenizer = build_tokenizer(family)
    tokenizer.chat_template = template
    return tokenizer


def prompt_of(chat: ChatFormat) -> str:
    return str(chat.tokenizer.decode(chat.prompt_ids(ASK)))


@pytest.mark.parametrize("family", FAMILIES)
def test_sound_formats_pass(family: str) -> None:
    """No format of the families that are trained is refused."""
    check_format(ChatFormat(build_tokenizer(family)))


def test_end_of_turn_that_is_text_is_cut_from_texts() -> None:
    """A ChatML template on a tokenizer without its tokens gives texts back without them."""
    chat = ChatFormat(with_template(CHATML + OPENS, "mistral"))
    check_format(chat)
    ids = chat.encode(ASK, "Hi all, see you!").completion_ids
    assert chat.decode(ids) == "Hi all, see you!"
    assert "<|im_end|>" not in str(chat.tokenizer.decode(ids))


def test_sampled_end_of_turn_that_is_text_is_cut() -> None:
    """What a model writes after such an end of turn is no part of its answer."""
    chat = ChatFormat(with_template(CHATML + OPENS, "mistral"))
    sampled = chat.tokenizer("Hi.<|im_end|>\n<|im_start|>user", add_special_tokens=False)
    assert chat.decode(sampled["input_ids"]).strip() == "Hi."


def test_role_header_is_read_from_the_template() -> None:
    """A template that ignores add_generation_prompt has the header in its prompts all the same."""
    chat = ChatFormat(with_template(CHATML))
    check_format(chat)
    assert prompt_of(chat).endswith("<|im_start|>assistant\n")
    assert chat.decode(chat.encode(ASK, "Hi.").completion_ids) == "Hi."


def test_template_of_parts_gets_parts() -> None:
    """A template that reads a turn's parts gets the words in one."""
    chat = ChatFormat(with_template(PARTS))
    check_format(chat)
    assert chat.takes_parts
    assert "Write to the lab." in prompt_of(chat)


REFUSED = {
    "words in the prompt": "{% for m in messages %}<|im_start|>{{ m.role }}{% endfor %}",
    "opens the answer's turn": (
        "{% for m in messages %}{{ 'last: ' if loop.last else '' }}{{ m.content + '<|im_end|>' }}"
        "{% endfor %}"
    ),
}


@pytest.mark.parametrize("probe", REFUSED)
def test_template_that_fails_a_probe_is_refused(probe: str) -> None:
    """What cannot be bridged is refused with the name of the probe that failed."""
    with pytest.raises(ChatTemplateError, match=re.escape(f"fails a probe ({probe})")):
        check_format(ChatFormat(with_template(REFUSED[probe])))


def test_tokenizer_that_changes_texts_is_refused() -> None:
    """A tokenizer that does not give plain English back is refused."""
    chat = ChatFormat(build_tokenizer("smollm2"))
    chat.tokenizer.backend_tokenizer.normalizer = _lowercase()
    with pytest.raises(ChatTemplateError, match="round trip"):
        check_format(chat)


def _lowercase() -> object:
    from tokenizers.normalizers import Lowercase

    return Lowercase()


def test_id_without_a_row_is_refused() -> None:
    """A tokenizer that got tokens which the model was never resized for is refused."""
    tokenizer = with_template((CHATML + OPENS).replace("im_start", "turn"))
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    with pytest.raises(ChatTemplateError, match=rf"'<\|turn\|>' as id {rows}.* below {rows} only"):
        check_format(ChatFormat(tokenizer, rows))


def test_padding_needs_no_row() -> None:
    """A pad token that the model was not resized for is replaced by one that it knows."""
    tokenizer = build_tokenizer("llama3")
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
    chat = ChatFormat(tokenizer, rows)
    check_format(chat)
    assert chat.pad_id < rows


def test_added_token_that_is_not_special_stays_text() -> None:
    """A control token that was added as ordinary is text in a person's words."""
    tokenizer = with_template((CHATML + OPENS).replace("im_start", "turn"))
    tokenizer.add_tokens([AddedToken("<|turn|>", special=False, normalized=False)])
    chat = ChatFormat(tokenizer)
    encoded = chat.encode(ASK, "a <|turn|> b")
    assert chat.decode(encoded.completion_ids) == "a <|turn|> b"
    assert tokenizer.convert_tokens_to_ids("<|turn|>") not in encoded.completion_ids


# ---- demonstrations ----------------------------------------------------------------------------


def found_in(chat: ChatFormat, *completions: str) -> list[Finding]:
    return findings(chat, DemoSet.from_pairs([("Write to the lab.", c) for c in completions]))


def test_demonstration_beyond_the_context_is_over_long() -> None:
    """A demonstration of more tokens than the base model reads is refused, with both numbers."""
    chat = ChatFormat(build_tokenizer("smollm2"), context=64)
    demos = DemoSet.from_pairs([("Write to the lab.", "see you there " * 40), ("Ask.", "Hi.")])
    assert [f.code for f in findings(chat, demos)] == ["over-context"]
    with pytest.raises(DemoError, match=r"demo-1 is over-long.* reads 64"):
        require_fit(chat, demos)


def test_completion_that_cannot_be_written_is_refused() -> None:
    """Letters that the tokenizer turns into its unknown token would train on nothing."""
    (found,) = found_in(ChatFormat(_without_bytes()), "Hi 日本 all")
    assert (found.level, found.code) == ("error", "unwritable")


DOCS = [path.read_text("utf-8") for path in Path(__file__).parents[1].glob("docs/*.md")]
NOTE = "Thanks for the note. We will be there on Thursday and bring what you asked for."
CHINESE = "谢谢你发来的草稿。我今天早上在火车上读了，有三点小意见，都不急。我们星期四谈谈好吗？" * 2


@pytest.mark.parametrize(
    ("completion", "codes"), [(CHINESE, ["unfamiliar"]), (CHINESE[:20], []), (NOTE * 2, [])]
)
def test_a_language_that_the_tokenizer_does_not_know_is_told(
    completion: str, codes: list[str]
) -> None:
    """By its pieces, against those of English; a few letters are too little to tell by."""
    tokenizer = build_tokenizer("smollm2")
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    learned = tokenizer.backend_tokenizer.from_str(json.dumps(state))
    learned.train_from_iterator(
        DOCS,
        BpeTrainer(
            vocab_size=2000,
            special_tokens=list(tokenizer.all_special_tokens),
            initial_alphabet=ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    english = type(tokenizer)(
        tokenizer_object=learned,
        eos_token=tokenizer.eos_token,
        chat_template=tokenizer.chat_template,
    )
    assert [found.code for found in found_in(ChatFormat(english), completion)] == codes


def _without_bytes() -> PreTrainedTokenizerBase:
    tokenizer = build_tokenizer("phi3")
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["byte_fallback"] = False
    return type(tokenizer)(
        tokenizer_object=type(tokenizer.backend_tokenizer).from_str(json.dumps(state)),
        unk_token="<unk>", eos_token="<|endoftext|>", chat_template=tokenizer.chat_template,
    )  # fmt: skip


def test_thought_is_taken_out_and_said() -> None:
    """A thought before an answer is left out where the prompt has one, with a warning."""
    chat = ChatFormat(build_tokenizer("qwen3"))
    (found,) = found_in(chat, "<think>\nShort.\n</think>\n\nHi.")
    assert (found.level, found.code) == ("warning", "thought-dropped")
    encoded = chat.encode(ASK, "<think>\nShort.\n</think>\n\nHi.")
    assert encoded == chat.encode(ASK, "Hi.")


def test_what_is_left_out_is_a_notice_of_the_run(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    """A run keeps the words of what its base model leaves out of the demonstrations."""
    demos = DemoSet.from_pairs([("Ask.", "<think>\nShort.\n</think>\n\nHi."), ("Write.", "Hello.")])
    run = api.create_run(demos, str(tiny("qwen3")), output=tmp_path / "run", token="")
    assert [notice["code"] for notice in Run.load(run.folder).record.notices] == ["thought-dropped"]


def test_completion_of_a_thought_only_is_refused() -> None:
    """A completion that is nothing but a thought has no answer to train on."""
    found = found_in(ChatFormat(build_tokenizer("qwen3")), "<think>\nShort.\n</think>\n")
    assert [f.code for f in found if f.level == "error"] == ["only-thought"]


@pytest.fixture(scope="module")
def short_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a base model that reads 64 tokens."""
    kind: Family = FAMILIES["smollm2"]
    kind = replace(kind, config={**kind.config, "max_position_embeddings": 64})
    return build_tiny(kind, tmp_path_factory.mktemp("short") / "base")


def test_context_is_read_from_the_config(short_base: Path) -> None:
    """What `check --base-model` and `train` refuse by is the base model's own length."""
    demos = DemoSet.from_pairs([("Write.", "see you there " * 40), ("Ask.", "Hi all.")])
    found = api.check(demos, str(short_base))
    assert "over-context" in [f.code for f in found if f.level == "error"]
    with pytest.raises(DemoError, match="reads 64"):
        api.create_run(demos, str(short_base), token="")


def test_samples_end_within_the_context(short_base: Path) -> None:
    """No sample is longer than what the base model has room for after the longest prompt."""
    config = tiny_config("sampling.max_new_tokens=500", "sampling.length_factor=0")
    work = Work(tiny_policy(short_base, config), tiny_demos(), config)
    work.begin()
    longest = max(len(row.prompt_ids) for row in work.demo_rows)
    assert length_cap(work) == 64 - longest


# ---- the same base model all along --------------------------------------------------------------


def test_base_swapped_between_pause_and_resume_is_noticed(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    """A run does not go on with other weights than it began with, and says so."""
    base = shutil.copytree(tiny("smollm2"), tmp_path / "base")
    run = api.create_run(tiny_demos(), str(base), tiny_config(), output=tmp_path / "run", token="")
    build_tiny("smollm2", base, seed=1)
    with pytest.raises(BaseModelError, match="not the one that this run began with"):
        api.resume(run)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_fingerprint_changes_with_each_file(
    name: str, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    """A change of the weights, the config or the tokenizer is another base model."""
    base = shutil.copytree(tiny("smollm2"), tmp_path / "base")
    before = fingerprint(base)
    path = base / name
    path.write_bytes(path.read_bytes().replace(b"2", b"3"))
    assert fingerprint(base) != before


def test_template_beside_a_processor_is_found(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """A chat template that is kept in chat_template.json is the base model's."""
    base = shutil.copytree(tiny("smollm2"), tmp_path / "base")
    template = load_format(str(base), "").tokenizer.chat_template
    (base / "chat_template.jinja").unlink()
    (base / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert load_format(str(base), "").prompt_ids(ASK)


# ---- towers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", ["attention", "all-linear"])
def test_adapter_is_on_the_language_model_only(targets: str, tmp_path: Path) -> None:
    """Of a model that sees, no tensor of the adapter is on its vision tower or its projector."""
    tokenizer = build_tokenizer("gemma")
    tokenizer.save_pretrained(tmp_path)
    _seeing(len(tokenizer)).save_pretrained(tmp_path)
    engine = tiny_policy(tmp_path, tiny_config(f"lora.targets={json.dumps(targets)}"))
    names = [name for name, p in engine.model.named_parameters() if p.requires_grad]
    assert names
    assert all("language_model" in name for name in names)


def _seeing(vocab: int) -> Gemma3ForConditionalGeneration:
    text = {**SHAPE, "vocab_size": vocab, "head_dim": 8, "sliding_window": 16}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 4, "image_size": 32, "patch_size": 16}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    return Gemma3ForConditionalGeneration(config).float()
