"""The installed package as a wheel, for a machine that has none: nothing of ours is on a registry.

It is zipped from the files themselves and not built: that needs no build tool, no source tree and
no network, and gives the same bytes for the same files, whether the package was installed from a
wheel, in editable form, or lies beside a Space's `app.py`. It names no dependencies: who installs
it pins them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from ditto_hub.cost.profiles import space_file
from ditto_hub.version import VERSION

PACKAGE = Path(__file__).parents[2]
INFO = f"ditto_hub-{VERSION}.dist-info"
NAME = f"ditto_hub-{VERSION}-py3-none-any.whl"
EPOCH = (1980, 1, 1, 0, 0, 0)


@cache
def build_wheel() -> bytes:
    """Return a wheel of this package, installable by `pip install --no-deps`.

    Source: packaging.python.org/specifications/binary-distribution-format
    """
    return pack(package_files())


def pack(package: Mapping[str, bytes]) -> bytes:
    """Return a wheel of the given files; the same bytes for the same files."""
    files = dict(sorted(package.items()))
    files[f"{INFO}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: ditto-hub\nVersion: {VERSION}\nRequires-Python: >=3.11\n"
    ).encode()
    files[f"{INFO}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: ditto-hub\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{INFO}/entry_points.txt"] = b"[console_scripts]\nditto-hub = ditto_hub.cli:main\n"
    rows = [f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in files.items()]
    files[f"{INFO}/RECORD"] = "".join([*rows, f"{INFO}/RECORD,,\n"]).encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, data)
    return made.getvalue()


def package_files() -> dict[str, bytes]:
    """Return path -> content of the package, `space_config` inside it."""
    return _files(PACKAGE, "ditto_hub") | _files(space_file(), "ditto_hub/space_config")


def _files(folder: Path, name: str) -> dict[str, bytes]:
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
