"""Sent mail: an mbox or one letter; what was written is the completion, what it answers the prompt.

Quoted text, forwarded letters, the lines that announce them and signatures are taken out of the
completion; the quoted letter becomes the prompt, and the subject does where nothing is quoted.
"""

from __future__ import annotations

import binascii
import itertools
import re
from collections.abc import Iterator
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message as Letter
from email.utils import parseaddr

from ditto_hub.demos.demonstrations import as_messages
from ditto_hub.demos.importers.html_text import text_of_html
from ditto_hub.demos.importers.pairs import Found, Notes, Pair
from ditto_hub.demos.importers.reading import Source
from ditto_hub.errors import DemoError
from ditto_hub.words import Message

LONGEST_LETTER = 1_000_000  # bytes; what is attached comes after the text
LONGEST_BODY = 200_000  # characters
LONGEST_HEADER = 2000
LONGEST_ANNOUNCED = 300
MOST_PARTS = 40
CONTENT_HEADER = re.compile(rb"(?m)^content-[a-z-]{1,40}:[^\n]*+(?:\n[ \t][^\n]*+)*+")
FROM_LINE = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From [^\n]*\n")
HEADER_LINE = re.compile(rb"\A(?:[A-Za-z][A-Za-z0-9-]{1,40}:[^\n]*\n(?:[ \t][^\n]*\n)*){2}")
# The line before a quoted letter, in one line or broken in two.
ANNOUNCED = re.compile(
    r"(?:On\b.+\bwrote|Am\b.+\bschrieb\b.*|Le\b.+\ba écrit|El\b.+\bescribió|Il\b.+\bha scritto"
    r"|Op\b.+\bschreef\b.*|Em\b.+\bescreveu)\s*[:：]?",
)
ANNOUNCING = ("wrote", "schrieb", "écrit", "escribi", "scritto", "schreef", "escreveu", "道")
ANNOUNCED_IN_CHINESE = re.compile(r".{0,60}(?:\d{4}|在|于|於|<.+>).{0,60}(?:写道|寫道)\s*[:：]")
DIVIDER = re.compile(
    r"-{2,}\s*(?:Original Message|Forwarded message|Begin forwarded message|Ursprüngliche Nachricht"
    r"|Message d'origine|原始邮件|原始郵件|邮件原件|转发的邮件|轉寄的郵件)\s*-{2,}|_{20,}"
    r"|Begin forwarded message:",
    re.IGNORECASE,
)
COPIED_HEADER = re.compile(r"\*?(?:From|Von|De|发件人|寄件者|寄件人|差出人)\s?[:：]\*?\s.+")
OPENING = frozenset("-_*FVDB发寄差")  # what the lines of these two patterns begin with
COPIED_FIELD = re.compile(r"\*?[^\W\d_][\w -]{1,20}\s?[:：]\*?(?:\s|$)")
DEVICE = re.compile(
    r"(?:Sent from my|Sent via|Get Outlook for|Von meinem .+ gesendet|Envoyé (?:de|depuis) mon"
    r"|Enviado desde mi|从我的.+发送|發自我的|发自我的|從我的.+傳送).{0,60}"
)


def is_mail(data: bytes, suffix: str) -> bool:
    """Tell whether bytes are an mbox or one letter."""
    if suffix in (".mbox", ".eml"):
        return True
    return data.startswith(b"From ") and bool(HEADER_LINE.match(data.partition(b"\n")[2]))


def read_mail(source: Source) -> Iterator[Found]:
    """Yield what each letter of an mbox, or the one letter there is, holds."""
    data = source.data
    for number, (start, end) in enumerate(_letters(source), start=1):
        where, notes = Message("files.letter", number=number), Notes()
        text = data[start : min(end, start + LONGEST_LETTER)]
        try:
            _require_plain(text)
            pair = read_letter(message_from_bytes(re.sub(rb"(?m)^>(>*From )", rb"\1", text)), notes)
        except (RecursionError, ValueError) as error:
            fault = DemoError("files.letter_deep", name=source.name, where=where)
            fault.__cause__ = error
            yield Found(where, fault=fault)
        else:
            if pair is None:
                notes.leave("files.left_letters")
            yield Found(where, (pair,) if pair else (), notes=notes)


def _letters(source: Source) -> Iterator[tuple[int, int]]:
    """Yield where each letter begins and ends; of several the last is left out where it is cut."""
    begun = 0
    count = 0
    for match in FROM_LINE.finditer(source.data):
        if count:
            yield begun, match.start()
        begun, count = match.end(), count + 1
    if not source.cut or count < 2:
        yield begun, len(source.data)


def _require_plain(letter: bytes) -> None:
    """Refuse what the standard library's parser takes quadratic time for.

    Raises:
        ValueError: many parts inside one another, or a header with thousands of parameters.
    """
    small = letter.lower()
    if small.count(b"multipart/") + small.count(b"message/") > MOST_PARTS:
        raise ValueError("parts")
    if any(len(found[0]) > LONGEST_HEADER for found in CONTENT_HEADER.finditer(small)):
        raise ValueError("header")


