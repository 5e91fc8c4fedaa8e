"""The command line: parses, calls api, prints.

Exit codes: 0 done, 1 a known failure told in one paragraph, 2 wrong usage, 3 paused and resumable,
130 interrupted or 143 stopped by SIGTERM, the run kept. Each module below adds its commands to
`main` when it is imported.
"""

from ditto_hub.cli import (
    app,
    deploying,
    estimates,
    jobs,
    picking,
    results,
    runs,
    settings,
    training,
)
from ditto_hub.cli.program import main

__all__ = [
    "app",
    "deploying",
    "estimates",
    "jobs",
    "main",
    "picking",
    "results",
    "runs",
    "settings",
    "training",
]
