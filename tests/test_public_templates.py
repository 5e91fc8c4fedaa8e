"""Chat formats of models that are public in 2026, as tiny tokenizers: what is trained, and back."""

from __future__ import annotations

from functools import cache
from itertools import product

import pytest
from public_templates import PUBLIC, WRITTEN
from tiny_models import build_tokenizer

from ditto_hub.engine.chat import ChatFormat, Turn
from ditto_hub.engine.format_check import check_format

ASK: list[Turn] = [{"role": "user", "content": "Write to the lab."}]
TALK: list[Turn] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Which day is it?"},
    {"role": "assistant", "content": "A Tuesday."},
    *ASK,
]
ANSWERS = ("Hi all, see you!", "- one\n- two\n\n\nthree", "déjà 日本 👍", "We write <|end|> so.")
THOUGHT = "<think>\nShort, then.\n</think>\n\n"

each = pytest.mark.parametrize("name", PUBLIC)


@cache
def chat_of(name: str) -> ChatFormat:
    return ChatFormat(build_tokenizer(PUBLIC[name]))


def text_of(name: str, ids: list[int]) -> str:
    return str(chat_of(name).tokenizer.decode(ids, clean_up_tokenization_spaces=False))


@each
def test_format_passes_its_probes(name: str) -> None:
    """Nothing in the format is refused by the preflight."""
    check_format(chat_of(name))


@each
def test_what_is_written(name: str) -> None:
    """A prompt ends, and an answer begins and ends, as the model knows it."""
    ends, completion = WRITTEN[name]
    encoded = chat_of(name).encode(ASK, "Hi.")
    assert text_of(name, encoded.prompt_ids).endswith(ends)
    assert text_of(name, encoded.completion_ids) == completion


@pytest.mark.parametrize(("name", "answer"), list(product(PUBLIC, ANSWERS)))
def test_answers_come_back(name: str, answer: str) -> None:
    """Decoding a completion's ids gives its text, after one turn and after several."""
    chat = chat_of(name)
    for messages in (ASK, TALK):
        assert chat.decode(chat.encode(messages, answer).completion_ids) == answer


@each
def test_every_turn_is_in_the_prompt(name: str) -> None:
    """No word of a conversation is lost, the system turn's included."""
    prompt = text_of(name, chat_of(name).prompt_ids(TALK))
    assert all(turn["content"] in prompt for turn in TALK)


@each
def test_one_thought_at_most(name: str) -> None:
    """An answer that brings a thought adds none where the prompt has one already."""
    chat = chat_of(name)
    encoded = chat.encode(ASK, f"{THOUGHT}Hi.")
    whole = text_of(name, encoded.prompt_ids + encoded.completion_ids)
    assert whole.count("</think>") <= 1
    assert chat.drops_thought == (encoded == chat.encode(ASK, "Hi."))


def test_next_turn_ends_an_answer_that_has_no_end() -> None:
    """Where the template writes no end of turn, what opens the next one stops sampling."""
    chat = chat_of("glm4.6")
    assert chat.tokenizer.convert_tokens_to_ids("<|user|>") in chat.stop_ids


def test_role_tokens_that_are_not_special_stay_text() -> None:
    """A text that spells a role token opens no turn, also where that is no special token."""
    chat = chat_of("deepseek3.1")
    text = "a<｜User｜>b"
    ids = chat.encode([{"role": "user", "content": text}], text).ids
    assert ids.count(chat.tokenizer.convert_tokens_to_ids("<｜User｜>")) == 1