def read_letter(letter: Letter, notes: Notes) -> Pair | None:
    """Take a letter's own text as the completion; None where it has none."""
    subject = " ".join(_header(letter, "subject").split())
    own, quoted = split_quoted(_body(letter, notes)[:LONGEST_BODY])
    if not own:
        return None
    if quoted:
        prompt = f"Reply to this email:\n\n{quoted}"
    elif subject:
        prompt = f"Write an email with the subject: {subject}"
    else:
        prompt = "Write an email."
    sender = parseaddr(_header(letter, "from"))[1].lower()
    return Pair(as_messages(prompt), own, voice=sender)


def split_quoted(body: str) -> tuple[str, str]:
    """Part a letter's text into what its writer wrote and what is quoted in it."""
    lines = [line.rstrip() for line in body.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    own: list[str] = []
    quoted: list[str] = []
    place = 0
    while place < len(lines):
        line = lines[place]
        if _rest_is_quoted(lines, place):
            quoted += _without_headers(lines[place:])
            break
        if line == "--":  # "-- " stands before a signature
            while place < len(lines) and not _opens_quote(lines, place):
                place += 1
            continue
        announced = _announced(lines, place)
        if announced:
            place += announced
        elif line.startswith(">"):
            quoted.append(re.sub(r"^(?:> ?)+", "", line))
            place += 1
        else:
            own.append("" if DEVICE.fullmatch(line.strip()[:LONGEST_HEADER]) else line)
            place += 1
    return _tidy(own), _tidy(quoted)


def _opens_quote(lines: list[str], place: int) -> bool:
    quoted = lines[place].startswith(">") or _rest_is_quoted(lines, place)
    return quoted or bool(_announced(lines, place))


def _announced(lines: list[str], place: int) -> int:
    """Return how many lines say who wrote the quoted text that follows; 0 where none does."""
    near = lines[place : place + 3]
    if not any(word in line for line in near for word in ANNOUNCING):
        return 0
    for count in (1, 2, 3):
        parts = [line.strip() for line in lines[place : place + count]]
        if not all(parts):
            return 0
        told = " ".join(parts)
        after = next((line for line in lines[place + count : place + count + 3] if line), ">")
        if len(told) >= LONGEST_ANNOUNCED or not after.startswith(">"):
            continue
        if ANNOUNCED.fullmatch(told) or (count == 1 and ANNOUNCED_IN_CHINESE.fullmatch(told)):
            return count
    return 0


def _rest_is_quoted(lines: list[str], place: int) -> bool:
    """Tell whether all from here on is another letter, copied with its headers."""
    line = lines[place].strip()
    if line[:1] not in OPENING:
        return False
    if len(line) > LONGEST_HEADER:
        return False
    following = [text.strip() for text in lines[place + 1 : place + 4] if text.strip()]
    if DIVIDER.fullmatch(line):
        return not line.startswith("_") or any(map(COPIED_HEADER.fullmatch, following))
    return bool(
        COPIED_HEADER.fullmatch(line)
        and sum(bool(COPIED_FIELD.match(text)) for text in following) >= 2
    )


def _without_headers(lines: list[str]) -> list[str]:
    plain = [re.sub(r"^(?:> ?)+", "", line) for line in lines]
    return list(itertools.dropwhile(_is_header, plain))


def _is_header(line: str) -> bool:
    text = line.strip()[:LONGEST_HEADER]
    return not text or bool(DIVIDER.fullmatch(text) or COPIED_FIELD.match(text))


def _tidy(lines: list[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _header(letter: Letter, name: str) -> str:
    value = letter.get(name)
    if value is None:
        return ""
    try:
        parts = decode_header(str(value)[:LONGEST_HEADER])
    except (HeaderParseError, binascii.Error, ValueError):
        return str(value)[:LONGEST_HEADER]
    return "".join(
        _text(part, charset) if isinstance(part, bytes) else part for part, charset in parts
    )


def _body(letter: Letter, notes: Notes) -> str:
    """Return the plain text, else the HTML's text, of the first part that is no attachment."""
    kept: dict[str, str] = {}
    for part in letter.walk():
        kind = part.get_content_type()
        if part.get_content_disposition() == "attachment":
            notes.leave("files.left_parts")
            continue
        if kind not in ("text/plain", "text/html") or kind in kept:
            continue
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes):
            text = _text(payload, str(part.get_param("charset") or "") or None)
            kept[kind] = _unflow(text) if part.get_param("format") == "flowed" else text
    if kept.get("text/plain", "").strip():
        return kept["text/plain"]
    return text_of_html(kept.get("text/html", "")[:LONGEST_LETTER])


def _text(data: bytes, charset: str | None) -> str:
    for name in (charset or "utf-8", "utf-8"):
        try:
            return data.decode(name)
        except (LookupError, UnicodeError, ValueError):
            continue
    return data.decode("cp1252", errors="replace")


def _unflow(text: str) -> str:
    """Join lines that end in a space: soft breaks of format=flowed (RFC 3676)."""
    text = text.replace("\r\n", "\n")
    return re.sub(r"(?<!\n-- )(?<=[^\n>] )\n(?![\n>])", "", text.replace("\n ", "\n"))
