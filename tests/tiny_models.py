"""Build tiny random models of the families we claim, each with its family's real kind of template.

No file is downloaded: a tokenizer is trained in memory on a few lines, the templates below are
short texts of ours in the families' formats, and the weights are random from a fixed seed. A model
has about 30,000 parameters in float32 and takes well under a second to build.

    folder = build_tiny("qwen3", tmp_path)
    model, tokenizer = load_tiny(folder)
"""

from __future__ import annotations

import json
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

TEXT = "\n\n".join(
    (
        "Hi all, the potluck on Friday at 3pm is cancelled because the kitchen is flooded.",
        "Please reply by noon so that I have a good idea of the count. See you there! Cheers, Ann",
        "Write an email to the lab to move the seminar to next week. user assistant system model",
        "Dear team, the meeting starts at ten in room 12. Bring your notes, and let me know.",
        "You are a helpful assistant. Hello! How are you? I am fine, thank you.",
    )
)

# Instruct kinds from Llama 3: BOS written by the template and added by the tokenizer too; trims.
LLAMA3 = """{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}\
{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim \
+ '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}\
{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""

# Mistral-Instruct v0.2: no system role, strict alternation, a space before the answer.
MISTRAL = """{{ bos_token }}{% for m in messages %}\
{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}\
{% endif %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}\
{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] | trim + eos_token }}\
{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}\
{% endfor %}"""

# Qwen3: ChatML; the last answer carries an (empty) thinking block, earlier ones do not.
QWEN3 = """{%- set ns = namespace(last_user=-1) %}{%- for m in messages %}\
{%- if m.role == 'user' %}{%- set ns.last_user = loop.index0 %}{%- endif %}{%- endfor %}\
{%- for m in messages %}{%- set content = m.content %}\
{{- '<|im_start|>' + m.role + '\n' }}{%- if m.role == 'assistant' %}\
{%- set thought = '' %}{%- if '</think>' in content %}\
{%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}\
{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}\
{%- if loop.index0 > ns.last_user and (loop.last or thought) %}\
{{- '<think>\n' + thought + '\n</think>\n\n' + content.lstrip('\n') }}\
{%- else %}{{- content }}{%- endif %}{%- else %}{{- content }}{%- endif %}\
{{- '<|im_end|>\n' }}{%- endfor %}{%- if add_generation_prompt %}\
{{- '<|im_start|>assistant\n' }}{%- if enable_thinking is defined and not enable_thinking %}\
{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}"""

# Gemma 1 and 2: no system role, strict alternation, "model" for assistant; its end of turn is not
# its end of sequence.
GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}\
{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}\
{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}\
{% endif %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}\
{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"""

# Phi-3: the end of turn, then (after the last answer) the end of sequence.
PHI3 = """{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}\
{% endif %}"""

