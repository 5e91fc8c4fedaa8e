"""Names, ids and files that are odd: each ends in words, none in markup, a 500 or a traceback."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from built_apps import SECRET, handler, request
from click.testing import CliRunner
from job_script import make_run
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

import ditto_hub
from ditto_hub import api
from ditto_hub.api.choosing import choose
from ditto_hub.cli import main
from ditto_hub.cost.profiles import load_profile
from ditto_hub.engine.base_model import load_base
from ditto_hub.errors import BaseModelError, RunError, StorageError
from ditto_hub.hub.preflight import preflight
from ditto_hub.runs.folder import Run, hash_owner, home
from ditto_hub.runs.storage import whole_weights
from ditto_hub.tokens import NOBODY
from ditto_hub.ui.serving import uploads
from ditto_hub.ui.serving.downloads import SECRET_HEADER, download_routes
from ditto_hub.ui.serving.session import Visitor, own_run
from ditto_hub.ui.serving.uploads import capped_uploads, sweep_uploads

PACKAGE = Path(ditto_hub.__file__).parent
MARKUP = (
    "<img src=x onerror=alert(1)>", "<b>20261127-00000000</b>", '"><script>', "%3Cimg%3E",
    "20261127-00000000<", "&lt;img&gt;", "javascript:x", "20261127_00000000", "../../etc", "١٢",
)  # fmt: skip


@pytest.mark.parametrize("run_id", [*MARKUP, "a" * 3_000, "0\n", "20261127-00000000"])
def test_nothing_of_an_address_is_repeated(run_id: str) -> None:
    """A page whose address names a run that is none of the visitor's says so, and no more."""
    gone = handler("cpu", "gone")
    assert gone(SECRET, request(run=run_id), None, None, None, "") == "named"
    assert gone("", request(run=run_id), None, None, None, "") == "named"  # the first visit
    assert gone(SECRET, request(), None, None, None, run_id) == "last"


ODD = ("a" * 3_000, "0" * 256, "a\0b", "..", "/", "-", "é", " " * 9, "a/b" * 900)


@pytest.mark.parametrize("run_id", ODD)
def test_an_odd_id_is_no_run(run_id: str) -> None:
    """By the app's check and by the program's own: words, and short ones."""
    with pytest.raises(RunError) as told:
        own_run(run_id, Visitor(f"browser:{SECRET}", None))
    assert len(str(told.value)) < 400
    with pytest.raises(RunError) as told:
        Run.load(run_id)
    assert len(str(told.value)) < 900


def test_a_long_id_is_not_found_over_http() -> None:
    """The download's address answers 404, not 500."""
    client = TestClient(Starlette(routes=list(download_routes())))
    headers = {SECRET_HEADER: SECRET}
    assert client.get(f"/ditto/runs/{'a' * 3_000}/adapter.zip", headers=headers).status_code == 404


@pytest.mark.parametrize("command", ["resume", "runs show", "runs cancel", "publish", "generate"])
def test_a_long_id_is_told_by_the_command_line(command: str) -> None:
    """One paragraph and exit 1, whichever command is given it."""
    more = ["a/b"] if command in ("publish", "generate") else []
    result = CliRunner().invoke(main, [*command.split(), "a" * 3_000, *more])
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1


