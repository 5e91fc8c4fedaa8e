"""Whose Hub token is used: a visitor never acts with the token of whoever runs the server."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
import huggingface_hub.constants
import pytest
from built_apps import SECRET, handler, request
from hub_server import Hub
from hub_state import HubState

import ditto_hub
from ditto_hub.config import preset
from ditto_hub.cost.profiles import load_profile
from ditto_hub.engine import smollm2
from ditto_hub.errors import DittoError
from ditto_hub.evaluation.language_judge import Endpoint
from ditto_hub.hub.publishing.loadback import LoadBackQuestion, check_load_back
from ditto_hub.tokens import MACHINE, NOBODY, Token, as_token, clean_environment
from ditto_hub.ui.html.cards import new_card
from ditto_hub.ui.serving import session
from ditto_hub.ui.steps.remote import Wish
from ditto_hub.ui.steps.train import start_run

PRIVATE = "owner/secret-model"
MODEL = {
    "config.json": b'{"model_type": "llama", "architectures": ["LlamaForCausalLM"],'
    b' "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,'
    b' "intermediate_size": 8, "vocab_size": 9}',
    "tokenizer_config.json": b'{"chat_template": "{{ messages }}"}',
    "model.safetensors": b"\x02\x00\x00\x00\x00\x00\x00\x00{}",
}
ROWS = [{"prompt": f"Write about {n}.", "completion": f"Text {n}."} for n in range(4)]
PACKAGE = Path(ditto_hub.__file__).parent


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    """Run a Hub."""
    with Hub() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Put a private model on the Hub, and its owner's token into the server's environment."""
    server.state = HubState()
    server.forget()
    owner = server.add_user("owner")
    server.add_user("mallory")
    server.state.add_repo(PRIVATE, MODEL, private=True)
    monkeypatch.setenv("HF_TOKEN", owner)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.endpoint)
    monkeypatch.setattr(session, "_signed_out", [NOBODY])
    return server


def ask(attack: str, token: gr.OAuthToken | None = None) -> str:
    """Ask the app on ZeroGPU about the private model in one of its ways, and return all it says."""
    config = preset("fast")
    cards = [new_card(row["prompt"], row["completion"], "program") for row in ROWS]
    asking = session.visitor(request(), None, SECRET)
    space: Any = type("Shared", (), {"profile": load_profile("zerogpu"), "sign_in": True})()
    attacks: dict[str, Callable[[], Any]] = {
        "endpoint": lambda: handler("zerogpu", "estimate")(ROWS, PRIVATE, "fast", ""),
        "field": lambda: handler("zerogpu", "described")(
            SECRET, request(), None, token, None, "pocket", PRIVATE
        ),
        "start": lambda: start_run(
            cards, PRIVATE, "", config, asking, space, session.token_of(token), Wish()
        ),
    }
    try:
        return str(attacks[attack]())
    except (DittoError, gr.Error) as error:
        return str(error)


@pytest.mark.parametrize("attack", ["endpoint", "field", "start"])
def test_an_anonymous_visitor_asks_as_nobody(attack: str, hub: Hub) -> None:
    """The owner's private model is told like one that is not there, and no token is sent."""
    said = ask(attack)
    assert "that everybody can see" in said
    assert hub.requests
    assert set(hub.authorizations) == {""}


@pytest.mark.parametrize("attack", ["field", "start"])
def test_a_signed_in_visitor_asks_with_their_own_token(attack: str, hub: Hub) -> None:
    """Every request carries the visitor's token and never the owner's."""
    mallory = next(name for name, token in hub.state.tokens.items() if token.user == "mallory")
    ask(attack, gr.OAuthToken(token=mallory, scope="openid", expires_at=10**10))
    assert set(hub.authorizations) == {mallory}


def test_a_sign_in_that_ended_is_nobodys(hub: Hub) -> None:
    """An expired OAuth token falls back to no token at all."""
    ask("field", gr.OAuthToken(token="hf_old", scope="openid", expires_at=1))
    assert set(hub.authorizations) == {""}


@pytest.mark.parametrize("profile", ["own", "cpu", "gpu", "zerogpu"])
@pytest.mark.parametrize("sign_in", [True, False])
def test_the_profile_decides_once(
    profile: str, sign_in: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one's own machine without a sign-in lends its token to whoever is signed out."""
    monkeypatch.setattr(session, "_signed_out", [NOBODY])
    session.decide_token(load_profile(profile), sign_in)
    mine = profile == "own" and not sign_in
    assert session.token_of(None) is (MACHINE if mine else NOBODY)


SERVED = """
import os, sys
import gradio as gr
import huggingface_hub
from ditto_hub.cost.profiles import load_profile
from ditto_hub.ui import app
from ditto_hub.tokens import MACHINE

def probe(self, *args, **kwargs):
    print("env", *(name for name in os.environ if os.environ[name] == sys.argv[1]))
    print("machine", MACHINE.sent)
    for load in (huggingface_hub.model_info, huggingface_hub.list_repo_files):
        try:
            load("owner/secret-model")
        except OSError as error:
            print("refused")
        else:
            print("answered")

gr.Blocks.launch = probe
app.build_app = lambda profile: gr.Blocks()
app.serve(profile=load_profile("cpu"))
"""


def test_a_served_app_has_no_token_of_its_machine(hub: Hub, tmp_path: Path) -> None:
    """Neither the environment, nor a saved login, nor a library's own search finds one."""
    owner = os.environ["HF_TOKEN"]
    (tmp_path / "token").write_text(owner)
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.endpoint}
    command = [sys.executable, "-c", SERVED, owner]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.split()[0] in (
        "env", "machine", "refused", "answered")]  # fmt: skip
    assert lines == ["env", "machine False", "refused", "refused"]
    assert set(hub.authorizations) == {""}