# SmolLM2: ChatML with a system prompt of its own where none is given; BOS is <|im_start|>.
SMOLLM2 = """{% for m in messages %}{% if loop.first and m['role'] != 'system' %}\
{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM.<|im_end|>\n' }}{% endif %}\
{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""

# How Llama 3 and Qwen cut text into words: a run of line breaks stays whole, whatever follows it.
WORDS = (
    r"(?i:'[sdmt]|'ll|'ve|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}


@dataclass(frozen=True)
class Family:
    """What sets a family of models apart, as far as we meet it."""

    architecture: str  # transformers' name before "Config" and "ForCausalLM"
    template: str
    specials: tuple[str, ...]
    end_of_turn: str
    eos: str
    bos: str | None = None
    pad: str | None = None
    added: tuple[str, ...] = ()  # in the vocabulary as one token each, but not special
    words: str | None = None  # how text is cut before byte-level BPE, GPT-2's way unless given
    sentencepiece: bool = False  # spaces as a letter and bytes as a fallback, else byte-level
    adds_bos: bool = False  # the tokenizer adds BOS unless told not to
    config: dict[str, Any] = field(default_factory=dict)


FAMILIES: dict[str, Family] = {
    "llama3": Family(
        "Llama",
        LLAMA3,
        (
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
        ),
        end_of_turn="<|eot_id|>",
        eos="<|end_of_text|>",
        bos="<|begin_of_text|>",
        words=WORDS,
        adds_bos=True,
    ),
    "mistral": Family(
        "Mistral",
        MISTRAL,
        ("<unk>", "<s>", "</s>"),
        end_of_turn="</s>",
        eos="</s>",
        bos="<s>",
        sentencepiece=True,
        adds_bos=True,
        config={"sliding_window": None},
    ),
    "qwen3": Family(
        "Qwen3",
        QWEN3,
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        end_of_turn="<|im_end|>",
        eos="<|im_end|>",
        pad="<|endoftext|>",
        added=("<think>", "</think>"),
        words=WORDS,
        config={"head_dim": 8, "tie_word_embeddings": True},
    ),
    "gemma": Family(
        "Gemma2",
        GEMMA,
        ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        end_of_turn="<end_of_turn>",
        eos="<eos>",
        bos="<bos>",
        pad="<pad>",
        sentencepiece=True,
        adds_bos=True,
        config={"head_dim": 8, "query_pre_attn_scalar": 8},
    ),
    "phi3": Family(
        "Phi3",
        PHI3,
        ("<unk>", "<s>", "<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>", "<|system|>"),
        end_of_turn="<|end|>",
        eos="<|endoftext|>",
        bos="<s>",
        pad="<|endoftext|>",
        sentencepiece=True,
        config={"sliding_window": None},
    ),
    "smollm2": Family(
        "Llama",
        SMOLLM2,
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        end_of_turn="<|im_end|>",
        eos="<|im_end|>",
        bos="<|im_start|>",
        pad="<|im_end|>",
        config={"tie_word_embeddings": True},
    ),
}


def build_tiny(family: str | Family, folder: Path, seed: int = 0) -> Path:
    """Write a tiny random model of a family with its tokenizer and chat template.

    Args:
        family: one, or a key of `FAMILIES`.
        folder: where to write; made when missing.
        seed: of the weights.

    Returns:
        The folder, which `from_pretrained` loads.
    """
    kind = FAMILIES[family] if isinstance(family, str) else family
    tokenizer = build_tokenizer(kind)
    tokenizer.save_pretrained(folder)
    build_model(kind, tokenizer, seed).save_pretrained(folder)
    return folder


def load_tiny(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load what `build_tiny` wrote, as any user of transformers would."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, transformers.AutoTokenizer.from_pretrained(folder)


def build_model(kind: Family, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """Return a random model of the family, for the tokenizer's vocabulary."""
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config_class = getattr(transformers, f"{kind.architecture}Config")
    config = config_class(vocab_size=len(tokenizer), **(SHAPE | ids | kind.config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"{kind.architecture}ForCausalLM")(config)
    stops = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(kind.end_of_turn)}
    model.generation_config.eos_token_id = sorted(stops)
    return model.float()


def build_tokenizer(family: str | Family) -> PreTrainedTokenizerFast:
    """Return a family's tokenizer with its chat template, trained on a few lines."""
    kind = FAMILIES[family] if isinstance(family, str) else family
    backend = _sentencepiece(kind) if kind.sentencepiece else _byte_level(kind)
    backend.add_tokens([AddedToken(text, normalized=False) for text in kind.added])
    if kind.adds_bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{kind.bos} $A",
            special_tokens=[(kind.bos, backend.token_to_id(kind.bos))],
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=kind.bos,
        eos_token=kind.eos,
        pad_token=kind.pad,
        unk_token="<unk>" if "<unk>" in kind.specials else None,
        extra_special_tokens=[t for t in kind.specials if t not in (kind.bos, kind.eos, kind.pad)],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = kind.template
    return tokenizer


def _byte_level(kind: Family) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind.words is None)
    if kind.words is not None:
        words = pre_tokenizers.Split(Regex(kind.words), behavior="isolated")
        cut = pre_tokenizers.Sequence([words, cut])
    backend.pre_tokenizer = cut
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(kind.specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([TEXT], trainer)
    return backend


def _sentencepiece(kind: Family) -> Tokenizer:
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    draft = Tokenizer(models.BPE())
    draft.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=[*kind.specials, *fallback],
        initial_alphabet=list(string.digits + string.ascii_letters + string.punctuation),
        show_progress=False,
    )
    draft.train_from_iterator([*TEXT.split(), *(f" {word}" for word in TEXT.split())], trainer)
    learnt = json.loads(draft.to_str())["model"]
    backend = Tokenizer(
        models.BPE(
            vocab=learnt["vocab"],
            merges=[tuple(pair) for pair in learnt["merges"]],
            byte_fallback=True,
            fuse_unk=True,
            unk_token="<unk>",
        )
    )
    backend.add_special_tokens(list(kind.specials))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(content=" ", left=1)])
    return backend
