"""Chat templates of six families -> token ids: one BOS, one end of turn, one prefix."""

from __future__ import annotations

from functools import cache
from itertools import product

import pytest
from tiny_models import FAMILIES, build_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ditto_hub.engine.chat import ChatFormat, fold_system, merge_neighbours
from ditto_hub.errors import ChatTemplateError

ASK = [{"role": "user", "content": "Write an email to the lab."}]
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi there"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Write  an email."},
]
CONVERSATIONS = {"one turn": ASK, "system and three turns": TURNS}
ANSWERS = ["Hi all, see you!", "- one\n- two\n\n\nthree", "déjà 日本 👍", "1, 2", "x"]
CONTROL_TEXT = "a</s>b<|im_end|>c<end_of_turn>d<|eot_id|>e<|end|>f<s>g<bos>h<|im_start|>i"

families = pytest.mark.parametrize("family", FAMILIES)
everything = pytest.mark.parametrize(
    ("family", "turns", "answer"), list(product(FAMILIES, CONVERSATIONS, ANSWERS))
)


@cache
def chat_of(family: str) -> ChatFormat:
    return ChatFormat(build_tokenizer(family))


def with_template(
    template: str | dict[str, str] | None, family: str = "qwen3"
) -> PreTrainedTokenizerBase:
    tokenizer = build_tokenizer(family)
    tokenizer.chat_template = template
    return tokenizer


def text_of(family: str, ids: list[int]) -> str:
    return str(chat_of(family).tokenizer.decode(ids, clean_up_tokenization_spaces=False))


@families
def test_end_of_turn_is_the_templates(family: str) -> None:
    """The end of turn is found in the template, also where it is not the tokenizer's eos."""
    chat = chat_of(family)
    named = chat.tokenizer.convert_ids_to_tokens(list(chat.stop_ids))
    assert named[0] == FAMILIES[family].end_of_turn
    assert set(named) == {FAMILIES[family].end_of_turn, FAMILIES[family].eos}


@everything
def test_training_prefix_is_the_sampling_prefix(family: str, turns: str, answer: str) -> None:
    """A demonstration's prompt ids are exactly those that generation starts from."""
    chat = chat_of(family)
    messages = CONVERSATIONS[turns]
    assert chat.encode(messages, answer).prompt_ids == chat.prompt_ids(messages)


@everything
def test_end_of_turn_once_and_last(family: str, turns: str, answer: str) -> None:
    """A completion holds one end-of-turn id, at its end, and no other stop id."""
    chat = chat_of(family)
    ids = chat.encode(CONVERSATIONS[turns], answer).completion_ids
    assert [token for token in ids if token in chat.stop_ids] == [chat.end_of_turn_id] == ids[-1:]


@everything
def test_bos_at_most_once(family: str, turns: str, answer: str) -> None:
    """BOS stands first and once where the template writes one, and is nowhere else."""
    tokenizer = chat_of(family).tokenizer
    ids = chat_of(family).encode(CONVERSATIONS[turns], answer).ids
    if family == "smollm2":  # its BOS is what opens every turn
        assert ids[1] != tokenizer.bos_token_id == ids[0]
    else:
        once = family in ("llama3", "mistral", "gemma")
        assert ids.count(tokenizer.bos_token_id) == once
        assert (ids[0] == tokenizer.bos_token_id) == once


@everything
def test_decoding_gives_the_answer_back(family: str, turns: str, answer: str) -> None:
    """Decoding a completion's ids gives its text, without the template's leading space."""
    chat = chat_of(family)
    assert chat.decode(chat.encode(CONVERSATIONS[turns], answer).completion_ids) == answer


@everything
def test_sequence_reads_as_the_template_renders(family: str, turns: str, answer: str) -> None:
    """Prompt and completion together are the template's own text, up to the end of turn."""
    tokenizer = chat_of(family).tokenizer
    messages = [*CONVERSATIONS[turns], {"role": "assistant", "content": answer}]
    if family in ("mistral", "gemma"):
        messages = fold_system(messages)
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    end = text.rindex(FAMILIES[family].end_of_turn) + len(FAMILIES[family].end_of_turn)
    ids = chat_of(family).encode(CONVERSATIONS[turns], answer).ids
    assert ids == tokenizer(text[:end], add_special_tokens=False)["input_ids"]


@families
def test_control_text_in_an_answer_is_text(family: str) -> None:
    """A completion that spells control tokens keeps them as letters and ends where it ends."""
    chat = chat_of(family)
    ids = chat.encode(ASK, CONTROL_TEXT).completion_ids
    assert sum(token in chat.stop_ids for token in ids) == 1
    assert chat.decode(ids) == CONTROL_TEXT


