"""Sent mail: an mbox or one letter; what was written is the completion, what it answers the prompt.

Quoted text, forwarded letters, the lines that announce them and signatures are taken out of the
completion; the quoted letter becomes the prompt, and the subject does where nothing is quoted.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message as Letter
from email.utils import parseaddr
from html.parser import HTMLParser

from ditto_hub.demos import as_messages
from ditto_hub.errors import DemoError
from ditto_hub.importers.pairs import Found, Pair
from ditto_hub.importers.reading import Source

LONGEST_LETTER = 1_000_000  # bytes; what is attached comes after the text
LONGEST_BODY = 200_000  # characters
LONGEST_HEADER = 2000
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
    starts = [match.span() for match in FROM_LINE.finditer(data)] or [(0, 0)]
    ends = [start for start, _ in starts[1:]] + [len(data)]
    spans = [(start, end) for (_, start), end in zip(starts, ends, strict=True)]
    whole = spans[:-1] if source.cut and spans[1:] else spans
    for number, (start, end) in enumerate(whole, start=1):
        where = f"letter {number}"
        text = data[start : min(end, start + LONGEST_LETTER)]
        try:
            pair = read_letter(message_from_bytes(re.sub(rb"(?m)^>(>*From )", rb"\1", text)))
        except RecursionError as error:
            fault = DemoError(f"{source.name}, {where}: parts nested too deep.", "Leave it out.")
            fault.__cause__ = error
            yield Found(where, fault=fault)
        else:
            yield Found(where, (pair,) if pair else ())


def read_letter(letter: Letter) -> Pair | None:
    """Take a letter's own text as the completion; None where it has none."""
    subject = " ".join(_header(letter, "subject").split())
    own, quoted = split_quoted(_body(letter)[:LONGEST_BODY])
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
            own.append("" if DEVICE.fullmatch(line.strip()) else line)
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
        known = ANNOUNCED.fullmatch(told) or (count == 1 and ANNOUNCED_IN_CHINESE.fullmatch(told))
        if known and len(told) < 300 and after.startswith(">"):
            return count
    return 0


def _rest_is_quoted(lines: list[str], place: int) -> bool:
    """Tell whether all from here on is another letter, copied with its headers."""
    line = lines[place].strip()
    if line[:1] not in OPENING:
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
    while plain and (
        not plain[0].strip()
        or DIVIDER.fullmatch(plain[0].strip())
        or COPIED_FIELD.match(plain[0].strip())
    ):
        plain.pop(0)
    return plain


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


def _body(letter: Letter) -> str:
    """Return the plain text, else the HTML's text, of the first part that is no attachment."""
    kept: dict[str, str] = {}
    for part in letter.walk():
        kind = part.get_content_type()
        if kind not in ("text/plain", "text/html") or kind in kept:
            continue
        if part.get_content_disposition() == "attachment":
            continue
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes):
            text = _text(payload, str(part.get_param("charset") or "") or None)
            kept[kind] = _unflow(text) if part.get_param("format") == "flowed" else text
    if kept.get("text/plain", "").strip():
        return kept["text/plain"]
    return _PlainText.of(kept.get("text/html", ""))


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


class _PlainText(HTMLParser):
    """Collect the text of an HTML letter, quoted blocks marked with ">"."""

    BREAKS = frozenset({"br", "p", "div", "tr", "li", "h1", "h2", "h3", "blockquote", "table"})
    SILENT = frozenset({"script", "style", "head", "title"})

    def __init__(self) -> None:
        super().__init__()
        self.lines = [""]
        self.quotes = 0
        self.silent = 0

    @classmethod
    def of(cls, html: str) -> str:
        """Return the text of an HTML letter."""
        parser = cls()
        parser.feed(html[:LONGEST_LETTER])
        parser.close()
        return "\n".join(parser.lines)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.silent += tag in self.SILENT
        self.quotes += tag == "blockquote"
        if tag in self.BREAKS:
            self._break()

    def handle_endtag(self, tag: str) -> None:
        self.silent = max(0, self.silent - (tag in self.SILENT))
        if tag == "blockquote":
            self.quotes = max(0, self.quotes - 1)
        if tag in self.BREAKS - {"br"}:
            self._break()

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.lines[-1] += re.sub(r"\s+", " ", data)

    def _break(self) -> None:
        if self.lines[-1].strip(" >"):
            self.lines.append("")
        self.lines[-1] = "> " * min(1, self.quotes)
