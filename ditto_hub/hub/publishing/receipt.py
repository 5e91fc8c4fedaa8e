"""What a publication leaves in the user's hand: where it is, what is in it, does it load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ditto_hub.hub.publishing.bundle import Data, sha256, size_of
from ditto_hub.hub.publishing.loadback import LoadBack
from ditto_hub.hub.publishing.uses import Use
from ditto_hub.words import Text, told


@dataclass(frozen=True)
class PublishedFile:
    """Hold one file's name in the repo, size in bytes and SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Receipt:
    """Hold what came of a publication.

    Args:
        repo_id: of the adapter.
        url: of its page; empty for a dry run.
        commit: the version that holds it; empty for a dry run.
        up_to_date: nothing had to be uploaded.
        private: seen by its owners alone.
        files: all that ditto-hub put there.
        load_back: the check, or None for a dry run.
        base_id: base model on the Hub.
        base_url: of its page where it was published along (pocket), else empty.
        snippet: the lines that load the adapter.
        uses: the same, and lines for other programs.
        notices: what the user should know.
        folder: where a dry run wrote the files, else None.
        card: the model card.
    """

    repo_id: str
    url: str
    commit: str
    up_to_date: bool
    private: bool
    files: tuple[PublishedFile, ...]
    load_back: LoadBack | None
    base_id: str
    base_url: str
    snippet: str
    notices: tuple[Text, ...]
    folder: Path | None = None
    card: str = ""
    uses: tuple[Use, ...] = ()

    @property
    def good(self) -> bool:
        """Tell whether all went well: only a failed load-back check is bad."""
        return self.load_back is None or self.load_back.status != "failed"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        plain = asdict(replace(self, load_back=None))
        check = self.load_back
        return {
            **plain,
            "load_back": check and {**asdict(check), "message": told(check.message)},
            "notices": [told(notice) for notice in self.notices],
            "folder": str(self.folder) if self.folder else None,
        }


def list_files(bundle: Mapping[str, Data]) -> tuple[PublishedFile, ...]:
    """Return a bundle's files by name."""
    return tuple(PublishedFile(p, size_of(d), sha256(d)) for p, d in sorted(bundle.items()))


def render_receipt(receipt: Receipt) -> str:
    """Put a receipt into words for a terminal."""
    lines = list(_heading(receipt))
    if receipt.load_back is not None:
        mark = {"passed": "Load-back check passed", "failed": "LOAD-BACK CHECK FAILED"}.get(
            receipt.load_back.status, "Load-back check not made"
        )
        lines.append(f"{mark}: {receipt.load_back.message}")
        if receipt.load_back.versions:
            versions = ", ".join(f"{k} {v}" for k, v in receipt.load_back.versions.items())
            lines.append(f"  loaded with {versions} in {receipt.load_back.seconds:.0f} s")
    if receipt.base_url:
        lines.append(f"Base model published along with it: {receipt.base_url}")
    lines += ["", *_table(receipt.files)]
    lines += [f"Note: {notice}" for notice in receipt.notices]
    lines += ["", "To load it:", "", *(f"    {line}" for line in receipt.snippet.splitlines())]
    return "\n".join(lines) + "\n"


def _heading(receipt: Receipt) -> Iterable[str]:
    if receipt.folder is not None:
        yield f"Dry run, nothing was sent: {receipt.repo_id} would hold what is in {receipt.folder}"
        return
    seen = "private" if receipt.private else "public"
    did = "Up to date, no commit was needed" if receipt.up_to_date else "Published"
    yield f"{did}: {receipt.url} ({seen})"
    yield f"Commit {receipt.commit}"


def _table(files: tuple[PublishedFile, ...]) -> list[str]:
    width = max(len(file.path) for file in files)
    rows = [f"  {f.path:<{width}}  {f.size:>12,}  sha256 {f.sha256[:12]}" for f in files]
    return [f"{len(files)} files, {sum(f.size for f in files):,} bytes", *rows, ""]
