"""Hub Jobs as plain records: what is asked for, what is told of it, and who carries both.

A job is a command in an image on rented hardware, paid by the minute from the account it runs in.
Everybody who may see that account sees a job's image, command, environment and labels on its page;
only its secrets are hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ditto_hub.runs.folder import Run
from ditto_hub.words import Text

ENDED = ("COMPLETED", "CANCELED", "ERROR", "DELETED")


@dataclass(frozen=True)
class JobOrder:
    """Hold what a job is to be; all of it but `secrets` stands on the job's page.

    Args:
        image: of the container, its tag pinned.
        command: program and arguments.
        flavor: name of the hardware.
        timeout_s: seconds after which the platform ends it.
        environment: variables anybody may read.
        secrets: variables that are hidden, such as the token.
        labels: to find it again.
    """

    image: str
    command: tuple[str, ...]
    flavor: str
    timeout_s: int
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobState:
    """Hold what the platform tells of a job.

    Args:
        id: its id.
        stage: SCHEDULING, RUNNING, or one of `ENDED`.
        message: the platform's words about it, such as "Job timeout".
        url: its page.
        seconds: of running so far, which is what is paid for; None before.
    """

    id: str
    stage: str
    message: str = ""
    url: str = ""
    seconds: float | None = None

    @property
    def ended(self) -> bool:
        """It will do nothing more."""
        return self.stage in ENDED


@dataclass(frozen=True)
class Flavor:
    """Hold a kind of hardware that jobs run on, with its price where that is known."""

    name: str
    words: Text = ""
    usd_per_hour: float | None = None


class Desk(Protocol):
    """Where jobs are asked for and runs are kept, as one user in one namespace."""

    namespace: str

    def flavors(self) -> Sequence[Flavor]:
        """Return the hardware there is."""
        ...

    def life_s(self) -> float | None:
        """Return the seconds the token has left, or None where that is not told."""
        ...

    def secrets(self) -> dict[str, str]:
        """Return what a job needs to come to the desk itself."""
        ...

    def submit(self, order: JobOrder) -> JobState:
        """Start a job; an answer that is lost does not start it twice."""
        ...

    def find(self, labels: Mapping[str, str]) -> list[JobState]:
        """Return the jobs that carry these labels."""
        ...

    def inspect(self, job_id: str) -> JobState:
        """Return what a job is doing."""
        ...

    def log(self, job_id: str, tail: int | None = None) -> Iterator[str]:
        """Yield the lines a job has printed so far, or its last ones."""
        ...

    def cancel(self, job_id: str) -> None:
        """Stop a job."""
        ...

    def repo(self, run: Run) -> str:
        """Return the id of the repo where a run is kept or would be."""
        ...

    def keeps(self, run: Run) -> bool:
        """Tell whether a run is kept already."""
        ...

    def save(self, run: Run, extra: Mapping[str, bytes]) -> tuple[str, str]:
        """Keep a run with further files; return the repo's id and the commit."""
        ...

    def fetch(self, run: Run, further: bool = False) -> bool:
        """Bring what is kept of a run into its folder, or only what got further than it has."""
        ...

    def forget(self, run: Run) -> None:
        """Delete what is kept of a run."""
        ...
