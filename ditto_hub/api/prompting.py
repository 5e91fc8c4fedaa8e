"""From texts alone to demonstrations: the base model writes the prompts that are missing."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ditto_hub.api.base_models import choose_smollm2
from ditto_hub.api.leasing import stream_back
from ditto_hub.backends.backtranslation import READ_CHARS
from ditto_hub.cost.profiles import Profile, load_profile
from ditto_hub.demos.demonstrations import MOST, Demonstration, DemoSet, as_messages
from ditto_hub.errors import DemoError
from ditto_hub.events import run_to_end
from ditto_hub.pocket.asking import requests_of
from ditto_hub.tokens import MACHINE, Token
from ditto_hub.words import Message


@dataclass(frozen=True)
class PromptWritten:
    """Say that the prompt of a text was written.

    Args:
        done: prompts so far.
        count: prompts to write.
        demo: the demonstration, with its prompt.
        notices: what a reader should know of it.
    """

    done: int
    count: int
    demo: Demonstration
    notices: tuple[Message, ...] = ()


def prompts_for(
    texts: Iterable[str],
    base_model: str = "smollm2",
    *,
    seed: int = 0,
    token: Token | str = MACHINE,
) -> DemoSet:
    """Make demonstrations of texts alone: a base model writes the prompt of each.

    Args:
        texts: as somebody wrote them.
        base_model: smollm2, a Hub id or a folder; pocket knows texts of its own grammar alone.
        seed: of the drawing; the same seed gives the same prompts.
        token: of the Hub, to read a private or gated base model.

    Returns:
        A demonstration a text, whose `prompt_by` says that its prompt is not the user's; what a
        reader should know of single texts is in the set's notices.

    Raises:
        DemoError: there is no text, or more than 50, or one that pocket cannot have written.
        BaseModelError, ChatTemplateError: the base model cannot be used.
    """
    demos = DemoSet.from_pairs((("", text) for text in texts), origin="text")
    return with_prompts(demos, base_model, seed=seed, token=token)


def with_prompts(
    demos: DemoSet,
    base_model: str,
    *,
    seed: int = 0,
    profile: Profile | None = None,
    visitor: str = "",
    token: Token | str,
) -> DemoSet:
    """Let a base model write the prompts that a set lacks; those that are there stay.

    Args:
        profile: says which backend; default one's own machine.
        visitor: owner's name or secret, whose quota of a leased GPU is used.

    Raises:
        DemoError, BaseModelError, ChatTemplateError, LeaseError: as the words say.
    """
    return run_to_end(
        stream_prompts(demos, base_model, seed=seed, profile=profile, visitor=visitor, token=token)
    )


def stream_prompts(
    demos: DemoSet,
    base_model: str,
    *,
    seed: int = 0,
    profile: Profile | None = None,
    visitor: str = "",
    token: Token | str,
) -> Generator[PromptWritten, None, DemoSet]:
    """Do what `with_prompts` does, saying each prompt when it is written.

    Args: as `with_prompts`.

    Returns:
        The set, as the generator's value; its notices have those of the steps too.

    Raises: as `with_prompts`.
    """
    missing = [d for d in demos if d.lacks_prompt]
    require_texts(missing, base_model)
    base_model = choose_smollm2(base_model)
    profile = profile or load_profile("own")
    texts = [demo.completion for demo in missing]
    written: dict[str, Demonstration] = {}
    said: dict[str, tuple[Message, ...]] = {}
    back = stream_back(texts, base_model, profile, visitor=visitor, token=token, seed=seed)
    for number, (prompt, fault) in back:
        demo = missing[number]
        written[demo.id], said[demo.id] = _prompted(demo, prompt, fault), _said(demo, fault)
        yield PromptWritten(len(written), len(missing), written[demo.id], said[demo.id])
    given = tuple(written.get(demo.id, demo) for demo in demos)
    without = {demo.id: _without(demo) for demo in demos if demo.id not in written}
    notices = (line for demo in demos for line in (said | without)[demo.id])
    return DemoSet(given, (*demos.notices, *notices))


def prompts_lease_s(count: int) -> int:
    """Return the seconds of GPU that are leased to write so many prompts."""
    from ditto_hub.backends.zerogpu.broker import prompts_s

    return round(prompts_s(count))


def require_texts(missing: Sequence[Demonstration], base_model: str) -> None:
    """Refuse texts for which no prompts can be written, before anything is loaded.

    Raises:
        DemoError: there are none, or more than a run takes, or the embedded model cannot have
            written one of them.
    """
    if not missing:
        raise DemoError("api.no_texts")
    if len(missing) > MOST:
        raise DemoError("api.many_texts", count=len(missing), most=MOST)
    if base_model == "pocket":
        strange = [demo.id for demo in missing if not requests_of(demo.completion)]
        if strange:
            raise DemoError("api.pocket_no_prompts", ids=", ".join(strange[:10]))


def _prompted(demo: Demonstration, prompt: str, fault: str) -> Demonstration:
    author: Any = "text" if fault else "model"
    return replace(demo, prompt=as_messages(prompt), prompt_by=author)


def _said(demo: Demonstration, fault: str) -> tuple[Message, ...]:
    """Say what a reader should know of the prompt that a text was given."""
    said = []
    if len(demo.completion) > READ_CHARS:
        said.append(Message("prompts.long", id=demo.id, most=READ_CHARS))
    if fault:
        said.append(Message("prompts.plain", id=demo.id, why=Message(f"prompts.fault.{fault}")))
    return tuple(said)


def _without(demo: Demonstration) -> tuple[Message, ...]:
    """Say why a demonstration got no prompt; nothing of one that has its own."""
    if not demo.completion.strip():
        return (Message("prompts.empty", id=demo.id),)
    return (Message("prompts.no_time", id=demo.id),) if demo.lacks_prompt else ()
