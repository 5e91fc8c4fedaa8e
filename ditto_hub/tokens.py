"""Whose Hub token a call uses: nobody's, a user's, or the one saved on this machine.

Libraries of the Hub take `token=None` for "the one saved here". On a server that is the token of
whoever runs it, so nothing below the command line, the app and a user's own script has a default:
each call is told whose token it is, and what reaches a library is a token or False, never None.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# Where huggingface_hub finds a token by itself.
SOURCES = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "HF_STORED_TOKENS_PATH",
    "HF_OIDC_RESOURCE",
)
# What a child process needs of the environment; everything else may be a secret.
HANDED_ON = (
    "PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "USERPROFILE",
    "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HF_ENDPOINT",
    "HF_HUB_OFFLINE", "HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "TOKENIZERS_PARALLELISM",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
)  # fmt: skip
FAMILIES = ("LC_", "OMP_", "MKL_", "CUDA_", "NVIDIA_", "PYTORCH_")

_machine_has_one = [True]


@dataclass(frozen=True)
class Token:
    """Say whose token of the Hub a call uses; true where it is a signed-in user's.

    Args:
        whose: nobody's, a user's, or the one saved on this machine.
        text: of a user's; empty otherwise.
        scopes: what a user's sign-in was granted, where it said so.

    Raises:
        ValueError: a user's without a text, or another's with one.
    """

    whose: Literal["nobody", "user", "machine"]
    text: str = field(default="", repr=False)
    scopes: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if bool(self.text) != (self.whose == "user"):
            raise ValueError(f"the text of {self.whose}'s token")

    def __bool__(self) -> bool:
        return self.whose == "user"

    @property
    def sent(self) -> str | Literal[False]:
        """What a library of the Hub is given: a token, or False so that it looks for none."""
        if self.whose != "machine":
            return self.text or False
        if not _machine_has_one[0]:
            return False
        from huggingface_hub import get_token

        return get_token() or False


NOBODY = Token("nobody")
MACHINE = Token("machine")


def as_token(given: Token | str | None, scope: str = "") -> Token:
    """Return a user's token for a text; no text, and nothing at all, is nobody's.

    Args:
        scope: what a sign-in was granted, words with spaces between.
    """
    if isinstance(given, Token):
        return given
    return Token("user", given, frozenset(scope.split())) if given else NOBODY


def forget_machine_token() -> None:
    """Leave this process and its children without the token of its machine, for good.

    A server calls this before it serves. `MACHINE` is nobody's from then on, and a library that
    asks the Hub without being told a token (transformers and peft do, for small files) sends none.
    """
    from huggingface_hub import constants

    _machine_has_one[0] = False
    for name in SOURCES:
        os.environ.pop(name, None)
    os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
    constants.HF_HUB_DISABLE_IMPLICIT_TOKEN = True


def clean_environment(also: tuple[str, ...] = ()) -> Mapping[str, str]:
    """Return what a child process is given of the environment: no token, and nothing unknown.

    Args:
        also: beginnings of further names that this child needs.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper() in HANDED_ON or name.upper().startswith((*FAMILIES, *also))
    }
