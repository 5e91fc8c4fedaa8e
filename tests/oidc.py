"""A local sign-in for tests: as much of OpenID Connect as the app asks huggingface.co for.

    python tests/oidc.py --port 8899

Whoever is sent to /oauth/authorize is `Oidc.user` at once; `/_user?name=bob` changes who that is.
Written after huggingface.co's own answers: claims, scope and expiry are of the same form.
"""

from __future__ import annotations

import argparse
import base64
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey


class Oidc:
    """Run the provider in a thread; use as a context manager.

    Args:
        port: 0 for any free one.
        tokens: user name -> access token it hands out.
    """

    def __init__(self, port: int = 0, tokens: dict[str, str] | None = None) -> None:
        self.user = "alice"
        self.tokens = tokens or {}
        self.expires_s = 8 * 3600
        self.scope = "openid profile contribute-repos"
        self.codes: dict[str, dict[str, str]] = {}
        self.key = RSAKey.generate_key(2048, {"use": "sig", "kid": "k1"})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Oidc:
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def configuration(self) -> dict[str, Any]:
        """Return what is published under .well-known."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/oauth/authorize",
            "token_endpoint": f"{self.url}/oauth/token",
            "userinfo_endpoint": f"{self.url}/oauth/userinfo",
            "jwks_uri": f"{self.url}/oauth/jwks",
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code"],
            "scopes_supported": ["openid", "profile", "contribute-repos"],
        }

    def claims(self, client: str, nonce: str) -> dict[str, Any]:
        """Return what the identity token says of the user."""
        now = int(time.time())
        return {
            "iss": self.url,
            "sub": f"id-{self.user}",
            "aud": client,
            "exp": now + 3600,
            "iat": now,
            "nonce": nonce,
            "name": self.user.title(),
            "preferred_username": self.user,
            "profile": f"{self.url}/{self.user}",
            "picture": f"{self.url}/{self.user}.png",
            "isPro": False,
        }

    def grant(self, form: dict[str, str]) -> dict[str, Any]:
        """Return the tokens for a code."""
        asked = self.codes.pop(form["code"])
        claims = self.claims(asked["client_id"], asked.get("nonce", ""))
        return {
            "access_token": self.tokens.get(self.user, f"hf_oauth_{self.user}"),
            "token_type": "bearer",
            "expires_in": self.expires_s,
            "id_token": jwt.encode({"alg": "RS256", "kid": "k1"}, claims, self.key),
            "scope": self.scope,
        }


def _handler(oidc: Oidc) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {k: v[0] for k, v in parse_qs(url.query).items()}
            if url.path == "/.well-known/openid-configuration":
                self._send(oidc.configuration())
            elif url.path == "/oauth/jwks":
                self._send({"keys": [oidc.key.as_dict(private=False)]})
            elif url.path == "/oauth/userinfo":
                self._send(oidc.claims("", ""))
            elif url.path == "/_user":
                oidc.user = query["name"]
                self._send({"user": oidc.user})
            elif url.path == "/oauth/authorize":
                code = secrets.token_urlsafe(8)
                oidc.codes[code] = query
                back = urlencode({"code": code, "state": query["state"]})
                joint = "&" if "?" in query["redirect_uri"] else "?"
                self._redirect(f"{query['redirect_uri']}{joint}{back}")
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            size = int(self.headers.get("content-length") or 0)
            form = {k: v[0] for k, v in parse_qs(self.rfile.read(size).decode()).items()}
            assert base64.b64decode(self.headers["authorization"].split()[1])
            self._send(oidc.grant(form))

        def _send(self, data: dict[str, Any]) -> None:
            body = json.dumps(data).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _redirect(self, where: str) -> None:
            self.send_response(302)
            self.send_header("location", where)
            self.send_header("content-length", "0")
            self.end_headers()

    return Handler


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8899)
    with Oidc(parser.parse_args().port) as oidc:
        print(f"OPENID_PROVIDER_URL={oidc.url}")
        threading.Event().wait()


if __name__ == "__main__":
    main()
