"""The text of an HTML letter, quoted blocks marked with ">".

The standard library's parser takes quadratic time for some damaged input; this one looks at each
character a fixed number of times, and needs to know neither attributes nor how tags are nested.
"""

from __future__ import annotations

import re
from html import unescape

BREAKS = frozenset({"br", "p", "div", "tr", "li", "h1", "h2", "h3", "blockquote", "table"})
SILENT = frozenset({"script", "style", "head", "title"})
NAME = re.compile(r"/?([a-zA-Z][a-zA-Z0-9]{0,20})")
SPACES = re.compile(r"\s+")


def text_of_html(html: str) -> str:
    """Return the text of an HTML letter, a line a block."""
    page = _Page()
    at = 0
    while at < len(html):
        start = html.find("<", at)
        page.say(html[at : start if start >= 0 else len(html)])
        if start < 0:
            break
        closing = "-->" if html.startswith("<!--", start) else ">"
        end = html.find(closing, start)
        if end < 0:  # a tag that never ends
            break
        if closing == ">":
            page.tag(html[start + 1 : end])
        at = end + len(closing)
    return page.text


class _Page:
    """Gather a page's text while its tags go by."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.line: list[str] = []
        self.quotes = 0
        self.silent = 0

    @property
    def text(self) -> str:
        """The lines so far."""
        return "\n".join([*self.lines, "".join(self.line)])

    def say(self, text: str) -> None:
        """Add a text between two tags."""
        if not self.silent and text:
            self.line.append(SPACES.sub(" ", unescape(text)))

    def tag(self, inner: str) -> None:
        """Follow a tag: what breaks the line, what is quoted, what is not shown."""
        match = NAME.match(inner)
        name = match[1].lower() if match else ""
        closes = inner.startswith("/")
        if name in SILENT:
            self.silent = max(0, self.silent - 1) if closes else self.silent + 1
        if name == "blockquote":
            self.quotes = max(0, self.quotes - 1) if closes else self.quotes + 1
        if name in BREAKS and not (closes and name == "br"):
            self._break()

    def _break(self) -> None:
        line = "".join(self.line)
        if line.strip(" >"):
            self.lines.append(line)
        self.line = ["> " * min(1, self.quotes)]
