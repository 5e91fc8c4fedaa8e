"""What the page may run and load: its own scripts, nothing that a text could bring in.

Every text on the page is escaped. Should one slip through, the browser still runs no script and no
`onerror` of it, and sends nothing elsewhere: only inline scripts that the server sent with the page
have their hash in the policy. `'unsafe-eval'` stays, for Gradio makes functions of `js=` texts.
"""

from __future__ import annotations

import base64
import hashlib
import re

from starlette.middleware import Middleware

from ditto_hub.ui.serving.whole_page import Headers, WholePage

INLINE = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' {hashes};"
    " style-src 'self' 'unsafe-inline' https://fonts.googleapis.com;"
    " font-src 'self' data: https://fonts.gstatic.com;"
    " img-src 'self' data: blob: https://huggingface.co https://*.huggingface.co;"
    " connect-src 'self' data: blob: https://huggingface.co; worker-src 'self' blob:;"
    " object-src 'none'; frame-src 'none'; base-uri 'self';"
    " form-action 'self' https://huggingface.co"
)


def content_policy() -> Middleware:
    """Return the middleware that sends the policy with the page; outside all that change it."""
    return Middleware(WholePage, edit=_with_policy)


def policy_of(page: bytes) -> str:
    """Return the policy of a page: its own inline scripts may run."""
    hashes = (hashlib.sha256(script).digest() for script in INLINE.findall(page))
    named = (f"'sha256-{base64.b64encode(digest).decode()}'" for digest in hashes)
    return POLICY.format(hashes=" ".join(dict.fromkeys(named)))


def _with_policy(page: bytes) -> tuple[bytes, Headers]:
    return page, [(b"content-security-policy", policy_of(page).encode())]
