"""Read one file in this process, and print [MB above the start at the peak, what came of it]."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ditto_hub.demos.importers import preview
from ditto_hub.errors import DemoError


def status(key: str) -> float:
    """Return a figure of this process's memory in MB."""
    text = Path("/proc/self/status").read_text()
    return float(text.split(f"{key}:")[1].split()[0]) / 1024


def main() -> None:
    """Print the answer as JSON."""
    start = status("VmRSS")
    try:
        said = f"{preview(sys.argv[1]).total} shown"
    except DemoError as error:
        said = error.code
    print(json.dumps([round(status("VmHWM") - start), said]))


if __name__ == "__main__":
    main()