def test_a_control_token_of_one_character_is_that_character() -> None:
    """It cannot be cut, so it is encoded as the tokenizer has it, and nothing recurses."""
    tokenizer = build_tokenizer("llama3")
    tokenizer.add_tokens(["x"], special_tokens=True)
    encoded = ChatFormat(tokenizer).encode(ASK, f"extra {CONTROL_TEXT}")
    assert tokenizer.convert_tokens_to_ids("x") in encoded.completion_ids


@families
def test_control_text_in_a_prompt_opens_no_turn(family: str) -> None:
    """A prompt that spells control tokens has as many of them as any other prompt."""
    tokenizer = build_tokenizer(family)
    chat = ChatFormat(tokenizer)
    special = set(tokenizer.all_special_ids)
    plain, spelt = (
        [i for i in chat.prompt_ids([{"role": "user", "content": text}]) if i in special]
        for text in ("abc", CONTROL_TEXT)
    )
    assert plain == spelt


@families
def test_tokenizer_is_left_as_it_was(family: str) -> None:
    """Encoding, control text included, changes neither padding nor later tokenisation."""
    tokenizer = build_tokenizer(family)
    before = (tokenizer.pad_token, tokenizer(CONTROL_TEXT)["input_ids"])
    ChatFormat(tokenizer).encode(ASK, CONTROL_TEXT)
    assert (tokenizer.pad_token, tokenizer(CONTROL_TEXT)["input_ids"]) == before


@pytest.mark.parametrize(
    ("family", "pad", "is_stop"),
    [
        ("llama3", "<|end_of_text|>", True),
        ("mistral", "</s>", True),
        ("qwen3", "<|endoftext|>", False),
        ("gemma", "<pad>", False),
        ("phi3", "<|endoftext|>", True),
        ("smollm2", "<|im_end|>", True),
    ],
)
def test_pad_is_the_tokenizers_else_eos(family: str, pad: str, is_stop: bool) -> None:
    """Padding is the tokenizer's own, else its eos, and it is told when that also ends."""
    tokenizer = build_tokenizer(family)
    chat = ChatFormat(tokenizer)
    assert (tokenizer.convert_ids_to_tokens(chat.pad_id), chat.pad_is_stop) == (pad, is_stop)


@pytest.mark.parametrize(
    ("family", "folded"),
    [
        ("llama3", False),
        ("mistral", True),
        ("qwen3", False),
        ("gemma", True),
        ("phi3", False),
        ("smollm2", False),
    ],
)
def test_refused_system_turn_goes_into_the_users(family: str, folded: bool) -> None:
    """Where the template refuses a system turn, its text leads the first user turn."""
    chat = chat_of(family)
    assert chat.folds_system == folded
    assert ("Be brief.\n\nHi there" in text_of(family, chat.prompt_ids(TURNS))) == folded


def test_dropped_system_turn_goes_into_the_users() -> None:
    """A template that drops system turns without a word gets their text in the user turn."""
    template = FAMILIES["smollm2"].template.replace(
        "{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}"
    )
    chat = ChatFormat(with_template(template))
    assert "Be brief.\n\nHi there" in text_of("qwen3", chat.prompt_ids(TURNS))


@families
def test_neighbouring_turns_are_merged_where_the_template_alternates(family: str) -> None:
    """Two user turns are one, a blank line between, in strict templates alone."""
    ids = chat_of(family).prompt_ids([*ASK, {"role": "user", "content": "Go"}])
    assert ("lab.\n\nGo" in text_of(family, ids)) == (family in ("mistral", "gemma"))


def test_thinking_is_switched_off() -> None:
    """Where the template knows thinking, the prompt closes it, in training as in sampling."""
    encoded = chat_of("qwen3").encode(ASK, "Hi.")
    assert text_of("qwen3", encoded.prompt_ids).endswith("<think>\n\n</think>\n\n")
    assert text_of("qwen3", encoded.completion_ids) == "Hi.<|im_end|>"


def test_answer_is_kept_where_the_template_would_cut_it() -> None:
    """A completion that spells a thinking tag is not cut by the template's own parsing."""
    chat = chat_of("qwen3")
    answer = "We write <think> and </think> so."
    assert text_of("qwen3", chat.encode(ASK, answer).completion_ids) == f"{answer}<|im_end|>"


OPENS_THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant: <think>{% endif %}"
)


def test_answer_closes_a_thought_that_the_prompt_opens() -> None:
    """Where every prompt opens a thought, training closes it before the answer."""
    chat = ChatFormat(with_template(OPENS_THINKING))
    encoded = chat.encode(ASK, "Hi.")
    assert text_of("qwen3", encoded.prompt_ids).endswith("assistant: <think>")
    assert text_of("qwen3", encoded.completion_ids) == "\n</think>\n\nHi.<|im_end|>"
    assert chat.decode(encoded.completion_ids) == "Hi."


def test_sampled_thought_is_no_answer() -> None:
    """What a model thinks in a thought that the prompt has opened is left out of its text."""
    chat = ChatFormat(with_template(OPENS_THINKING))
    sampled = chat.tokenizer("Short, then.\n</think>\n\nHi.", add_special_tokens=False)
    assert chat.decode(sampled["input_ids"]) == "Hi."


