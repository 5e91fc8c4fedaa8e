"""The wheel that a job installs: whole, valid, the same for the same files."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from jobs_server import make_image
from packaging.requirements import Requirement
from packaging.version import Version

from ditto_hub.backends.jobs.order import PACKAGES
from ditto_hub.backends.jobs.wheel import NAME, build_wheel, pack

ROOT = Path(__file__).parents[1]
NOT_IN_A_JOB = {"gradio", "spaces"}  # the app's, which no job runs


@pytest.fixture(scope="module")
def wheel() -> zipfile.ZipFile:
    """Build the wheel."""
    return zipfile.ZipFile(io.BytesIO(build_wheel()))


def test_the_record_lists_every_file_with_its_hash(wheel: zipfile.ZipFile) -> None:
    """RECORD names each file once, with the hash and size it has."""
    (record,) = [name for name in wheel.namelist() if name.endswith("RECORD")]
    rows = list(csv.reader(wheel.read(record).decode().splitlines()))
    assert sorted(row[0] for row in rows) == sorted(wheel.namelist())
    for path, digest, size in rows:
        data = wheel.read(path)
        if path != record:
            ours = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (digest, size) == (f"sha256={ours}", str(len(data)))


@pytest.mark.parametrize(
    "path",
    ["ditto_hub/cli/program.py", "ditto_hub/pocket/model/model.safetensors",
     "ditto_hub/pocket/voices/harbor.jsonl", "ditto_hub/hub/publishing/card_template.md",
     "ditto_hub/space_config/profiles/own.toml"],
)  # fmt: skip
def test_data_files_travel_too(wheel: zipfile.ZipFile, path: str) -> None:
    """What the package reads beside its code is in the wheel."""
    assert path in wheel.namelist()


def test_no_bytecode_travels(wheel: zipfile.ZipFile) -> None:
    """Caches of this machine stay here."""
    assert not [name for name in wheel.namelist() if "__pycache__" in name or ".pyc" in name]


def test_the_same_files_make_the_same_wheel() -> None:
    """Built again it has the same bytes, so that an unchanged package is not sent again."""
    files = {"ditto_hub/a.py": b"a", "ditto_hub/b.py": b"b"}
    assert pack(files) == pack(dict(reversed(files.items())))
    assert pack(files) != pack({**files, "ditto_hub/b.py": b"c"})


def test_pip_installs_it_where_there_is_none_of_us(tmp_path: Path) -> None:
    """In an environment without this package, pip takes the wheel and the program answers."""
    (tmp_path / NAME).write_bytes(build_wheel())
    python = make_image(tmp_path / "image") / "bin" / "python"
    flags = ["--no-deps", "--no-index", "--no-compile", "--quiet"]
    pip = [python, "-m", "pip", "install", *flags, tmp_path / NAME]
    subprocess.run(pip, check=True, cwd=tmp_path, capture_output=True)
    code = "import ditto_hub.pocket as p; print((p.path() / 'config.json').is_file(), p.__file__)"
    found = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout.startswith("True " + str(tmp_path)), found.stderr
    shown = [python, "-m", "ditto_hub", "--version"]
    assert "ditto-hub" in subprocess.run(shown, cwd=tmp_path, capture_output=True, text=True).stdout


def test_pins_are_versions_that_the_requirements_allow() -> None:
    """Each requirement has a pin inside its range, at one exact version."""
    pins = dict(package.split("==") for package in PACKAGES)
    text = (ROOT / "requirements.txt").read_text("utf-8")
    for line in re.findall(r"^[a-z].*$", text, re.M):
        wanted = Requirement(line)
        if wanted.name not in NOT_IN_A_JOB:
            assert Version(pins[wanted.name]) in wanted.specifier, line
    assert sys.version_info >= (3, 11)