def test_the_load_back_gets_a_clean_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process sees no token, no secret of the Space, and nothing that is not known."""
    secrets = {
        "HF_TOKEN": "leak-1", "OAUTH_CLIENT_SECRET": "leak-2", "AWS_SECRET_ACCESS_KEY": "leak-3",
        "HF_TOKEN_PATH": "leak-4", "DATABASE": "leak-5",
    }  # fmt: skip
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    seen = tmp_path / "seen"
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nenv > {seen}\n")
    python.chmod(0o755)
    (tmp_path / "probe").touch()
    question = LoadBackQuestion("a/b", "c", "base", None, tmp_path / "probe", True, 1, "hf_users")
    assert check_load_back(question, "logits", python).status == "not-run"
    text = seen.read_text()
    assert "PATH=" in text
    assert not any(leak in text for leak in (*secrets.values(), "hf_users"))


def test_pip_gets_a_clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetching the package of smollm2's weights hands on pip's settings and no token."""
    monkeypatch.setenv("HF_TOKEN", "leak")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror")
    seen: dict[str, str] = {}

    def note(*_: Any, env: dict[str, str], **__: Any) -> None:
        seen.update(env)
        raise OSError

    monkeypatch.setattr(subprocess, "run", note)
    with pytest.raises(DittoError):
        smollm2.download(tmp_path)
    assert seen["PIP_INDEX_URL"] == "https://mirror"
    assert "leak" not in seen.values()


def test_a_foreign_judge_never_gets_the_machines_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """MODEL@URL of anybody's server is asked without it; the Hub's own addresses with it."""
    monkeypatch.setenv("HF_TOKEN", "hf_machine")
    assert Endpoint.parse("m@https://evil.example/v1", MACHINE).token is None
    assert Endpoint.parse("m@https://evil.example/x.huggingface.co/", MACHINE).token is None
    assert Endpoint.parse("m@https://huggingface.co.evil.example/", MACHINE).token is None
    assert Endpoint.parse("m@https://evil.example/v1", "its-key").token == "its-key"
    hubs = "https://a.endpoints.huggingface.cloud/v1"
    assert Endpoint.parse(f"m@{hubs}", MACHINE).token == "hf_machine"
    assert Endpoint.parse("m", MACHINE).token == "hf_machine"


def test_a_token_is_never_shown_and_never_none() -> None:
    """Its text is in no representation; what a library is given is a text or False."""
    assert "hf_x" not in repr(as_token("hf_x"))
    assert [as_token(given).sent for given in ("hf_x", "", None, NOBODY)] == [
        "hf_x", False, False, False,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="text of nobody"):
        Token("nobody", "hf_x")


def test_a_child_gets_only_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is not on the list is not handed on, whatever it holds."""
    monkeypatch.setenv("SOMETHING_NEW", "x")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    found = clean_environment()
    assert "SOMETHING_NEW" not in found
    assert found["LC_ALL"] == "C.UTF-8"


# ---- no default below the command line, the app and a user's own script ------------------------

# Functions of a user's own script, which runs on the machine whose token is used.
PUBLIC = {
    name for name in ditto_hub.__all__ if ditto_hub._HOMES.get(name, "").startswith("api.")
} | {"estimate_run"}
# Counts with a tokenizer only where a base model is named, and asks as nobody by itself.
AS_NOBODY = {"check_demos"}


@cache
def functions() -> tuple[tuple[Path, ast.FunctionDef], ...]:
    """Return every function of the package that takes a token, with its file."""
    return tuple(
        (path, node)
        for path in sorted(PACKAGE.rglob("*.py"))
        if "token" in (text := path.read_text("utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and default_of(node) is not None
    )


def default_of(node: ast.FunctionDef) -> str | None:
    """Return a function's default for `token` as text; "" where it has to be given."""
    plain = [*node.args.posonlyargs, *node.args.args]
    padded = [*[None] * (len(plain) - len(node.args.defaults)), *node.args.defaults]
    every = [*zip(plain, padded, strict=True),
             *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]  # fmt: skip
    for argument, default in every:
        if argument.arg == "token":
            return ast.unparse(default) if default else ""
    return None


def test_no_function_has_a_token_of_its_own() -> None:
    """Whose token it is has to be said, except in a user's own script."""
    wrong = [
        f"{path.name}:{node.lineno} {node.name}"
        for path, node in functions()
        if (default := default_of(node))
        and not (node.name in PUBLIC and path.parent.name == "api" and default == "MACHINE")
        and not (node.name in AS_NOBODY and default == "NOBODY")
    ]
    assert wrong == []


def test_the_app_always_says_whose_token() -> None:
    """No handler calls a function that takes a token without giving one."""
    takes = {node.name: node for path, node in functions()
             if path.parent.name == "api" and default_of(node) == "MACHINE"}  # fmt: skip
    assert "estimate_run" in takes
    for path in sorted((PACKAGE / "ui").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                module, _, name = ast.unparse(node.func).rpartition(".")
                given = {keyword.arg for keyword in node.keywords}
                asks = name in takes and module in ("", "api")
                assert not asks or "token" in given, f"{path}:{node.lineno}"
