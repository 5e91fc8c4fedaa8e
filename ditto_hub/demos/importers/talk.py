"""Talks of people or programs, as lists of (who, text), turned into pairs of several voices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ditto_hub.demos.demonstrations import as_messages
from ditto_hub.demos.importers.pairs import Notes, Pair
from ditto_hub.errors import DemoError

Said = tuple[str, str]


def merged(said: Iterable[Said], between: str = "\n\n") -> list[Said]:
    """Return who said what, what one said in a row as one text; blank texts are left out."""
    talk: list[tuple[str, list[str]]] = []
    for who, text in said:
        if not who or not text or text.isspace():
            continue
        if talk and talk[-1][0] == who:
            talk[-1][1].append(text)
        else:
            talk.append((who, [text]))
    return [(who, between.join(texts)) for who, texts in talk]


def replies(talk: Iterable[Said]) -> Iterator[Pair]:
    """Yield each text that answers another one, in the voice of who wrote it."""
    before = ""
    for who, text in talk:
        if before:
            yield Pair(as_messages(before), text, voice=who)
        before = text


def two_sided(said: Iterable[Said], app: str, notes: Notes) -> list[Pair]:
    """Return the replies of a chat of two people; messages without text are counted.

    Raises:
        DemoError: other than two people write in it.
    """
    given = list(said)
    if blank := sum(bool(who) and not text.strip() for who, text in given):
        notes.leave("files.left_parts", count=blank)
    talk = merged(given, "\n")
    people = {who for who, _ in talk}
    if len(people) != 2:
        raise DemoError("files.chat_people", app=app, count=len(people))
    return list(replies(talk))