@pytest.mark.parametrize("name", ["m" * 5_000, "a\0b", "o/" + "n" * 5_000])
def test_an_odd_base_model_is_told(name: str) -> None:
    """A name that can be no path is no folder."""
    assert preflight(name, NOBODY).refused
    for profile in ("own", "zerogpu"):
        with pytest.raises((BaseModelError, gr.Error)):
            handler(profile, "estimate")([], name, "fast", "")


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Return what makes a folder read-only for whoever writes, root included."""

    def mount(folder: Path) -> None:
        def inside(path: Any) -> bool:
            return isinstance(path, str | os.PathLike) and Path(path).is_relative_to(folder)

        def refusing(real: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                if any(inside(a) for a in args[:2]) and writes(*args[1:], **kwargs):
                    raise OSError(30, "Read-only file system")
                return real(*args, **kwargs)

            return call

        for name in ("mkdir", "replace", "rename", "unlink", "remove", "rmdir", "utime"):
            monkeypatch.setattr(os, name, refusing(getattr(os, name), lambda *_, **__: True))
        flags = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        monkeypatch.setattr(os, "open", refusing(os.open, lambda f=0, *_, **__: bool(f & flags)))
        modes = refusing(io.open, lambda mode="r", *_, **__: bool(set(mode) & set("wax+")))
        monkeypatch.setattr(io, "open", modes)

    return mount


@pytest.mark.parametrize(
    "do",
    [
        lambda run: list(api.drive(run, token=NOBODY)),
        lambda run: api.cancel(run, NOBODY),
        lambda run: run.delete(),
        lambda run: run.save_record(),
        lambda run: choose(run, "sft", probe=False, token=NOBODY),
        lambda run: list(
            api.work(run, load_profile("own"), visitor="me", token=NOBODY)
        ),
    ],
    ids=["drive", "cancel", "delete", "save", "choose", "work"],
)  # fmt: skip
def test_a_read_only_folder_is_told(
    do: Callable[[Run], object], tmp_path: Path, read_only: Callable[[Path], None]
) -> None:
    """Whatever is done to a run there is a StorageError that names the folder."""
    run = make_run(tmp_path / "run")
    for name in ("candidates/sft/adapter", "adapter"):
        run.write(f"{name}/adapter_config.json", b"{}")
        run.write(f"{name}/adapter_model.safetensors", WHOLE)
    read_only(run.folder)
    with pytest.raises(StorageError, match="Read-only"):
        do(run)


WHOLE = b"\x02\x00\x00\x00\x00\x00\x00\x00{}"
TENSOR = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
FULL = len(TENSOR).to_bytes(8, "little") + TENSOR + bytes(8)


@pytest.mark.parametrize(
    "text", ["", "\n\n", "[]\n", "{", '{"id": 1}\n', '{"id": "a", "prompt": "Q", "completion": "A",'
             ' "split": "held_out", "origin": "x"}\n'],
    ids=["empty", "blank", "a list", "cut", "wrong", "only held out"],
)  # fmt: skip
def test_a_run_without_demonstrations_is_damaged(text: str) -> None:
    """Every use of such a run says so."""
    run = make_run(home() / "runs" / "20261127-00000000", owner=f"browser:{SECRET}")
    run.record.id = run.folder.name
    run.save_record()
    (run.folder / "demos.jsonl").write_text(text)
    for do in (
        lambda: run.demos(),
        lambda: list(api.work(run, load_profile("cpu"), visitor="me", token=NOBODY)),
        lambda: handler("cpu", "choices")(SECRET, request(), None, None, None, run.record.id, ""),
    ):
        with pytest.raises(RunError, match=r"demos\.jsonl"):
            do()
    result = CliRunner().invoke(main, ["runs", "show", str(run.folder)])
    assert isinstance(result.exception, SystemExit) or result.exception is None


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (WHOLE, True), (FULL, True), (b"", False), (FULL[:-1], False), (FULL + b"x", False),
        (FULL[:20], False), (b"\xff" * 40, False), (b"\0" * 8, False),
        (b"\x04\x00\x00\x00\x00\x00\x00\x00[[]]", False),
    ],
)  # fmt: skip
def test_weights_are_whole_or_not(data: bytes, whole: bool, tmp_path: Path) -> None:
    """The header and the size of a file agree, or it is cut."""
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    assert whole_weights(path) is whole
    assert not whole_weights(tmp_path / "none")


def test_an_emptied_candidate_is_noticed_before_it_is_chosen(tmp_path: Path) -> None:
    """It is refused, and the adapter that was there stays."""
    run = make_run(tmp_path / "run")
    for name, data in (("candidates/sft/adapter", b""), ("adapter", FULL)):
        run.write(f"{name}/adapter_config.json", b"{}")
        run.write(f"{name}/adapter_model.safetensors", data)
    with pytest.raises(RunError, match="cut or empty"):
        choose(run, "sft", probe=False, token=NOBODY)
    with pytest.raises(RunError, match="cut or empty"):
        run.candidate("sft")
    assert (run.folder / "adapter" / "adapter_model.safetensors").read_bytes() == FULL


# ---- uploads -------------------------------------------------------------------------------------


def client_of(profile: str) -> TestClient:
    """Return a client of an app that takes uploads as Gradio does."""

    async def take(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    routes = [Route(path, take, methods=["POST"]) for path in ("/gradio_api/upload", "/other")]
    return TestClient(Starlette(routes=routes, middleware=capped_uploads(load_profile(profile))))


FORM = {"content-type": "multipart/form-data; boundary=cut"}


def test_a_visitors_uploads_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five of the largest in ten minutes; then 429 until they are forgotten."""
    now = [1e6]
    monkeypatch.setattr(uploads.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(uploads, "FILES", 0.001)
    client = client_of("cpu")
    assert client.post("/gradio_api/upload", content=b"x" * 15_000, headers=FORM).text == "15000"
    chinese = {**FORM, "accept-language": "zh-TW"}
    refused = client.post("/gradio_api/upload", content=b"x" * 15_000, headers=chinese)
    assert refused.status_code == 429
    assert refused.text.startswith("上傳太多了：每位訪客十分鐘內最多上傳")
    pieces = iter([b"x" * 9_000] * 3)
    assert client.post("/gradio_api/upload", content=pieces, headers=FORM).status_code == 429
    assert client.post("/other", content=b"x" * 15_000).status_code == 200
    now[0] += uploads.WINDOW_S + 1
    assert client.post("/gradio_api/upload", content=b"x" * 15_000, headers=FORM).status_code == 200


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_many_empty_files_count(step: int) -> None:
    """A thousand files of a few bytes are refused, wherever their form is cut."""
    form = b"".join(b"--cut\r\n\r\n%d\r\n" % n for n in range(1_000))
    pieces = (form[n : n + step] for n in range(0, len(form), step))
    client = client_of("cpu")
    assert client.post("/gradio_api/upload", content=pieces, headers=FORM).status_code == 429


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "multipart/form-data", "multipart/form-data; x=1; boundary=cut"]
)
def test_a_form_of_another_kind_is_refused(kind: str) -> None:
    """What could be read in two ways is not counted in one and read in the other."""
    headers = {"content-type": kind}
    assert client_of("cpu").post("/gradio_api/upload", headers=headers).status_code == 400