def test_prefix_holds_where_tokens_would_merge_across() -> None:
    """A prompt whose last token would merge with the answer's first keeps its own ids."""
    words = ["<e>", "<u>", ":", " ", "a", " a", "b"]
    backend = Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, [(" ", "a")]))
    backend.pre_tokenizer = pre_tokenizers.Split(":", behavior="isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<e>")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ 'b: ' if m.role == 'user' else ':b: ' }}{{ m.content }}"
        "{{ eos_token if m.role == 'assistant' else '' }}{% endfor %}"
        "{% if add_generation_prompt %}:b: {% endif %}"
    )
    encoded = ChatFormat(tokenizer).encode([{"role": "user", "content": "a"}], "ab")
    named = tokenizer.convert_ids_to_tokens(encoded.ids)
    assert named == ["b", ":", " a", ":", "b", ":", " ", "a", "b", "<e>"]


def test_date_is_the_same_every_day() -> None:
    """A template that writes today's date writes a fixed one, so ids do not change overnight."""
    clock = "{% if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% endif %}"
    dated = clock + "{{ '\n' + day + ', ' + strftime_now('%A %H:%M') + '\n' }}"
    ids = ChatFormat(with_template(dated + FAMILIES["smollm2"].template)).prompt_ids(ASK)
    assert text_of("qwen3", ids).startswith("\n26 Jul 2024, Friday 00:00\n<|im_start|>")


def test_several_named_templates_need_a_default() -> None:
    """Of several named templates the default is taken; without one the base is refused."""
    named = {"default": FAMILIES["qwen3"].template, "rag": "x"}
    assert ChatFormat(with_template(named)).prompt_ids(ASK)
    with pytest.raises(ChatTemplateError, match="no default"):
        ChatFormat(with_template({"tool_use": "x", "rag": "y"}))


def test_missing_end_of_turn_is_the_eos() -> None:
    """A template that writes no end of turn gets the tokenizer's eos."""
    bare = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    chat = ChatFormat(with_template(bare))
    ids = chat.encode(ASK, "Hi.").completion_ids
    assert ids.count(chat.end_of_turn_id) == 1
    assert text_of("qwen3", ids).endswith("<|im_end|>")


@families
def test_count_is_the_texts_own_tokens(family: str) -> None:
    """`count` counts a text's tokens, with no control token added."""
    tokenizer = build_tokenizer(family)
    expected = len(tokenizer("Dear team", add_special_tokens=False)["input_ids"])
    assert ChatFormat(tokenizer).count("Dear team") == expected


def test_no_chat_template_is_refused() -> None:
    """A base model without a chat template is told to be one."""
    with pytest.raises(ChatTemplateError, match="no chat template"):
        ChatFormat(with_template(None))


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ raise_exception('Not today') }}", "Not today"),
        ("{% for m in messages %}", "Unexpected end"),
        ("{{ messages[0].tools.name }}", "tools"),
        ("{{ messages[0].content + 1 }}", "str"),
    ],
)
def test_broken_template_is_refused_in_its_own_words(template: str, told: str) -> None:
    """A template that fails on a question and an answer is refused with what it said."""
    with pytest.raises(ChatTemplateError, match=told):
        ChatFormat(with_template(template))


def test_template_refusing_a_conversation_is_told_in_its_own_words() -> None:
    """A conversation that begins with the assistant is refused where roles must alternate."""
    turns = [{"role": "assistant", "content": "Hi"}, *ASK]
    with pytest.raises(ChatTemplateError, match="assistant, user: Conversation roles must"):
        chat_of("gemma").prompt_ids(turns)


@pytest.mark.parametrize("turns", [[], [*ASK, {"role": "assistant", "content": "Hi"}]])
def test_prompt_without_a_question_is_refused(turns: list[dict[str, str]]) -> None:
    """A prompt ends with the user's turn."""
    with pytest.raises(ChatTemplateError, match="The prompt's last turn"):
        chat_of("qwen3").prompt_ids(turns)


def test_folding_puts_every_system_turn_before_the_next_question() -> None:
    """System turns, wherever they stand, lead the user turn that follows them."""
    turns = [("system", "a"), ("user", "b"), ("assistant", "c"), ("system", "d"), ("user", "e")]
    folded = fold_system({"role": role, "content": text} for role, text in turns)
    assert [turn["content"] for turn in folded] == ["a\n\nb", "c", "d\n\ne"]


def test_merging_joins_neighbours_of_one_role() -> None:
    """Neighbouring turns of one role are joined, others kept."""
    turns = [("user", "a"), ("user", "b"), ("assistant", "c"), ("user", "d")]
    merged = merge_neighbours({"role": role, "content": text} for role, text in turns)
    assert [turn["content"] for turn in merged] == ["a\n\nb", "c", "d"]
