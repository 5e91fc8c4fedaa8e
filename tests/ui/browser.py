"""See to a browser for tests/ui: the one that is there, Playwright's own, or Debian's package.

python tests/ui/browser.py      # prints where it is, or says what to do and exits 1
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAIT_S = 600
ADVICE = (
    "The tests in tests/ui need a browser, and none could be installed here. Install Chromium"
    " (Debian: apt-get install chromium; else: python -m playwright install chromium), or set"
    " DITTO_HUB_CHROMIUM to the path of one, then run `make test` again."
)


def find() -> str | None:
    """Return the path of a browser that is there, or None."""
    given = os.environ.get("DITTO_HUB_CHROMIUM")
    if given:
        return given
    own = playwrights_own()
    return own or next((path for name in NAMES if (path := shutil.which(name))), None)


def playwrights_own() -> str | None:
    """Return the path of the browser Playwright downloaded, if it did."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install() -> str | None:
    """Try Playwright's download, then Debian's package, and return the browser's path or None."""
    tries = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and os.geteuid() == 0:
        tries += [["apt-get", "update", "-q"], ["apt-get", "install", "-qy", "chromium"]]
    for command in tries:
        try:
            subprocess.run(command, timeout=WAIT_S, stdout=sys.stderr, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"{command[0]}: {error}", file=sys.stderr)
        if found := find():
            return found
    return None


def main() -> None:
    """Print where the browser is, installing one if need be."""
    path = find() or install()
    if path is None:
        sys.exit(ADVICE)
    print(path)


if __name__ == "__main__":
    main()