def test_all_visitors_uploads_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many addresses do not fill the disk either."""
    monkeypatch.setattr(uploads, "EVERYBODY", 0.001)
    client = client_of("cpu")
    assert client.post("/gradio_api/upload", content=b"x" * 15_000, headers=FORM).status_code == 200
    assert client.post("/gradio_api/upload", content=b"x" * 15_000, headers=FORM).status_code == 429


def test_ones_own_machine_has_no_cap() -> None:
    """Nobody else is there."""
    assert capped_uploads(load_profile("own")) == []


def test_unused_uploads_go(tmp_path: Path) -> None:
    """Ten minutes after it came, a file that nobody read is gone; a younger one stays."""
    for name, age_s in (("old", 700), ("young", 100)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
        then = time.time() - age_s
        os.utime(tmp_path / name, (then, then))
    (tmp_path / "link").symlink_to(tmp_path / "young")
    assert sweep_uploads(folder=tmp_path) == 1
    assert sweep_uploads(time.time() + 1e4, tmp_path) == 2
    assert list(tmp_path.iterdir()) == []


# ---- loading -------------------------------------------------------------------------------------


def test_every_load_says_that_it_runs_no_code() -> None:
    """No call of `from_pretrained` leaves it to a default."""
    found = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        if "from_pretrained" not in (source := path.read_text("utf-8")):
            continue
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith(
                "from_pretrained"
            ):
                continue
            given = {k.arg for k in node.keywords}
            text = ast.unparse(node)
            found += 1
            plain = "PeftModel" in text or "trust_remote_code" in given
            passed = any(f"**{name}" in text for name in ("options", "reading(", "SAFELY"))
            assert plain or passed, f"{path}:{node.lineno}"
            if "AutoModel" in text and "gguf_file" not in text:
                assert "use_safetensors" in given, f"{path}:{node.lineno}"
    assert found >= 9


def test_pickled_weights_are_not_loaded(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """A folder with .bin weights alone is refused before they are opened."""
    for path in tiny("llama3").iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/pwned'\ntR.")
    with pytest.raises(BaseModelError):
        load_base({"id": str(tmp_path)}, device=torch.device("cpu"), token=NOBODY)


def test_a_models_own_code_is_not_run(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """A config that names code of its own loads without it, or not at all."""
    for path in tiny("llama3").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    mark = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    with contextlib.suppress(BaseModelError):
        load_base({"id": str(tmp_path)}, device=torch.device("cpu"), token=NOBODY)
    assert not mark.exists()
