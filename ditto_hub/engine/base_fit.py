"""Do demonstrations and a base model go together? Asked of its tokenizer and config alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ditto_hub.demos.demonstrations import Demonstration
from ditto_hub.demos.findings import Finding, note
from ditto_hub.engine.chat import ChatFormat
from ditto_hub.engine.format_check import check_format
from ditto_hub.errors import DemoError
from ditto_hub.words import chained

ENGLISH = (
    "Thanks for sending the draft. I read it on the train this morning and have three small"
    " remarks, none of them urgent. Shall we talk about it on Thursday, before the others come?"
)
LEAST_BYTES = 100
SMALL_PIECES = 0.4  # tokens a byte; a tokenizer that knows a language takes .2 to .3
AGAINST_ENGLISH = 1.6


def require_fit(form: ChatFormat, demos: Iterable[Demonstration]) -> list[Finding]:
    """Refuse a base model that cannot write, or not read, these demonstrations.

    Returns:
        What of them it does not read or write as it is, which is no reason to refuse.

    Raises:
        ChatTemplateError: the base model's chat format fails a probe, or refuses the turns.
        DemoError: the base model reads fewer tokens than a demonstration has, or cannot write it.
    """
    check_format(form)
    found = findings(form, demos)
    errors = [one.said for one in found if one.level == "error"]
    if errors:
        raise DemoError("demos.unusable", findings=chained("words.then", errors))
    return found


def findings(form: ChatFormat, demos: Iterable[Demonstration]) -> list[Finding]:
    """Say what of demonstrations this base model does not read or write as it is.

    Raises:
        ChatTemplateError: its template refuses the turns of one.
    """
    given = [demo for demo in demos if demo.completion.strip()]
    found = [found for demo in given for found in _of_one(form, demo)]
    return [*found, *_unfamiliar(form, [demo.completion for demo in given])]


def _unfamiliar(form: ChatFormat, texts: Sequence[str]) -> Iterator[Finding]:
    """Say that texts fall into small pieces, as in a language that a tokenizer was not made for.

    SmolLM2's takes .22 tokens a byte of English, .36 to .39 of French, Spanish and German, .43 to
    .82 of Finnish, Russian, Arabic, Chinese and Korean, in which it hardly writes a sentence.
    """
    text = "\n".join(texts)
    size = len(text.encode())
    if size < LEAST_BYTES:
        return
    tokens = form.count(text)
    english = form.count(ENGLISH) / len(ENGLISH.encode())
    if tokens / size > max(SMALL_PIECES, AGAINST_ENGLISH * english):
        yield note("warning", "unfamiliar", tokens=tokens, characters=len(text))


def _of_one(form: ChatFormat, demo: Demonstration) -> Iterator[Finding]:
    encoded, kept = form.encode(demo.prompt, demo.completion), form.answer(demo.completion)
    size, ids = len(encoded.ids), (demo.id,)
    if form.context and size > form.context:
        yield note("error", "over-context", ids, id=demo.id, tokens=size, most=form.context)
    if kept != demo.completion:
        yield note("warning", "thought-dropped", ids, id=demo.id)
    if not kept.strip():
        yield note("error", "only-thought", ids, id=demo.id)
    elif form.decode(encoded.completion_ids).strip() != kept.strip():
        lost = form.tokenizer.unk_token_id in encoded.completion_ids
        yield note("error" if lost else "warning", "unwritable", ids, id=demo.id)
